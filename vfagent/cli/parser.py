# SPDX-License-Identifier: Apache-2.0
"""The verbs and their options, as argparse knows them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from vfagent import __version__
from vfagent.cli.colour import CHOICES as COLOURS
from vfagent.policy.spelling import suggestion
from vfagent.policy.strings import PERIOD
from vfagent.policy.value_types import MismatchError

# The names of vfagent/cli/outputs.py, which takes 60 ms to load: a test compares them.
SCHEMAS = ("policy", "apply", "check", "doctor", "guest-list", "guest-status", "list", "plan", "rom-list", "status")
_CARD = "by PCI address, interface, or pattern such as 'ens*'"


class _Formatter(argparse.HelpFormatter):
    """Examples keep their lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Suggests a verb or an option for a mistyped one; knows no abbreviations, which a later option would break."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command_of(self, known).refuse(unknown[0])
        return known

    def refuse(self, word: str) -> NoReturn:
        """Wrong usage: a word that no command takes."""
        if not word.startswith("-"):
            self.error(f"found {word!r}, which is one word too many")
        options = [option for action in self._actions for option in action.option_strings]
        self.error(f"found the unknown option {word!r}{suggestion(word.partition('=')[0], options)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        text = f"found {str(value)!r}, allowed are {', '.join(known)}{suggestion(str(value), known)}"
        raise argparse.ArgumentError(action, text)


def command_of(top: _Parser, known: argparse.Namespace) -> _Parser:
    """The parser of the command that was given."""
    for words in (known.verb, getattr(known, f"{known.verb}_verb", None)):
        for action in top._actions:
            if isinstance(action, argparse._SubParsersAction) and words in action.choices:
                top = action.choices[words]
    return top


def help_of(words: Sequence[str]) -> str:
    """The help of a command, `guest start`, or of vfagent itself."""
    command = parser()
    for word in words:
        inner = next((action for action in command._actions if isinstance(action, argparse._SubParsersAction)), None)
        if inner is None:
            command.refuse(word)
        try:
            command._check_value(inner, word)
        except argparse.ArgumentError as error:
            command.error(str(error))
        command = inner.choices[word]
    return command.format_help()


def parser() -> _Parser:
    top = _Parser(
        prog="vfagent",
        description="Configures SR-IOV NICs and their VFs from a policy file, and keeps them so.",
        epilog="examples:\n  vfagent check && vfagent plan    is the policy valid, and what would it do?\n"
        "  vfagent list 'ens*'              what is there, and what can a rule match?\n"
        "  vfagent explain trust            what does this key of the policy do?\n\n"
        "exit status: 0 done, 1 error, 2 wrong usage, 3 not finished, 4 policy invalid,\n"
        "5 refused because it would disturb a VF in use, 6 the service is not running\n\n"
        "vfagent help VERB has more. Manual pages: vfagent(8), vfagent.toml(5),\n"
        "vfagent-json(7), vfagent-metrics(7)",
    )
    top.add_argument("--version", action="version", version=f"vfagent {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    run = _verb(verbs, "run", "run the service", "systemctl start vfagent    systemd runs it")
    run.add_argument("--debug", action="store_true", help="log every kernel call")
    _policy_verbs(verbs)
    _state_verbs(verbs)
    _guest_verbs(
        _verb(verbs, "guest", "list guests, start or stop one, type at its console", "vfagent guest stop web1")
    )
    _rom_verbs(_verb(verbs, "rom", "build or list the iPXE ROMs that guests boot from", "vfagent rom build web1"))
    release = _verb(
        verbs, "release", "restore a PF to what it was before vfagent changed it", "vfagent release 0000:3b:00.0"
    )
    release.add_argument("pf", metavar="PF", help="PCI address or interface name")
    release.add_argument("--force", action="store_true", help="even while guests use its VFs, which they lose")
    _report_verb(_verb(verbs, "report", "write an archive for a bug report", "vfagent report --anonymise"))
    _help_verbs(verbs)
    return top


_Verbs = Any  # argparse._SubParsersAction[_Parser], which is not generic when it runs


def _policy_verbs(verbs: _Verbs) -> None:
    check = _verb(
        verbs, "check", "check the policy and print all its errors", "vfagent check new.toml    before it is in /etc"
    )
    check.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="check these files instead of the host's policy; - is standard input",
    )
    check.add_argument(
        "--format",
        choices=("page", "short", "json", "github"),
        help="page: with the source, for a terminal; short: a line each, for all else; json; github: annotations",
    )
    _with_color(check)
    check.add_argument("--json", action="store_const", const="json", dest="format", help="print JSON")
    init = _verb(verbs, "init", "write a policy for what is there", "vfagent init --card ens1 --output new.toml")
    init.add_argument("--card", metavar="PF", help="of this PF alone: its PCI address or interface name")
    init.add_argument("--output", type=Path, metavar="FILE", help="write to this file instead of standard output")
    init.add_argument("--force", action="store_true", help="overwrite the file")
    plan = _verb(
        verbs,
        "plan",
        "show what would be changed, and why",
        "vfagent plan ens1 new.toml    what the new policy would do to this card",
    )
    plan.add_argument(
        "words",
        nargs="*",
        metavar="CARD|FILE",
        help=f"only these cards, {_CARD}; these files instead of the host's policy; - is standard input",
    )
    _with_color(plan)
    plan.add_argument("--steps", action="store_true", help="each step in its order, instead of a summary")
    _with_json(plan)
    apply = _verb(
        verbs,
        "apply",
        "apply the policy: by the service, or once without it",
        "vfagent apply --confirm 2min    goes back, unless vfagent confirm follows",
    )
    _with_json(apply)
    _apply_verb(apply)
    _verb(verbs, "reload", "make the service load its policy, and wait for the result", "systemctl reload vfagent")
    _verb(verbs, "confirm", "keep the policy that apply --confirm has on trial", "vfagent confirm")


def _apply_verb(apply: _Parser) -> None:
    apply.add_argument("--yes", action="store_true", help="do not ask, whatever it removes or has to wait for")
    apply.add_argument("--no-wait", action="store_true", help="do not wait for the PFs and guests")
    apply.add_argument("--timeout", type=_seconds, default=300, metavar="TIME", help="wait so long; by default 5min")
    text = "go back to the policy before unless vfagent confirm is run within this time, such as 2min"
    apply.add_argument("--confirm", type=_seconds, metavar="TIME", help=text)


def _seconds(text: str) -> int:
    try:
        return int(cast(float, PERIOD.read(text)))
    except MismatchError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _state_verbs(verbs: _Verbs) -> None:
    list_ = _verb(verbs, "list", "show PFs and VFs as they are", "vfagent list 'ens*'    what a rule can match")
    list_.add_argument("cards", nargs="*", metavar="CARD", help=f"only these, {_CARD}")
    _with_json(list_)
    status = _verb(
        verbs,
        "status",
        "show what the service does, and what it waits for",
        "vfagent status --watch    a live screen on a terminal",
    )
    form = status.add_mutually_exclusive_group()
    form.add_argument("--watch", action="store_true", help="print it at each change, until interrupted")
    form.add_argument("--nagios", action="store_true", help="one line and the exit status of a Nagios or Icinga plugin")
    status.add_argument("cards", nargs="*", metavar="CARD", help=f"only these, with each VF, {_CARD}")
    _with_color(status)
    _with_json(status)
    doctor = "check this host for problems, and how to fix them (exits with 1 on an error)"
    _with_json(
        _verb(verbs, "doctor", doctor, "vfagent doctor    before the first policy, and when guests do not start")
    )


def _guest_verbs(guest: _Parser) -> None:
    verbs = guest.add_subparsers(dest="guest_verb", required=True, metavar="VERB")
    _with_json(_inner(verbs, "list", "show the guests, and what they wait for", "vfagent guest list"))
    for name, text in (
        ("start", "start a guest that is stopped or failed"),
        ("stop", "stop a guest until it is started by hand"),
    ):
        _inner(verbs, name, text, f"vfagent guest {name} web1").add_argument("name", metavar="NAME")
    status = _inner(verbs, "status", "show one guest, and what it waits for", "vfagent guest status web1")
    status.add_argument("name", metavar="NAME")
    _with_json(status)
    log = _inner(verbs, "log", "show what a guest printed on its console", "vfagent guest log -n 20 web1")
    log.add_argument("name", metavar="NAME")
    log.add_argument("-f", "--follow", action="store_true", help="go on with what it prints, until interrupted")
    log.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N lines")
    text = "connect this terminal to a guest's serial console; ^] ends it"
    _inner(verbs, "console", text, "vfagent guest console web1").add_argument("name", metavar="NAME")


def _rom_verbs(rom: _Parser) -> None:
    verbs = rom.add_subparsers(dest="rom_verb", required=True, metavar="VERB")
    build = _inner(verbs, "build", "build the ROMs that guests need and that are missing", "vfagent rom build")
    build.add_argument("guests", nargs="*", metavar="GUEST", help="only for these guests")
    text = "show the ROMs, the guests that need one, and the VFs that iPXE has a driver for"
    _with_json(_inner(verbs, "list", text, "vfagent rom list"))


def _report_verb(report: _Parser) -> None:
    report.add_argument("--yes", action="store_true", help="do not ask, although it has names and addresses")
    report.add_argument("--anonymise", action="store_true", help="replace MACs, IP addresses and the host's name")
    report.add_argument("--output", type=Path, metavar="FILE", help="write this file; by default one in this folder")


def _help_verbs(verbs: _Verbs) -> None:
    schema = _verb(
        verbs,
        "schema",
        "print the JSON Schema of the policy, for editors, or of a command's --json",
        "vfagent schema status",
    )
    schema.add_argument(
        "output", nargs="?", default="policy", choices=SCHEMAS, metavar="OUTPUT", help=", ".join(SCHEMAS)
    )
    explain = _verb(
        verbs,
        "explain",
        "explain a key of the policy, a phase, a check of doctor or a metric, as the manual does",
        "vfagent explain pf.vf.trust deferred group-shared vfagent_pf_info",
    )
    explain.add_argument("topics", nargs="+", metavar="TOPIC", help="a key such as trust or pf.vf.trust, a phase, …")
    help_ = _verb(verbs, "help", "print the help of a command", "vfagent help guest start")
    help_.add_argument("commands", nargs="*", metavar="VERB", help="the command; without, the help of vfagent itself")


def _verb(verbs: _Verbs, name: str, text: str, example: str) -> _Parser:
    verb = _inner(verbs, name, text, example)
    verb.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="read DIR as if it were /, such as a copy from another host",
    )
    return verb


def _inner(verbs: _Verbs, name: str, text: str, example: str) -> _Parser:
    epilog = f"example:\n  {example}\n\nmanual page: vfagent(8)"
    command: _Parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog)
    return command


def _with_color(verb: _Parser) -> None:
    text = "colour: auto is on a terminal, unless NO_COLOR is set"
    verb.add_argument("--color", choices=COLOURS, default="auto", help=text)


def _with_json(verb: _Parser) -> None:
    verb.add_argument("--json", action="store_true", help="print JSON")
