# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of a frozen value, by the annotations that `encode` and `decode` go by."""

import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

Schema = dict[str, Any]

_PLAIN: dict[object, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    object: {},
    Any: {},
}


def schema_of(kind: type, title: str) -> Schema:
    """Keys may be added later, so that others are allowed; those that are declared are always there."""
    classes = {of.__name__: of for of in _classes(kind, set())}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_object(kind),
        "$defs": {name: _object(classes[name]) for name in sorted(classes) if classes[name] is not kind},
    }


def _classes(kind: Any, known: set[type]) -> Iterator[type]:
    """The dataclasses that a type is made of."""
    if isinstance(kind, type) and is_dataclass(kind):
        if kind in known:
            return
        known.add(kind)
        yield kind
        inner = list(typing.get_type_hints(kind).values())
    else:
        inner = list(typing.get_args(kind))
    for part in inner:
        yield from _classes(part, known)


def _object(kind: Any) -> Schema:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    properties = {name: _schema(hints[name]) for name in names}
    return {"type": "object", "properties": properties, "required": names}


def _schema(kind: Any) -> Schema:
    if isinstance(kind, typing.NewType):
        return _schema(kind.__supertype__)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and is_dataclass(kind):
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return _composed(typing.get_origin(kind), typing.get_args(kind))


def _composed(origin: Any, args: tuple[Any, ...]) -> Schema:
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema(arm) for arm in args]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(args[1])}
    if origin is tuple and args[-1:] != (Ellipsis,):
        return {"type": "array", "prefixItems": [_schema(arm) for arm in args], "minItems": len(args)}
    return {"type": "array", "items": _schema(args[0])}
