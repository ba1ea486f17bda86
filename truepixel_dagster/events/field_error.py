"""What is refused of a payload, with the field that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
Made = TypeVar("Made")


class FieldError(ValueError):
    """A field cannot be used. The message names it by its path, such as `line_items[2].price`, and says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


def within(field: str, error: ValueError) -> FieldError:
    """Return an error about a part of a field, or about the whole of it, with the field's name before it."""
    if isinstance(error, FieldError):
        return FieldError(f"{field}.{error.field}", error.why)
    return FieldError(field, str(error))


def read_each(field: str, items: Iterable[T | None], read: Callable[[T], Made | None]) -> tuple[Made, ...]:
    """Return what is read of the items of a list, without those that are nothing.

    Raises:
        FieldError: An item cannot be used; its place in the list is told.
    """
    found: list[Made] = []
    for number, item in enumerate(items):
        if item is None:
            continue
        try:
            made = read(item)
        except ValueError as error:
            raise within(f"{field}[{number}]", error) from None
        if made is not None:
            found.append(made)
    return tuple(found)
