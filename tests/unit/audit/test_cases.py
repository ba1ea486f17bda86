"""The oracle is right about every case, in whichever order the records of different users arrive."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.cases import PRODUCED_MS, Case, Line, cases, mistakes
from tests.examples import sampled
from truepixel_dagster.audit.oracle import Expected, Record, Shop, expected

CASES = list(cases())
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def records(lines: list[Line]) -> list[Record]:
    offsets = dict.fromkeys(range(10), 0)
    made = []
    for line in lines:
        place = line.partition
        made.append(Record("events", place, offsets[place], PRODUCED_MS, line.key, line.value, [*line.headers]))
        offsets[place] += 1
    return made


def outcome(case: Case, lines: list[Line]) -> Expected:
    shops = {id_: Shop(**known) for id_, known in case.right.get("shops", {}).items()}
    return expected(records(lines), shops=shops)


def stores(found: Expected) -> dict[str, Any]:
    """The stores that the oracle expects, named as in a case."""
    return {
        "events": found.events,
        "touches": {user: [touch["event_id"] for touch in doc["touches"]] for user, doc in found.ad_leads.items()},
        "attributions": found.attributions,
        "customers": found.customers,
        "product_stats": found.product_stats,
        "weekly_visitors": found.weekly_visitors,
    }


def without_places(value: Any) -> Any:
    """Without partitions and offsets, which depend on the order of arrival."""
    if isinstance(value, dict):
        return {k: without_places(v) for k, v in value.items() if k not in ("kafka", "partition", "offset")}
    return [without_places(each) for each in value] if isinstance(value, list) else value


def shuffled(lines: list[Line], seed: int) -> list[Line]:
    """The lines of each key in their order, the keys in any."""
    keys = [line.key for line in lines]
    random.Random(seed).shuffle(keys)
    queues = {key: iter([line for line in lines if line.key == key]) for key in keys}
    return [next(queues[key]) for key in keys]


@EACH
def test_the_oracle_is_right(case: Case) -> None:
    found = outcome(case, case.lines)
    assert mistakes(case.right, stores(found)) == []
    assert sorted(found.dead.values()) == sorted(case.right.get("dead", []))


@EACH
def test_it_does_not_matter_which_user_comes_first(case: Case) -> None:
    once = without_places(stores(outcome(case, case.lines)))
    for seed in sampled(range(5)):
        again = outcome(case, shuffled(case.lines, seed))
        assert without_places(stores(again)) == once


@EACH
def test_each_case_says_its_incident_and_its_rule(case: Case) -> None:
    from tests.cases import FOLDER

    assert "Rule: " in (FOLDER / f"{case.name}.md").read_text("utf-8")
    assert case.right
