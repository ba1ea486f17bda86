"""The client of an order, and the visits that led to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from tests.unit.stages.events_made_up import DAY, MINUTE, NOON, ad, completed, in_checkout, touch, webhook
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.touch import Touch
from truepixel_dagster.orders.division import orders_of
from truepixel_dagster.orders.document import attribution_of
from truepixel_dagster.orders.event_facts import facts_of
from truepixel_dagster.orders.facts import Kept, Key, Node, merged
from truepixel_dagster.orders.journey import Journey, Rules, journey_of, touches_until
from truepixel_dagster.orders.order import Order

RULES = Rules(window_days=30, half_life_days=7, touches_kept=50)
Seen = tuple[Event, Sequence[Touch]]


def order(*seen: Seen, noted: Sequence[Touch] = ()) -> Order:
    found: dict[Key, Node] = {}
    for event, touches in seen:
        if facts := facts_of(event, touches, noted):
            found[facts.key] = merged(found.get(facts.key, facts), facts, Kept(50, 50))
    (one,) = orders_of("s", list(found.values()))
    return one


def journey(*seen: Seen, noted: Sequence[Touch] = (), rules: Rules = RULES) -> Journey:
    return journey_of(order(*seen, noted=noted), rules)


def offsets(found: Journey) -> list[int]:
    return [each.offset for each in found.touches]


def test_a_journey_is_the_touches_up_to_the_last_record_of_its_client() -> None:
    assert [each.offset for each in touches_until([touch(1), touch(2), touch(3)], 0, 2, 50)] == [1, 2]
    assert [each.offset for each in touches_until([touch(9, partition=1), touch(2), touch(3)], 0, 2, 50)] == [9, 2]
    assert [each.offset for each in touches_until([touch(1), touch(2), touch(3)], 0, 3, 2)] == [2, 3]
    early, late = in_checkout(2), completed(5)
    assert offsets(journey((late, [touch(1), touch(4)]), (early, [touch(1)]))) == [1, 4]


def test_a_journey_begins_with_the_window_and_ends_with_the_order_and_the_grace_of_clocks() -> None:
    grace = 5 * MINUTE
    times = [NOON - 30 * DAY - 1, NOON - 30 * DAY, NOON, NOON + grace, NOON + grace + 1]
    touches = [touch(number, at) for number, at in enumerate(times)]
    assert offsets(journey((completed(9), touches))) == [1, 2, 3]


def test_only_the_newest_touches_before_the_order_count() -> None:
    rules = Rules(30, 7, touches_kept=2)
    assert offsets(journey((completed(9), [touch(1), touch(2), touch(3)]), rules=rules)) == [2, 3]


def test_a_second_completion_a_week_later_adds_nothing() -> None:
    again = completed(9, at=NOON + 7 * DAY)
    assert offsets(journey((completed(2), [touch(1)]), (again, [touch(1), touch(8, NOON + 6 * DAY)]))) == [1]


PIXEL = completed(5, event_id="p", client_id="visitor")
WEBHOOK = webhook(6, event_id="a", client_id="token", partition=1)
PAID = webhook(9, event_id="b", client_id="token", partition=1, at=NOON + DAY, says={"status": "paid"})
SEEN: list[Seen] = [(PIXEL, [touch(1), touch(2)]), (WEBHOOK, []), (PAID, [touch(3, partition=1)])]


@pytest.mark.parametrize("seen", list(permutations(SEEN)))
def test_the_client_of_an_order_does_not_depend_on_the_order_of_records(seen: list[Seen]) -> None:
    document = attribution_of(order(*seen), RULES)
    assert document.client_id == "visitor"
    assert [entry.event_id for entry in document.touches] == ["e1", "e2"]
    assert (document.order_id, document.checkout_token, document.status) == ("77", "tok", "paid")
    assert sum(credit.amount for credit in document.credits.linear) == 10_00
    assert [each.event_id for each in document.sightings] == ["a", "p", "b"]


def test_a_client_with_visits_precedes_one_without() -> None:
    buyer, shop = completed(5, client_id="a"), webhook(6, client_id="z")
    assert journey((buyer, []), (shop, [touch(1)])).client == "z"
    assert journey((buyer, []), (shop, [])).client == "a"


def test_a_lost_completion_is_found_by_the_checkout_before_it() -> None:
    found = journey((in_checkout(3, client_id="visitor"), [touch(1)]), (WEBHOOK, []))
    assert (found.client, offsets(found)) == ("visitor", [1])


def test_a_client_in_the_notes_precedes_the_one_in_the_webhooks_key() -> None:
    named = webhook(6, client_id="token", noted="visitor")
    assert journey((named, [])).client == "visitor"
    found = journey((named, []), noted=[touch(1), touch(99)])
    assert (found.client, offsets(found)) == ("visitor", [1, 99])


LANDING = webhook(1, client_id="token", says={"landing": ad("spring"), "landing_referrer": "news.example"})


def test_the_landing_page_of_a_webhook_is_the_single_touch_of_an_order_without_one() -> None:
    document = attribution_of(order((LANDING, [])), RULES)
    (only,) = document.touches
    assert (only.event_id, only.at, only.ad.campaign) == ("w1", "2026-01-01T12:00:00.000Z", "spring")
    assert (only.kafka, only.referrer) == (None, "news.example")
    assert [credit.campaign for credit in document.credits.linear] == ["spring"]
    assert offsets(journey((LANDING, []), (PIXEL, [touch(2)]))) == [2]


def test_the_newest_payload_that_names_a_landing_page_decides_also_where_that_is_no_visit() -> None:
    inside = webhook(2, client_id="token", at=NOON + 1, says={"names_landing": True})
    silent = webhook(3, client_id="token", at=NOON + 2)
    for seen in ((LANDING, inside, silent), (silent, inside, LANDING), (inside, LANDING)):
        assert journey(*((event, []) for event in seen)).touches == ()
    assert len(journey((LANDING, []), (silent, [])).touches) == 1
    later = webhook(4, client_id="token", at=NOON + 3, says={"landing": ad("again"), "names_landing": True})
    assert [each.ad.campaign for each in journey((inside, []), (later, []), (LANDING, [])).touches] == ["again"]


@pytest.mark.parametrize("channel", ["pos", "draft", "subscription", "import", "other"])
def test_an_order_that_was_not_placed_online_has_no_journey_and_is_credited_to_its_channel(channel: str) -> None:
    says = {"sales_channel": channel, "landing": ad("spring")}
    document = attribution_of(order((webhook(6, says=says), []), (completed(1, client_id="c"), [touch(0)])), RULES)
    assert (document.client_id, document.touches, document.sales_channel) == ("c", (), channel)
    (only,) = document.credits.linear
    assert (only.platform, only.channel, only.amount, only.net) == (channel, channel, 10_00, 10_00)


def test_an_order_that_only_a_pixel_without_client_reports_is_direct_without_client() -> None:
    document = attribution_of(order((completed(1, client_id="undefined", anonymous=True), [])), RULES)
    assert (document.client_id, [credit.platform for credit in document.credits.linear]) == (None, ["direct"])
