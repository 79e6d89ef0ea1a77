# SPDX-License-Identifier: Apache-2.0
"""`vfagent guest` with its verbs."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from vfagent.cli.console import console
from vfagent.cli.outputs import Guest, Guests, print_json
from vfagent.cli.status_file import read_status, report_no_service
from vfagent.cli.text import guest_lines, one_guest_lines, print_result
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.model.guest_unit import unit_name
from vfagent.model.printable import printable
from vfagent.model.status import GuestPhase
from vfagent.policy.spelling import suggestion
from vfagent.service.control_client import ErrorReplyError, call
from vfagent.service.control_interface import GUEST

_NAME = "[a-z0-9][a-z0-9_-]{0,31}"
_ESCAPE_SEQUENCE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|[()][0-9A-B]|[=>78])")  # ECMA-48, 5.4; and DEC's


def guest(args: argparse.Namespace) -> int:
    match args.guest_verb:
        case "list":
            return _list(args)
        case "status":
            return _status(args)
        case "log":
            return _log(args)
        case "console":
            return console(args.root, _checked(args.name))
        case _:
            return _ask(args)


def _checked(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise VfagentError(f"guest {name}: there is no such guest", hint="vfagent guest list shows them")
    return name


def _ask(args: argparse.Namespace) -> int:
    try:
        blocker = _request(args.root, args.guest_verb, args.name)
    except FileNotFoundError:
        return report_no_service()
    if blocker:
        cause = blocker.removeprefix(f"guest {args.name}: ")
        hint = "vfagent guest list shows them"
        raise VfagentError(f"guest {args.name}: cannot {args.guest_verb} it: {cause}", hint=hint)
    print(f"guest {args.name}: {'runs' if args.guest_verb == 'start' else 'stopped'}", file=sys.stderr)
    return Exit.OK


def _request(root: Path, verb: str, name: str) -> str | None:
    """What blocks it; None where it is done."""
    try:
        call(root, f"{GUEST}.{verb.capitalize()}", name=name)
    except ErrorReplyError as error:
        if error.name != f"{GUEST}.Refused":
            raise
        return str(error.parameters.get("reason"))
    return None


def _list(args: argparse.Namespace) -> int:
    file = read_status(args.root)
    if file is None:
        return report_no_service()
    guests = file.status.guests
    if args.json:
        print_json(Guests(guests))
    else:
        print_result(guest_lines(guests) or ["no guests"])
    return Exit.OK


def _status(args: argparse.Namespace) -> int:
    file = read_status(args.root)
    if file is None:
        return report_no_service()
    guests = {guest.name: guest for guest in file.status.guests}
    guest = guests.get(args.name)
    if guest is None:
        known = f", allowed are {', '.join(guests)}{suggestion(args.name, list(guests))}" if guests else ""
        raise VfagentError(f"guest {args.name}: there is no such guest{known}")
    if args.json:
        print_json(Guest(guest))
    else:
        print_result(one_guest_lines(guest))
    return Exit.OK if guest.phase in (GuestPhase.RUNNING, GuestPhase.STOPPED) else Exit.NOT_CONVERGED


def _log(args: argparse.Namespace) -> int:
    """Without what would drive the terminal, which is whatever the guest prints. journalctl alone shows no line with
    colours, but "[42B blob data]".
    """
    options = ["--quiet", "--all", "--no-pager", *(["--follow"] if args.follow else [])]
    options += [f"--lines={args.lines}"] if args.lines is not None else ["--no-tail"] if args.follow else []
    command = ["journalctl", *options, f"--unit={unit_name(_checked(args.name))}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as journal:
        assert journal.stdout is not None
        for line in journal.stdout:
            text = line.decode(errors="replace").rstrip("\r\n")
            print(printable(_ESCAPE_SEQUENCE.sub("", text)), flush=args.follow)
    return Exit.OK if journal.returncode == 0 else Exit.ERROR
