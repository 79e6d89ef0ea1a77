# SPDX-License-Identifier: Apache-2.0
"""Messages for text that is not TOML: what to write instead.

A parser only says what it expected, and each version words it differently. These messages go by the text.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from vfagent.frozen import frozen
from vfagent.model.printable import printable
from vfagent.policy.other_formats import other_format
from vfagent.policy.positions import Duplicate, Positions, is_string
from vfagent.policy.problems import quoted
from vfagent.policy.rewrites import rewritten
from vfagent.policy.spelling import nearest
from vfagent.policy.types import Policy
from vfagent.policy.value_types import ArrayOfTables, Declared, NamedValues, Properties, String, Table, declared

_TRUTH = re.compile("(?i)true|false|yes|no|on|off")
_PADDED = re.compile("[+-]?0[0-9_]+")
_NUMBER = re.compile("[+-]?[0-9][0-9_.eE+-]*")
_CURLY = "“”„‘’‚«»"
_WORD = r"[^\s,\[\]{}=#\"']"
_LONGEST_WORD = 64
_SHOWN = 512  # characters of a line on either side of the error; a line may be a file of its own
_HEADER = re.compile(r"\s*\[[\[\s]*([\w.-]+)\s*[\]\s]*(?:#.*)?")
_COLON = re.compile(r"""\s*([\w-]{1,64}):[ \t]*([\w"'.:/-]{1,64})\s*""")
_NO_EQUALS = 'found a key without "=" after it, allowed is key = value'
_TEMPLATES = ("{{", "{%", "$", "<%", "@@")  # of Jinja, a shell, ERB and autoconf
_ASSIGNED = re.compile(r"\s*([\w.-]+)\s*=[^=]*$")


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
    table: tuple[str, ...]  # whose header is above


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
    if text:
        return Advice(text, line, column)
    opened = positions.line_column(positions.opened) if positions.opened is not None else (line, column)
    if opened[0] < line:
        closing = "}" if positions.text[positions.opened or 0] == "{" else "]"
        return Advice(f"found no {closing} for this bracket, allowed is {closing} at its end", *opened)
    text = _trailing(error)
    return Advice(text, line, column) if text else None


def _duplicate_text(duplicate: Duplicate, positions: Positions) -> str:
    first, _ = positions.line_column(duplicate.first)
    names = [part for part in duplicate.path if isinstance(part, str)]
    name = printable(".".join(names))
    if (
        duplicate.table
        and positions.values.get(duplicate.path) == duplicate.first
        and positions.text[duplicate.first] != "["
    ):
        return _table_over_value(names, first)
    if not duplicate.table:
        return f"found {quoted(names[-1])} a second time, allowed is once: it is already in line {first}"
    if _is_array_of_tables(names):
        return f"found [{name}] besides the one in line {first}, allowed is [[{name}]] for each"
    return f"found [{name}] a second time, allowed is once: put its keys below the one in line {first}"


def _table_over_value(names: list[str], first: int) -> str:
    name = printable(".".join(names))
    parent = _keys_of(names[:-1])
    meant = nearest(names[-1], [key for key in parent if isinstance(parent[key].key.value_type, ArrayOfTables)])
    other = f", did you mean [[{'.'.join([*names[:-1], meant])}]]?" if meant else ""
    return f"found {names[-1]} as a table, [{name}], allowed is one of both: it has a value in line {first}{other}"


def _keys_of(names: Sequence[str]) -> Mapping[str, Declared]:
    keys = declared(Policy)
    for name in names:
        value_type = keys[name].key.value_type if name in keys else None
        keys = declared(value_type.of) if isinstance(value_type, Table | ArrayOfTables) else {}
    return keys


def _is_array_of_tables(names: list[str]) -> bool:
    """Whether the policy has an array of tables with this name."""
    keys = _keys_of(names[:-1])
    return names[-1] in keys and isinstance(keys[names[-1]].key.value_type, ArrayOfTables)


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
    headers = (header[1] for earlier in reversed(lines[: line - 1]) if (header := _HEADER.fullmatch(earlier[:_SHOWN])))
    table = tuple(next(headers, "").split("."))
    return _ErrorLine(text, before, word_start + word_end, right[len(word_end) :], is_value, table if table[0] else ())


def _brackets(error: _ErrorLine) -> str:
    header = _HEADER.fullmatch(error.line)
    balanced = error.line.count("[") == error.line.count("]") and not re.search(r"\[\s+\[|\]\s+\]", error.line)
    if not header or balanced:
        return ""
    allowed = f"[[{header[1]}]]" if _is_array_of_tables(header[1].split(".")) else f"[{header[1]}]"
    return f"found unbalanced brackets, allowed is {allowed}"


def _name_in_header(error: _ErrorLine) -> str:
    header = re.match(r"\s*\[+\s*([\w.-]+)[ \t]+[\"']?[\w.-]+[\"']?\s*\]", error.line)
    if header is None:
        return ""
    array = _is_array_of_tables(header[1].split("."))
    return f"found a name in a header, allowed is {f'[[{header[1]}]], and name = below it' if array else 'one word'}"


def _comment(error: _ErrorLine) -> str:
    mark = re.match(r"\s*(//|;|--|/\*)", error.line)
    return f'found "{mark[1]}", allowed is "#" before a comment' if mark else ""


def _template(error: _ErrorLine) -> str:
    start = re.search(r"(?:=|:)\s*[\"']?(\S+)", error.line)
    if start is None or not start[1].startswith(_TEMPLATES):
        return ""
    return f"found {printable(start[1][:_LONGEST_WORD])}, a variable that was not replaced, allowed is a value"


def _odd_character(error: _ErrorLine) -> str:
    outside = error.word[:1] if error.is_value else error.word  # a key, and a value's first letter
    odd = (letter for letter in outside + error.after[:1] if not letter.isascii() and letter not in _CURLY)
    if (character := next(odd, "")) == "":
        return ""
    name = unicodedata.name(character, "without a name").lower()
    shown = f"{character} " if character.isprintable() else ""
    return f"found {shown}U+{ord(character):04X} ({name}) outside of a string, allowed is ASCII there"


def _equals(error: _ErrorLine) -> str:
    if error.before.rstrip().endswith("=") and error.after.startswith("=") and not error.word:
        return 'found "==", allowed is "="'
    in_string = (error.before.count('"') + error.before.count("'")) % 2
    if ":" in error.word + error.after[:1] and not in_string and not error.is_value and "=" not in error.word:
        pair = _COLON.fullmatch(error.line)
        return f'found ":" after a key, allowed is "=": {pair[1]} = {pair[2]}' if pair else _NO_EQUALS
    if re.match(r"\s*[A-Za-z][\w-]*[ \t]+[\w-]+\s*=", error.line) and not error.is_value and "=" not in error.before:
        return "found a space in a key, allowed is a key of one word, with an underscore"
    key = re.match(r"""\s*[\w.-]+\s*(?::|["'\d\w])(?!.*=)""", error.line)
    return _NO_EQUALS if key else ""


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
    if word[0] in "(<":
        return f"found {word[0]}, allowed is {{ }} for a table, [ ] for an array, or a value"
    if _TRUTH.fullmatch(word):
        return f"found {word}, allowed is true or false"
    if _PADDED.fullmatch(word):
        return f"found {printable(word)}, allowed is {word.lstrip('+-0_') or '0'}, a number without leading zeros"
    if text := _of_key(error, word):
        return text
    if _NUMBER.fullmatch(word):
        return ""
    return f"found {printable(word[:_LONGEST_WORD])}, allowed is a string in quotes: {quoted(word.strip('`'))}"


def _of_key(error: _ErrorLine, word: str) -> str:
    """By the types of the keys with this name: what a bare word means there, or what they allow instead."""
    name = _ASSIGNED.match(error.before)
    keys = _keys_of([*error.table, *(name[1].split(".")[:-1] if name else ())])
    key = keys.get(name[1].rpartition(".")[2]) if name else None
    if key is None or isinstance(expected := key.key.value_type, Table | ArrayOfTables | Properties | NamedValues):
        return ""
    meant = rewritten(expected, word)
    if meant == f", did you mean {word}?":
        return ""
    if meant or not isinstance(expected, String):
        return f"found {printable(word[:_LONGEST_WORD])}, allowed is {expected.allowed}{meant}"
    return ""


def _trailing(error: _ErrorLine) -> str:
    """After all others: what stands behind a value."""
    rest = (error.after if error.is_value else error.word + error.after).strip()
    if not rest or not re.search(r"=\s*\S", error.before + error.word):
        return ""
    return f"found {quoted(rest)} after a value, allowed is the end of the line: one key = value in each"


def _backslash(error: _ErrorLine) -> str:
    string = re.search(r'"[^"]*\\[^"]*"?', error.line)
    return r"found a backslash in a string, allowed is \\ for one, or a string in single quotes" if string else ""


def _inline_table(error: _ErrorLine) -> str:
    table = re.search(r"\{(?:[^}]*$|[^}]*,\s*\})", error.line)
    return "found an inline table with several lines or a trailing comma, allowed is one line of pairs" if table else ""


_RULES: tuple[Callable[[_ErrorLine], str], ...] = (
    _brackets,
    _name_in_header,
    _comment,
    _template,
    _odd_character,
    _no_value,
    _semicolon,
    _value,
    _equals,
    _backslash,
    _inline_table,
)
