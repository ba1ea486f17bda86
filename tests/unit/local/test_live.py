"""What the demo shows while it runs."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone
from itertools import islice

import pytest

from tests.examples import sampled, share
from truepixel_dagster.local.demo import HISTORY_RECORDS, TIME_LAPSE, WATCHED, live
from truepixel_dagster.local.traffic import Record

NOW = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
RATE = 40


def minute(seed: int) -> list[Record]:
    """The records of one minute."""
    return list(islice(live(RATE, seed, 20, NOW), 60 * RATE))


@pytest.mark.parametrize("seed", sampled([1, 2, 3]))
def test_within_a_minute_there_are_orders_campaigns_and_buyers_who_come_back(seed: int) -> None:
    records = minute(seed)
    payloads = [
        json.loads(record.value) for record in records if record.name == "orders/create" and record.kind == "event"
    ]
    created = [payload for payload in payloads if isinstance(payload, dict)]
    assert len({order["id"] for order in created}) >= 10
    buyers = Counter(order["customer"]["id"] for order in created if order["customer"])
    assert max(buyers.values()) > 1
    campaigns = {part.split(b"&")[0] for record in records for part in record.value.split(b"utm_campaign=")[1:]}
    assert len(campaigns) >= 5


@pytest.mark.parametrize("seed", sampled(range(1, 9)))
def test_the_history_has_all_its_records(seed: int) -> None:
    # With so few records in so many days, everybody may have left before the next record is due.
    assert sum(1 for _ in islice(live(RATE, seed, 20, NOW, HISTORY_RECORDS), HISTORY_RECORDS)) == HISTORY_RECORDS


def test_it_runs_in_time_lapse_until_now_and_is_never_ahead_of_it() -> None:
    start = NOW.timestamp() * 1000
    slack = 5 * 60_000
    for sent, record in enumerate(islice(live(1, 1, 5, NOW), 0, share(8_000))):
        assert record.at <= start + 1000 * sent + slack
    first, last = minute(1)[0].at, minute(1)[-1].at
    assert first < start - 1000 * WATCHED.total_seconds() + slack
    assert 0.8 * TIME_LAPSE < (last - first) / 60_000 < 1.2 * TIME_LAPSE
