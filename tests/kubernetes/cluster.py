"""A namespace of a cluster, and a release of the chart in it, by kubectl and helm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truepixel_dagster.settings import Settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/truepixel"
VALUES = [ROOT / "tests/kubernetes/values.yaml", *filter(None, os.environ.get("TRUEPIXEL_TEST_VALUES", "").split(","))]
IMAGE = os.environ.get("TRUEPIXEL_TEST_IMAGE", "")
NEXT_IMAGE = os.environ.get("TRUEPIXEL_TEST_NEXT_IMAGE") or IMAGE
RUN = "app.kubernetes.io/component=run_worker"
STREAM = f"{RUN},dagster/job=process_events"
TIMEOUT = "10m"

Object = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """One namespace of the cluster."""

    namespace: str

    def kubectl(self, *arguments: str, said: str | None = None, check: bool = True) -> str:
        """Return the output of kubectl."""
        return run(["kubectl", "--namespace", self.namespace, *arguments], said=said, check=check)

    def objects(self, kind: str, selector: str = "") -> list[Object]:
        """The objects of a kind."""
        found: list[Object] = json.loads(self.kubectl("get", kind, "--selector", selector, "--output", "json"))["items"]
        return found

    def apply(self, *objects: Object, dry_run: bool = False) -> None:
        """Create objects, or only have the server check them. No command line contains any part of them."""
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--filename=-", *(["--dry-run=server"] if dry_run else []), said=everything)

    def end_at_once(self, selector: str) -> list[str]:
        """Delete pods as if their node was gone, and say which."""
        pods = [pod["metadata"]["name"] for pod in self.objects("pods", selector) if is_running(pod)]
        if pods:
            self.kubectl("delete", "pod", "--force", "--grace-period=0", "--wait=false", *pods, check=False)
        return pods


class Release:
    """The chart as it is installed, with the servers' addresses."""

    name = "truepixel"

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.cluster = cluster
        self.settings = settings

    def install(self) -> None:
        """Make the Secrets and install."""
        postgres = self.settings.postgres_url
        stores = {"MONGODB_URL": self.settings.mongodb_url, "REDIS_URL": self.settings.redis_url}
        self.cluster.apply(
            secret("truepixel-postgres", {"POSTGRES_URL": postgres.get_secret_value() if postgres else ""}),
            secret("truepixel-stores", {name: value.get_secret_value() for name, value in stores.items()}),
        )
        self.upgrade()

    def upgrade(self, *changes: str, image: str = IMAGE) -> None:
        """Install, or change values (`name=value`), and wait until every part is ready."""
        arguments = ["upgrade", "--install", self.name, str(CHART), "--wait", "--timeout", TIMEOUT]
        self.helm(*arguments, *self.values(image), *(f"--set={change}" for change in changes))

    def roll_back(self) -> None:
        """Back to the revision before this one."""
        self.helm("rollback", self.name, "--wait", "--timeout", TIMEOUT)

    def uninstall(self) -> None:
        """Remove all of it, and the runs that are still processing."""
        self.helm("uninstall", self.name, "--wait", "--timeout", TIMEOUT)
        self.cluster.kubectl("delete", "jobs", "--selector", RUN, "--wait=false")

    def rendered(self, values: Path) -> Iterator[Object]:
        """Return the documents that Helm renders from a values file."""
        import yaml

        needed = ["--values", str(values), "--set", f"image.repository={repository(IMAGE)}"]
        for document in yaml.safe_load_all(self.helm("template", "checked", str(CHART), "--validate", *needed)):
            if document:
                yield document

    def helm(self, *arguments: str) -> str:
        """Return the output of helm."""
        return run(["helm", "--namespace", self.cluster.namespace, *arguments])

    def values(self, image: str) -> list[str]:
        """The arguments that every installation has."""
        given = {
            "image.repository": repository(image),
            "image.tag": image[len(repository(image)) + 1 :],
            "settings.TRUEPIXEL_NAMESPACE": self.settings.namespace,
            "settings.TRUEPIXEL_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap.replace(",", "\\,"),
            "settings.TRUEPIXEL_KAFKA_PARTITIONS": self.settings.kafka_partitions,
            "settings.TRUEPIXEL_ELASTICSEARCH_URL": self.settings.elasticsearch_url.replace(",", "\\,"),
        }
        files = [f"--values={path}" for path in VALUES]
        return [*files, *(f"--set={name}={value}" for name, value in given.items())]


def missing() -> str | None:
    """What the tests lack, if anything."""
    for variable in ("KUBECONFIG", "TRUEPIXEL_TEST_IMAGE"):
        if not os.environ.get(variable):
            return f"{variable} is not set (see tests/kubernetes/conftest.py)"
    return next((f"{name} is not on PATH" for name in ("kubectl", "helm") if not shutil.which(name)), None)


def repository(image: str) -> str:
    """An image's name without its tag."""
    return image.rpartition(":")[0]


def secret(name: str, values: dict[str, str]) -> Object:
    """A Secret of the pipeline's variables."""
    data = {f"TRUEPIXEL_{key}": value for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def is_running(pod: Object) -> bool:
    """Whether a pod is running and not about to end."""
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def was_killed_for_memory(pod: Object) -> bool:
    """Whether a pod's container ended because its memory limit was too small."""
    ended = (status.get("state", {}).get("terminated") for status in pod["status"].get("containerStatuses", []))
    return any(state and state["reason"] == "OOMKilled" for state in ended)


def run(command: list[str], *, said: str | None = None, check: bool = True) -> str:
    """Return the output of a program; its error output is the text of the error."""
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command[:4])} ...: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
