# SPDX-License-Identifier: Apache-2.0
"""The verbs and their options, as argparse knows them."""

import argparse
from pathlib import Path
from typing import Any


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
