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


def test_every_variable_of_a_service_is_a_setting() -> None:
    given = {name for service in SERVICES.values() for name in service.get("environment", {})}
    ours = {name for name in given if name.startswith("TRUEPIXEL_")}
    assert ours
    assert ours <= {f"TRUEPIXEL_{name.upper()}" for name in Settings.model_fields}


def test_the_settings_of_the_exporter_are_valid(monkeypatch: Any, tmp_path: Path) -> None:
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


def test_every_service_has_a_health_check() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == ONE_SHOT


def test_every_dependency_and_mounted_file_exists() -> None:
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            condition = "service_completed_successfully" if other in ONE_SHOT else wanted["condition"]
            assert wanted["condition"] == condition
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other], (name, other)
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount


def test_the_collectors_journal_is_on_a_volume_that_its_user_may_write_to() -> None:
    collector = SERVICES["collector"]
    folder = Path(collector["environment"]["TRUEPIXEL_COLLECTOR_JOURNAL_DIR"])
    (place,) = (mount.split(":")[1] for mount in collector["volumes"])
    assert folder.is_relative_to(place)
    # A named volume gets the owner of the folder in the image.
    owned = re.search(r"chown 10001:10001 (.+)", (DEPLOY / "Dockerfile").read_text())
    assert owned
    assert place in owned[1].split()
    assert collector["stop_grace_period"] == "30s"
    assert Settings.model_fields["collector_grace"].default < 30


def test_the_collectors_secrets_are_files_and_not_variables() -> None:
    collector = SERVICES["collector"]
    files = {name for name, value in collector["environment"].items() if str(value).startswith("/run/secrets/")}
    assert files == {"TRUEPIXEL_COLLECTOR_APP_SECRETS_FILE", "TRUEPIXEL_SHOP_KEYS_FILE"}
    assert {Path(collector["environment"][name]).name for name in files} == set(collector["secrets"])
    assert set(collector["secrets"]) == set(COMPOSE["secrets"])


def test_prometheus_scrapes_the_exporter_and_the_collector() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())["scrape_configs"]
    targets = {target for job in jobs for static in job["static_configs"] for target in static["targets"]}
    ports = {name: SERVICES[name]["ports"][0].rpartition(":")[2] for name in ("exporter", "collector")}
    assert targets == {f"{name}:{port}" for name, port in ports.items()}


def test_images_have_versions() -> None:
    images = {service["image"] for service in SERVICES.values()}
    assert all(":" in image and not image.endswith(":latest") for image in images)


def test_secrets_come_from_a_file_that_git_ignores() -> None:
    asked_for = set(re.findall(r"\$\{(\w+)", TEXT)) | {secret["environment"] for secret in COMPOSE["secrets"].values()}
    offered = set(re.findall(r"^(?:# )?(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert asked_for == offered
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    filled = re.findall(r"^\w+=.+$", (DEPLOY / "env.example").read_text(), re.MULTILINE)
    assert filled == []


def test_dagster_is_as_on_a_laptop_with_its_history_in_postgresql() -> None:
    here = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    assert here == yaml.safe_load((ROOT / "dagster.yaml").read_text() + POSTGRES)
