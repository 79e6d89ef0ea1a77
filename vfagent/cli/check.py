# SPDX-License-Identifier: Apache-2.0
"""`vfagent check` and `vfagent schema`."""

import argparse
import shutil
import sys
from collections.abc import Iterator

from vfagent.cli.colour import coloured
from vfagent.cli.outputs import print_json, schema_named
from vfagent.cli.policy_report import Report, as_annotations, as_output, as_page
from vfagent.cli.text import counted
from vfagent.errors import PolicyError, PolicyUnreadError
from vfagent.exit_status import Exit
from vfagent.guests.spec.vnc import opened_to
from vfagent.model.printable import printable
from vfagent.policy.problems import Problem
from vfagent.policy.types import Policy
from vfagent.policy.warnings import warnings
from vfagent.store.policy_files import load, load_files, misnamed
from vfagent.store.policy_trust import untrusted_files


def check(args: argparse.Namespace) -> int:
    form = args.format or ("page" if sys.stdout.isatty() else "short")
    if form == "short":
        return _check_in_lines(args)
    status, report = _checked(args)
    match form:
        case "json":
            print_json(as_output(report))
        case "github":
            print(*as_annotations(report), sep="\n")
        case _:
            print(*as_page(report, shutil.get_terminal_size().columns, colour=coloured(args.color)), sep="\n")
    return status


def _checked(args: argparse.Namespace) -> tuple[Exit, Report]:
    try:
        policy = _policy(args)
    except PolicyError as error:
        problems = tuple(problem for problem in error.reported if isinstance(problem, Problem))
        more = tuple(str(sentence) for sentence in error.reported if not isinstance(sentence, Problem))
        status = Exit.ERROR if isinstance(error, PolicyUnreadError) else Exit.POLICY_INVALID
        return status, Report(problems=problems, notes=(*more, *([error.hint] if error.hint else ())))
    notes = tuple(_notes(policy, args))
    return Exit.OK, Report(notes=notes, files=policy.files, digest=policy.digest)


def _policy(args: argparse.Namespace) -> Policy:
    return load_files(args.files) if args.files else load(args.root)


def _notes(policy: Policy, args: argparse.Namespace) -> Iterator[str]:
    yield from warnings(policy)
    yield from () if args.files else misnamed(args.root)
    yield from map(str, untrusted_files(policy, args.root))
    yield from (f"guest {rule.name}: {who}" for rule in policy.guest if (who := opened_to(rule)))


def _check_in_lines(args: argparse.Namespace) -> int:
    policy = _policy(args)
    files = ", ".join(policy.files) or "no policy file"
    rules = ((policy.pf, "PF rule"), (policy.guest, "guest"), (policy.bridge, "bridge"))
    counts = ", ".join(counted(len(of_kind), kind) for of_kind, kind in rules)
    for note in _notes(policy, args):
        print(printable(f"note: {note}"), file=sys.stderr)
    print(f"{files}: valid: {counts}; digest {policy.digest}")
    return Exit.OK


def schema(args: argparse.Namespace) -> int:
    print_json(schema_named(args.output))
    return Exit.OK
