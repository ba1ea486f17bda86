"""An anonymised record counts as the record did, and identifies no person."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.cases import cases
from tests.examples import share
from tests.unit.aliases import alias
from truepixel_dagster.audit import oracle
from truepixel_dagster.events import visits
from truepixel_dagster.events.ad import Ad, anonymous_ad
from truepixel_dagster.events.anonymous import anonymous
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.hosts import host_of
from truepixel_dagster.events.identifiers import CLIENT, EMAIL, RECORD, addresses, identifiers
from truepixel_dagster.events.order import OrderNews
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.visits import visit
from truepixel_dagster.local.samples import read_lines
from truepixel_dagster.local.traffic import traffic

SAMPLES = Path(__file__).parents[2] / "samples"


def messages() -> list[Message]:
    records: list[tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]]
    records = [(r.key, r.value, tuple(r.headers)) for r in traffic(share(3000), seed=7, shops=3, malformed=0.02)]
    records += [(line.key, line.value, line.headers) for case in cases() for line in case.lines]
    for name in ("shopify_pixel.jsonl", "shopify_webhooks.jsonl"):
        records += read_lines((SAMPLES / name).read_bytes().splitlines())
    return [
        Message(Origin("t", 0, number), key, value, headers, 1_767_268_800_000)
        for number, (key, value, headers) in enumerate(records)
    ]


MESSAGES = messages()


def counts(event: Event) -> tuple[object, ...]:
    visit, order = event.visit, event.order
    return (
        (event.bot, event.anonymous, event.ad is None, event.utc_offset),
        (event.shop_id, event.name, event.source, event.occurred_at, event.received_at, event.origin),
        (event.product_ids, event.items, event.value),
        visit and ad_counts(visit),
        (event.shop_domain, host_of(event.referrer) if event.visit else None),
        order and order_counts(order),
    )


def ad_counts(ad: Ad) -> tuple[object, ...]:
    return (
        ad.channel,
        ad.platform,
        ad.source,
        ad.medium,
        ad.campaign,
        ad.campaign_id,
        ad.click_id_type,
        bool(ad.click_id),
    )


def order_counts(news: OrderNews) -> tuple[object, ...]:
    """The facts of an order in a record, without the ids and their values."""
    landing = news.payload and news.payload.landing and ad_counts(news.payload.landing)
    ids = (bool(news.order_id), bool(news.checkout_token), bool(news.cart_token), news.deleted)
    payload = news.payload and msgspec.structs.replace(
        news.payload,
        event_id="",
        refunds=(),
        checkout_token=None,
        cart_token=None,
        landing=None,
        customer_id=None,
        email_hash=None,
        lines=news.payload.lines and tuple(msgspec.structs.replace(line, line_id=None) for line in news.payload.lines),
    )
    refunds = (*news.refunds, *(news.payload.refunds if news.payload else ()))
    back = [
        (each.at, each.utc_offset, each.amounts, [(x.product_id, x.quantity, x.subtotal) for x in each.lines])
        for each in refunds
    ]
    completion = news.completion and (
        news.completion.value,
        news.completion.first_order,
        [(line.product_id, line.quantity, line.price, line.discount) for line in news.completion.lines],
    )
    return ids, payload, landing, back, completion, bool(news.noted_client)


def test_an_anonymised_record_decodes_to_the_same_counts() -> None:
    events = 0
    for message in MESSAGES:
        before, after = decode(message), decode(anonymous(message, alias))
        if isinstance(before, Undecodable):
            assert isinstance(after, Undecodable)
        else:
            assert isinstance(after, Event)
            assert counts(after) == counts(before)
            events += 1
    assert events > share(2500)


def test_anonymising_a_record_again_keeps_the_counts() -> None:
    for message in MESSAGES:
        once = anonymous(message, alias)
        before, after = decode(once), decode(anonymous(once, alias))
        assert isinstance(before, Event) == isinstance(after, Event)
        if isinstance(before, Event) and isinstance(after, Event):
            assert counts(after) == counts(before)


@pytest.mark.parametrize(
    "url",
    [
        "https://s.example/?utm_source=News&utm_medium=mail&utm_campaign=spring&utm_content=Anna&utm_term=hats",
        "https://s.example/?utm_source=Anna@X.example&utm_medium=a@x.example&utm_campaign=for-anna@x.example",
        "/landing?utm_source=Anna@X.example&gclid=abc",
        "/landing?utm_campaign=spring",
    ],
)
def test_an_anonymised_address_names_the_anonymised_ad(url: str) -> None:
    ad = visit(url, None, None)
    assert ad
    anonymised = anonymous_ad(ad, alias)
    left, _ = visits.anonymised_addresses(url, None, None, alias)
    assert visit(left, None, None) == anonymised
    assert "anna" not in str(anonymised).lower()


def test_the_oracle_decodes_an_anonymised_record_as_the_pipeline_does() -> None:
    for message in MESSAGES:
        anonymised = anonymous(message, alias)
        origin = anonymised.origin
        record = oracle.Record(
            origin.topic,
            origin.partition,
            origin.offset,
            anonymised.timestamp,
            anonymised.key,
            anonymised.value,
            list(anonymised.headers),
        )
        event = decode(anonymised)
        if isinstance(event, Undecodable):
            with pytest.raises(oracle.DeadLetter):
                oracle.decode(record)
            continue
        theirs = oracle.decode(record)
        assert (theirs.id, theirs.user, theirs.name) == (event.document_id, event.user, event.name)
        assert (theirs.occurred_at, theirs.received_at) == (event.occurred_at, event.received_at)
        assert theirs.content.ad == (msgspec.to_builtins(event.visit) if event.visit else None)
        assert theirs.content.product_ids == list(event.product_ids)
        assert theirs.content.value == (msgspec.to_builtins(event.value) if event.value else None)
        assert (theirs.content.customer_id, theirs.content.email_hash) == (None, None)


def test_an_anonymised_record_names_nobody() -> None:
    named = 0
    for message in MESSAGES:
        anonymised = anonymous(message, alias)
        text = b" ".join(
            [
                (anonymised.key or b"").partition(b":")[2],
                anonymised.value or b"",
                *(value or b"" for _, value in anonymised.headers),
            ]
        )
        personal = {id_.value for id_ in identifiers(message) if id_.kind != RECORD} | addresses(message)
        for value in personal:
            if len(value) > 6:
                assert value.encode() not in text
                named += 1
        assert EMAIL not in {id_.kind for id_ in identifiers(anonymised)}
    assert named > share(3000)


def test_an_undecodable_record_leaves_only_its_existence() -> None:
    message = Message(Origin("t", 0, 1), b"s:anna", b"anna@example.com", (("topic", b"orders/create"),), 5)
    assert anonymous(message, alias) == Message(Origin("t", 0, 1), f"s:{alias(CLIENT, 'anna')}".encode(), None, (), 5)
    nobody = anonymous(Message(Origin("t", 0, 1), b"anna", b"{}", (), 5), alias)
    assert nobody.key is None
