"""Read the ids and tokens that name an order."""

from __future__ import annotations

from truepixel_dagster.events.shape import Id, identifier
from truepixel_dagster.events.user_key import is_no_client


def order_identifier(value: Id, field: str = "id") -> str | None:
    """Return an id or token of an order; None for words for no id, which would join all orders.

    Raises:
        FieldError: The id is longer than 256 bytes.
    """
    text = identifier(value, field)
    return None if text is None or is_no_client(text) else text
