"""Make the pictures of README and docs from a demo of its own: `.venv/bin/python -m tests.browser.pictures`.

It takes about ten minutes, needs Chromium, and writes docs/images except the plots of benchmarks.
"""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from tests.browser.chromium import chromium
from tests.browser.dagster_ui import SECONDS, Ui
from tests.integration.driving import delete_orders
from tests.waiting import until
from truepixel_dagster import asset_keys as keys
from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.demo import HISTORY, collecting, free_port, fresh_pipeline, reports, running_dagster, send
from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.local.traffic import FULL, loyal, traffic
from truepixel_dagster.local.visitors import Visitors
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stream.topics import lag
from truepixel_dagster.terminal import CALLED_AS, say

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SEED, SHOPS, EVENTS = 1, 20, 20_000
# A README is about this wide, so no picture is scaled down. A screen has two dots for each of a page's pixels.
WIDTH, DOTS, COLOURS = 1000, 2, 64
SIZE: ViewportSize = {"width": WIDTH, "height": 800}
COLUMNS = 98
# The navigation is closed, and the lineage goes downwards: its names are readable at this width.
_UI_OPTIONS = {"dagster-nav-collapsed": "true", "asset-graph-direction": '"vertical"'}
_TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 16px; background: {background}; color: {foreground}; }}
pre {{ margin: 0; font: 14px/1.164 "DejaVu Sans Mono", monospace; }}
{stylesheet}</style><pre>{code}</pre>"""
# In the order of the lineage: Dagster asks for a confirmation where assets before are not materialized.
FIRST = (
    *(asset for asset in keys.STREAM if asset != keys.PRODUCT_STATS_BUFFER),
    *(keys.PRODUCT_STATS, keys.LAKE_EVENTS, keys.LAKE_ORDERS, keys.LAKE_CUSTOMERS, keys.LAKE_PRODUCT_STATS),
    *(keys.AD_SPEND, keys.RATES),
)
THEN = (keys.MARKETING_DAILY, keys.FUNNEL_DAILY, keys.JOURNEYS)


@contextmanager
def page_of(browser: Browser) -> Iterator[Page]:
    """Open a page as wide as a README."""
    context = browser.new_context(viewport=SIZE, device_scale_factor=DOTS)
    context.add_init_script(f"Object.assign(localStorage, {json.dumps(_UI_OPTIONS)})")
    context.set_default_timeout(60_000)
    try:
        yield context.new_page()
    finally:
        context.close()


def save(page: Page, name: str, height: int, *, fits: bool = False) -> None:
    """Write a page as a small PNG, of a given height or as high as its content."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(3000)  # animations of the UI
    shown = Image.open(io.BytesIO(page.screenshot(full_page=fits))).convert("RGB")
    shown.quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)
    page.set_viewport_size(SIZE)
    say(f"docs/images/{name}.png")


def terminal(settings: Settings, *commands: str) -> str:
    """Return a page that shows commands and what they print."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    variables = {**environment(settings), "COLUMNS": str(COLUMNS), CALLED_AS: "./run"}
    for command in commands:
        console.print(Text(f"$ ./run {command}", style="bold green"))
        program = [sys.executable, "-m", "truepixel_dagster.cli", *shlex.split(command)]
        done = subprocess.run(program, env=variables, capture_output=True, text=True, check=True)
        console.print(Text.from_ansi(done.stdout))
    return console.export_html(theme=DIMMED_MONOKAI, code_format=_TERMINAL)


def main() -> None:
    """Run the demo, break and repair it, and take a picture of each."""
    settings = load_settings()
    with ExitStack() as stack:
        own = stack.enter_context(fresh_pipeline(settings, say))
        connected = stack.enter_context(collecting(own, free_port(0), SEED, SHOPS, say))
        port = free_port(0)
        stack.enter_context(running_dagster(own, port, say, writable=True))
        start = datetime.now(timezone.utc) - HISTORY
        records = traffic(EVENTS, seed=SEED, shops=SHOPS, profile=loyal(FULL), start=start, span=HISTORY)
        asyncio.run(send(own, Visitors(connected, say), records))
        until(lambda: not any(entry.lag for entry in lag(own.kafka())), SECONDS)
        (report, *_) = reports(own, SEED, SHOPS, say)
        # Not earlier: the browser runs an event loop of its own.
        page = stack.enter_context(page_of(stack.enter_context(chromium())))
        ui = Ui(own, f"http://127.0.0.1:{port}", page)
        shop = report.stem.rpartition("-")[2]
        page.goto(report.as_uri())
        save(page, "report", 1130)
        days = f"--from {start.date()} --to {datetime.now(timezone.utc).date()}"
        page.set_content(terminal(own, f"report --shop {shop} --by channel {days}"))
        save(page, "terminal", 100, fits=True)
        run_picture(ui)
        repair_pictures(ui, start.date())
        lineage_pictures(ui)


def run_picture(ui: Ui) -> None:
    """Show a run with what it committed."""
    until(lambda: all(run["status"] == "SUCCESS" for run in ui.runs("process_events")), SECONDS)
    longest = max(ui.runs("process_events"), key=lambda run: run["endTime"] - run["startTime"])
    page = ui.open(f"/runs/{longest['runId']}?logs=committed")
    expect(page.get_by_text("messages of partition").first).to_be_visible(timeout=SECONDS * 1000)
    save(page, "run", 800)


def repair_pictures(ui: Ui, first: date) -> None:
    """Show a check that names days without orders, and the backfill that repairs them."""
    days = [(first + timedelta(days=number)).isoformat() for number in range(7, 13)]
    with open_stores(ui.settings) as stores:
        delete_orders(stores, days)
    ui.run_check("orders_attributed", "Materialize attributions, customers and product_stats for")
    save(ui.page, "failing-check", 640)
    repaired = (keys.ATTRIBUTIONS, keys.CUSTOMERS, keys.PRODUCT_STATS)
    ui.watch_backfill(GraphQL(ui.address).launch_backfill(repaired, days), len(repaired))
    save(ui.page, "backfill", 430)


def lineage_pictures(ui: Ui) -> None:
    """Show the lineage after everything was materialized and checked, and pages of two assets."""
    dagster, today = GraphQL(ui.address), datetime.now(timezone.utc).date()
    start = ui.settings.history_start
    days = [start + timedelta(days=number) for number in range((today - start).days + 1)]
    weeks = {day - timedelta(days=day.weekday()) for day in days}
    months = {day.replace(day=1) for day in days}
    dagster.backfill(FIRST, [str(day) for day in days])
    ui.materialize(keys.PEOPLE)
    dagster.backfill(THEN, [str(day) for day in days])
    dagster.backfill([keys.COHORTS], sorted(map(str, months)))
    dagster.backfill([keys.WEEKLY_VISITORS], sorted(map(str, weeks)))
    ui.materialize(keys.SHOP_REPORTS)
    for job in ("check_health", "audit"):
        ui.launch(job)
    page = ui.open("/asset-groups")
    expect(page.get_by_text(keys.HEALTH, exact=True).first).to_be_visible()
    page.wait_for_timeout(30_000)  # Dagster reads the states of the assets in steps
    save(page, "lineage", 800)
    page = ui.open(f"/assets/{keys.SHOP_REPORTS}?view=overview")
    expect(page.get_by_text("figures").first).to_be_visible(timeout=SECONDS * 1000)
    save(page, "shop-reports", 1000)
    page = ui.open(f"/assets/{keys.KAFKA_TOPIC}?view=overview")
    page.get_by_text("Plots", exact=True).click()
    save(page, "plots", 1000)


if __name__ == "__main__":
    main()
