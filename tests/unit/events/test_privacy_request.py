"""Shopify's webhooks about personal data: decoded once, and stored without the person."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.privacy_request import (
    CUSTOMER_REDACT,
    DATA_REQUEST,
    SHOP_REDACT,
    PrivacyRequest,
    requested,
    stripped,
)
from truepixel_dagster.events.shape import email_hash

CUSTOMER = {"id": 1000000001, "email": "Anna@example.com", "phone": "555"}


def webhook(topic: str, key: str = "77:1000000001", **payload: Any) -> Message:
    headers = (("topic", topic.encode()), ("x-other", b"anna"))
    return Message(Origin("t", 0, 9), key.encode(), msgspec.json.encode(payload), headers, 1_767_268_800_000)


def test_a_privacy_request_is_decoded() -> None:
    hashed = email_hash("anna@example.com")
    asked = webhook(DATA_REQUEST, shop_id=77, customer=CUSTOMER, orders_requested=[1, 2], data_request={"id": 9})
    assert requested(asked) == PrivacyRequest(DATA_REQUEST, "77", "1000000001", hashed, None, ("1", "2"))
    asked = webhook(CUSTOMER_REDACT, shop_id="77", customer=CUSTOMER, orders_to_redact=None)
    assert requested(asked) == PrivacyRequest(CUSTOMER_REDACT, "77", "1000000001", hashed)
    assert requested(webhook(SHOP_REDACT, shop_id=77)) == PrivacyRequest(SHOP_REDACT, "77")


BAD = [
    webhook(SHOP_REDACT, shop_id=78),
    webhook(SHOP_REDACT),
    webhook(SHOP_REDACT, key="nobody", shop_id=77),
    webhook(CUSTOMER_REDACT, shop_id=78, customer=CUSTOMER),
    webhook(CUSTOMER_REDACT, shop_id=77),
    webhook(CUSTOMER_REDACT, shop_id=77, customer={"phone": "555"}),
    webhook(CUSTOMER_REDACT, shop_id=77, customer="Anna"),
]


@pytest.mark.parametrize("message", BAD)
def test_a_request_of_another_shop_or_without_a_person_is_rejected_and_empty(message: Message) -> None:
    with pytest.raises(ValueError, match="/redact: "):
        requested(message)
    assert stripped(message).value is None
    assert isinstance(decode(stripped(message)), Undecodable)


def test_a_stripped_request_is_an_event_of_its_own_and_names_nobody() -> None:
    seen = stripped(webhook(CUSTOMER_REDACT, shop_id=77, customer=CUSTOMER))
    event = decode(seen)
    assert isinstance(event, Event)
    assert (event.user, event.name, event.event_id) == ("77:privacy", CUSTOMER_REDACT, f"{CUSTOMER_REDACT}:0/9")
    assert b"nna" not in repr(seen).encode()
    assert b"1000000001" not in repr(seen).encode()
    assert stripped(seen) == seen


def test_other_records_are_left_as_they_are() -> None:
    message = webhook("orders/create", id=5)
    assert stripped(message) is message
