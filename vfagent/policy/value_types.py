# SPDX-License-Identifier: Apache-2.0
"""The value types of the policy's keys. Each reads a TOML value, describes what is allowed and has a JSON Schema."""

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
    """A value that its type does not allow; `in_schema` if the JSON Schema rejects it too.

    `meant` is `, did you mean "keep"?` where a word of the type is near.
    """

    def __init__(self, text: str, *, meant: str = "", in_schema: bool = True) -> None:
        super().__init__(text + meant)
        self.meant, self.in_schema = meant, in_schema


class Scalar(Protocol):
    @property
    def allowed(self) -> str: ...

    def read(self, value: object) -> object:
        """Return the policy's value for a TOML value, or raise MismatchError."""

    def schema(self) -> Schema: ...


def _unchanged(value: object) -> object:
    return value


@frozen(slots=True)
class Integer:
    """An integer within bounds. In Python a boolean is an integer too: it is rejected."""

    low: int
    high: int
    convert: Callable[[int], object] = _unchanged
    unit: str = ""

    @property
    def allowed(self) -> str:
        numbers = f"{self.low} to {self.high}" if self.low < self.high else str(self.low)
        return f"{numbers} {self.unit}" if self.unit else numbers

    def read(self, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return self.convert(value)
        raise MismatchError(f"found {described(value)}, allowed is {self.allowed}")

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@frozen(slots=True)
class Boolean:
    """A boolean."""

    allowed: str = "true or false"

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise MismatchError(f"found {described(value)}, allowed is {self.allowed}")

    def schema(self) -> Schema:
        return {"type": "boolean"}


@frozen(slots=True)
class String:
    """A string that matches `pattern` as a whole; `convert` can reject more, with a ValueError."""

    pattern: str
    allowed: str
    longest: int = 255
    convert: Callable[[str], object] = _unchanged
    explain: Callable[[str], str] | None = None
    words: tuple[str, ...] = ()  # the keywords in the pattern, for suggestions

    def read(self, value: object) -> object:
        if not isinstance(value, str) or len(value) > self.longest or not re.fullmatch(self.pattern, value):
            text = f"found {self._described(value)}, allowed is {self.allowed}"
            raise MismatchError(text, meant=_suggestion(value, self))
        try:
            return self.convert(value)
        except MismatchError as error:
            text = f"found {described(value)}, {str(error).removesuffix(error.meant)}"
            raise MismatchError(text, meant=error.meant, in_schema=False) from None
        except ValueError as error:
            raise MismatchError(f"found {described(value)}, {error}", in_schema=False) from None

    def _described(self, value: object) -> str:
        if not isinstance(value, str):
            return described(value)
        if len(value) > self.longest:
            return f"{len(value)} characters (at most {self.longest})"
        reason = self.explain(value) if self.explain else ""
        return f"{described(value)} ({reason})" if reason else described(value)

    def schema(self) -> Schema:
        # Python's "$" also matches before a final newline, that of ECMA 262 does not: the lookahead excludes it.
        return {"type": "string", "maxLength": self.longest, "pattern": f"^(?:{self.pattern})$(?!\\n)"}


@frozen(slots=True)
class Choice:
    """One of a few keywords."""

    words: tuple[str, ...] | type[StrEnum]

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(str(word) for word in self.words)

    @property
    def allowed(self) -> str:
        *most, last = (f'"{word}"' for word in self.values)
        return f"{', '.join(most)} or {last}"

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.values:
            return value if isinstance(self.words, tuple) else self.words(value)
        raise MismatchError(f"found {described(value)}, allowed is {self.allowed}", meant=_suggestion(value, self))

    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.values)}


@frozen(slots=True)
class AnyOf:
    """The first of several types that accepts the value."""

    value_types: tuple[Scalar, ...]

    @property
    def allowed(self) -> str:
        *most, last = (value_type.allowed for value_type in self.value_types)
        return f"{', '.join(most)} or {last}"

    def read(self, value: object) -> object:
        for value_type in self.value_types:
            try:
                return value_type.read(value)
            except MismatchError as mismatch:
                if not mismatch.in_schema:
                    raise
        meant = _suggestion(value, *self.value_types)
        raise MismatchError(f"found {described(value)}, allowed is {self.allowed}", meant=meant)

    def schema(self) -> Schema:
        return {"anyOf": [value_type.schema() for value_type in self.value_types]}


def _suggestion(value: object, *value_types: Scalar) -> str:
    """A suggestion if the value is a misspelled keyword of these types."""
    words = [word for value_type in value_types for word in _keywords(value_type)]
    return suggestion(value, words) if isinstance(value, str) else ""


def _keywords(value_type: Scalar) -> tuple[str, ...]:
    match value_type:
        case Choice():
            return value_type.values
        case String():
            return value_type.words
    return ()


@frozen(slots=True)
class Array:
    """An array of scalars."""

    item: Scalar
    at_most: int

    @property
    def allowed(self) -> str:
        return f"an array of at most {self.at_most}, each {self.item.allowed}"


@frozen(slots=True)
class Table:
    """A table with the keys of one dataclass."""

    of: type[Any]
    non_empty: bool = False
    allowed: str = "a table"


@frozen(slots=True)
class ArrayOfTables:
    """An array of tables."""

    of: type[Any]
    at_most: int
    allowed: str = "an array of tables"


@frozen(slots=True)
class Properties:
    """A table of allow-listed names, read as sorted pairs."""

    keys: Mapping[str, "Key"]
    allowed: str = "a table"


@frozen(slots=True)
class NamedValues:
    """A table whose names the policy chooses, read as sorted pairs."""

    name: String
    value: Scalar
    at_most: int
    doc: str  # of each
    allowed: str = "a table"


@frozen(slots=True)
class Key:
    """The type of one key of the policy, and the sentence that documents it."""

    value_type: Scalar | Array | Table | ArrayOfTables | Properties | NamedValues
    doc: str
    spelling: str = ""  # in TOML, if not the field's name
    default: str = ""  # as TOML, if the field's default does not show it


@frozen(slots=True)
class Declared:
    """A key together with the field it fills."""

    name: str
    field_name: str
    key: Key
    required: bool
    default: object


def key(value_type: Any, doc: str, *, spelling: str = "", default: str = "") -> Mapping[str, Key]:
    """A field's metadata."""
    return {"key": Key(value_type, doc, spelling, default)}


_declared_keys: dict[type, Mapping[str, Declared]] = {}


def declared(of: type) -> Mapping[str, Declared]:
    """The keys that fill a dataclass, by their TOML spelling, in the order of their declaration."""
    if of not in _declared_keys:
        _declared_keys[of] = _declarations(of)
    return _declared_keys[of]


def _declarations(of: type) -> Mapping[str, Declared]:
    keys: dict[str, Declared] = {}
    for declared_field in fields(of):
        declaration: Key | None = declared_field.metadata.get("key")
        if declaration is not None:
            name = declaration.spelling or declared_field.name
            required = declared_field.default is MISSING and declared_field.default_factory is MISSING
            keys[name] = Declared(name, declared_field.name, declaration, required, declared_field.default)
    return keys
