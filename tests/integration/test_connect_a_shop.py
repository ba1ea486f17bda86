"""docs/connect-a-shop.md: every command in it, in order, from nothing to the first attributed order."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration.collectors import DOMAIN, SHOP, variables
from tests.integration.test_cli import truepixel
from truepixel_dagster.events.privacy_request import PRIVACY_TOPICS
from truepixel_dagster.instance.process import ROOT
from truepixel_dagster.resources import Stores
from truepixel_dagster.settings import Settings

PAGE = ROOT / "docs/connect-a-shop.md"
COLLECTOR, REPORT = "./run collector ", "./run report "


def commands() -> list[str]:
    """Return the page's blocks of commands."""
    text = re.sub(r"^```.*?^```", "", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip("\n") for block in blocks if block.strip()]


def script(port: int) -> tuple[str, str]:
    """Return one script of all commands but the last, and the last, which prints the report.

    The collector, which has a terminal of its own, runs in the background.
    """
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    lines += [f"{block} &" if block.startswith(COLLECTOR) else block for block in commands()]
    whole = "\n".join(lines).replace(":8080", f":{port}").replace("--port 8080", f"--port {port}")
    before, command, arguments = whole.rpartition(REPORT)
    return before, command + arguments


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def bash(settings: Settings, folder: Path, commands: str) -> str:
    """Run commands as a person types them, and return what they print."""
    environment = {**variables(settings), "TRUEPIXEL_IDLE": "0.5"}
    done = subprocess.run(
        ["bash", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_works_and_the_first_order_is_attributed(
    settings: Settings, stores: Stores, tmp_path: Path
) -> None:
    program = tmp_path / "run"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m truepixel_dagster.cli "$@"\n')
    program.chmod(0o755)
    commands, report = script(free_port())
    assert bash(settings, tmp_path, commands).count("HTTP/1.1 200 OK") == 2
    stores.elasticsearch.refresh()
    assert "paid_search" in bash(settings, tmp_path, report)
    found = json.loads(truepixel(settings, "report", "--shop", SHOP, "--json", "--last", "1d", "--by", "channel"))
    (source,) = found["sources"]
    assert (found["orders"], source["channel"], source["gross"], source["currency"]) == (1, "paid_search", 2000, "USD")


def test_the_commands_start_a_collector_and_connect_the_shop() -> None:
    found = "\n".join(commands())
    assert COLLECTOR in found
    assert f"shops add {SHOP} {DOMAIN}" in found
    # A block of another form than these would not be run.
    assert set(re.findall(r"^```(\w*)", PAGE.read_text(), re.MULTILINE)) <= {"toml", ""}


def test_an_app_subscribes_to_what_the_review_demands_and_the_pipeline_reads() -> None:
    (written,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    topics, compliance = (
        set(re.findall(r'"(\w+/\w+)"', listed)) for listed in re.findall(r"topics = \[(.*?)\]", written, re.DOTALL)
    )
    assert compliance == PRIVACY_TOPICS
    assert {"orders/create", "orders/updated", "refunds/create", "shop/update", "app/uninstalled"} <= topics
