"""deploy/compose.yaml: what it names is there, and it is reachable from this machine alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from truepixel_dagster.instance.process import POSTGRES, ROOT
from truepixel_dagster.settings import Settings

DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
ONE_SHOT = {"setup"}


def test_every_setting_that_it_gives_is_one() -> None:
    given = {name for service in SERVICES.values() for name in service.get("environment", {})}
    ours = {name for name in given if name.startswith("TRUEPIXEL_")}
    assert ours
    assert ours <= {f"TRUEPIXEL_{name.upper()}" for name in Settings.model_fields}


def test_its_settings_can_be_used(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in SERVICES["exporter"]["environment"].items():
        known = re.sub(r"\$\{\w+:\?[^}]*\}", "secret", str(value))
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", known))
    settings = Settings()
    assert settings.alert_webhook_url is None
    assert settings.postgres_url is not None


def test_every_port_is_on_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) >= 8
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_service_says_whether_it_is_well() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == ONE_SHOT


def test_whatever_is_waited_for_or_mounted_is_there() -> None:
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            condition = "service_completed_successfully" if other in ONE_SHOT else wanted["condition"]
            assert wanted["condition"] == condition
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other], (name, other)
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount


def test_images_have_versions() -> None:
    images = {service["image"] for service in SERVICES.values()}
    assert all(":" in image and not image.endswith(":latest") for image in images)


def test_secrets_come_from_a_file_that_git_ignores() -> None:
    asked_for = set(re.findall(r"\$\{(\w+)", TEXT))
    offered = set(re.findall(r"^(?:# )?(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert asked_for == offered
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    filled = re.findall(r"^\w+=.+$", (DEPLOY / "env.example").read_text(), re.MULTILINE)
    assert filled == []


def test_dagster_is_as_on_a_laptop_with_its_history_in_postgresql() -> None:
    here = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    assert here == yaml.safe_load((ROOT / "dagster.yaml").read_text() + POSTGRES)
