# SPDX-License-Identifier: Apache-2.0
"""What `check` reports: a line for each, with the source on a terminal, as JSON, or as annotations of GitHub."""

import textwrap
from collections.abc import Iterator

from vfagent.cli.outputs import Check, CheckProblem
from vfagent.cli.text import counted
from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.policy.problems import Problem

_NARROWEST = 40
_RED, _YELLOW, _BOLD, _END = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1m", "\x1b[0m"


@frozen(slots=True)
class Report:
    """The outcome of a check."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()
    digest: str | None = None  # of a valid policy


def as_output(report: Report) -> Check:
    problems, notes = (tuple(map(_placed, those)) for those in (report.problems, report.notes))
    return Check(report.digest is not None, report.digest, report.files, problems, notes)


def _placed(problem: Problem) -> CheckProblem:
    return CheckProblem(
        problem.file or None,
        problem.line or None,
        problem.column or None,
        problem.key or None,
        problem.rule or None,
        problem.text,
    )


def as_annotations(report: Report) -> Iterator[str]:
    """Workflow commands, which GitHub shows beside the line of the file."""
    yield from (_annotation("error", problem) for problem in report.problems)
    yield from (_annotation("warning", note) for note in report.notes)


def _annotation(level: str, problem: Problem) -> str:
    place = f"file={_escaped(problem.file, in_property=True)}" if problem.file else ""
    if problem.line:
        place += f",line={problem.line},col={problem.column}"
    return f"::{level} {place}::{_escaped(problem.about)}"


def _escaped(text: str, *, in_property: bool = False) -> str:
    """The escapes of GitHub's toolkit (packages/core/src/command.ts)."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if in_property else text


def as_page(report: Report, columns: int, *, colour: bool) -> Iterator[str]:
    """Each problem with its line of the source and a mark below the column."""
    width = max(columns, _NARROWEST)
    for problem in report.problems:
        yield from _problem("error", problem, width, _RED if colour else "")
        yield ""
    for note in report.notes:
        yield from _problem("note", note, width, _YELLOW if colour else "")
        yield ""
    yield _summary(report)


def _problem(level: str, problem: Problem, width: int, colour: str) -> Iterator[str]:
    yield from _wrapped(f"{level}: {problem.about}", width, colour)
    if not problem.file:
        return
    gutter = len(str(problem.line))
    place = f"{printable(problem.file)}:{problem.line}:{problem.column}" if problem.line else printable(problem.file)
    yield f"{'':{gutter}} --> {place}"
    if problem.line:
        source, mark = _source(problem, width - gutter - 3)
        yield f"{problem.line} | {source}"
        yield f"{'':{gutter}} | {_BOLD if colour else ''}{'':{mark}}^{_END if colour else ''}"


def _source(problem: Problem, room: int) -> tuple[str, int]:
    """As much of the line as fits, and the column of the mark in it."""
    column = problem.column - 1 - problem.cut
    first = max(0, min(column - room // 2, len(problem.source) - room))
    shown = problem.source[first : first + room].replace("\t", " ")
    return "".join(letter if letter.isprintable() else "?" for letter in shown), column - first


def _wrapped(text: str, width: int, colour: str) -> Iterator[str]:
    first, *rest = textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    head, colon, tail = first.partition(":")
    yield f"{colour}{head}{colon}{_END}{tail}" if colour else first
    yield from rest


def _summary(report: Report) -> str:
    notes = counted(len(report.notes), "note")
    if report.digest is None:
        return f"{counted(len(report.problems), 'error')}, {notes}: the policy is invalid"
    return f"valid, {notes}; digest {report.digest}"
