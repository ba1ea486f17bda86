"""An operator's walk through Dagster's UI in Chromium, while the sensor and the schedules run.

The operator looks around, meets an outage, repairs a day and several days, replays a range and dead letters, and
terminates a run. After each step, the independent oracle finds no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.dagster_ui import SECONDS, Ui
from tests.integration.driving import audited, days_with_orders, delete_orders, record, send
from tests.integration.test_pipeline import pixel
from tests.waiting import until
from truepixel_dagster.asset_keys import ATTRIBUTIONS, CUSTOMERS, LAKE, PRODUCT_STATS, STREAM
from truepixel_dagster.local.demo import dagster_dev, free_port, producing
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.provision import provision
from truepixel_dagster.resources import open_stores
from truepixel_dagster.stream.commit_notes import read_note
from truepixel_dagster.stream.topics import lag


@pytest.fixture(scope="module")
def pipeline(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The real servers, Dagster's UI and daemon, and events that its sensor has processed."""
    with ephemeral_stack(tmp_path_factory.mktemp("servers")) as servers:
        settings = servers.model_copy(update={"linger": 0.05, "idle": 0.5, "event_retention_months": 600})
        provision(settings)
        send(settings, [(r.key, r.value, r.headers) for r in traffic(1500, seed=3, shops=2, profile=FIRST)])
        address = f"http://127.0.0.1:{free_port(0)}"
        with dagster_dev(settings, int(address.rpartition(":")[2]), writable=True):
            GraphQL(address).wait()
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.set_default_timeout(60_000)
            expect.set_options(timeout=60_000)
            ui = Ui(settings, address, page)
            until(lambda: not any(entry.lag for entry in lag(settings.kafka())), SECONDS)
            until(lambda: any(run["status"] == "SUCCESS" for run in ui.runs("process_events")), SECONDS)
            yield ui
            page.close()


def test_the_lineage_shows_every_asset(pipeline: Ui) -> None:
    page = pipeline.open("/asset-groups")
    for asset in (*STREAM, *LAKE, "health"):
        expect(page.get_by_text(asset, exact=True).first).to_be_visible()


def test_an_asset_shows_its_columns_name_and_page(pipeline: Ui) -> None:
    page = pipeline.open(f"/assets/{ATTRIBUTIONS}?view=overview")
    expect(page.get_by_text("truepixel-attributions").first).to_be_visible()
    expect(page.get_by_text("docs/documents.md#attributions").first).to_be_visible()
    expect(page.get_by_text("credits.linear.amount").first).to_be_visible()


def test_a_run_reports_in_one_line_what_it_committed(pipeline: Ui) -> None:
    runs = [run["runId"] for run in pipeline.runs("process_events") if run["status"] == "SUCCESS"]
    page = pipeline.open(f"/runs/{runs[-1]}?logs=committed")
    expect(page.get_by_text("messages of partitions 0–2 in").first).to_be_visible()
    page = pipeline.open(f"/runs/{runs[-1]}?logs=skipping")
    expect(page.get_by_text("Skipping step")).to_have_count(0)


def test_the_launchpad_of_replay_opens_with_an_example_that_runs(pipeline: Ui) -> None:
    page = pipeline.open("/locations/truepixel/jobs/replay/playground")
    for name in ("since: 1h", "until:", "partition:", "offsets:"):
        expect(page.locator(".CodeMirror-code")).to_contain_text(name)
    with open_stores(pipeline.settings) as stores:
        stores.mongodb.delete(CUSTOMERS, {})
        pipeline.launch("replay")
        audited(pipeline.settings, stores)


def test_dead_letters_are_reprocessed_from_the_launchpad(pipeline: Ui) -> None:
    send(pipeline.settings, [record("s:c", pixel("good")), record("s:c", b"no JSON")])
    until(lambda: not any(entry.lag for entry in lag(pipeline.settings.kafka())), SECONDS)
    run = pipeline.launch("replay_dead_letters")
    page = pipeline.open(f"/runs/{run}")
    expect(page.get_by_text("replay_letters").first).to_be_visible()


def test_an_outage_turns_the_sensor_red_and_its_end_green(pipeline: Ui) -> None:
    stack = Stack(pipeline.settings, tied_to_parent=True)
    (redis,) = [server for server in stack.servers if server.name == "redis"]
    process = redis.process()
    assert process is not None
    process.kill()
    page = pipeline.open("/locations/truepixel/sensors/kafka_lag")
    expect(page.get_by_text("Failure").first).to_be_visible(timeout=SECONDS * 1000)
    page.get_by_text("View", exact=True).first.click()
    expect(page.get_by_text("Redis at 127.0.0.1").first).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    assert stack.revive(print)
    latest = page.locator("tr", has_text="Latest tick")
    expect(latest).to_contain_text("requested", timeout=SECONDS * 1000)
    send(pipeline.settings, [record("s:c", pixel("after the outage"))])
    until(lambda: not any(entry.lag for entry in lag(pipeline.settings.kafka())), SECONDS)
    with open_stores(pipeline.settings) as stores:
        audited(pipeline.settings, stores)


def test_a_day_that_lost_its_orders_is_named_by_a_check_and_materialized(pipeline: Ui) -> None:
    with open_stores(pipeline.settings) as stores:
        (day, *_) = days_with_orders(stores)
        delete_orders(stores, [day])
        pipeline.run_check("orders_attributed", f"Materialize attributions, customers and product_stats for {day}")
        pipeline.open(f"/assets/{ATTRIBUTIONS}?view=partitions")
        pipeline.choose(day)
        until(lambda: day in days_with_orders(stores), SECONDS)
        pipeline.run_check("orders_attributed", re.compile(r"orders_attributed\s*Succeeded"))
        audited(pipeline.settings, stores)


def test_several_days_of_several_assets_are_one_backfill(pipeline: Ui) -> None:
    with open_stores(pipeline.settings) as stores:
        days = days_with_orders(stores)
        delete_orders(stores, days)
        # The other shop's events are of an earlier day.
        stores.mongodb.delete(CUSTOMERS, {"shop_id": {"$ne": "s"}})
        pipeline.backfill((ATTRIBUTIONS, CUSTOMERS, PRODUCT_STATS), f"[{days[0]}...{days[-1]}]")
        audited(pipeline.settings, stores)


def test_what_a_terminated_run_committed_is_reported_for_it(pipeline: Ui) -> None:
    settings = pipeline.settings

    def committing() -> list[str]:
        """Runs that have committed something and have not ended."""
        noted = {span.run for entry in lag(settings.kafka()) for span in read_note(entry.note)}
        live = [run["runId"] for run in pipeline.runs("process_events") if run["status"] == "STARTED"]
        return [run for run in live if run in noted]

    with producing(settings, traffic(50_000, seed=9, shops=2, profile=FIRST), rate=100):
        (terminated, *_) = until(committing, SECONDS)
        page = pipeline.open(f"/runs/{terminated}")
        page.get_by_role("button", name="Terminate").click()
        page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
        expect(page.get_by_text("Canceled").first).to_be_visible(timeout=SECONDS * 1000)
    # Later runs report for this run before they commit the rest.
    until(lambda: not any(entry.lag for entry in lag(settings.kafka())), SECONDS)
    page = pipeline.open(f"/runs/{terminated}?logs=counted")
    expect(page.get_by_text("the run ended before it reported").first).to_be_visible()
    with open_stores(settings) as stores:
        audited(settings, stores)
