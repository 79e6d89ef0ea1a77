# SPDX-License-Identifier: Apache-2.0
"""Messages for text that is not TOML: what to write instead.

A parser only says what it expected, and each version words it differently. These messages go by the text.
"""

import re
from collections.abc import Callable

from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.policy.other_formats import other_format
from vfagent.policy.positions import Duplicate, Positions, is_string
from vfagent.policy.problems import quoted
from vfagent.policy.types import Policy
from vfagent.policy.value_types import ArrayOfTables, Table, declared

_TRUTH = re.compile("(?i)true|false|yes|no|on|off")
_PADDED = re.compile("[+-]?0[0-9_]+")
_NUMBER = re.compile("[+-]?[0-9][0-9_.eE+-]*")
_CURLY = "“”„‘’‚«»"
_WORD = r"[^\s,\[\]{}=#\"']"
_SHOWN = 512  # characters of a line on either side of the error; a line may be a file of its own
_HEADER = re.compile(r"\s*\[+\s*([\w.-]+)\s*\]*\s*(?:#.*)?")


@frozen(slots=True)
class Advice:
    """What to write instead, and where; lines and columns count from 1."""

    text: str
    line: int
    column: int


@frozen(slots=True)
class _ErrorLine:
    """The line at which a parser failed: the word there, and the text before and after it."""

    line: str
    before: str
    word: str
    after: str
    is_value: bool


def advise(positions: Positions, line: int, column: int) -> Advice | None:
    """None where only the parser's own message is available."""
    if pasted := other_format(positions.text):
        return Advice(pasted, line, column)
    if positions.duplicates:
        duplicate = positions.duplicates[0]
        return Advice(_duplicate_text(duplicate, positions), *positions.line_column(duplicate.offset))
    if (opening := _unclosed(positions)) is not None:
        mark = re.match(r"\"\"\"|'''|.", positions.text[opening:])[0]  # type: ignore[index]
        text = f"found a string without its closing {mark}, allowed is {mark} at its end"
        return Advice(text, *positions.line_column(opening))
    error = _error_line(positions, line, column)
    text = next((message for rule in _RULES if (message := rule(error))), "")
    return Advice(text, line, column) if text else None


def _duplicate_text(duplicate: Duplicate, positions: Positions) -> str:
    first, _ = positions.line_column(duplicate.first)
    names = [part for part in duplicate.path if isinstance(part, str)]
    name = printable(".".join(names))
    if not duplicate.table:
        return f"found {quoted(names[-1])} a second time, allowed is once: it is already in line {first}"
    if _is_array_of_tables(names):
        return f"found [{name}] besides the one in line {first}, allowed is [[{name}]] for each"
    return f"found [{name}] a second time, allowed is once: put its keys below the one in line {first}"


def _is_array_of_tables(names: list[str]) -> bool:
    """Whether the policy has an array of tables with this name."""
    of: type | None = Policy
    is_array = False
    for name in names:
        value_type = declared(of)[name].key.value_type if of and name in declared(of) else None
        is_array = isinstance(value_type, ArrayOfTables)
        of = value_type.of if isinstance(value_type, Table | ArrayOfTables) else None
    return is_array


def _unclosed(positions: Positions) -> int | None:
    """The offset of the quote that opens an unterminated string; the first of three quotes."""
    at, text = positions.stopped, positions.text
    if at is None or text[at : at + 1] not in ('"', "'") or is_string(text, at):
        return None
    while text[at - 1 : at] == text[at]:
        at -= 1
    return at


def _error_line(positions: Positions, line: int, column: int) -> _ErrorLine:
    lines = positions.text.split("\n")
    whole = lines[line - 1] if line <= len(lines) else ""
    cut = max(column - 1 - _SHOWN, 0)
    text = whole[cut : column - 1 + _SHOWN]
    left, right = text[: column - 1 - cut], text[column - 1 - cut :]
    # Backwards: a search that ends at the end of the line starts anew at each character.
    word_start = re.match(f"{_WORD}*", left[::-1])[0][::-1]  # type: ignore[index]
    word_end = re.match(f"{_WORD}*", right)[0]  # type: ignore[index]
    before = left.removesuffix(word_start)
    start = sum(len(earlier) + 1 for earlier in lines[: line - 1]) + cut + len(before)
    is_value = before.rstrip().endswith("=") or start in positions.values.values()
    return _ErrorLine(text, before, word_start + word_end, right[len(word_end) :], is_value)


def _brackets(error: _ErrorLine) -> str:
    header = _HEADER.fullmatch(error.line)
    if not header or error.line.count("[") == error.line.count("]"):
        return ""
    allowed = f"[[{header[1]}]]" if _is_array_of_tables(header[1].split(".")) else f"[{header[1]}]"
    return f"found unbalanced brackets, allowed is {allowed}"


def _comment(error: _ErrorLine) -> str:
    mark = re.match(r"\s*(//|;|--|/\*)", error.line)
    return f'found "{mark[1]}", allowed is "#" before a comment' if mark else ""


def _equals(error: _ErrorLine) -> str:
    key = re.match(r"""\s*[\w.-]+\s*(?::|["'\d\w])(?!.*=)""", error.line)
    return 'found a key without "=" after it, allowed is key = value' if key else ""


def _no_value(error: _ErrorLine) -> str:
    empty = not error.word and error.before.rstrip().endswith("=") and not error.after.strip().partition("#")[0]
    return 'found no value, allowed is one after "="' if empty else ""


def _semicolon(error: _ErrorLine) -> str:
    return 'found ";", allowed is nothing after a value' if error.word.endswith(";") else ""


def _value(error: _ErrorLine) -> str:
    if not error.is_value or not error.word:
        return ""
    word = error.word
    if word[0] in _CURLY:
        return f"found {word[0]}, allowed are straight quotes"
    if _TRUTH.fullmatch(word):
        return f"found {word}, allowed is true or false"
    if _PADDED.fullmatch(word):
        return f"found {printable(word)}, allowed is {word.lstrip('+-0_') or '0'}, a number without leading zeros"
    if _NUMBER.fullmatch(word):
        return ""
    return f"found {printable(word[:64])}, allowed is a string in quotes: {quoted(word)}"


def _backslash(error: _ErrorLine) -> str:
    string = re.search(r'"[^"]*\\[^"]*"?', error.line)
    return r"found a backslash in a string, allowed is \\ for one, or a string in single quotes" if string else ""


def _inline_table(error: _ErrorLine) -> str:
    table = re.search(r"\{(?:[^}]*$|[^}]*,\s*\})", error.line)
    return "found an inline table with several lines or a trailing comma, allowed is one line of pairs" if table else ""


_RULES: tuple[Callable[[_ErrorLine], str], ...] = (
    _brackets,
    _comment,
    _no_value,
    _semicolon,
    _value,
    _equals,
    _backslash,
    _inline_table,
)
