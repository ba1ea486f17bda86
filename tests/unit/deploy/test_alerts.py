"""The alert rules and the dashboard as files: expressions that parse, and a place in the runbook for each alert."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from truepixel_dagster.instance.process import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "truepixel.json"
# If Prometheus' own tool is installed, it checks the rules as well.
PROMTOOL = shutil.which("promtool")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    written = [target["expr"] for panel in panels for target in panel["targets"]]
    return [expression.replace("$__rate_interval", "1m") for expression in written]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("expression", [rule["expr"] for rule in rules()] + dashboard_expressions())
def test_an_expression_parses(expression: str) -> None:
    promql_parser.parse(expression)


def test_every_alert_says_what_is_wrong_and_where_to_read_on() -> None:
    for rule in rules():
        notes = rule["annotations"]
        page, _, anchor = notes["runbook"].partition("#")
        assert anchor in anchors(ROOT / page), notes["runbook"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert notes["summary"]
        assert notes["description"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_a_check_alerts_with_the_severity_that_the_docs_name() -> None:
    """A stale day once raised a critical alert, although it is a warning."""
    rows = re.findall(r"^\| `(\w+)`.* \| (\w+) \|$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    warnings = "|".join(sorted(name for name, severity in rows if severity == "warning"))
    of_checks = {rule["alert"]: rule["expr"] for rule in rules()}
    assert f'{{check!~"{warnings}"}}' in of_checks["TruePixelCheckFailed"]
    assert f'{{check=~"{warnings}"}}' in of_checks["TruePixelCheckWarns"]


def test_the_dashboard_asks_the_datasource_that_is_chosen() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert [variable["type"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    for panel in dashboard["panels"]:
        assert {source["datasource"]["uid"] for source in (panel, *panel["targets"])} == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_takes_the_rules() -> None:
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
