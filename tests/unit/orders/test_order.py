"""An order as Shopify's admin shows it, from any of its records."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.stages.events_made_up import (
    DAY,
    NOON,
    completed,
    deleted,
    in_checkout,
    payload,
    refund,
    refunded,
    usd,
    webhook,
)
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.money import Money
from truepixel_dagster.events.order import OrderNews, RefundedLine, SoldLine
from truepixel_dagster.orders.division import orders_of
from truepixel_dagster.orders.event_facts import facts_of
from truepixel_dagster.orders.facts import ALL, Kept, Key, Node, merged
from truepixel_dagster.orders.order import Figures, Order
from truepixel_dagster.orders.sold import Sold

EUR = "EUR"


def orders(*events: Event) -> list[Order]:
    found: dict[Key, Node] = {}
    for event in events:
        if facts := facts_of(event, ()):
            found[facts.key] = merged(found.get(facts.key, facts), facts, Kept(50, 50))
    return orders_of("s", list(found.values()))


def order(*events: Event) -> Order:
    (found,) = orders(*events)
    return found


def paid(*refunds: Any, at: int = NOON, offset: int = 0, **says: Any) -> Event:
    return webhook(offset, at=at, says={"status": "paid", "was_paid": True, "refunds": refunds, **says})


def test_the_pixels_amount_counts_until_a_webhook_has_the_shops() -> None:
    pixel = completed(1, value=Money(900, EUR))
    assert order(pixel).figures == Figures(EUR, 900, 0, 900)
    assert order(pixel).value_from == "pixel"
    both = order(pixel, webhook(2, says={"total": usd(1000)}))
    assert both.figures == Figures("USD", 1000, 0, 1000)
    assert both.value_from == "webhook"
    without = order(pixel, webhook(2, says={"total": None}))
    assert (without.figures, without.value_from) == (Figures(EUR, 900, 0, 900), "pixel")


def test_the_first_pixel_event_with_a_value_decides_it() -> None:
    blind, first, second = completed(1, value=None), completed(3, value=usd(3)), completed(2, value=usd(2), at=NOON + 1)
    assert order(blind).figures == Figures(None, 0, 0, 0)
    assert order(blind).value_from is None
    assert order(blind, second, first).figures.value == 3


def test_the_newest_payload_has_the_total_and_an_older_one_what_it_leaves_out() -> None:
    old = paid(total=usd(1000), lines=(SoldLine("p", 1),))
    new = paid(at=NOON + 1, offset=1, total=usd(1500), lines=None, current_total=usd(1500))
    silent = paid(at=NOON + 2, offset=2, total=None, lines=None)
    for seen in ([old, new, silent], [silent, new, old]):
        found = order(*seen)
        assert found.figures == Figures("USD", 1500, 0, 1500)
        assert found.sold == (Sold("p", 1, None),)


def test_refunds_add_up_by_id_wherever_they_are_named() -> None:
    first, second = refund("r", 200), refund("s", 100)
    found = order(paid(first), refunded(1, first), refunded(2, second))
    assert found.figures == Figures("USD", 1000, 300, 700)
    assert found.status == "partially_refunded"


def test_the_remainder_is_the_payloads_less_the_refunds_that_it_lacks() -> None:
    known, new = refund("r", 200), refund("s", 100, at=NOON + DAY)
    assert order(paid(known, current_total=usd(800))).figures.net == 800
    assert order(paid(known, current_total=usd(800)), refunded(1, new)).figures.net == 700
    # A payload of the refund's second may not list the refund yet, but its remaining total is already reduced.
    assert order(paid(current_total=usd(800)), refunded(1, known)).figures.net == 800
    assert order(paid(current_total=usd(50)), refunded(1, new)).figures.net == 0


def test_an_order_edit_changes_the_remainder_and_a_refund_of_no_money_is_no_refund() -> None:
    removed = refund("r", 0, lines=(RefundedLine("p", 1, usd(400), "l"),))
    line = SoldLine("p", 3, usd(400), 0, None, "l")
    edited = order(paid(removed, current_total=usd(800), total=usd(1200), lines=(line,)))
    assert edited.figures == Figures("USD", 1200, 0, 800)
    assert edited.status == "paid"
    assert edited.refunds == ()
    assert edited.sold == (Sold("p", 2, usd(800)),)


@pytest.mark.parametrize(
    ("says", "net", "status"),
    [
        ({"status": "voided", "was_paid": True}, 0, "voided"),
        ({"status": "cancelled", "was_paid": False}, 0, "cancelled"),
        ({"status": "cancelled", "was_paid": True}, 1000, "cancelled"),
        ({"status": "open", "was_paid": False}, 1000, "open"),
        ({"status": "refunded", "was_paid": True}, 1000, "refunded"),
    ],
)
def test_an_order_voided_or_cancelled_before_payment_has_no_net(says: dict[str, Any], net: int, status: str) -> None:
    found = order(webhook(1, says=says))
    assert (found.figures.value, found.figures.net, found.status) == (1000, net, status)


def test_a_cancelled_order_whose_money_went_back_is_refunded_and_with_a_part_of_it_cancelled() -> None:
    cancelled = webhook(1, says={"status": "cancelled", "was_paid": True})
    assert order(cancelled, refunded(2, refund("r", 1000))).status == "refunded"
    assert order(cancelled, refunded(2, refund("r", 10))).status == "cancelled"


def test_a_refund_in_the_buyers_money_is_converted_by_the_totals_halves_up() -> None:
    seen = paid(total=usd(1000), presentment=Money(1600, EUR))
    back = refunded(1, refund("r", Money(4, EUR)))
    assert order(seen, back).figures == Figures("USD", 1000, 3, 997)
    other = refunded(1, refund("r", Money(4, "JPY")))
    assert order(seen, other).figures == Figures("USD", 1000, 0, 1000)


def test_units_are_those_after_edits_and_what_came_back_for_money_was_sold() -> None:
    back = refund("r", 500, lines=(RefundedLine("p", 2, usd(500), "l"),))
    line = SoldLine("p", 3, usd(300), 10, 0, "l")
    # One of three was taken out by an edit, two came back; 10 off three are 7 off two.
    assert order(paid(back, lines=(line,))).sold == (Sold("p", 2, usd(593)),)
    whole = SoldLine("p", 3, usd(300), 10, None, "l")
    assert order(paid(back, lines=(whole,))).sold == (Sold("p", 3, usd(890)),)
    # No more units than were ordered are sold, and a refund of another line adds none.
    most = SoldLine("p", 3, usd(300), 0, 3, "l")
    assert order(paid(back, lines=(most,))).sold == (Sold("p", 3, usd(900)),)
    other = SoldLine("p", 3, usd(300), 0, 1, "m")
    assert order(paid(back, lines=(other,))).sold == (Sold("p", 1, usd(300)),)


def test_the_lines_of_a_payload_precede_those_of_a_pixel() -> None:
    pixel = completed(1, lines=(SoldLine("p", 1),))
    assert order(pixel).sold == (Sold("p", 1, None),)
    assert order(pixel, webhook(2)).sold == (Sold("p", 1, None),)
    assert order(pixel, webhook(2, says={"lines": ()})).sold == ()


def test_an_order_is_known_by_any_of_its_ids() -> None:
    blind = webhook(2, order_id="77", token=None)
    assert order(blind).document_id == "s:77"
    linked_by_id = order(completed(1, order_id="77"), blind)
    assert (linked_by_id.document_id, linked_by_id.order_id) == ("s:tok", "77")
    cart = webhook(3, order_id=None, token=None, cart="k")
    assert order(cart).document_id == "s:k"
    assert order(completed(1, token="b"), completed(2, token="a")).document_id == "s:a"
    assert order(completed(1, token="a"), webhook(2, token="z")).document_id == "s:z"


def test_linked_orders_stay_separate_and_each_takes_the_records_that_name_it() -> None:
    one, two = webhook(1, order_id="1", token="a", cart="k"), webhook(2, order_id="2", token="b", cart="k")
    found = orders(one, two, completed(3, token="b", order_id="1", value=usd(5)), completed(4, token="x"))
    assert [each.document_id for each in found] == ["s:a", "s:b"]
    assert [[s.event_id for s in each.sightings(9)] for each in found] == [["e4", "w1"], ["e3", "w2"]]


def test_the_lower_id_of_two_orders_with_one_token_keeps_it() -> None:
    found = orders(webhook(1, order_id="2"), webhook(2, order_id="1"))
    assert {each.document_id: each.order_id for each in found} == {"s:tok": "1", "s:2": "2"}


def test_an_incomplete_order_waits_and_a_deleted_one_never_returns() -> None:
    assert orders(refunded(1, refund("r", 5))) == []
    assert orders(in_checkout(1)) == []
    assert orders(deleted(1)) == []
    assert orders(deleted(1), webhook(2), completed(3, order_id="77")) == []


def test_the_time_of_an_order_is_the_webhooks_or_else_the_first_pixels() -> None:
    late, early = completed(1, at=NOON + 7 * DAY, order_id="77"), completed(2, at=NOON + 5, order_id="77")
    assert order(late, early).at == NOON + 5
    assert order(late, early, webhook(3, says={"at": NOON - DAY, "utc_offset": 60})).at == NOON - DAY
    assert order(webhook(3, says={"at": NOON - DAY, "utc_offset": 60})).utc_offset == 60
    assert order(webhook(3, at=NOON + 9, says={"at": None})).at == NOON + 9


def test_the_first_payloads_number_of_orders_decides_about_a_new_customer_and_else_the_pixel() -> None:
    pixel = completed(1, first_order=True)
    assert order(completed(1)).new_customer is None
    assert order(pixel).new_customer is True
    first = webhook(2, says={"customer_orders": 1})
    later = webhook(3, at=NOON + 1, says={"customer_orders": 2})
    assert order(pixel, later).new_customer is False
    assert order(later, first).new_customer is True


@pytest.mark.parametrize("turned", [False, True])
def test_the_first_completion_that_says_it_decides_about_a_new_customer(turned: bool) -> None:
    """A buyer who opens the thank-you page again a day later may be logged in only then."""

    def said(*events: Event) -> bool | None:
        return order(*(reversed(events) if turned else events)).new_customer

    silent, again = completed(1), completed(2, at=NOON + DAY, first_order=False)
    assert said(silent, again) is False
    assert said(completed(1, first_order=True), again) is True
    assert said(silent, again, completed(3, at=NOON + 2 * DAY, first_order=True)) is False
    assert said(completed(1, value=None, first_order=True), again) is True


def test_a_document_of_an_earlier_version_says_it_in_its_completion() -> None:
    node = facts_of(completed(1, first_order=True), ())
    assert node
    older = msgspec.structs.replace(node, first_order=None)
    later = facts_of(completed(2, at=NOON + 1, first_order=False), ())
    assert later
    assert older.known_first_order == merged(older, later, ALL).first_order == (NOON, node.sightings[0].event_id, True)


def test_the_newest_payload_alone_decides_whether_it_is_a_test_and_where_it_was_placed() -> None:
    old, new = webhook(1, says={"test": True, "sales_channel": "pos"}), webhook(2, at=NOON + 1)
    assert (order(old).test, order(old).sales_channel) == (True, "pos")
    assert (order(old, new).test, order(old, new).sales_channel) == (False, "online")


def test_the_newest_payload_that_names_a_customer_counts() -> None:
    old = webhook(1, says={"customer_id": "1", "email_hash": "a"})
    new = webhook(2, at=NOON + 1, says={"customer_id": "2"})
    assert order(new, old).identity == ("2", "a")


def test_a_payload_without_an_order_id_is_of_its_token() -> None:
    shown = payload("w", checkout_token="tok")
    blind = msgspec.structs.replace(webhook(1), order=OrderNews(None, "tok", payload=shown))
    assert order(blind).document_id == "s:tok"
    assert order(blind, webhook(2)).order_id == "77"
