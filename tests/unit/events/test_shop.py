from __future__ import annotations

from typing import Any

import msgspec
import pytest

from truepixel_dagster.events.shop import UNKNOWN, Shop, ShopNews, currency_of, host_of, shop_news
from truepixel_dagster.events.shop_time import UTC, ShopTime

# The fields of Shopify's webhook that are read, and some that are not.
PAYLOAD: dict[str, Any] = {
    "id": 548380009,
    "name": "Super Toys",
    "domain": "www.Super-Toys.example",
    "myshopify_domain": "super-toys.myshopify.example",
    "created_at": "2020-01-01T10:00:00-05:00",
    "updated_at": "2026-11-20T10:00:00-05:00",
    "currency": "USD",
    "timezone": "(GMT-05:00) Eastern Time (US & Canada)",
    "iana_timezone": "America/New_York",
    "enabled_presentment_currencies": ["USD", "EUR"],
}


def news(**fields: Any) -> ShopNews:
    return shop_news(msgspec.json.encode({**PAYLOAD, **fields}))


def test_a_webhook_supplies_zone_currency_domains_and_its_version() -> None:
    assert news() == ShopNews(
        "America/New_York",
        "USD",
        ("www.super-toys.example", "super-toys.myshopify.example"),
        1_795_186_800_000,
    )


@pytest.mark.parametrize("bad", [None, "", 7, [], {}, "Eastern Time", "../UTC"])
def test_a_field_that_cannot_be_used_counts_as_missing(bad: Any) -> None:
    found = news(iana_timezone=bad, currency=bad, domain=bad, myshopify_domain=bad, updated_at=bad)
    assert found == ShopNews()


def test_equal_domains_are_one_domain() -> None:
    assert news(domain="a.example", myshopify_domain="A.example.").domains == ("a.example",)


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b'"x"'])
def test_a_payload_that_is_no_object_is_rejected(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        shop_news(payload)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Shop.Example.com", "shop.example.com"),
        (" https://user@shop.example.com:8443/path?q=http://other.example#x ", "shop.example.com"),
        ("shop.example.", "shop.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("3ds_acs.bank.example", "3ds_acs.bank.example"),
        ("localhost", None),
        ("", None),
        ("a..b", None),
        ("-a.example", None),
        ("a b.example", None),
        ("ü" * 5000 + ".example", None),
        ("ü" * 70 + ".example", None),
        (".".join(["a" * 60] * 5), None),
        (None, None),
        (7, None),
    ],
)
def test_hosts_are_as_browsers_write_them(text: Any, host: str | None) -> None:
    assert host_of(text) == host


@pytest.mark.parametrize(("text", "code"), [("usd", "USD"), (" EUR ", "EUR"), ("XYZ", None), ("", None), (None, None)])
def test_only_existing_currencies_are_accepted(text: Any, code: str | None) -> None:
    assert currency_of(text) == code


def test_the_time_of_a_shop_is_that_of_its_zone() -> None:
    assert Shop("Asia/Tokyo").time == ShopTime("Asia/Tokyo")
    assert UNKNOWN.time == UTC
