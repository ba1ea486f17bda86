"""The exporter on the real servers: it reports what the stores hold, after a restart and during an outage."""

from __future__ import annotations

import threading
import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from tests.integration.driving import send
from truepixel_dagster.audit.account import account
from truepixel_dagster.exporter.serve import serving
from truepixel_dagster.jobs.drain import drain
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.settings import Settings

Scraped = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(port: int) -> Scraped:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(found: Scraped, name: str) -> float:
    return sum(value for (metric, _), value in found.items() if metric == f"truepixel_{name}")


def up(found: Scraped) -> dict[str, float]:
    return {labels[0][1]: value for (metric, labels), value in found.items() if metric == "truepixel_up"}


SUCCEEDED = ("truepixel_runs_finished_total", (("dagster_job", "process_events"), ("status", "success")))


def test_a_scrape_has_the_stores_figures_and_a_restart_counts_nothing_twice(settings: Settings) -> None:
    records = traffic(2000, seed=5, shops=2, duplicates=0.1, malformed=0.02, profile=FIRST)
    send(settings, [(record.key, record.value, record.headers) for record in records])
    with serving(settings, lambda _: None, host="127.0.0.1", port=0) as port:
        before = scrape(port)
    assert total(before, "lag_messages") == 2000
    assert total(before, "messages_total") == 0
    drain(settings, lambda _: None)
    held = account(settings)
    for _ in range(2):
        found = settled(settings, messages=held.produced)
        assert set(up(found).values()) == {1.0}
        assert total(found, "lag_messages") == 0
        assert total(found, "messages_total") == held.produced
        assert total(found, "indexed_total") == held.indexed
        assert total(found, "duplicates_total") == held.duplicates
        assert total(found, "dead_letters_total") == held.dead_letters == total(found, "dead_letter_records")
        assert total(found, "contiguity_checked_total") == held.produced
        assert total(found, "order_checked_total") > held.indexed
        assert total(found, "order_violations_total") == total(found, "contiguity_violations_total") == 0
        assert total(found, "buffered_keys") > 0
        assert found[SUCCEEDED] >= 1


def settled(settings: Settings, messages: int) -> Scraped:
    """Scrape a new exporter until it includes the reports of the last seconds."""
    with serving(settings, lambda _: None, host="127.0.0.1", port=0) as port:
        for _ in range(20):
            found = scrape(port)
            # Dagster records the end of a run after the run's reports.
            if total(found, "messages_total") >= messages and found.get(SUCCEEDED):
                return found
            threading.Event().wait(1)
    return found


def test_an_unreachable_server_is_reported_and_the_others_are_scraped(settings: Settings) -> None:
    lines: list[str] = []
    away = settings.model_copy(update={"redis_url": SecretStr("redis://:hush@127.0.0.1:1/0")})
    with serving(away, lines.append, host="127.0.0.1", port=0) as port:
        found = scrape(port)
    assert up(found) == {"kafka": 1, "elasticsearch": 1, "mongodb": 1, "redis": 0, "dagster": 1}
    (line,) = lines
    assert line.startswith("redis is down: ")
    assert "127.0.0.1:1" in line
    assert "hush" not in line
    assert ("truepixel_lag_messages", (("lane", "0"), ("partition", "0"))) in found
