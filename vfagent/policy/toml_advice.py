# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a text that is no TOML, in words for whoever wrote it.

Parsers say what they expected, each version in its own words; these go by the text.
"""

import re
from collections.abc import Callable

from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.policy.positions import Again, Positions, is_string
from vfagent.policy.problems import quoted
from vfagent.policy.types import Policy
from vfagent.policy.value_types import Table, Tables, declared

_TRUTH = re.compile("(?i)true|false|yes|no|on|off")
_PADDED = re.compile("[+-]?0[0-9_]+")
_NUMBER = re.compile("[+-]?[0-9][0-9_.eE+-]*")
_CURLY = "“”„‘’‚«»"
_WORD = r"[^\s,\[\]{}=#\"']"
_HEADER = re.compile(r"\s*\[+\s*([\w.-]+)\s*\]*\s*(?:#.*)?")


@frozen(slots=True)
class Advice:
    """What to write instead, and where; lines and columns count from 1."""

    text: str
    line: int
    column: int


@frozen(slots=True)
class _Spot:
    """Where a parser gave up: the line's text, the word there, and what stands before that."""

    line: str
    before: str
    word: str
    after: str
    is_value: bool


def advise(positions: Positions, line: int, column: int) -> Advice | None:
    """None where the parser's own words are all there is."""
    if positions.again:
        again = positions.again[0]
        return Advice(_twice(again, positions), *positions.line_column(again.offset))
    if (opening := _unclosed(positions)) is not None:
        mark = re.match(r"\"\"\"|'''|.", positions.text[opening:])[0]  # type: ignore[index]
        text = f"found a string without its closing {mark}, allowed is {mark} at its end"
        return Advice(text, *positions.line_column(opening))
    spot = _spot(positions, line, column)
    text = next((said for rule in _RULES if (said := rule(spot))), "")
    return Advice(text, line, column) if text else None


def _twice(again: Again, positions: Positions) -> str:
    first, _ = positions.line_column(again.first)
    names = [part for part in again.path if isinstance(part, str)]
    name = printable(".".join(names))
    if not again.table:
        return f"found {quoted(names[-1])} a second time, allowed is once: it is in line {first} already"
    if _several(names):
        return f"found [{name}] beside that of line {first}, allowed is [[{name}]] for each of them"
    return f"found [{name}] a second time, allowed is once: its keys belong below that of line {first}"


def _several(names: list[str]) -> bool:
    """Whether the policy has an array of tables by this name."""
    of: type | None = Policy
    several = False
    for name in names:
        form = declared(of)[name].key.form if of and name in declared(of) else None
        several, of = isinstance(form, Tables), form.of if isinstance(form, Table | Tables) else None
    return several


def _unclosed(positions: Positions) -> int | None:
    """The quote that opens a string without an end, of three the first."""
    at, text = positions.stopped, positions.text
    if at is None or text[at : at + 1] not in ('"', "'") or is_string(text, at):
        return None
    while text[at - 1 : at] == text[at]:
        at -= 1
    return at


def _spot(positions: Positions, line: int, column: int) -> _Spot:
    lines = positions.text.split("\n")
    whole = lines[line - 1] if line <= len(lines) else ""
    left, right = whole[: column - 1], whole[column - 1 :]
    begun = re.search(rf"{_WORD}*\Z", left)[0]  # type: ignore[index]
    rest = re.match(f"{_WORD}*", right)[0]  # type: ignore[index]
    before = left.removesuffix(begun)
    start = sum(len(one) + 1 for one in lines[: line - 1]) + len(before)
    is_value = before.rstrip().endswith("=") or start in positions.values.values()
    return _Spot(whole, before, begun + rest, right[len(rest) :], is_value)


def _brackets(spot: _Spot) -> str:
    found = _HEADER.fullmatch(spot.line)
    if not found or spot.line.count("[") == spot.line.count("]"):
        return ""
    allowed = f"[[{found[1]}]]" if _several(found[1].split(".")) else f"[{found[1]}]"
    return f"found brackets that are no pairs, allowed is {allowed}"


def _comment(spot: _Spot) -> str:
    mark = re.match(r"\s*(//|;|--|/\*)", spot.line)
    return f'found "{mark[1]}", allowed is "#" before a comment' if mark else ""


def _equals(spot: _Spot) -> str:
    key = re.match(r"""\s*[\w.-]+\s*(?::|["'\d\w])(?!.*=)""", spot.line)
    return 'found a key without "=" after it, allowed is key = value' if key else ""


def _no_value(spot: _Spot) -> str:
    empty = not spot.word and spot.before.rstrip().endswith("=") and not spot.after.strip().partition("#")[0]
    return 'found no value, allowed is one after "="' if empty else ""


def _semicolon(spot: _Spot) -> str:
    return 'found ";", allowed is nothing after a value' if spot.word.endswith(";") else ""


def _value(spot: _Spot) -> str:
    if not spot.is_value or not spot.word:
        return ""
    word = spot.word
    if word[0] in _CURLY:
        return f"found {word[0]}, allowed are straight quotes"
    if _TRUTH.fullmatch(word):
        return f"found {word}, allowed is true or false"
    if _PADDED.fullmatch(word):
        return f"found {printable(word)}, allowed is {word.lstrip('+-0_') or '0'}, a number without zeros in front"
    if _NUMBER.fullmatch(word):
        return ""
    return f"found {printable(word[:64])}, allowed is a string in quotes: {quoted(word)}"


def _backslash(spot: _Spot) -> str:
    inside = re.search(r'"[^"]*\\[^"]*"?', spot.line)
    return r"found a backslash in a string, allowed is \\ for one, or a string in single quotes" if inside else ""


def _inline_table(spot: _Spot) -> str:
    opened = re.search(r"\{(?:[^}]*$|[^}]*,\s*\})", spot.line)
    return "found an inline table of several lines or with a last comma, allowed is one line of pairs" if opened else ""


_RULES: tuple[Callable[[_Spot], str], ...] = (
    _brackets,
    _comment,
    _no_value,
    _semicolon,
    _value,
    _equals,
    _backslash,
    _inline_table,
)
