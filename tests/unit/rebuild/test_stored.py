"""A document of the history suffices to decode its event again; of two documents of a record, one is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cases import cases
from tests.examples import share
from tests.unit.aliases import alias
from truepixel_dagster.events.anonymous import anonymous
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.shop import Shop
from truepixel_dagster.events.sites import NOTHING_KNOWN
from truepixel_dagster.local.samples import read_lines
from truepixel_dagster.local.traffic import traffic
from truepixel_dagster.rebuild.history import message_of, one_of_each_record
from truepixel_dagster.rebuild.stored import _EXACT, Rewrite, action_of, is_anonymised, source_of, understood
from truepixel_dagster.rebuild.stream_progress import StreamProgress
from truepixel_dagster.stages.index import document
from truepixel_dagster.stores.documents import SCHEMA, SECOND_EDITION
from truepixel_dagster.stores.elasticsearch import Action, Found

SAMPLES = Path(__file__).parents[2] / "samples"
# Fields that the first edition did not write.
_NEW = frozenset({"schema", "channel", "bot", "sales_channel", "test", "shop_domain", "ad", "order_id", "cart_token"})
NOON = 1_767_268_800_000
NOTHING_SETTLED = StreamProgress({}, {}, frozenset())
Doc = dict[str, Any]


def events() -> list[tuple[Message, Event]]:
    records: list[tuple[bytes | None, bytes, tuple[tuple[str, bytes], ...]]]
    records = [(r.key, r.value, tuple(r.headers)) for r in traffic(share(2000), seed=3, shops=3, malformed=0.02)]
    records += [(line.key, line.value, line.headers) for case in cases() for line in case.lines]
    for name in ("shopify_pixel.jsonl", "shopify_webhooks.jsonl"):
        records += read_lines((SAMPLES / name).read_bytes().splitlines())
    messages = [Message(Origin("t", 0, number), *record, NOON) for number, record in enumerate(records)]
    return [(message, event) for message in messages if isinstance(event := decode(message), Event)]


EVENTS = events()


def again(source: Doc) -> Event:
    event = understood(source, message_of(source), NOTHING_KNOWN)
    assert isinstance(event, Event)
    return event


def read(event: Event) -> Doc:
    found: Doc = _EXACT.decode(document(event))
    return found


def of_first_edition(source: Doc) -> Doc:
    """The document as the first edition wrote it: without what that did not know, under the sender's event id."""
    own = source["event_id"].removeprefix(f"{source['name']}:")
    return {**{name: value for name, value in source.items() if name not in _NEW}, "event_id": own, "schema": 2}


def test_a_document_of_this_edition_is_understood_as_its_record_was() -> None:
    assert len(EVENTS) > share(1500)
    for _, event in EVENTS:
        source = read(event)
        assert _EXACT.decode(source_of(again(source), source)) == source


def test_a_document_of_the_first_edition_becomes_that_of_its_record() -> None:
    compared = 0
    for _, event in EVENTS:
        source = read(event)
        found = again(of_first_edition(source))
        assert found.document_id == event.document_id
        # It did not keep the headers' domain of the shop, which decides which referrers are from outside.
        if decode_without_domain(source) == source:
            assert read(found) == {name: value for name, value in source.items() if name != "shop_domain"}
            compared += 1
    assert compared > len(EVENTS) / 2


def decode_without_domain(source: Doc) -> Doc:
    without = {name: value for name, value in source.items() if name != "shop_domain"}
    found = read(again(without))
    return {**found, "shop_domain": source["shop_domain"]} if "shop_domain" in source else found


def test_redacted_records_stay_redacted_and_count_the_same() -> None:
    for message, _ in EVENTS:
        anonymised = decode(anonymous(message, alias))
        assert isinstance(anonymised, Event)
        source = read(anonymised)
        assert is_anonymised(source)
        assert is_anonymised(of_first_edition(source))
        assert read(again(source)) == source
        found = again(of_first_edition(source))
        assert (found.document_id, found.user) == (anonymised.document_id, anonymised.user)
        assert (found.items, found.value) == (anonymised.items, anonymised.value)


@pytest.mark.parametrize("event_id", ["e1", "orders/paid:e1", "redacted-1", f"redacted-{'0' * 32}x", ""])
def test_a_text_that_only_resembles_an_alias_is_not_anonymised(event_id: str) -> None:
    assert not is_anonymised({"event_id": event_id})


def test_a_payload_that_this_version_rejects_is_distinguished() -> None:
    source = {**read(EVENTS[0][1]), "source": "webhook", "name": "orders/paid", "payload": {"id": 1, "cart_token": []}}
    assert isinstance(understood(source, message_of(source), NOTHING_KNOWN), Undecodable)


def test_the_current_registry_entry_of_a_shop_decides() -> None:
    value = b'{"id":"e","name":"page_viewed","clientId":"c","timestamp":"2026-01-01T11:59:00Z","context":{"document":{'
    value += b'"location":{"href":"https://a.example/"},"referrer":"https://b.example/"}}}'
    event = decode(Message(Origin("t", 0, 0), b"s:c", value, (("source", b"pixel"),), NOON))
    assert isinstance(event, Event)
    assert event.ad
    assert event.ad.channel == "referral"
    source = read(event)
    own = NOTHING_KNOWN.with_shops({"s": Shop(domains=frozenset({"b.example"}))})
    found = understood(source, message_of(source), own)
    assert isinstance(found, Event)
    assert found.ad is None


def test_unknown_fields_and_numbers_stay_as_they_were_written() -> None:
    event = msgspec.structs.replace(EVENTS[0][1], payload=b'{"a":1.10}')
    before = _EXACT.decode(b'{"theirs":{"b":2.50}}')
    assert b'"payload":{"a":1.10}' in source_of(event, before)
    assert source_of(event, before).endswith(b',"theirs":{"b":2.50}}')
    assert source_of(event, {}) == document(event)


# --- Which document stands ---


def stored(id_: str, offset: int, *, partition: int = 0, schema: int = SCHEMA, **more: Any) -> Found:
    kafka = {"topic": "t", "partition": partition, "offset": offset}
    return Found("events-1", id_, {"kafka": kafka, "schema": schema, **more}, seq_no=7, primary_term=1)


def to(id_: str, offset: int = 5, *, old: Found | None = None, source: bytes = b"{}") -> Rewrite:
    return Rewrite(old or stored("s:x", offset, schema=2), ("events-1", id_), Origin("t", 0, offset), source)


def test_a_document_that_keeps_its_id_is_replaced_under_its_sequence_number() -> None:
    assert action_of(to("s:x"), None, NOTHING_SETTLED) == Action("index", "events-1", "s:x", b"{}", 7, 1)


def test_a_document_that_is_right_is_left_alone() -> None:
    old = stored("s:x", 5, amount=1)
    assert action_of(to("s:x", old=old, source=msgspec.json.encode(old.source)), None, NOTHING_SETTLED) is None


def test_a_document_whose_id_changes_is_recreated() -> None:
    assert action_of(to("s:t:x"), None, NOTHING_SETTLED) == Action("create", "events-1", "s:t:x", b"{}")


@pytest.mark.parametrize(
    ("there", "stands"),
    [
        (stored("s:t:x", 5), True),  # an earlier try has made it
        (stored("s:t:x", 5, schema=2), False),
        (stored("s:t:x", 4), True),  # the first of its partition
        (stored("s:t:x", 6), False),
        (stored("s:t:x", 4, partition=1), False),  # the older edition's was there before
    ],
)
def test_the_first_of_two_documents_of_an_event_wins(there: Found, stands: bool) -> None:
    action = action_of(to("s:t:x"), there, NOTHING_SETTLED)
    assert action == (None if stands else Action("index", "events-1", "s:t:x", b"{}", 7, 1))


def test_a_record_that_came_back_from_the_dead_letters_is_not_the_first() -> None:
    returned = StreamProgress({}, {}, frozenset({(0, 4)}))
    assert action_of(to("s:t:x"), stored("s:t:x", 4), returned)


def test_the_newer_editions_document_of_a_record_is_read() -> None:
    def hit(id_: str, offset: int | None, schema: int | None = SECOND_EDITION) -> Doc:
        kafka = {} if offset is None else {"kafka": {"partition": 0, "offset": offset}}
        return {"_id": id_, "_source": {**kafka, "schema": schema}}

    hits = [hit("a", 1, 2), hit("b", 2, None), hit("c", 2), hit("d", 3), hit("e", 3, 2), hit("f", None), hit("g", None)]
    assert [each["_id"] for each in one_of_each_record(hits)] == ["a", "c", "d", "f", "g"]
