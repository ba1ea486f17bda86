"""How chaos judges its rounds, and what its own records contain."""

from __future__ import annotations

from datetime import datetime, timezone

import msgspec
import pytest

from truepixel_dagster.audit.compare import Difference
from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.chaos.report import Report, Round, Verdict, report
from truepixel_dagster.local.chaos.visits import order, visit, visits
from truepixel_dagster.local.traffic import Record

GOOD = Verdict(produced=10, duplicates=1, indexed=8, dead_letters=1, lost=[], differences=[])
ROUNDS = [
    Round(1, "worker", "killed", 10.0),
    Round(2, "worker", "killed", 14.0),
    Round(3, "freeze", "frozen", 20.0, 9.0),
]


def judged(verdicts: list[Verdict], rounds: list[Round] = ROUNDS, days: tuple[str, ...] = ()) -> Report:
    return report(11, rounds, verdicts, days, 60.0)


def test_each_log_of_the_topic_counts_its_records_and_the_history_is_that_of_all() -> None:
    found = judged([GOOD, msgspec.structs.replace(GOOD, produced=5, indexed=12, dead_letters=2, duplicates=0)])
    assert (found.produced, found.indexed, found.duplicates, found.dead_letters) == (15, 12, 1, 2)
    assert found.passed


def test_recovery_is_reported_by_kind_and_in_total_and_a_takeover_separately() -> None:
    found = judged([GOOD])
    assert found.recovery_seconds == {
        "all": {"median": 14.0, "max": 20.0},
        "freeze": {"median": 20.0, "max": 20.0},
        "worker": {"median": 12.0, "max": 14.0},
    }
    assert found.takeover_seconds == {"median": 9.0, "max": 9.0}


@pytest.mark.parametrize(
    ("verdict", "rounds", "days"),
    [
        (msgspec.structs.replace(GOOD, lost=["t/0/1"]), ROUNDS, ()),
        (msgspec.structs.replace(GOOD, differences=[Difference("events", "id", "missing")]), ROUNDS, ()),
        (GOOD, [*ROUNDS, Round(4, "redis", "killed", None)], ()),
        (GOOD, ROUNDS, ("2026-01-31",)),
    ],
)
def test_a_run_with_any_loss_difference_stuck_lane_or_missing_day_fails(
    verdict: Verdict, rounds: list[Round], days: tuple[str, ...]
) -> None:
    assert not judged([verdict, GOOD], rounds, days).passed


def event_of(record: Record) -> Event:
    found = decode(Message(Origin("t", 0, 0), record.key, record.value, record.headers, 1_790_000_000_000))
    assert isinstance(found, Event), found
    return found


def test_visits_are_events_of_as_many_clients_at_the_time_that_is_asked_for() -> None:
    at = datetime(2026, 2, 3, 4, 5, tzinfo=timezone.utc)
    events = [event_of(record) for record in visits("shop", 3, at)]
    assert [event.client_id for event in events] == ["client-0", "client-1", "client-2"]
    assert {event.occurred_at for event in events} == {int(at.timestamp() * 1000)}
    assert {event.shop_id for event in events} == {"shop.myshopify.com"}


def test_a_visit_from_an_ad_names_its_campaign_and_one_to_a_product_the_product() -> None:
    assert (ad := event_of(visit("shop", 0, campaign="spring")).ad) is not None
    assert ad.campaign == "spring"
    assert event_of(visit("shop", 0, "product_viewed")).product_ids == ("1",)


def test_sightings_of_an_order_have_its_token_and_events_of_their_own() -> None:
    events = [event_of(order("shop", "token", number, client=number)) for number in range(2)]
    assert {event.order.checkout_token for event in events if event.order} == {"token"}
    assert len({event.event_id for event in events}) == 2
