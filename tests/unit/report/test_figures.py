"""A report's figures by hand, as the contract defines them, and sums that equal those of the documents."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.unit.stages.events_made_up import DAY, NOON
from truepixel_dagster.events.ad import Ad
from truepixel_dagster.events.event import iso
from truepixel_dagster.events.shop_time import ShopTime
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.credit import MODELS, credit
from truepixel_dagster.report.figures import GROUPINGS, Figures, fields_of
from truepixel_dagster.report.period import Period, RequestedPeriod

SAMPLES = Path(__file__).parents[2] / "samples/documents"
Doc = dict[str, Any]


def order(value: int | None, net: int = 0, refunded: int = 0, currency: str = "USD", **fields: Any) -> Doc:
    """An order's document, credited to a search ad at once, unless fields say otherwise."""
    amounts = {"value": value, "net": net, "refunded": refunded} if value is not None else {}
    money = {name: {"amount": amount, "currency": currency} for name, amount in amounts.items()}
    one = {"platform": "google", "channel": "paid_search", "campaign": "brand", "amount": value or 0, "net": net}
    base = {"schema": 3, "shop_id": "s", "occurred_at": iso(NOON), "sales_channel": "online", "status": "paid"}
    return {**base, **money, "touches": [{"at": iso(NOON)}], "credits": {"last_click": [one]}, **fields}


def elsewhere(place: str, value: int, net: int, **fields: Any) -> Doc:
    """An order without a touch."""
    only = {"platform": place, "channel": place, "amount": value, "net": net}
    channel = "online" if place == "direct" else place
    return order(value, net, **{"touches": [], "credits": {"last_click": [only]}, "sales_channel": channel, **fields})


def figures(*documents: Doc, by: str = "channel", model: str = "last_click", period: Period | None = None) -> Figures:
    found = Figures(model, by, period)
    for number, document in enumerate(documents):
        found.add(f"s:{number}", document)
    return found


def rows(found: Figures) -> list[tuple[Any, ...]]:
    """Name, currency, gross, refunded, net, orders."""
    names = [name for name in ("channel", "platform", "campaign") if any(getattr(r, name) for r in found.rows())]
    return [
        (*(getattr(r, name) for name in names), r.currency, r.gross, r.refunded, r.net, r.orders) for r in found.rows()
    ]


@pytest.mark.parametrize(
    ("document", "gross", "refunded", "net"),
    [
        (order(10000, 10000), 10000, 0, 10000),
        (order(10000, 9500, 500, status="partially_refunded"), 10000, 500, 9500),
        (order(10000, 0, 10000, status="refunded"), 10000, 10000, 0),
        (order(8000, 8000), 8000, 0, 8000),
        # An edit took 30.00 out before anything was paid: nothing went back, and less stays.
        (order(8000, 5000), 8000, 0, 5000),
        (order(3000, 0, status="voided"), 3000, 0, 0),
        (order(3000, 0, status="cancelled"), 3000, 0, 0),
        (order(0, 0), 0, 0, 0),
    ],
)
def test_one_order_has_the_contracts_figures(document: Doc, gross: int, refunded: int, net: int) -> None:
    found = figures(document)
    assert rows(found) == [("paid_search", "USD", gross, refunded, net, 1)]
    (total,) = found.totals()
    assert (total.gross, total.refunded, total.net, total.orders) == (gross, refunded, net, 1)


def test_offline_and_direct_orders_have_rows_and_test_orders_count_nowhere() -> None:
    offline = ("pos", "draft", "subscription", "import", "other")
    documents = [elsewhere(place, 1000 * n, 1000 * n) for n, place in enumerate((*offline, "direct"), 1)]
    found = figures(*documents, order(99900, 99900, test=True))
    assert [(row.channel, row.gross) for row in found.rows()] == [
        ("direct", 6000),
        ("other", 5000),
        ("import", 4000),
        ("subscription", 3000),
        ("draft", 2000),
        ("pos", 1000),
    ]
    assert (found.orders, found.test_orders) == (6, 1)
    assert found.totals()[0].gross == 21000


def test_currencies_are_never_added_up() -> None:
    found = figures(order(10000, 10000), order(3000, 1500, 1500, "JPY"), order(100, 100))
    assert rows(found) == [
        ("paid_search", "JPY", 3000, 1500, 1500, 1),
        ("paid_search", "USD", 10100, 0, 10100, 2),
    ]
    assert [(total.currency, total.gross, total.orders) for total in found.totals()] == [
        ("JPY", 3000, 1),
        ("USD", 10100, 2),
    ]


def test_an_order_without_a_value_has_a_row() -> None:
    assert rows(figures(order(None), order(0))) == [("paid_search", "", 0, 0, 0, 1), ("paid_search", "USD", 0, 0, 0, 1)]


def journey(value: int, net: int, refunded: int, **fields: Any) -> Doc:
    """An order of 14, 7 and 0 days after visits by three platforms, as the stages credit it."""
    ages = (14, 7, 0)
    touches = [Touch(f"e{n}", iso(NOON - age * DAY), Ad(f"p{n}", channel=f"c{n}"), 0, n) for n, age in enumerate(ages)]
    credits_ = msgspec.to_builtins(credit(value, net, touches, NOON, 7 * DAY))
    return order(value, net, refunded, touches=[{"at": t.at} for t in touches], credits=credits_, **fields)


def test_cents_that_cannot_be_divided_are_of_the_first_and_the_refund_goes_by_the_credits_weights() -> None:
    # Thirds of 100, of 99 and of 1; then 1/7, 2/7, 4/7.
    assert rows(figures(journey(100, 99, 1), model="linear")) == [
        ("c0", "USD", 34, 1, 33, 0.333334),
        ("c1", "USD", 33, 0, 33, 0.333333),
        ("c2", "USD", 33, 0, 33, 0.333333),
    ]
    assert rows(figures(journey(700, 630, 70), model="time_decay")) == [
        ("c2", "USD", 400, 40, 360, 0.571429),
        ("c1", "USD", 200, 20, 180, 0.285714),
        ("c0", "USD", 100, 10, 90, 0.142857),
    ]
    assert rows(figures(journey(100, 0, 100), model="position_based"))[0] == ("c0", "USD", 40, 40, 0, 0.4)


def test_a_free_order_is_divided_by_weights_and_not_by_amounts() -> None:
    assert [row.orders for row in figures(journey(0, 0, 0), model="position_based").rows()] == [0.4, 0.4, 0.2]


def test_where_touches_do_not_determine_the_weights_the_amounts_do() -> None:
    document = {**journey(300, 300, 30), "touches": []}
    assert [(row.gross, row.refunded) for row in figures(document, model="position_based").rows()] == [
        (120, 12),
        (120, 12),
        (60, 6),
    ]
    free = {**journey(0, 0, 0), "touches": []}
    assert [row.orders for row in figures(free, model="linear").rows()] == [0.333334, 0.333333, 0.333333]


def test_new_returning_and_unknown_customers_are_counted() -> None:
    known = (True, True, False, None)
    documents = [journey(100, 100, 0, **({} if new is None else {"new_customer": new})) for new in known]
    found = figures(*documents, model="linear")
    (total,) = found.totals()
    assert (total.orders, total.new_customers, total.returning_customers) == (4, 2, 1)
    assert [(row.orders, row.new_customers, row.returning_customers) for row in found.rows()] == [
        (1.333336, 0.666668, 0.333334),
        (1.333332, 0.666666, 0.333333),
        (1.333332, 0.666666, 0.333333),
    ]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("channel", [("paid_search", None, None)]),
        ("platform", [(None, "google", None)]),
        ("campaign", [(None, "google", "brand"), (None, "google", None)]),
    ],
)
def test_the_rows_can_be_grouped_by_channel_platform_or_campaign(by: str, names: list[tuple[str | None, ...]]) -> None:
    other = {"platform": "google", "channel": "paid_search", "amount": 5, "net": 5}
    found = figures(order(100, 100), order(5, 5, credits={"last_click": [other]}), by=by)
    assert [(row.channel, row.platform, row.campaign) for row in found.rows()] == names
    assert sum(row.gross for row in found.rows()) == 105


@pytest.mark.parametrize("version", [1, 2])
def test_a_document_of_the_first_edition_has_its_gross_as_net_and_no_channel(version: int) -> None:
    (stored,) = json.loads((SAMPLES / f"version-{version}.json").read_text())["attributions"].values()
    assert rows(figures(stored, model="linear")) == [("unassigned", "EUR", 2000, 0, 2000, 1)]
    assert rows(figures(stored, model="linear", by="campaign")) == [
        ("google", None, "EUR", 1000, 0, 1000, 0.5),
        ("news", "winter", "EUR", 1000, 0, 1000, 0.5),
    ]
    direct = {**stored, "touches": [], "credits": {"linear": [{"platform": "direct", "amount": 2000}]}}
    assert rows(figures(direct, model="linear")) == [("direct", "EUR", 2000, 0, 2000, 1)]


def test_an_order_without_credits_is_in_the_sums() -> None:
    bare: Doc = {"credits": {}}
    assert [row[0] for row in rows(figures(order(100, 90, **bare)))] == ["unassigned"]
    assert rows(figures(elsewhere("pos", 100, 90, **bare))) == [("pos", "USD", 100, 0, 90, 1)]
    assert rows(figures(elsewhere("direct", 100, 90, **bare))) == [("direct", "USD", 100, 0, 90, 1)]


@pytest.mark.parametrize(
    "wrong",
    [{"value": "much"}, {"schema": 9}, {"occurred_at": "yesterday"}, {"credits": {"last_click": [{"net": {}}]}}],
)
def test_an_unreadable_document_is_counted_and_reported(wrong: Doc) -> None:
    found = figures(order(100, 100), {**order(100, 100), **wrong}, {**order(100, 100), **wrong})
    assert (found.orders, found.unreadable, found.totals()[0].gross) == (1, 2, 100)
    assert found.why_unreadable


def test_numbers_with_a_fraction_of_nothing_and_nulls_are_read() -> None:
    value = {"amount": 100.0, "currency": "USD"}
    document = {**order(100, 90), "value": value, "new_customer": None, "position_ends_percent": None}
    assert rows(figures(document)) == [("paid_search", "USD", 100, 0, 90, 1)]


def test_days_are_the_shops() -> None:
    # New York's 20 November is from 05:00 to 05:00 UTC.
    times = ["2026-11-20T04:59:59.999Z", "2026-11-20T05:00:00.000Z", "2026-11-21T04:30:00.000Z"]
    documents = [order(10**n, 0, occurred_at=at) for n, at in enumerate([*times, "2026-11-21T05:00:00.000Z"])]
    day = date(2026, 11, 20)
    of_new_york = RequestedPeriod(day, day).of(ShopTime("America/New_York"), NOON)
    assert figures(*documents, period=of_new_york).totals()[0].gross == 110
    assert figures(*documents, period=RequestedPeriod(day, day).of(ShopTime(), NOON)).totals()[0].gross == 11
    assert figures(*documents, period=RequestedPeriod(first=day).of(ShopTime("America/New_York"), NOON)).orders == 3
    assert figures(*documents, period=RequestedPeriod(last=day).of(ShopTime("America/New_York"), NOON)).orders == 3


def test_days_of_a_shop_of_unknown_time_zone_are_those_of_its_webhooks() -> None:
    """As product statistics have them."""
    at, day = "2026-11-21T03:00:00.000Z", date(2026, 11, 20)
    new_york, by_pixel = order(1, 0, occurred_at=at, utc_offset=-5 * 60), order(10, 0, occurred_at=at)
    of_day = RequestedPeriod(day, day).of(ShopTime(), NOON)
    assert [total.gross for total in figures(new_york, by_pixel, period=of_day).totals()] == [1]
    # The registry's time zone precedes the offset of a webhook.
    tokyo = RequestedPeriod(day, day).of(ShopTime("Asia/Tokyo"), NOON)
    assert figures(new_york, period=tokyo).orders == 0


@st.composite
def orders(draw: st.DrawFn) -> Doc:
    ages = draw(st.lists(st.integers(-300_000, 30 * DAY), max_size=5))
    touches = [
        Touch(f"e{n}", iso(NOON - age), Ad(draw(st.sampled_from("gf")), channel=draw(st.sampled_from("xyz"))), 0, n)
        for n, age in enumerate(sorted(ages, reverse=True))
    ]
    ends, value = draw(st.sampled_from([0, 40, 50])), draw(st.integers(0, 10_000))
    refunded, net = draw(st.integers(0, value)), draw(st.integers(0, value))
    credited = msgspec.to_builtins(credit(value, net, touches, NOON, 7 * DAY, ends, without_touch="pos"))
    document = order(value, net, refunded, draw(st.sampled_from(["USD", "JPY"])), test=draw(st.booleans()))
    new = draw(st.sampled_from([{}, {"new_customer": True}, {"new_customer": False}]))
    at = [{"at": touch.at} for touch in touches]
    return {**document, **new, "touches": at, "credits": credited, "position_ends_percent": ends}


@examples(150)
@given(st.lists(orders(), max_size=12), st.sampled_from(MODELS), st.sampled_from(list(GROUPINGS)), st.randoms())
def test_sums_over_rows_are_those_of_the_documents(documents: list[Doc], model: str, by: str, random: Any) -> None:
    found = figures(*documents, model=model, by=by)
    for currency in ("USD", "JPY"):
        own = [d for d in documents if not d["test"] and d["value"]["currency"] == currency]
        shown = [row for row in found.rows() if row.currency == currency]
        assert sum(row.gross for row in shown) == sum(d["value"]["amount"] for d in own)
        assert sum(row.refunded for row in shown) == sum(d["refunded"]["amount"] for d in own)
        assert sum(row.net for row in shown) == sum(d["net"]["amount"] for d in own)
        for name, count in {
            "orders": len(own),
            "new_customers": sum(d.get("new_customer") is True for d in own),
            "returning_customers": sum(d.get("new_customer") is False for d in own),
        }.items():
            assert sum(round(getattr(row, name) * 1_000_000) for row in shown) == count * 1_000_000
            assert [getattr(total, name) for total in found.totals() if total.currency == currency] in ([], [count])
    random.shuffle(documents)
    assert figures(*documents, model=model, by=by).rows() == found.rows()


@given(orders(), st.sampled_from(MODELS))
def test_refunds_are_divided_as_the_credits_are(document: Doc, model: str) -> None:
    """If an order is refunded in full, the refund of each row equals its gross."""
    document = {**document, "refunded": document["value"], "test": False}
    assert all(row.refunded == row.gross for row in figures(document, model=model, by="platform").rows())


def test_no_more_is_read_than_is_used() -> None:
    assert fields_of("linear") == [
        "half_life_days",
        "net",
        "new_customer",
        "occurred_at",
        "position_ends_percent",
        "refunded",
        "sales_channel",
        "schema",
        "test",
        "utc_offset",
        "value",
        "credits.linear.platform",
        "credits.linear.amount",
        "credits.linear.net",
        "credits.linear.channel",
        "credits.linear.campaign",
        "credits.linear.campaign_id",
        "touches.at",
    ]
