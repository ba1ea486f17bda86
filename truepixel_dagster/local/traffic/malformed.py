"""Malformed records."""

from __future__ import annotations

import re
from random import Random

import msgspec

from truepixel_dagster.local.traffic.world import Record

# Half of a surrogate pair, which this decoder refuses.
_SURROGATE = re.compile(rb"\\ud83c(?!\\u)")


def broken(rng: Random, record: Record, at: int) -> Record:
    """Return a record with one of many defects, so that it cannot be decoded."""
    key, value, headers = record.key, record.value, record.headers
    fault = rng.random()
    if fault < 0.3:
        key = _broken_key(rng, key)
    elif fault < 0.75:
        value = _broken_value(rng, value)
    else:
        value = _without_id(rng, value)
        headers = tuple(header for header in headers if not _is_id(header[0]))
    return Record(key, value, headers, record.name, at, "malformed")


def _broken_key(rng: Random, key: bytes) -> bytes:
    shop, _, client = key.partition(b":")
    return rng.choice((b"", shop + client, b":", b":" + client, b"\xff\xfe" + key))


def _broken_value(rng: Random, value: bytes) -> bytes:
    truncated = value[: 1 + int(rng.random() * (len(value) - 2))]
    not_utf8 = value.replace(b'"', b'"\xc3\x28', 1)
    others = (b"<html><body>502 Bad Gateway</body></html>", b"", b"null", b'"page_viewed"', b"[" + value + b"]")
    return rng.choice((truncated, truncated, not_utf8, rng.randbytes(200), *others))


def _without_id(rng: Random, value: bytes) -> bytes:
    """Return the payload without its id, or with an id of a wrong type."""
    payload = msgspec.json.decode(_SURROGATE.sub(b"", value))
    payload["id"] = rng.choice((None, ["gid://shopify/Order/1"], {"value": 1}))
    payload.pop("token", None)  # a cart's token is its id
    return msgspec.json.encode(payload)


def _is_id(header: str) -> bool:
    return header == "event_id" or header.endswith("Webhook-Id")
