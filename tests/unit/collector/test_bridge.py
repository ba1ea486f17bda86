"""Envelopes of Pub/Sub and EventBridge: their content, and their senders' credentials."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.collector import google_tokens as module
from truepixel_dagster.collector.bridge import (
    Enveloped,
    NotAnEnvelope,
    from_eventbridge,
    from_pubsub,
    has_api_key,
)
from truepixel_dagster.collector.google_tokens import GoogleTokens, KeysAway

AUDIENCE, ACCOUNT = "https://events.example.com/v1/pubsub", "push@project.iam.gserviceaccount.com"
ATTRIBUTES = {
    "Content-Type": "application/json",
    "X-Shopify-Topic": "orders/create",
    "X-Shopify-Shop-Domain": "toys.myshopify.com",
    "X-Shopify-Webhook-Id": "w-1",
    "X-Shopify-Triggered-At": "2026-01-12T05:30:00Z",
}


class Signer:
    """A key pair as Google has them."""

    def __init__(self, key_id: str) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
        pem = key.private_bytes(encoding, private, serialization.NoEncryption())
        self.key_id = key_id
        self._signer = crypt.RSASigner.from_string(pem, key_id)
        public = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public = key.public_key().public_bytes(encoding, public).decode()

    def token(self, **changed: Any) -> str:
        now = int(time.time())
        claims = {
            "aud": AUDIENCE,
            "iss": "https://accounts.google.com",
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now - 10,
            "exp": now + 600,
            **changed,
        }
        return str(jwt.encode(self._signer, claims).decode())


GOOGLE, OTHER = Signer("k1"), Signer("k1")


def tokens(keys: Callable[[], dict[str, str]], clock: Callable[[], float] = time.monotonic) -> GoogleTokens:
    return GoogleTokens(AUDIENCE, ACCOUNT, keys, clock)


def accepted(token: str) -> bool:
    return asyncio.run(tokens(lambda: {"k1": GOOGLE.public}).accepts(token))


def test_a_push_request_has_the_webhook_byte_for_byte() -> None:
    body = b'{"id": 1,  "x": "\xc3\xa9"}\n'
    message = {"data": base64.b64encode(body).decode(), "attributes": ATTRIBUTES, "messageId": "1"}
    found = from_pubsub(json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode())
    assert found.body == body
    assert (found.says.topic, found.says.domain) == (b"orders/create", b"toys.myshopify.com")
    assert (found.says.event_id, found.says.triggered_at) == (b"w-1", b"2026-01-12T05:30:00Z")


def test_an_event_has_the_webhook_as_eventbridge_writes_it() -> None:
    event = '{"version":"0","detail-type":"shopifyWebhook","detail":{"metadata":%s,"payload":{"id":  1.0}}}'
    found = from_eventbridge((event % json.dumps(ATTRIBUTES)).encode())
    assert found == Enveloped(found.says, b'{"id":  1.0}')
    assert found.says.topic == b"orders/create"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"message": {"data": "%"}}', b'{"detail": {"payload": 1}}'])
def test_an_invalid_envelope_is_rejected_with_the_reason(body: bytes) -> None:
    for unwrap in (from_pubsub, from_eventbridge):
        with pytest.raises(NotAnEnvelope):
            unwrap(body)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_an_envelope_or_rejected(body: bytes) -> None:
    for unwrap in (from_pubsub, from_eventbridge):
        try:
            assert isinstance(unwrap(body), Enveloped)
        except NotAnEnvelope:
            continue


def test_a_token_of_google_for_our_subscription_counts_and_no_other() -> None:
    assert accepted(GOOGLE.token())
    now = int(time.time())
    for changed in (
        {"aud": "https://another.example"},
        {"email": "other@project.iam.gserviceaccount.com"},
        {"email_verified": False},
        {"email_verified": "true"},
        {"iss": "https://accounts.example.com"},
        {"exp": now - 60},
        {"iat": now + 600, "exp": now + 1200},
    ):
        assert not accepted(GOOGLE.token(**changed)), changed
    assert not accepted(OTHER.token()), "signed by another key of the same id"
    whole = GOOGLE.token()
    head, claims, signature = whole.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').decode().rstrip("=")
    for token in (
        "",
        "a.b.c",
        "é",
        base64.urlsafe_b64encode(b"[" * 5_000).decode().rstrip("=") + ".e30.e30",
        "x" * 10_000,
        f"{head}.{claims}.",
        f"{none}.{claims}.",
        f"{head}.{claims}.{signature[:-4]}AAAA",
    ):
        assert not accepted(token), token[:80]


def test_keys_are_downloaded_when_they_are_old_or_unknown_and_not_for_every_token() -> None:
    async def scenario() -> None:
        now, loads, held = [1000.0], [], {"k1": GOOGLE.public}

        def load() -> dict[str, str]:
            loads.append(now[0])
            if not held:
                raise OSError("away")
            return dict(held)

        found = tokens(load, lambda: now[0])
        newer = Signer("k2")
        assert await found.accepts(GOOGLE.token())
        for _ in range(5):
            assert not await found.accepts(newer.token())
        assert len(loads) == 1
        held["k2"] = newer.public
        now[0] += module.PAUSE_SECONDS
        assert await found.accepts(newer.token())
        assert len(loads) == 2
        # While Google is unreachable, the cached keys stay valid.
        held.clear()
        now[0] += module.KEPT_SECONDS
        assert await found.accepts(newer.token())
        assert len(loads) == 3
        with pytest.raises(KeysAway):
            await tokens(load, lambda: now[0]).accepts(GOOGLE.token())

    asyncio.run(scenario())


def test_an_api_key_counts_and_an_empty_or_other_one_does_not() -> None:
    keys = (b"old", b"new")
    assert has_api_key([(b"x-api-key", b"new")], keys)
    assert has_api_key([(b"x-api-key", b"old")], keys)
    for headers in ([], [(b"x-api-key", b"")], [(b"x-api-key", b"newer")], [(b"authorization", b"new")]):
        assert not has_api_key(headers, keys)
        assert not has_api_key(headers, (b"",))
    assert not has_api_key([(b"x-api-key", b"")], ())
