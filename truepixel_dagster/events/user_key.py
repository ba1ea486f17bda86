"""Parse the Kafka key `shopID:clientID`, which names the user whose events stay in order.

>>> from truepixel_dagster.events.user_key import is_no_client, parse_user_key
>>> parse_user_key(b"548380009:4c1e")
('548380009', '4c1e')
>>> is_no_client("undefined"), is_no_client("4c1e")
(True, False)
"""

from __future__ import annotations

import re
from functools import lru_cache

from truepixel_dagster.events.shape import longer_than

MAX_SHOP_BYTES = 128
MAX_CLIENT_BYTES = 256
_has_control_character = re.compile(r"[\x00-\x1f\x7f]").search


# A user's events arrive close together.
@lru_cache(maxsize=1024)
def parse_user_key(key: bytes | None) -> tuple[str, str]:
    """Split a key at its first colon, so that a client id may contain colons and a shop id may not.

    Returns:
        Shop id and client id. The shop is never empty; an empty client means no client (`is_no_client`).

    Raises:
        ValueError: The key is not `shop:client`; the message says why.
    """
    if not key:
        raise ValueError("the key is empty, not shop:client")
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the key is not UTF-8") from None
    shop, colon, client = text.partition(":")
    if not (shop and colon):
        raise ValueError(f"the key {text[:80]!r} is not shop:client")
    if len(shop.encode()) > MAX_SHOP_BYTES or len(client.encode()) > MAX_CLIENT_BYTES:
        raise ValueError(f"the key is longer than {MAX_SHOP_BYTES}:{MAX_CLIENT_BYTES} bytes")
    if _has_control_character(text):
        raise ValueError("the key has control characters")
    return shop, client


# What a collector writes if a visitor has no client id, or has not consented to one.
_NO_CLIENTS = frozenset({"", "undefined", "null", "none", "nan", "0", "anonymous"})


def is_no_client(text: str) -> bool:
    """Return whether a client id, or another id that a collector passes on, is a word for no id."""
    # Ids are longer than all of the words, except a UUID of zeros.
    if len(text) > 9 and text[0] not in "0-" and not (text[0].isspace() or text[-1].isspace()):
        return False
    word = text.strip().lower()
    return word in _NO_CLIENTS or word.replace("-", "") == "0" * 32


def can_be_client(text: str) -> bool:
    """Return whether a text can be the client of a key: not too long, no control characters, no word for no id."""
    return not (_has_control_character(text) or longer_than(MAX_CLIENT_BYTES, text) or is_no_client(text))
