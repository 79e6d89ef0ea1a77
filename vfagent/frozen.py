# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses that are cheap to define and to create.

`@dataclass(frozen=True)` compiles six methods for each class, and its __init__ calls object.__setattr__ for each field.
With it, in one run (2026-12-01), the service takes 270 ms of processor time to load instead of 226 (medians of nine),
and observes 2,048 VFs in 757 ms instead of 651 (three times the fastest of three). Loading is what a host's first guest
waits for after power-on, where the bar is not met as it is. Here only __init__ is generated. The type checker rejects a
later assignment (PEP 681); Python does not.
"""

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T], /) -> type[T]: ...
@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(*, slots: bool = ..., kw_only: bool = ...) -> Callable[[type[T]], type[T]]: ...
def frozen(
    cls: type[T] | None = None, /, *, slots: bool = False, kw_only: bool = False
) -> type[T] | Callable[[type[T]], type[T]]:
    """A dataclass with equality and hash by its fields, like `@dataclass(frozen=True)`."""

    def decorate(declared: type[T]) -> type[T]:
        return _with_methods(dataclass(eq=False, repr=False, slots=slots, kw_only=kw_only)(declared))

    return decorate if cls is None else decorate(cls)


def _with_methods(cls: type[Any]) -> type[Any]:
    all_fields: tuple[Field[Any], ...] = fields(cls)
    # attrgetter requires a name; it returns one value itself, and several as a tuple.
    key = attrgetter(*([field.name for field in all_fields if field.compare] or ["__class__"]))

    def equals(self: Any, other: object) -> bool:
        if self is other:
            return True
        return key(self) == key(other) if self.__class__ is other.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(key(self))

    def text(self: Any) -> str:
        values = (f"{field.name}={getattr(self, field.name)!r}" for field in all_fields if field.repr)
        return f"{cls.__qualname__}({', '.join(values)})"

    cls.__eq__, cls.__hash__, cls.__repr__ = equals, hashed, text  # type: ignore[assignment]
    return cls
