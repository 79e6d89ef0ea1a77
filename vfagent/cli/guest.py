# SPDX-License-Identifier: Apache-2.0
"""`vfagent guest list`, `guest start` and `guest stop`."""

import argparse
import sys

from vfagent.cli.status_file import read_status, report_no_service
from vfagent.cli.text import guest_lines, print_result
from vfagent.errors import VfagentError
from vfagent.exit_status import Exit
from vfagent.model.codec import encode
from vfagent.service.control_socket import ask


def guest(args: argparse.Namespace) -> int:
    if args.guest_verb == "list":
        return _list(args)
    try:
        blocker = ask(args.root, args.guest_verb, args.name)
    except FileNotFoundError:
        return report_no_service()
    if blocker:
        cause = blocker.removeprefix(f"guest {args.name}: ")
        hint = "vfagent guest list shows them"
        raise VfagentError(f"guest {args.name}: cannot {args.guest_verb} it: {cause}", hint=hint)
    print(f"guest {args.name}: {'runs' if args.guest_verb == 'start' else 'stopped'}", file=sys.stderr)
    return Exit.OK


def _list(args: argparse.Namespace) -> int:
    file = read_status(args.root)
    if file is None:
        return report_no_service()
    guests = file.status.guests
    print_result(encode(guests) if args.json else guest_lines(guests) or ["no guests"])
    return Exit.OK
