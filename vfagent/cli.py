# SPDX-License-Identifier: Apache-2.0
"""The command line: verbs, options and exit statuses. Data goes to stdout, talk to stderr."""

import argparse
import contextlib
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_CONVERGED = 3
    POLICY_INVALID = 4
    REFUSED = 5
    NO_SERVICE = 6


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    # What a verb needs is imported with it: `vfagent --help` must not wait for pyroute2.
    from vfagent.errors import PolicyError, PolicyUnreadError, RefusedError, VfagentError
    from vfagent.verbs import VERBS

    try:
        args.root = _tree(args.root)
        status = int(VERBS[args.verb](args))
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


class _Parser(argparse.ArgumentParser):
    """Says what a mistyped verb may have meant, as Python does itself from 3.14 on."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        from vfagent.policy.spelling import suggestion

        known = [str(choice) for choice in action.choices]
        text = f"found {str(value)!r}, allowed are {', '.join(known)}{suggestion(str(value), known)}"
        raise argparse.ArgumentError(action, text)


def parser() -> argparse.ArgumentParser:
    top: argparse.ArgumentParser = _Parser(
        prog="vfagent",
        description="Brings SR-IOV NICs and their VFs to what a policy says, on boot and on hotplug.",
        epilog="exit status: 0 fine, 1 error, 2 wrong usage, 3 something is still to be done, 4 policy invalid, "
        "5 refused because it would disturb a VF in use, 6 no service to talk to",
    )
    top.add_argument("--version", action="version", version=_version())
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    _verb(verbs, "run", "the service").add_argument("--debug", action="store_true", help="log every kernel call")
    check = _verb(verbs, "check", "read the policy and say all that is wrong with it")
    check.add_argument("files", nargs="*", type=Path, metavar="FILE", help="instead of the host's own policy")
    _with_json(_verb(verbs, "list", "PFs and VFs as they are"))
    _with_json(_verb(verbs, "plan", "what would be done, step by step, and why"))
    _with_json(_verb(verbs, "apply", "one convergence, without the service"))
    status = _with_json(_verb(verbs, "status", "what the service sees, does and waits for"))
    status.add_argument("--watch", action="store_true", help="again at each change, until interrupted")
    _with_json(_verb(verbs, "doctor", "what on this host stands in the way (then it exits with 1), and what to do"))
    _guest_verbs(_verb(verbs, "guest", "the guests: list them, start or stop one"))
    _rom_verbs(_verb(verbs, "rom", "iPXE ROMs for VFs: build those that guests need, list them"))
    release = _verb(verbs, "release", "give a PF back as it was found")
    release.add_argument("pf", metavar="PF", help="its PCI address, or its interface")
    release.add_argument("--force", action="store_true", help="also while guests use its VFs: they lose them")
    _verb(verbs, "schema", "the policy's JSON Schema, for editors")
    return top


def _guest_verbs(guest: argparse.ArgumentParser) -> None:
    verbs = guest.add_subparsers(dest="guest_verb", required=True, metavar="VERB")
    _with_json(verbs.add_parser("list", help="the guests, and what they wait for"))
    for name, text in (("start", "start a guest that was stopped, or failed"), ("stop", "stop a guest; it stays so")):
        verbs.add_parser(name, help=text).add_argument("name", metavar="NAME")


def _rom_verbs(rom: argparse.ArgumentParser) -> None:
    verbs = rom.add_subparsers(dest="rom_verb", required=True, metavar="VERB")
    build = verbs.add_parser("build", help="build the ROMs that guests need and that are not there")
    build.add_argument("guests", nargs="*", metavar="GUEST", help="these guests' alone")
    _with_json(verbs.add_parser("list", help="the ROMs, who needs one, and which VFs here iPXE drives"))


def _version() -> str:
    from vfagent import __version__

    return f"vfagent {__version__}"


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    sentence = text if text.startswith("iPXE") else text[0].upper() + text[1:]
    verb = verbs.add_parser(name, help=text, description=f"{sentence}.")
    verb.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="read another tree (bug reports)")
    return verb


def _with_json(verb: argparse.ArgumentParser) -> argparse.ArgumentParser:
    verb.add_argument("--json", action="store_true", help="for programs")
    return verb
