# SPDX-License-Identifier: Apache-2.0
"""The verbs and their options, as argparse knows them."""

import argparse
from pathlib import Path
from typing import Any, cast

from vfagent import __version__
from vfagent.policy.spelling import suggestion
from vfagent.policy.strings import PERIOD
from vfagent.policy.value_types import MismatchError


class _Parser(argparse.ArgumentParser):
    """Suggests a verb for a mistyped one, as Python itself does from 3.14 on."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        text = f"found {str(value)!r}, allowed are {', '.join(known)}{suggestion(str(value), known)}"
        raise argparse.ArgumentError(action, text)


def parser() -> argparse.ArgumentParser:
    top: argparse.ArgumentParser = _Parser(
        prog="vfagent",
        description="Configures SR-IOV NICs and their VFs from a policy file, and keeps them that way.",
        epilog="exit status: 0 done, 1 error, 2 wrong usage, 3 not finished, 4 policy invalid, "
        "5 refused because it would disturb a VF in use, 6 the service is not running",
    )
    top.add_argument("--version", action="version", version=f"vfagent {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    _verb(verbs, "run", "run the service").add_argument("--debug", action="store_true", help="log every kernel call")
    check = _verb(verbs, "check", "check the policy and print all its errors")
    _with_files(check, "check these files instead of the host's policy; - is standard input")
    check.add_argument(
        "--format",
        choices=("page", "short", "json", "github"),
        help="page: with the source, for a terminal; short: a line each, for all else; json; github: annotations",
    )
    _init_verb(_verb(verbs, "init", "write a policy for what is there"))
    _with_json(_verb(verbs, "list", "show PFs and VFs as they are"))
    plan = _with_json(_verb(verbs, "plan", "show the steps that would be executed, and why"))
    _with_files(plan, "plan with these files instead of the host's policy; - is standard input")
    _apply_verb(_with_json(_verb(verbs, "apply", "apply the policy: by the service, or once without it")))
    _verb(verbs, "reload", "make the service load its policy, and wait for its verdict")
    _verb(verbs, "confirm", "keep the policy that apply --confirm has on trial")
    status = _with_json(_verb(verbs, "status", "show what the service does, and what it waits for"))
    status.add_argument("--watch", action="store_true", help="print it at each change, until interrupted")
    _with_json(
        _verb(verbs, "doctor", "check this host for problems, and show how to fix them (exits with 1 on an error)")
    )
    _guest_verbs(_verb(verbs, "guest", "list guests, start or stop one, type at its console"))
    _rom_verbs(_verb(verbs, "rom", "build or list the iPXE ROMs that guests boot from"))
    release = _verb(verbs, "release", "restore a PF to what it was before vfagent changed it")
    release.add_argument("pf", metavar="PF", help="PCI address or interface name")
    release.add_argument("--force", action="store_true", help="even while guests use its VFs, which they lose")
    _report_verb(_verb(verbs, "report", "write an archive for a bug report"))
    _verb(verbs, "schema", "print the policy's JSON Schema, for editors")
    return top


def _apply_verb(apply: argparse.ArgumentParser) -> None:
    apply.add_argument("--yes", action="store_true", help="do not ask, whatever it removes or has to wait for")
    apply.add_argument("--no-wait", action="store_true", help="do not wait for the PFs and guests")
    apply.add_argument("--timeout", type=_seconds, default=300, metavar="TIME", help="wait so long; by default 5min")
    text = "go back to the policy before unless vfagent confirm is run within this time, such as 2min"
    apply.add_argument("--confirm", type=_seconds, metavar="TIME", help=text)


def _report_verb(report: argparse.ArgumentParser) -> None:
    report.add_argument("--yes", action="store_true", help="do not ask, although it has names and addresses")
    report.add_argument("--anonymise", action="store_true", help="replace MACs, IP addresses and the host's name")
    report.add_argument("--output", type=Path, metavar="FILE", help="write this file; by default one in this folder")


def _seconds(text: str) -> int:
    try:
        return int(cast(float, PERIOD.read(text)))
    except MismatchError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _init_verb(init: argparse.ArgumentParser) -> None:
    init.add_argument("--card", metavar="PF", help="of this PF alone: its PCI address or interface name")
    init.add_argument("--output", type=Path, metavar="FILE", help="write to this file instead of standard output")
    init.add_argument("--force", action="store_true", help="overwrite the file")


def _guest_verbs(guest: argparse.ArgumentParser) -> None:
    verbs = guest.add_subparsers(dest="guest_verb", required=True, metavar="VERB")
    _with_json(verbs.add_parser("list", help="show the guests, and what they wait for"))
    for name, text in (
        ("start", "start a guest that is stopped or failed"),
        ("stop", "stop a guest until it is started by hand"),
    ):
        verbs.add_parser(name, help=text).add_argument("name", metavar="NAME")
    _with_json(verbs.add_parser("status", help="show one guest, and what it waits for")).add_argument(
        "name", metavar="NAME"
    )
    log = verbs.add_parser("log", help="show what a guest printed on its console")
    log.add_argument("name", metavar="NAME")
    log.add_argument("-f", "--follow", action="store_true", help="go on with what it prints, until interrupted")
    log.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")
    console = verbs.add_parser("console", help="connect this terminal to a guest's serial console; ^] ends it")
    console.add_argument("name", metavar="NAME")


def _rom_verbs(rom: argparse.ArgumentParser) -> None:
    verbs = rom.add_subparsers(dest="rom_verb", required=True, metavar="VERB")
    build = verbs.add_parser("build", help="build the ROMs that guests need and that are missing")
    build.add_argument("guests", nargs="*", metavar="GUEST", help="only for these guests")
    _with_json(
        verbs.add_parser("list", help="show the ROMs, the guests that need one, and the VFs that iPXE has a driver for")
    )


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="read DIR as if it were /, such as a copy from another host",
    )
    return verb


def _with_files(verb: argparse.ArgumentParser, text: str) -> None:
    verb.add_argument("files", nargs="*", type=Path, metavar="FILE", help=text)


def _with_json(verb: argparse.ArgumentParser) -> argparse.ArgumentParser:
    verb.add_argument("--json", action="store_true", help="print JSON")
    return verb
