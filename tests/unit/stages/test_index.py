from __future__ import annotations

from tests.unit.stages.events_made_up import event
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stages.index import decide
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stores.elasticsearch import CONFLICT, Outcome

CREATED, MET, BAD = Outcome(201), Outcome(CONFLICT, "version conflict"), Outcome(400, "mapping: no")


def test_new_and_redelivered_events_continue_and_duplicate_and_rejected_ones_do_not() -> None:
    events = [event(i) for i in range(4)]
    found = decide(events, [CREATED, MET, MET, BAD], {1: events[1].origin, 2: Origin("t", 0, 99)})
    assert found.events == (events[0], events[1])
    assert (found.redelivered, found.duplicates) == (1, 1)
    assert found.refused == (Refused(events[3], "mapping: no"),)


def test_an_event_rejected_now_but_indexed_before_is_redelivered_or_a_duplicate() -> None:
    events = [event(0), event(1)]
    found = decide(events, [BAD, BAD], {0: events[0].origin, 1: Origin("t", 0, 99)})
    assert (found.events, found.redelivered, found.duplicates, found.refused) == ((events[0],), 1, 1, ())
