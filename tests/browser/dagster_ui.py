"""Drives Dagster's UI in Chromium as an operator does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from playwright.sync_api import Page

from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.settings import Settings

SECONDS = 240.0
_RUNS = """
query ($job: String!) {
  runsOrError(filter: {pipelineName: $job}, limit: 50) { ... on Runs { results { runId status } } }
}
"""


class Ui(NamedTuple):
    """A running pipeline, and a page of its UI."""

    settings: Settings
    address: str
    page: Page

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    def runs(self, job: str) -> list[dict[str, Any]]:
        """The runs of a job, the newest first."""
        return list(GraphQL(self.address).ask(_RUNS, job=job)["results"])

    def launch(self, job: str) -> str:
        """Press the launchpad's button without changing anything; returns the run that succeeds."""
        known = {run["runId"] for run in self.runs(job)}
        self.open(f"/locations/truepixel/jobs/{job}/playground")
        self.page.get_by_role("button", name="Launch Run").click()

        def ended() -> list[str]:
            new = [run for run in self.runs(job) if run["runId"] not in known]
            assert all(run["status"] not in ("FAILURE", "CANCELED") for run in new), new
            return [run["runId"] for run in new if run["status"] == "SUCCESS"]

        return str(until(ended)[0])


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.5)
    return found
