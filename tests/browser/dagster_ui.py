"""Drives Dagster's UI in Chromium as an operator does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.waiting import until
from truepixel_dagster.asset_keys import HEALTH
from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.settings import Settings

SECONDS = 240.0
_RUNS = """
query ($job: String!) {
  runsOrError(filter: {pipelineName: $job}, limit: 50) { ... on Runs { results { runId status startTime endTime } } }
}
"""
_BACKFILLS = "{ partitionBackfillsOrError(limit: 50) { ... on PartitionBackfills { results { id status } } } }"


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
        return self._launched(job, f"/locations/truepixel/jobs/{job}/playground", "Launch Run")

    def materialize(self, asset: str) -> str:
        """Press the button of an asset without partitions; returns the run that succeeds."""
        return self._launched("__ASSET_JOB", f"/assets/{asset}?view=overview", "Materialize")

    def _launched(self, job: str, path: str, button: str) -> str:
        known = {run["runId"] for run in self.runs(job)}
        self.open(path)
        self.page.get_by_role("button", name=button).first.click()

        def ended() -> list[str]:
            new = [run for run in self.runs(job) if run["runId"] not in known]
            assert all(run["status"] not in ("FAILURE", "CANCELED") for run in new), new
            return [run["runId"] for run in new if run["status"] == "SUCCESS"]

        return str(until(ended, SECONDS)[0])

    def run_check(self, name: str, result: str | re.Pattern[str]) -> None:
        """Press a check's button, and wait until its page shows a result."""
        page = self.open(f"/assets/{HEALTH}?view=checks&checkDetail={name}")
        page.get_by_text("Execute", exact=True).click()
        expect(page.locator("body")).to_contain_text(result, timeout=SECONDS * 1000)

    def lineage(self, assets: Sequence[str]) -> Page:
        """Open the lineage of some assets, as its search shows it."""
        page = self.open(f"/asset-groups~{quote(' or '.join(f'key:{asset}' for asset in assets))}/")
        for asset in assets:
            expect(page.get_by_text(asset, exact=True).first).to_be_visible()
        return page

    def choose(self, partitions: str) -> None:
        """Press *Materialize*, choose partitions such as `[2026-01-05...2026-01-07]` in its dialog, and launch them."""
        self.page.get_by_role("button", name="Materialize").first.click()
        dialog = self.page.get_by_role("dialog")
        # Dagster offers the last 90 days.
        dialog.get_by_text("Show all partitions").click()
        chosen = dialog.get_by_role("textbox").first
        chosen.fill(partitions)
        chosen.press("Enter")
        dialog.get_by_role("button", name="Launch").click()
        expect(dialog).to_have_count(0)

    def backfill(self, assets: Sequence[str], partitions: str) -> None:
        """Materialize partitions of several assets from the lineage, and watch them to the end."""
        known = self.backfills()
        self.lineage(assets)
        self.choose(partitions)
        (launched,) = until(lambda: self.backfills() - known, SECONDS)
        self.watch_backfill(launched, len(assets))

    def watch_backfill(self, launched: str, assets: int) -> None:
        """Stay at a backfill's page until all of its assets are complete."""
        page = self.open(f"/runs/b/{launched}")
        expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible()
        expect(page.get_by_text("100% completed")).to_have_count(assets, timeout=SECONDS * 1000)

    def backfills(self) -> set[str]:
        """The ids of the backfills."""
        return {each["id"] for each in GraphQL(self.address).ask(_BACKFILLS)["results"]}
