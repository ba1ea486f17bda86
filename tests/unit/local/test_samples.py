"""The README's samples are of days that Dagster shows as partitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from truepixel_dagster.events.decode import decode
from truepixel_dagster.events.event import Event, Message, day_of
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.samples import read_lines
from truepixel_dagster.settings import Settings

SAMPLES = Path(__file__).parents[2] / "samples"
ARRIVED = 1_768_608_000_000  # 2026-01-17


@pytest.mark.parametrize("name", ["shopify_pixel.jsonl", "shopify_webhooks.jsonl"])
def test_samples_are_of_days_that_dagster_shows(name: str) -> None:
    with (SAMPLES / name).open("rb") as lines:
        events = [decode(Message(Origin("t", 0, 0), *record, ARRIVED)) for record in read_lines(lines)]
    days = {day_of(event.occurred_at) for event in events if isinstance(event, Event)}
    assert days
    assert min(days) >= Settings.model_fields["history_start"].default.isoformat()
    assert max(days) <= day_of(ARRIVED)
