"""An outage in Dagster's UI: the sensor is red after a minute, and later green without an operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from truepixel_dagster.local.demo import dagster_dev, free_port
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.provision import provision

_TICK = """
{
  sensorOrError(sensorSelector: {
    repositoryName: "__repository__", repositoryLocationName: "truepixel", sensorName: "kafka_lag"
  }) {
    ... on Sensor { sensorState { ticks(limit: 1) { status skipReason error { message } } } }
  }
}
"""


def newest_tick(ui: GraphQL) -> dict[str, Any]:
    ticks = ui.ask(_TICK)["sensorState"]["ticks"]
    return dict(ticks[0]) if ticks else {"status": None}


def until(ui: GraphQL, condition: Callable[[dict[str, Any]], bool], seconds: float = 240) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while not condition(tick := newest_tick(ui)):
        assert time.monotonic() < end, f"the newest tick is {tick}"
        time.sleep(1)
    return tick


@pytest.mark.slow
def test_a_stopped_server_turns_the_sensor_red_and_its_return_green(tmp_path: Path) -> None:
    with ephemeral_stack(tmp_path) as settings:
        provision(settings)
        stack = Stack(settings, tied_to_parent=True)
        (redis,) = [server for server in stack.servers if server.name == "redis"]
        port = free_port(0)
        ui = GraphQL(f"http://127.0.0.1:{port}")
        with dagster_dev(settings, port):
            ui.wait()
            until(ui, lambda tick: tick["status"] == "SKIPPED" and "no lag" in tick["skipReason"])
            process = redis.process()
            assert process is not None
            process.kill()
            until(ui, lambda tick: tick["status"] == "SKIPPED" and "Redis at" in tick["skipReason"])
            failed = until(ui, lambda tick: tick["status"] == "FAILURE")
            assert "Redis at 127.0.0.1" in failed["error"]["message"].splitlines()[0]
            assert stack.revive(print)
            until(ui, lambda tick: tick["status"] == "SKIPPED" and "no lag" in tick["skipReason"])
