# SPDX-License-Identifier: Apache-2.0
"""The command line: one verb, its errors and its exit status. Data goes to stdout, all else to stderr."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from vfagent.errors import PolicyError, PolicyUnreadError, RefusedError, VfagentError, errno_text
from vfagent.exit_status import Exit
from vfagent.service.main import serve

if TYPE_CHECKING:
    from vfagent.kernel.protocols import Host

# The function of each verb. Its module is loaded when the verb runs: with all of them loaded, `vfagent --help` takes
# 205 ms instead of 36 ms, and the service keeps 1.5 MiB that it never uses.
VERBS = {
    "run": "vfagent.cli.run:run",
    "check": "vfagent.cli.check:check",
    "list": "vfagent.cli.plan:list_",
    "init": "vfagent.cli.init:init",
    "plan": "vfagent.cli.plan:plan",
    "apply": "vfagent.cli.apply:apply",
    "reload": "vfagent.cli.reload:reload",
    "confirm": "vfagent.cli.reload:confirm",
    "status": "vfagent.cli.status:status",
    "doctor": "vfagent.cli.doctor:doctor",
    "guest": "vfagent.cli.guest:guest",
    "rom": "vfagent.cli.rom:rom",
    "release": "vfagent.cli.release:release",
    "report": "vfagent.cli.report:report",
    "schema": "vfagent.cli.check:schema",
    "explain": "vfagent.cli.explain:explain",
    "help": "vfagent.cli.help:help_",
}
CHANGE_THE_HOST = {"run", "apply", "confirm", "release", "reload"}
_STDOUT = "standard output"


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    verb = _service if words == ["run"] else _verb(words)
    try:
        with contextlib.redirect_stdout(cast(TextIO, _StandardOutput(sys.stdout))):
            status = verb()
            print(end="", flush=True)  # here, where a failed write can still be reported
        return status
    except PolicyError as error:
        print(f"{error}{_hint(error.hint)}", file=sys.stderr)
        return Exit.ERROR if isinstance(error, PolicyUnreadError) else Exit.POLICY_INVALID
    except VfagentError as error:
        print(f"vfagent: {error}{_hint(error.hint)}", file=sys.stderr)
        return Exit.REFUSED if isinstance(error, RefusedError) else Exit.ERROR
    except BrokenPipeError:
        _discard_output()
        return Exit.OK
    except OSError as error:
        return _report(error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vfagent"):
            raise
        hint = _hint("install vfagent as a package, or the libraries that its pyproject.toml lists")
        print(f"vfagent: the Python library {error.name} is not installed{hint}", file=sys.stderr)
        return Exit.ERROR
    except KeyboardInterrupt:
        return 130


def _service() -> int:
    """As systemd starts it: without the parser."""
    return serve(_plan_json, debug=False)


def _plan_json(root: Path, host: "Host") -> str:
    from vfagent.cli.plan import plan_json  # late: 1.2 MiB that only the worker keeps which plans

    return plan_json(root, host)


def _verb(words: list[str]) -> Callable[[], int]:
    from vfagent.cli.parser import parser  # late: 6 ms, which `run` does not need

    args = parser().parse_args(words or ["help"])

    def run() -> int:
        args.root = _tree(args.root)
        if args.verb in CHANGE_THE_HOST:
            require_own_host(args.verb, args.root)
        module, _, function = VERBS[args.verb].partition(":")
        return int(getattr(importlib.import_module(module), function)(args))

    return run


def _tree(root: Path) -> Path:
    """`/` for this host's root, whatever name it was given by."""
    if not root.is_dir():
        kind = "a file" if root.exists() else "nothing"
        raise VfagentError(f"--root {root}: found {kind}, allowed is a folder", hint="one with a copy of a host's /sys")
    return Path("/") if root.samefile("/") else root


def require_own_host(verb: str, root: Path) -> None:
    """A copy of another host's files is evidence, and is only read."""
    if root != Path("/"):
        hint = f"vfagent plan --root {root} shows the steps that would be executed"
        raise VfagentError(f"--root {root}: cannot {verb} there: another host's tree is only read", hint=hint)


class _StandardOutput(io.TextIOBase):
    """Standard output whose errors have its name: an OSError of write(2) names no file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _named():
            return self._stream.write(text)

    def flush(self) -> None:
        with _named():
            self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = _STDOUT
        raise


def _report(error: OSError) -> int:
    """An error that no verb has turned into its own."""
    if error.filename == _STDOUT:
        _discard_output()
    cause = errno_text(error.errno) if error.errno else str(error)
    hint = _hint("run it as root" if isinstance(error, PermissionError) else None)
    print(f"vfagent: {error.filename or 'the system'}: {cause}{hint}", file=sys.stderr)
    return Exit.ERROR


def _hint(text: str | None) -> str:
    return f"\n  ({text})" if text else ""


def _discard_output() -> None:
    """Python writes its buffers once more as it ends, and would report the same error again."""
    with contextlib.suppress(OSError):  # stdout may have no file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
