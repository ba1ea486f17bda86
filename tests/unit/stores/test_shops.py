"""The registry's documents: merged in any order, an operator before webhooks, and unreadable ones left alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stages.events_made_up import NOON, event
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.shop import SHOP_UPDATED, Shop
from truepixel_dagster.stores.documents import SCHEMA, Unreadable
from truepixel_dagster.stores.shops import KNOWN, _after

Document = dict[str, Any]


def update(event_id: str = "w1", zone: Any = None, at: str | None = "2026-01-01T00:00:00Z", **fields: Any) -> Event:
    payload = {"iana_timezone": zone, "updated_at": at, **fields}
    encoded = msgspec.json.encode(payload)
    return event(event_id=event_id, name=SHOP_UPDATED, source="webhook", payload=encoded, received_at=NOON)


def after(document: Document, *events: Event) -> Document:
    return _after("s", document, events) or document


def shop_of(document: Document) -> Shop:
    return KNOWN.read("s", document).shop


def timeless(document: Document) -> Document:
    return {name: value for name, value in document.items() if name not in ("since", "origins_since")}


def test_a_webhook_makes_a_shop_known() -> None:
    made = after({}, update(zone="Asia/Tokyo", currency="JPY", domain="a.example", myshopify_domain="b.example"))
    assert shop_of(made) == Shop("Asia/Tokyo", "JPY", frozenset({"a.example", "b.example"}))
    assert made["schema"] == SCHEMA


def test_the_newest_value_of_each_field_counts() -> None:
    old = update("w1", "Asia/Tokyo", "2026-01-01T00:00:00Z", currency="JPY")
    new = update("w2", "Europe/Berlin", "2026-01-02T00:00:00Z")
    for made in (after({}, old, new), after({}, new, old), after(after({}, new), old)):
        assert (shop_of(made).time_zone, shop_of(made).currency) == ("Europe/Berlin", "JPY")


def test_at_equal_times_the_higher_event_id_wins() -> None:
    one, other = update("w1", "Asia/Tokyo"), update("w2", "Europe/Berlin")
    assert shop_of(after({}, one, other)) == shop_of(after({}, other, one)) == Shop("Europe/Berlin")


def test_without_a_time_of_update_the_arrival_is_the_version() -> None:
    undated = update("w1", "Asia/Tokyo", None)
    earlier, later = update("w2", "UTC", "2026-01-01T11:59:59Z"), update("w3", "Europe/Berlin", "2026-01-01T12:00:01Z")
    assert shop_of(after({}, undated, earlier)).time_zone == "Asia/Tokyo"
    assert shop_of(after({}, undated, later)).time_zone == "Europe/Berlin"


def test_the_same_webhook_again_changes_nothing() -> None:
    news = update(zone="Asia/Tokyo")
    made = after({}, news)
    assert _after("s", made, [news]) is None
    assert _after("s", {}, [update(zone="Nowhere")]) is None


UPDATES = st.lists(
    st.builds(
        lambda id_, zone, minute, currency, domain: update(
            id_, zone, minute and f"2026-01-01T12:0{minute}:00Z", currency=currency, domain=domain
        ),
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from([None, "Asia/Tokyo", "Europe/Berlin", "America/New_York", "Nowhere"]),
        st.sampled_from([None, 1, 2, 3]),
        st.sampled_from([None, "EUR", "USD"]),
        st.sampled_from([None, "a.example", "b.example"]),
    ),
    max_size=6,
    # One id is one record, which says one thing.
    unique_by=lambda each: each.event_id,
)


@given(UPDATES, st.data())
def test_any_order_cut_and_redelivery_of_webhooks_gives_the_same_document(
    updates: list[Event], data: st.DataObject
) -> None:
    expected = timeless(after({}, *updates))
    found: Document = {}
    rest: Sequence[Event] = (
        data.draw(st.permutations(updates)) + data.draw(st.lists(st.sampled_from(updates))) if updates else []
    )
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        found, rest = after(found, *rest[:cut]), rest[cut:]
    assert timeless(found) == expected


def test_an_operators_value_takes_precedence_over_every_webhook() -> None:
    operator = {
        "time_zone": "America/Lima",
        "currency": "PEN",
        "domains": ["own.example"],
        "aliases": {"m.fb.com": "facebook"},
    }
    made = after(
        {"_id": "s", "v": 3, "operator": operator}, update(zone="Asia/Tokyo", currency="JPY", domain="a.example")
    )
    assert shop_of(made) == Shop(
        "America/Lima", "PEN", frozenset({"own.example", "a.example"}), {"m.fb.com": "facebook"}, frozenset()
    )
    # The webhook's value is used again once the operator's is removed.
    assert shop_of({**made, "operator": {}}) == Shop("Asia/Tokyo", "JPY", frozenset({"a.example"}))


def test_unknown_fields_survive() -> None:
    before = {
        "_id": "s",
        "v": 1,
        "note": "hello",
        "operator": {"plan": "plus"},
        "webhook": {"time_zone": {"value": "UTC", "at": 1, "event_id": "w0", "raw": 7}, "locale": {"value": "en"}},
    }
    made = after(before, update(zone="Asia/Tokyo"))
    assert (made["note"], made["operator"], made["webhook"]["locale"]) == ("hello", {"plan": "plus"}, {"value": "en"})
    assert made["webhook"]["time_zone"]["raw"] == 7
    assert shop_of(made).time_zone == "Asia/Tokyo"


def test_since_says_when_the_time_zone_changed_and_only_then() -> None:
    made = after({}, update("w1", "Asia/Tokyo", "2026-01-01T00:00:00Z"))
    assert made["since"] > NOON
    same = after({**made, "since": 1}, update("w2", "Asia/Tokyo", "2026-01-02T00:00:00Z", currency="JPY"))
    assert same["since"] == 1
    other = after(same, update("w3", "Europe/Berlin", "2026-01-03T00:00:00Z"))
    assert other["since"] > NOON
    by_operator = {"operator": {"time_zone": "UTC"}, "since": 1}
    assert after(by_operator, update(zone="Asia/Tokyo"))["since"] == 1


def test_origins_since_says_when_domains_hosts_and_aliases_changed_and_only_then() -> None:
    made = after({}, update("w1", "Asia/Tokyo", "2026-01-01T00:00:00Z"))
    assert "origins_since" not in made
    made = after({**made, "since": 1}, update("w2", at="2026-01-02T00:00:00Z", domain="a.example"))
    assert (made["since"], made["origins_since"] > NOON) == (1, True)
    same = after({**made, "origins_since": 1}, update("w3", "UTC", "2026-01-03T00:00:00Z", domain="A.example."))
    assert (same["since"] > NOON, same["origins_since"]) == (True, 1)


def test_a_time_zone_that_does_not_exist_counts_as_unknown() -> None:
    assert shop_of({"operator": {"time_zone": "Mars/Olympus_Mons"}}) == Shop()


ODD: list[Document] = [
    {"operator": 7},
    {"operator": {"time_zone": 7}},
    {"operator": {"domains": "a.example"}},
    {"webhook": []},
    {"webhook": {"time_zone": "UTC"}},
    {"webhook": {"time_zone": {"value": "UTC"}}},
    {"since": "yesterday"},
    {"schema": SCHEMA + 1},
]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_an_odd_document_is_reported_once_and_stays_as_it_is(number: int, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unreadable, match="MongoDB shops document 's'"):
        KNOWN.read("s", ODD[number])
    for _ in range(3):
        assert _after(f"odd-{number}", ODD[number], [update(zone="Asia/Tokyo")]) is None
    assert caplog.text.count(f"MongoDB shops document 'odd-{number}'") == 1


@pytest.mark.parametrize(
    "document",
    [
        {"operator": None, "webhook": None, "since": None},
        {"operator": {"time_zone": None, "domains": None}},
        {"webhook": {"time_zone": {"value": "UTC", "at": 1.0, "event_id": "w0"}}},
    ],
    ids=str,
)
def test_nulls_and_whole_numbers_as_other_clients_write_them_are_understood(document: Document) -> None:
    assert shop_of(after(document, update(zone="Asia/Tokyo"))).time_zone == "Asia/Tokyo"


def test_a_webhook_without_a_valid_payload_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    broken = event(event_id="w1", name=SHOP_UPDATED, source="webhook", payload=b"[]")
    assert _after("s", {}, [broken]) is None
    assert "'w1'" in caplog.text
