# SPDX-License-Identifier: Apache-2.0
"""The forms a TOML value may take. Each reads a value, words what is allowed and knows its JSON Schema."""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, Protocol

from vfagent.frozen import frozen
from vfagent.policy.problems import described
from vfagent.policy.spelling import suggestion

Schema = dict[str, Any]


class MismatchError(ValueError):
    """A value that its form does not allow; `in_schema` if the JSON Schema refuses it too."""

    def __init__(self, text: str, *, in_schema: bool = True) -> None:
        super().__init__(text)
        self.in_schema = in_schema


class Scalar(Protocol):
    @property
    def allowed(self) -> str: ...

    def read(self, found: object) -> object:
        """Return the policy's value for a TOML value, or raise MismatchError."""

    def schema(self) -> Schema: ...


def _unchanged(found: object) -> object:
    return found


@frozen(slots=True)
class Whole:
    """An integer within bounds; booleans are none."""

    low: int
    high: int
    convert: Callable[[int], object] = _unchanged

    @property
    def allowed(self) -> str:
        return f"{self.low} to {self.high}" if self.low < self.high else str(self.low)

    def read(self, found: object) -> object:
        if isinstance(found, int) and not isinstance(found, bool) and self.low <= found <= self.high:
            return self.convert(found)
        raise MismatchError(f"found {described(found)}, allowed is {self.allowed}")

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@frozen(slots=True)
class Flag:
    """A boolean."""

    allowed: str = "true or false"

    def read(self, found: object) -> bool:
        if isinstance(found, bool):
            return found
        raise MismatchError(f"found {described(found)}, allowed is {self.allowed}")

    def schema(self) -> Schema:
        return {"type": "boolean"}


@frozen(slots=True)
class Text:
    """A string that matches `pattern` as a whole; `convert` may refuse more, with a ValueError."""

    pattern: str
    allowed: str
    longest: int = 255
    convert: Callable[[str], object] = _unchanged
    explain: Callable[[str], str] | None = None
    words: tuple[str, ...] = ()  # those of the pattern, for whoever mistypes one

    def read(self, found: object) -> object:
        if not isinstance(found, str) or len(found) > self.longest or not re.fullmatch(self.pattern, found):
            raise MismatchError(f"found {self._described(found)}, allowed is {self.allowed}{_meant(found, self)}")
        try:
            return self.convert(found)
        except ValueError as error:
            raise MismatchError(f"found {described(found)}, {error}", in_schema=False) from None

    def _described(self, found: object) -> str:
        if not isinstance(found, str):
            return described(found)
        if len(found) > self.longest:
            return f"{len(found)} characters (at most {self.longest})"
        reason = self.explain(found) if self.explain else ""
        return f"{described(found)} ({reason})" if reason else described(found)

    def schema(self) -> Schema:
        # Python's "$" also matches before a last newline; the look-ahead says what ECMA 262 means by it.
        return {"type": "string", "maxLength": self.longest, "pattern": f"^(?:{self.pattern})$(?!\\n)"}


@frozen(slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...] | type[StrEnum]

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(str(word) for word in self.words)

    @property
    def allowed(self) -> str:
        *most, last = (f'"{word}"' for word in self.values)
        return f"{', '.join(most)} or {last}"

    def read(self, found: object) -> str:
        if isinstance(found, str) and found in self.values:
            return found if isinstance(self.words, tuple) else self.words(found)
        raise MismatchError(f"found {described(found)}, allowed is {self.allowed}{_meant(found, self)}")

    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.values)}


@frozen(slots=True)
class Either:
    """The first of several forms that takes the value."""

    forms: tuple[Scalar, ...]

    @property
    def allowed(self) -> str:
        *most, last = (form.allowed for form in self.forms)
        return f"{', '.join(most)} or {last}"

    def read(self, found: object) -> object:
        for form in self.forms:
            try:
                return form.read(found)
            except MismatchError as mismatch:
                if not mismatch.in_schema:
                    raise
        raise MismatchError(f"found {described(found)}, allowed is {self.allowed}{_meant(found, *self.forms)}")

    def schema(self) -> Schema:
        return {"anyOf": [form.schema() for form in self.forms]}


def _meant(found: object, *forms: Scalar) -> str:
    """The words of these forms that a mistyped one is near to."""
    words = [word for form in forms for word in _words(form)]
    return suggestion(found, words) if isinstance(found, str) else ""


def _words(form: Scalar) -> tuple[str, ...]:
    match form:
        case Choice():
            return form.values
        case Text():
            return form.words
    return ()


@frozen(slots=True)
class Several:
    """An array of scalars."""

    form: Scalar
    at_most: int

    @property
    def allowed(self) -> str:
        return f"an array of at most {self.at_most}, each {self.form.allowed}"


@frozen(slots=True)
class Table:
    """A table with the keys of one dataclass."""

    of: type[Any]
    non_empty: bool = False
    allowed: str = "a table"


@frozen(slots=True)
class Tables:
    """An array of tables."""

    of: type[Any]
    at_most: int
    allowed: str = "an array of tables"


@frozen(slots=True)
class Properties:
    """A table of allow-listed words, read into sorted pairs."""

    keys: Mapping[str, "Key"]
    allowed: str = "a table"


@frozen(slots=True)
class Key:
    """What one key of the policy may hold, and the sentence that documents it."""

    form: Scalar | Several | Table | Tables | Properties
    doc: str
    spelling: str = ""  # in TOML, where it is not the field's name
    default: str = ""  # in words or TOML, where the field's default does not show it


@frozen(slots=True)
class Declared:
    """A key together with the field it fills."""

    name: str
    fills: str
    key: Key
    required: bool
    default: object


def key(form: Any, doc: str, *, spelling: str = "", default: str = "") -> Mapping[str, Key]:
    """A field's metadata."""
    return {"key": Key(form, doc, spelling, default)}


_known: dict[type, Mapping[str, Declared]] = {}


def declared(of: type) -> Mapping[str, Declared]:
    """The keys that fill a dataclass, by their TOML spelling, in the order of their declaration."""
    if of not in _known:
        _known[of] = _declarations(of)
    return _known[of]


def _declarations(of: type) -> Mapping[str, Declared]:
    keys: dict[str, Declared] = {}
    for part in fields(of):
        declaration: Key | None = part.metadata.get("key")
        if declaration is not None:
            name = declaration.spelling or part.name
            required = part.default is MISSING and part.default_factory is MISSING
            keys[name] = Declared(name, part.name, declaration, required, part.default)
    return keys
