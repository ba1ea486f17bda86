"""Each alert fires on its condition and on nothing else, by Prometheus' own tool if that is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.unit.deploy.test_alerts import ALERTS, PROMTOOL, rules

# Seconds from scrape to scrape.
EVERY = 15
SERVERS = ("kafka", "elasticsearch", "mongodb", "redis", "dagster")
JOBS = ("process_events", "flush", "privacy", "check_health")

Series = dict[str, str]


class Case(NamedTuple):
    """Scraped samples, and whether an alert of this name (and severity) fires at a time."""

    name: str
    alert: str
    fires: bool
    at: str
    series: list[Series]
    severity: str = "warning|critical"


def scrapes(minutes: float) -> int:
    return int(minutes * 60 / EVERY)


def flat(value: float, minutes: float) -> str:
    return f"{value}x{scrapes(minutes) - 1}"


def gap(minutes: float) -> str:
    return f"_x{scrapes(minutes)}"


def series(metric: str, *values: str, **labels: object) -> Series:
    of_target = {"job": "truepixel", "instance": "exporter:9464", **labels}
    written = ",".join(f'{name}="{value}"' for name, value in of_target.items())
    return {"series": f"truepixel_{metric}{{{written}}}", "values": " ".join(values)}


def up(minutes: float) -> list[Series]:
    return [series("up", flat(1, minutes), server=server) for server in SERVERS]


def failures(job: str, *values: str) -> list[Series]:
    """Runs that failed: of one job so many, of the others none that are new."""
    others = [
        series("runs_finished_total", flat(7, 90), dagster_job=one, status="failure") for one in JOBS if one != job
    ]
    return [*others, series("runs_finished_total", *values, dagster_job=job, status="failure")]


def freshness(upto_a_minute: str, upto_five: str) -> list[Series]:
    buckets = {"60.0": upto_a_minute, "300.0": upto_five, "+Inf": upto_five}
    return [series("freshness_seconds_bucket", values, le=bound) for bound, values in buckets.items()]


def letters(letters_: str, messages: str) -> list[Series]:
    return [series("dead_letters_total", letters_, stage="index"), series("messages_total", messages)]


def violations(what: str) -> list[Case]:
    alert, metric = f"TruePixel{what.title()}Violated", f"{what}_violations_total"
    return [
        Case("the first", alert, True, "40m", [series(metric, flat(0, 30), flat(1, 60))]),
        Case("old ones", alert, False, "150m", [series(metric, flat(5, 180))]),
        Case("while away", alert, True, "135m", [series(metric, flat(5, 60), gap(70), flat(6, 60))]),
        Case("away, none", alert, False, "135m", [series(metric, flat(5, 60), gap(70), flat(5, 60))]),
        Case("before the first scrape", alert, True, "15m", [series(metric, gap(10), flat(3, 60))]),
    ]


def invariant_checks(order: str, contiguity: str, committed: str, indexed: str) -> list[Series]:
    return [
        series("order_checked_total", order),
        series("contiguity_checked_total", contiguity),
        series("committed_offset", committed, partition=0, lane=0),
        series("indexed_total", indexed),
        series("replays_total", flat(3, 300)),
    ]


GROWS, STANDS = "1000+10x1200", flat(50, 300)
LATE_REPORT = f"{flat(50, 70)} {flat(60, 200)}"
LONG_RUN = invariant_checks(LATE_REPORT, LATE_REPORT, f"{flat(100, 60)} 100+100x40 {flat(4100, 190)}", LATE_REPORT)
AUDITED = series("check_timestamp_seconds", flat(0, 1000), check="audit")
AGE, WAITS = "newest_attribution_age_seconds", "oldest_uncommitted_age_seconds"


def collector(metric: str, *values: str, **labels: object) -> list[Series]:
    return [series(f"collector_{metric}", *values, **{"job": "truepixel-collector", "instance": "a:8080", **labels})]


def answers(well: str, unavailable: str) -> list[Series]:
    found = [("200", well), ("503", unavailable)]
    return [
        one
        for status, values in found
        for one in collector("answers_total", values, endpoint="webhooks", status=status)
    ]


def webhooks(promised: str, unsigned: str) -> list[Series]:
    found = [("promised", promised), ("unsigned", unsigned)]
    return [
        one
        for outcome, values in found
        for one in collector("events_total", values, source="webhooks", outcome=outcome)
    ]


def filled(size: float) -> list[Series]:
    return [*collector("journal_bytes", flat(size, 20)), *collector("journal_max_bytes", flat(1000, 20))]


def answered(within_a_second: str) -> list[Series]:
    buckets = {"1.0": within_a_second, "2.5": within_a_second, "+Inf": "0+100x80"}
    return [one for le, values in buckets.items() for one in collector("answer_seconds_bucket", values, le=le)]


def state(name: str, metric: str, at: str = "15m", bad: float = 1, good: float = 0) -> list[Case]:
    alert = f"TruePixelCollector{name}"
    return [
        Case("bad", alert, True, at, collector(metric, flat(bad, 20))),
        Case("good", alert, False, at, collector(metric, flat(good, 20))),
        Case("a moment", alert, False, at, collector(metric, flat(good, 10), flat(bad, 0.5), flat(good, 10))),
    ]


COLLECTOR_CASES = [
    Case("none is scraped", "TruePixelCollectorDown", True, "15m", collector("takes", flat(1, 10), "stale")),
    Case("one of two", "TruePixelCollectorDown", False, "15m", collector("takes", flat(1, 20))),
    Case("none was ever there", "TruePixelCollectorDown", False, "15m", up(20)),
    Case("a twentieth", "TruePixelCollectorUnavailable", True, "15m", answers("0+95x80", "0+5x80")),
    Case("very few", "TruePixelCollectorUnavailable", False, "15m", answers("0+995x80", "0+5x80")),
    Case("half", "TruePixelCollectorUnsigned", True, "35m", webhooks("0+5x200", "0+5x200")),
    Case("few", "TruePixelCollectorUnsigned", False, "35m", webhooks("0+95x200", "0+5x200")),
    Case(
        "one forgery and nothing else",
        "TruePixelCollectorUnsigned",
        False,
        "35m",
        webhooks(flat(0, 50), "0+0x50 1+0x150"),
    ),
    *state("KafkaAway", "kafka_slow"),
    Case("more than half", "TruePixelCollectorJournalFull", True, "15m", filled(600)),
    Case("less", "TruePixelCollectorJournalFull", False, "15m", filled(400)),
    *state("JournalOld", "journal_age_seconds", bad=700, good=500),
    *state("JournalFails", "journal_failing"),
    Case("some", "TruePixelCollectorRecordsRefused", True, "15m", collector("journal_refused_records", flat(2, 20))),
    Case("none", "TruePixelCollectorRecordsRefused", False, "15m", collector("journal_refused_records", flat(0, 20))),
    Case("late", "TruePixelCollectorSlow", True, "15m", answered("0+95x80")),
    Case("in time", "TruePixelCollectorSlow", False, "15m", answered("0+100x80")),
    *state("RegistryAway", "registry_away"),
]
SOMETIMES = " ".join("stale" if number % 6 == 5 else str(2000 + 15 * number) for number in range(120))

CASES = [
    Case("no scrape", "TruePixelExporterDown", True, "8m15s", [series("up", flat(1, 5), "stale", server="kafka")]),
    Case("just now", "TruePixelExporterDown", False, "6m", [series("up", flat(1, 5), "stale", server="kafka")]),
    Case("away", "TruePixelServerDown", True, "8m", [series("up", flat(1, 5), flat(0, 5), server="redis")]),
    Case(
        "a minute", "TruePixelServerDown", False, "9m", [series("up", flat(1, 5), flat(0, 1), flat(1, 5), server="x")]
    ),
    Case(
        "lanes together", "TruePixelLag", True, "15m", [series("lag_messages", flat(9e4, 20), lane=n) for n in (0, 1)]
    ),
    Case("less", "TruePixelLag", False, "15m", [series("lag_messages", flat(99000, 20), lane=0)]),
    Case("long", "TruePixelMessagesWait", True, "15m", [series(WAITS, "800+15x80", lane=0)]),
    Case("long, not always seen", "TruePixelMessagesWait", True, "25m", [series(WAITS, SOMETIMES, lane=0)]),
    Case("less long", "TruePixelMessagesWait", False, "15m", [series(WAITS, flat(800, 20), lane=0)]),
    Case("a tenth", "TruePixelLate", True, "40m", freshness("0+9x240", "0+10x240")),
    Case("a few", "TruePixelLate", False, "40m", freshness("0+96x240", "0+100x240")),
    Case("one", "TruePixelLate", False, "36m", freshness(flat(5, 60), f"{flat(5, 20)} {flat(6, 40)}")),
    Case("old", "TruePixelNoAttributions", True, "40m", [series(AGE, "21000+15x200")]),
    Case("never any", "TruePixelNoAttributions", True, "7h", up(430)),
    Case("young", "TruePixelNoAttributions", False, "40m", [series(AGE, flat(10800, 60))]),
    Case("a tenth", "TruePixelDeadLetters", True, "20m", letters("100x39 120x200", "5000x39 5200x200")),
    Case("a few", "TruePixelDeadLetters", False, "20m", letters("100x39 120x200", "5000x39 5500x200")),
    Case("nine of twenty", "TruePixelDeadLetters", False, "61m", letters("100x19 109x300", "5000x19 5020x300")),
    Case("claims", "TruePixelBufferOld", True, "10m", [series("buffered_age_seconds", flat(700, 20), kind="claim")]),
    Case("younger", "TruePixelBufferOld", False, "15m", [series("buffered_age_seconds", flat(500, 20), kind="buffer")]),
    Case(
        "three", "TruePixelRunsFail", True, "55m", failures("flush", flat(7, 40), flat(8, 5), flat(9, 5), flat(10, 40))
    ),
    Case("two", "TruePixelRunsFail", False, "55m", failures("process_events", flat(7, 40), flat(8, 5), flat(9, 45))),
    Case("one of minutes", "TruePixelRunsFail", False, "55m", failures("privacy", flat(7, 40), flat(8, 50))),
    Case("one of hours", "TruePixelRunsFail", True, "55m", failures("check_health", flat(7, 40), flat(8, 50))),
    *violations("order"),
    *violations("contiguity"),
    Case("old workers", "TruePixelWitnessesSilent", True, "120m", invariant_checks(STANDS, STANDS, GROWS, GROWS)),
    Case("order alone", "TruePixelWitnessesSilent", True, "120m", invariant_checks(STANDS, GROWS, GROWS, GROWS)),
    Case("contiguity alone", "TruePixelWitnessesSilent", True, "120m", invariant_checks(GROWS, STANDS, GROWS, GROWS)),
    Case("both look", "TruePixelWitnessesSilent", False, "120m", invariant_checks(GROWS, GROWS, GROWS, GROWS)),
    Case("idle", "TruePixelWitnessesSilent", False, "120m", invariant_checks(STANDS, STANDS, STANDS, STANDS)),
    Case("duplicates alone", "TruePixelWitnessesSilent", False, "120m", invariant_checks(STANDS, GROWS, GROWS, STANDS)),
    Case("a long run after a quiet hour", "TruePixelWitnessesSilent", False, "68m", LONG_RUN),
    Case("fails", "TruePixelCheckFailed", True, "5m", [series("check_passed", flat(0, 10), check="audit")]),
    Case("passes", "TruePixelCheckFailed", False, "5m", [series("check_passed", flat(1, 10), check="audit")]),
    Case("warns", "TruePixelCheckWarns", True, "5m", [series("check_passed", flat(0, 10), check="lag")], "warning"),
    Case("passes", "TruePixelCheckWarns", False, "5m", [series("check_passed", flat(1, 10), check="lag")]),
    Case("no more", "TruePixelCheckFailed", False, "5m", [series("check_passed", flat(0, 10), check="lag")]),
    Case(
        "one stops",
        "TruePixelChecksStopped",
        True,
        "190m",
        [series("check_timestamp_seconds", flat(0, 999), check="lag"), AUDITED],
    ),
    Case("none ever ran", "TruePixelChecksStopped", True, "240m", up(300)),
    Case("just deployed", "TruePixelChecksStopped", False, "120m", up(300)),
    *COLLECTOR_CASES,
]


def as_test(case: Case) -> dict[str, Any]:
    """A case as promtool takes it."""
    about = f'alertname="{case.alert}",alertstate="firing",severity=~"{case.severity}"'
    expected = {"labels": "{}", "value": int(case.fires)}
    asked = {"expr": f"count(ALERTS{{{about}}}) or vector(0)", "eval_time": case.at, "exp_samples": [expected]}
    name = f"{case.alert}: {case.name}"
    return {"name": name, "interval": f"{EVERY}s", "input_series": case.series, "promql_expr_test": [asked]}


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    named = {rule["alert"] for rule in rules()}
    assert {case.alert for case in CASES if case.fires} == named
    assert {case.alert for case in CASES if not case.fires} == named


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_alerts_fire_on_what_they_are_for_and_on_nothing_else(tmp_path: Path) -> None:
    assert PROMTOOL
    file = tmp_path / "cases.yaml"
    tests = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": f"{EVERY}s",
        "tests": [as_test(case) for case in CASES],
    }
    file.write_text(yaml.safe_dump(tests))
    done = subprocess.run([PROMTOOL, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
