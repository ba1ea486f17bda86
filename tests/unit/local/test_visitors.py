"""The requests that the generated visitors send over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.examples import share
from truepixel_dagster.collector.client import named
from truepixel_dagster.collector.pixel import MAX_BATCH_BYTES, MAX_EVENTS, Taken, judge, split
from truepixel_dagster.collector.signature import is_signed, sign
from truepixel_dagster.events.headers import topic_name
from truepixel_dagster.local.storefront.shop import STOREFRONT, UnknownProduct, Wanted, created, purchase_of
from truepixel_dagster.local.traffic import FULL, Record, shops_of, traffic
from truepixel_dagster.local.visitors import (
    BATCH_BYTES,
    BATCH_EVENTS,
    address_of,
    batches,
    is_of_webhook,
    shop_id,
    webhook_id,
)

SHOPS = {shop.id: shop for shop in shops_of(3, 20, FULL)}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(traffic(share(20_000), seed=3, shops=20, profile=FULL))


def understood(records: list[Record]) -> Iterator[Record]:
    return (record for record in records if record.kind != "malformed")


def test_every_generated_shop_is_known_before_its_first_record(records: list[Record]) -> None:
    assert {shop_id(record) for record in understood(records)} <= SHOPS.keys()


def test_the_collector_takes_every_generated_pixel_event(records: list[Record]) -> None:
    refused = []
    pixels = [record for record in understood(records) if not is_of_webhook(record)]
    for batch in batches(pixels):
        body = b"[" + b",".join(record.value for record in batch) + b"]"
        assert len(batch) <= MAX_EVENTS
        assert len(body) <= MAX_BATCH_BYTES
        found = split(body)
        for event in found.events:
            judged = judge(event, found, shop="1", domain="d", now=2_000_000_000_000, consent="strip", agent="")
            refused += [] if isinstance(judged, Taken) else [judged]
    assert not refused
    assert sum(len(batch) for batch in batches(pixels)) == len(pixels) > share(10_000)


def test_every_generated_webhook_is_of_its_shop_and_has_an_id_that_a_redelivery_repeats(records: list[Record]) -> None:
    by_content: dict[tuple[str, bytes], str] = {}
    for record in understood(records):
        if not is_of_webhook(record):
            continue
        assert topic_name(record.name) == record.name
        body = named(record.name, record.value)
        assert body.shop_domain in (None, SHOPS[shop_id(record)].domain)
        assert body.shop_id in (None, shop_id(record))
        assert by_content.setdefault((record.name, record.value), webhook_id(record)) == webhook_id(record)
    assert len(by_content) > share(1000)


def test_batches_keep_order_and_bounds() -> None:
    def record(number: int, size: int) -> Record:
        return Record(b"s:c", str(number).encode().ljust(size), (), "page_viewed", number)

    small = [record(number, 10) for number in range(BATCH_EVENTS * 2 + 1)]
    assert [len(batch) for batch in batches(small)] == [BATCH_EVENTS, BATCH_EVENTS, 1]
    assert [each for batch in batches(small) for each in batch] == small
    large = [record(number, BATCH_BYTES - 10) for number in range(3)]
    assert [len(batch) for batch in batches(large)] == [1, 1, 1]
    assert list(batches([])) == []


def test_each_visitor_has_an_address_of_its_own() -> None:
    addresses = {address_of(f"s:{number}".encode()) for number in range(1000)}
    assert len(addresses) > 990
    assert address_of(b"s:1") == address_of(b"s:1")


def test_an_order_of_the_storefront_is_a_webhook_of_shopifys() -> None:
    purchase = purchase_of([Wanted("oak-lamp", 2)], client_id="c-1", landing="/?utm_source=a", referrer="", at=0)
    body = created(purchase)
    order = json.loads(body)
    assert (order["total_price"], order["currency"]) == ("183.00", "USD")
    assert order["note_attributes"] == [{"name": STOREFRONT.client_note, "value": "c-1"}]
    assert order["checkout_token"] == purchase.checkout_token
    assert is_signed(body, sign(body, b"secret"), [b"secret"])


@pytest.mark.parametrize("cart", [[], [Wanted("oak-lamp", 0)], [Wanted("oak-lamp", 100)], [Wanted("unknown", 1)]])
def test_the_storefront_sells_only_what_it_has(cart: list[Wanted]) -> None:
    with pytest.raises(UnknownProduct):
        purchase_of(cart, client_id="c", landing="/", referrer="", at=0)
