# SPDX-License-Identifier: Apache-2.0
"""The command line: what it is given to, and exit statuses. Data goes to stdout, talk to stderr."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from vfagent.exit_status import Exit


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    # As systemd starts it: argparse, and what all the verbs are called, would be a tenth of what the service loads.
    order = _service if words == ["run"] else _verb(words)
    # What a verb needs is imported with it: `vfagent --help` must not wait for pyroute2.
    from vfagent.errors import PolicyError, PolicyUnreadError, RefusedError, VfagentError

    try:
        status = order()
        print(end="", flush=True)  # here, where what goes wrong can still be told
        return status
    except PolicyError as error:
        print(f"{error}{_hint(error.hint)}", file=sys.stderr)
        return Exit.ERROR if isinstance(error, PolicyUnreadError) else Exit.POLICY_INVALID
    except VfagentError as error:
        print(f"vfagent: {error}{_hint(error.hint)}", file=sys.stderr)
        return Exit.REFUSED if isinstance(error, RefusedError) else Exit.ERROR
    except BrokenPipeError:
        _drop_output()
        return Exit.OK
    except OSError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return 130


def _service() -> int:
    from vfagent.service.main import serve

    return serve(debug=False)


def _verb(words: list[str]) -> Callable[[], int]:
    from vfagent.cli.parser import parser

    args = parser().parse_args(words)

    def carry_out() -> int:
        from vfagent.cli.commands import VERBS

        args.root = _tree(args.root)
        return int(VERBS[args.verb](args))

    return carry_out


def _tree(root: Path) -> Path:
    """This host's own root by whatever name it was given: another tree is only read."""
    from vfagent.errors import VfagentError

    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise VfagentError(
            f"--root {root}: found {found}, allowed is a folder", hint="one with a copy of a host's /sys"
        )
    return Path("/") if root.samefile("/") else root


def _tell(error: OSError) -> int:
    """What no verb had words for."""
    from vfagent.errors import errno_text

    name = str(error.filename or "the system")
    try:
        print(end="", flush=True)
    except OSError:
        name = "standard output"
        _drop_output()
    cause = errno_text(error.errno) if error.errno else str(error)
    hint = _hint("run it as root" if isinstance(error, PermissionError) else None)
    print(f"vfagent: {name}: {cause}{hint}", file=sys.stderr)
    return Exit.ERROR


def _hint(text: str | None) -> str:
    return f"\n  ({text})" if text else ""


def _drop_output() -> None:
    """What is left to be written is not tried again, and complained of, when the process ends."""
    with contextlib.suppress(OSError):  # there may be no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
