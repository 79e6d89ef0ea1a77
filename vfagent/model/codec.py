# SPDX-License-Identifier: Apache-2.0
"""Converts frozen values to JSON types and back, by the annotations of the dataclasses."""

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


def encode(value: object) -> Any:
    """Dataclasses become objects, enums their values, sets sorted lists."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(encode(item) for item in value)
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], data: object) -> T:
    """Build `kind` from the output of `encode`. Unknown keys are ignored. Raises ValueError."""
    return cast(T, decode_as(kind, data))


def decode_as(kind: Any, data: object) -> Any:
    """As `decode`, for any annotation."""
    try:
        return _decode(kind, data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a {getattr(kind, '__name__', kind)}: {error}") from error


def _decode(kind: Any, data: Any) -> Any:
    origin = typing.get_origin(kind)
    if isinstance(kind, typing.NewType):
        return _decode(kind.__supertype__, data)
    if origin in (types.UnionType, typing.Union):
        return _decode_optional(kind, data)
    if origin in (tuple, frozenset):
        return _decode_items(kind, origin, data)
    if origin in (dict, Mapping):
        return _decode_dict(kind, data)
    return _decode_plain(kind, data)


def _decode_optional(kind: Any, data: Any) -> Any:
    if data is None:
        return None
    (inner,) = (arm for arm in typing.get_args(kind) if arm is not type(None))
    return _decode(inner, data)


def _decode_items(kind: Any, origin: Any, data: Any) -> Any:
    args = [arm for arm in typing.get_args(kind) if arm is not Ellipsis]
    if len(args) == 1:
        return origin(_decode(args[0], item) for item in data)
    return tuple(_decode(arm, item) for arm, item in zip(args, data, strict=True))


def _decode_dict(kind: Any, data: Any) -> dict[Any, Any]:
    key_kind, value_kind = typing.get_args(kind)
    return {_decode(key_kind, key): _decode(value_kind, value) for key, value in data.items()}


def _decode_plain(kind: Any, data: Any) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        known = {field.name: field for field in fields(kind) if field.init}
        return kind(**{key: _decode(hints[key], value) for key, value in data.items() if key in known})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is int and isinstance(data, str):
        return int(data)  # keys of JSON objects are strings
    if kind in (str, int, float, bool) and not isinstance(data, kind):
        raise TypeError(f"found {data!r}, expected {kind.__name__}")
    return data


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
