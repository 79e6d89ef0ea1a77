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
from vfagent.policy.problems import Problem
from vfagent.policy.reading import Merged
from vfagent.policy.warnings import warnings
from vfagent.store.policy_files import load_merged, load_merged_files, misnamed
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
        merged = _merged(args)
    except PolicyError as error:
        problems = tuple(problem for problem in error.reported if isinstance(problem, Problem))
        more = (str(sentence) for sentence in error.reported if not isinstance(sentence, Problem))
        notes = (Problem("", 0, 0, "", text) for text in (*more, *([error.hint] if error.hint else ())))
        status = Exit.ERROR if isinstance(error, PolicyUnreadError) else Exit.POLICY_INVALID
        return status, Report(problems=problems, notes=tuple(notes))
    return Exit.OK, Report(notes=tuple(_notes(merged, args)), files=merged.policy.files, digest=merged.policy.digest)


def _merged(args: argparse.Namespace) -> Merged:
    return load_merged_files(args.files) if args.files else load_merged(args.root)


def _notes(merged: Merged, args: argparse.Namespace) -> Iterator[Problem]:
    yield from warnings(merged)
    yield from () if args.files else misnamed(args.root)
    for file in untrusted_files(merged.policy, args.root):
        yield Problem(file.path, 0, 0, "", f"{file.purpose}: {file.why}")
    yield from ((at / "vnc").problem(who) for rule, at in merged.guests if (who := opened_to(rule)))


def _check_in_lines(args: argparse.Namespace) -> int:
    merged = _merged(args)
    policy = merged.policy
    files = ", ".join(policy.files) or "no policy file"
    rules = ((policy.pf, "PF rule"), (policy.guest, "guest"), (policy.bridge, "bridge"))
    counts = ", ".join(counted(len(of_kind), kind) for of_kind, kind in rules)
    for note in _notes(merged, args):
        print(f"note: {note}", file=sys.stderr)
    print(f"{files}: valid: {counts}; digest {policy.digest}")
    return Exit.OK


def schema(args: argparse.Namespace) -> int:
    print_json(schema_named(args.output))
    return Exit.OK
