from __future__ import annotations

from itertools import permutations

import msgspec
import pytest

from tests.unit.stages.events_made_up import DAY, NOON, ad, event, sighting
from truepixel_dagster.events.event import Event, Order, iso
from truepixel_dagster.events.money import Money
from truepixel_dagster.stages import order_status
from truepixel_dagster.stages.ad_lead import Touch
from truepixel_dagster.stages.attribution import Attribution, Rules, journey, merge

RULES = Rules(window_days=30, half_life_days=7, touches_kept=50)


def touch(offset: int, at: int = NOON, partition: int = 0) -> Touch:
    return Touch(f"e{offset}", iso(at), ad(str(offset)), partition, offset)


def offsets(event: Event, touches: list[Touch], rules: Rules = RULES) -> list[int]:
    return [entry.kafka.offset for entry in journey(event, touches, rules)]


def merged(sightings: list[tuple[Event, list[Touch]]]) -> Attribution:
    document: Attribution | None = None
    for seen, touches in sightings:
        document = merge(document, seen, journey(seen, touches, RULES), RULES) or document
    assert document is not None
    return document


def test_a_journey_is_the_touches_up_to_its_own_offset() -> None:
    assert offsets(sighting(2), [touch(1), touch(2), touch(3)]) == [1, 2]


def test_a_journey_begins_with_the_window_and_ends_with_the_order() -> None:
    touches = [touch(1, NOON - 30 * DAY - 1), touch(2, NOON - 30 * DAY), touch(3, NOON), touch(4, NOON + 1)]
    assert offsets(sighting(9), touches) == [2, 3]


def test_only_the_newest_touches_before_the_order_count() -> None:
    rules = Rules(30, 7, touches_kept=2)
    assert offsets(sighting(3), [touch(1), touch(2), touch(3), touch(4)], rules) == [2, 3]


def test_a_sighting_that_is_in_the_document_changes_nothing() -> None:
    document = merged([(sighting(1), [])])
    assert merge(document, sighting(1), (), RULES) is None


PIXEL = sighting(5, event_id="p", client_id="visitor", order_id=None)
WEBHOOK = sighting(6, event_id="a", client_id="token", order_id="77", source="webhook", status="paid", partition=1)
PAID = sighting(9, event_id="b", client_id="token", order_id="77", source="webhook", status="paid", at=NOON + DAY)
SEEN = [(PIXEL, [touch(1), touch(2)]), (WEBHOOK, []), (PAID, [touch(3)])]


@pytest.mark.parametrize("order", list(permutations(SEEN)))
def test_credits_do_not_depend_on_which_sighting_came_first(order: list[tuple[Event, list[Touch]]]) -> None:
    document = merged(list(order))
    assert document.client_id == "visitor"
    assert [entry.event_id for entry in document.touches] == ["e1", "e2"]
    assert (document.order_id, document.checkout_token, document.status) == ("77", "tok", "paid")
    assert sum(credit.amount for credit in document.credits.linear) == 10_00
    assert document.sightings[0].kafka == order[0][0].origin


def test_of_equal_journeys_pixel_comes_before_webhook_and_then_the_lower_event_id() -> None:
    assert merged([(WEBHOOK, []), (PIXEL, [])]).client_id == "visitor"
    other = sighting(7, event_id="A", client_id="other", source="webhook")
    assert merged([(WEBHOOK, []), (other, [])]).client_id == "other"


def test_a_value_that_the_deciding_sighting_lacks_comes_from_another() -> None:
    blind = sighting(1, value=None)
    assert merged([(blind, [touch(1)]), (WEBHOOK, [])]).value == Money(10_00, "USD")


def test_an_order_without_a_value_credits_nothing() -> None:
    document = merged([(sighting(1, value=None), [touch(1)])])
    assert document.value is None
    assert [credit.amount for credit in document.credits.linear] == [0]


def status(kind: str, *, token: str | None = None, order_id: str | None = None) -> Event:
    return event(1, name="x", order=Order(order_id, token, kind, sighting=False))


class Known(dict[str, dict[str, object]]):
    """What MongoDB would hold after some events' updates."""

    def apply(self, *events: Event) -> None:
        for seen in events:
            for update in order_status.updates(seen):
                document = self.setdefault(update._filter["_id"], {})
                document.update(update._doc.get("$set", {}))
                document["rank"] = max(document.get("rank", 0), update._doc.get("$max", {}).get("rank", 0))  # type: ignore[call-overload]


def test_a_refund_finds_its_order_by_the_link_between_order_id_and_token() -> None:
    known, refund = Known(), status("refunded", order_id="77")
    known.apply(WEBHOOK, refund)
    assert order_status.decide([refund], known) == {"s:tok": 3}


def test_a_refund_that_came_before_its_order_is_found_by_it() -> None:
    known = Known()
    known.apply(status("refunded", order_id="77"), WEBHOOK)
    assert order_status.decide([WEBHOOK], known) == {"s:tok": 3}


def test_a_cancellation_holds_against_a_later_payment() -> None:
    known, paid = Known(), status("paid", token="tok")
    known.apply(status("cancelled", token="tok"), paid)
    assert order_status.decide([paid], known) == {"s:tok": 2}


def test_an_order_without_token_is_known_by_its_order_id() -> None:
    known, cancelled = Known(), status("cancelled", order_id="5")
    known.apply(cancelled)
    assert order_status.decide([cancelled], known) == {"s:5": 2}


def test_what_an_attribution_has_reached_need_not_be_looked_at() -> None:
    wanted, written = {"s:a": 1, "s:b": 3, "s:c": 1}, {"s:a": "paid", "s:b": "paid"}
    assert order_status.not_reached(wanted, written) == {"s:b": 3, "s:c": 1}


def many(count: int) -> list[tuple[Event, list[Touch]]]:
    """Sightings of one order: few of them bring a value, an order id or touches."""
    return [
        (
            sighting(
                n,
                event_id=f"e{(n * 37) % count:03d}",
                order_id="77" if n % 19 == 7 else None,
                value=Money(n + 1, "USD") if n % 17 == 5 else None,
                source="webhook" if n % 3 else "pixel",
                status="paid" if n == count - 2 else "open",
            ),
            [touch(-1 - i) for i in range(n % 5)] if n % 2 else [],
        )
        for n in range(count)
    ]


def test_an_order_names_few_of_very_many_sightings_and_says_the_same() -> None:
    bounded = Rules(30, 7, touches_kept=50, sightings_kept=5)
    unbounded = Rules(30, 7, touches_kept=50, sightings_kept=10_000)

    def document(rules: Rules, seen: list[tuple[Event, list[Touch]]]) -> Attribution:
        found: Attribution | None = None
        for each, touches in seen:
            found = merge(found, each, journey(each, touches, rules), rules) or found
        assert found is not None
        return found

    seen = many(200)
    whole, kept = document(unbounded, seen), document(bounded, seen)
    assert len(whole.sightings) == 200
    assert len(kept.sightings) <= 9
    assert kept.sightings[0] == whole.sightings[0]
    assert msgspec.structs.replace(kept, sightings=()) == msgspec.structs.replace(whole, sightings=())
    # Whatever comes again, and in whatever order, changes nothing.
    for each, touches in [*seen[::-1], *seen]:
        assert merge(kept, each, journey(each, touches, bounded), bounded) is None
    other = document(bounded, [seen[0], *seen[:0:-1]])
    assert set(other.sightings) == set(kept.sightings)
    assert msgspec.structs.replace(kept, sightings=()) == msgspec.structs.replace(other, sightings=())
