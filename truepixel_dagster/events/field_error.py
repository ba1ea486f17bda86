"""The error for an unusable field of a payload; it names the field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
Made = TypeVar("Made")


class FieldError(ValueError):
    """Raised when a field cannot be used. The message has its path, such as `line_items[2].price`, and the reason."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


def within(field: str, error: ValueError) -> FieldError:
    """Return an error about a part of a field, or about the whole field, prefixed with the field's name."""
    if isinstance(error, FieldError):
        return FieldError(f"{field}.{error.field}", error.why)
    return FieldError(field, str(error))


def read_each(field: str, items: Iterable[T | None], read: Callable[[T], Made | None]) -> tuple[Made, ...]:
    """Return what `read` makes of a list's items, without the empty results.

    Raises:
        FieldError: An item cannot be used; the message gives its index.
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
