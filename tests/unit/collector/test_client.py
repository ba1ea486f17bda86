"""The client in a webhook's key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.collector.client import Named, client_of, named
from truepixel_dagster.events.user_key import parse_user_key

NOTES = [{"name": "client_id", "value": "c-1"}]


def found(topic: str, **fields: Any) -> Named:
    return named(topic, msgspec.json.encode(fields))


def test_the_themes_note_precedes_every_other_source() -> None:
    names = found("orders/create", note_attributes=NOTES, cart_token="k", checkout_token="t", id=1)
    assert client_of(names, "other", "w") == "c-1"


def test_then_the_client_in_redis_precedes_the_token_of_cart_or_checkout() -> None:
    names = found("orders/create", id=1, token="of-the-order", cart_token="cart", checkout_token="checkout")
    assert names.tokens == ("cart", "checkout")
    assert client_of(names, "c-2", "w") == "c-2"
    assert client_of(names, None, "w") == "cart"


def test_the_field_token_is_the_token_of_carts_and_checkouts_only() -> None:
    assert found("carts/update", token="k", id="k").tokens == ("k",)
    assert found("checkouts/create", token="t", cart_token="k").tokens == ("k", "t")
    assert found("orders/paid", token="of-the-order", id=7).tokens == ()


@pytest.mark.parametrize(
    ("topic", "fields", "client"),
    [
        ("orders/paid", {"token": "o", "id": 7}, "o"),
        ("refunds/create", {"id": 9, "order_id": 7}, "7"),
        ("orders/delete", {"id": 7}, "7"),
        ("products/update", {"id": 5}, "5"),
        ("orders/create", {"cart_token": "undefined", "checkout_token": None, "id": True}, "w-1"),
        ("orders/create", {"cart_token": "x" * 257, "id": "a\nb"}, "w-1"),
        ("customers/redact", {"shop_id": 1, "customer": {"id": 3}, "id": 4}, "privacy"),
    ],
)
def test_a_client_that_no_source_names_is_replaced(topic: str, fields: Any, client: str) -> None:
    assert client_of(found(topic, **fields), None, "w-1") == client


def test_the_shop_is_read_from_a_body_that_names_it() -> None:
    assert found("shop/redact", shop_id=5, shop_domain="a.myshopify.com")[3:] == ("5", "a.myshopify.com")
    assert found("app/uninstalled", id=5, myshopify_domain="a.myshopify.com")[3:] == ("5", "a.myshopify.com")
    assert found("orders/create", id=5)[3:] == (None, None)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ("id", "order_id", "token", "cart_token", "checkout_token", "note_attributes", "shop_id", "myshopify_domain")


@given(st.sampled_from(["orders/create", "carts/update", "shop/update", "shop/redact"]), st.data())
def test_every_body_has_a_key(topic: str, data: st.DataObject) -> None:
    import json as standard

    fields = data.draw(st.dictionaries(st.sampled_from(FIELDS), json))
    names = named(topic, standard.dumps(fields).encode())
    shop, client = parse_user_key(f"s:{client_of(names, None, data.draw(st.text(max_size=20)))}".encode())
    assert shop == "s"
    assert client


@given(st.binary(max_size=60))
def test_a_body_that_is_no_json_has_a_key_too(body: bytes) -> None:
    assert client_of(named("orders/create", body), None, "w-1")


def test_half_of_a_surrogate_pair_hides_no_client() -> None:
    body = rb'{"note": "hat \ud83c", "note_attributes": [{"name": "client_id", "value": "c-1"}]}'
    assert named("orders/create", body).client == "c-1"
