"""The commands as a user types them, on the real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.driving import record, send
from tests.integration.test_pipeline import pixel
from truepixel_dagster.instance.process import environment
from truepixel_dagster.settings import Settings

SAMPLES = Path(__file__).parent.parent / "samples"


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "truepixel_dagster.cli", *arguments],
        env={**environment(settings), "TRUEPIXEL_IDLE": "0.5"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def truepixel(settings: Settings, *arguments: str, code: int = 0) -> str:
    done = run(settings, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_setup_twice_changes_nothing(bare_settings: Settings) -> None:
    assert "Kafka topic" in truepixel(bare_settings, "setup")
    assert truepixel(bare_settings, "setup") == "nothing to do: everything is set up\n"


def test_the_commands_work_from_a_file_to_a_report(settings: Settings) -> None:
    lines = sum(1 for line in (SAMPLES / "shopify_webhooks.jsonl").read_bytes().splitlines() if line.strip())
    truepixel(settings, "produce", str(SAMPLES / "shopify_webhooks.jsonl"))
    assert json.loads(truepixel(settings, "lag", "--json"))["lag"] == lines
    assert json.loads(truepixel(settings, "drain", "--json"))["messages"] == lines
    assert json.loads(truepixel(settings, "lag", "--json"))["lag"] == 0
    truepixel(settings, "flush")
    assert json.loads(truepixel(settings, "audit", "--json"))["differences"] == []
    shop = json.loads((SAMPLES / "shopify_webhooks.jsonl").read_text().splitlines()[0])["key"].partition(":")[0]
    report = json.loads(truepixel(settings, "report", "--shop", shop, "--json"))
    # Shopify's examples are all test orders.
    assert report["orders"] == 0
    assert report["test_orders"] > 0
    assert shop in truepixel(settings, "report", "--shop", shop)
    mistyped = run(settings, "report", "--shop", "7")
    assert f"no data of shop 7. Shops with events: {shop}" in " ".join(mistyped.stderr.split())
    assert "shop 7: 0 orders" in mistyped.stdout
    assert mistyped.returncode == 1


def test_peek_shows_the_newest_records_and_tail_those_that_arrive(settings: Settings) -> None:
    truepixel(settings, "produce", str(SAMPLES / "shopify_webhooks.jsonl"))
    shown = [json.loads(line) for line in truepixel(settings, "topic", "peek", "--count", "3", "--json").splitlines()]
    assert len(shown) == 3
    assert all(record["name"] and record["shop"] and "/" in record["record"] for record in shown)
    assert len(truepixel(settings, "topic", "peek", "--count", "2").splitlines()) == 2
    command = [sys.executable, "-u", "-m", "truepixel_dagster.cli", "topic", "tail"]
    with subprocess.Popen(
        command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout
        assert tail.stderr
        assert "waiting for records" in tail.stderr.readline()
        send(settings, [record("s:c", b"no JSON"), record("s:c", pixel("e1"))])
        assert "JSON" in tail.stdout.readline()
        assert "s  c  page_viewed" in tail.stdout.readline()
        tail.terminate()


def test_a_mistyped_command_is_named_as_typed() -> None:
    typed = {**os.environ, "TRUEPIXEL_CALLED_AS": "./run"}
    done = subprocess.run(
        [sys.executable, "-m", "truepixel_dagster.cli", "lagg"], env=typed, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Usage: ./run " in done.stderr
    assert "No such command 'lagg'" in done.stderr


def test_generate_sends_as_many_as_asked_for(settings: Settings) -> None:
    truepixel(settings, "generate", "--events", "50", "--seed", "4")
    assert json.loads(truepixel(settings, "lag", "--json"))["lag"] == 50


def test_an_audit_exits_with_1_when_a_document_was_tampered_with(settings: Settings) -> None:
    truepixel(settings, "produce", str(SAMPLES / "shopify_pixel.jsonl"))
    truepixel(settings, "drain")
    truepixel(settings, "flush")
    assert "no difference" in truepixel(settings, "audit")
    from truepixel_dagster.resources import open_stores

    with open_stores(settings) as stores:
        stores.mongodb.collection("customers").update_one({}, {"$inc": {"events": 1}})
    assert "events" in truepixel(settings, "audit", code=1)


def test_a_missing_topic_is_one_line_that_says_what_to_do(bare_settings: Settings) -> None:
    error = truepixel(bare_settings, "lag", code=1)
    assert "truepixel setup" in error
    assert "Traceback" not in error


def test_an_unreachable_server_is_one_line(settings: Settings) -> None:
    away = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    error = truepixel(away, "lag", code=1)
    assert "127.0.0.1:1" in error
    assert "`truepixel stack up` starts the servers" in error
    assert "Traceback" not in error


def test_a_bad_setting_is_one_line(settings: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "truepixel_dagster.cli", "lag"],
        env={**os.environ, "TRUEPIXEL_LANES": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: TRUEPIXEL_LANES='none'")


def test_a_bad_line_of_a_file_is_named(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"key": "s:c", "value": {}}\nnot json\n')
    assert "line 2" in truepixel(settings, "produce", str(file), code=1)
