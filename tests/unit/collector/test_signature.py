"""Signatures as Shopify makes them: any of several secrets, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.collector.signature import is_signed, sign

BODY, SECRET = b'{"id": 1}', b"hush"


def test_it_is_what_shopifys_documentation_describes() -> None:
    """Base64 of the HMAC-SHA256 of the raw body, by the library's own long way."""
    expected = base64.b64encode(hmac.new(SECRET, BODY, hashlib.sha256).digest())
    assert sign(BODY, SECRET) == expected
    assert is_signed(BODY, expected, [SECRET])


@given(st.binary(max_size=200), st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5, unique=True))
def test_any_secret_counts_and_no_other(body: bytes, secrets: list[bytes]) -> None:
    for secret in secrets:
        assert is_signed(body, sign(body, secret), secrets)
        others = [other for other in secrets if other.ljust(64, b"\0") != secret.ljust(64, b"\0")]
        assert not is_signed(body, sign(body, secret), others)


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_body_or_a_signature_that_differs_by_one_byte_is_not_signed(body: bytes, data: st.DataObject) -> None:
    signature = sign(body, SECRET)
    at = data.draw(st.integers(0, len(body) - 1))
    assert not is_signed(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], signature, [SECRET])
    raw = bytearray(base64.b64decode(signature))
    raw[data.draw(st.integers(0, 31))] ^= 1
    assert not is_signed(body, base64.b64encode(bytes(raw)), [SECRET])


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"=" * 44,
        b"\xff" * 44,
        sign(BODY, SECRET)[:-1],
        sign(BODY, SECRET) + b"=",
        b" " + sign(BODY, SECRET),
        hmac.new(SECRET, BODY, hashlib.sha256).hexdigest().encode(),
        base64.b64encode(b"x" * 31 + b""),
    ],
)
def test_an_invalid_signature_is_no_signature(signature: bytes) -> None:
    assert not is_signed(BODY, signature, [SECRET])


def test_an_empty_secret_signs_nothing() -> None:
    assert not is_signed(BODY, sign(BODY, b""), [b""])
    assert not is_signed(BODY, sign(BODY, SECRET), [])
