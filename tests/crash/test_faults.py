"""The pipeline under faults, through the real sensor and daemon: it ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from truepixel_dagster.audit.account import account
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.local.chaos.faults import FAULTS
from truepixel_dagster.local.chaos.load import load
from truepixel_dagster.local.chaos.pipeline import Pipeline
from truepixel_dagster.local.demo import producing
from truepixel_dagster.settings import Settings

OUTAGE_SECONDS = 120
RECOVERY_SECONDS = 240


# One of each sort: a killed worker, a frozen one, the daemon, a server, a cut connection.
USUAL = ("worker", "freeze", "daemon", "elasticsearch", "connection")


def test_nothing_is_lost_or_doubled_whichever_process_dies(tmp_path: Path) -> None:
    nothing_is_lost_or_doubled(tmp_path, USUAL)


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_in_any_state_and_by_any_input(tmp_path: Path) -> None:
    nothing_is_lost_or_doubled(tmp_path, list(FAULTS))


def nothing_is_lost_or_doubled(folder: Path, kinds: Sequence[str]) -> None:
    report = folder / "report.json"
    command = [sys.executable, "-m", "truepixel_dagster.cli", "chaos", "--seed", "11", "--json", str(report)]
    done = subprocess.run(
        [*command, "--rounds", str(len(kinds)), "--kinds", ",".join(kinds)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(folder),
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    found = json.loads(report.read_text())
    assert Counter(entry["kind"] for entry in found["log"]) == dict.fromkeys(kinds, 1)
    assert (found["lost"], found["doubled"], found["differences"], found["not_recovered"]) == (0, 0, 0, 0)
    assert found["days_not_shown"] == []
    assert found["produced"] == found["indexed"] + found["duplicates"] + found["dead_letters"]
    assert found["indexed"] > 0


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TRUEPIXEL_DATA_DIR": str(folder)}


@pytest.mark.slow
def test_elasticsearch_unreachable_for_two_minutes_makes_no_dead_letter_and_loses_no_lane(tmp_path: Path) -> None:
    with Pipeline(tmp_path, Settings(), print) as pipeline:
        with producing(pipeline.settings, load(100, 5), 100):
            pipeline.wait_for_work()
            pipeline.kill_server("elasticsearch")
            time.sleep(OUTAGE_SECONDS)
            pipeline.start_servers()
            assert pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
        assert pipeline.wait_until_processed(pipeline.high(), RECOVERY_SECONDS)
        pipeline.daemon.stop()
        # The audit compares the dead letters too: they are those of the malformed messages and no other.
        found, counts = audit(pipeline.settings), account(pipeline.settings)
    assert found.differences == []
    assert counts.lost == []
    assert counts.dead_letters == found.dead_letters
