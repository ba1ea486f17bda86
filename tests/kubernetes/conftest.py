"""A release of the chart on the cluster that KUBECONFIG names, and the real servers that it works with.

    TRUEPIXEL_TEST_IMAGE        the image, with its tag, as the cluster's nodes find it
    TRUEPIXEL_TEST_NEXT_IMAGE   the image that the upgrade goes to; the same if unset
    TRUEPIXEL_TEST_VALUES       more values files, with commas between them
    TRUEPIXEL_TEST_EVENTS       how many events; 100000 if unset

The servers are those of TRUEPIXEL_KAFKA_BOOTSTRAP and so on, which pods and this process must reach, with an empty
database at TRUEPIXEL_POSTGRES_URL. Without that variable they are started here, on loopback: right for a cluster whose
pods are in this machine's network (deploy/helm/values-host-network.yaml).
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.cluster import Cluster, Release
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.settings import Settings


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    name = f"truepixel-test-{uuid.uuid4().hex[:8]}"
    cluster = Cluster(name)
    cluster.kubectl("create", "namespace", name)
    try:
        yield cluster
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def servers(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    given = Settings()
    own: dict[str, Any] = {
        "namespace": f"t{uuid.uuid4().hex[:12]}",
        "data_dir": tmp_path_factory.mktemp("kubernetes"),
        # The events keep their dates, whatever today is.
        "event_retention_months": 600,
        "kafka_partitions": 6,
    }
    if given.postgres_url is not None:
        yield given.model_copy(update=own)
        return
    # Outside of pytest's folders, which another user could not enter.
    with ephemeral_stack(given.data_dir / "kubernetes" / own["namespace"], given, with_postgres=True) as settings:
        yield settings.model_copy(update=own)
    shutil.rmtree(settings.data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def release(cluster: Cluster, servers: Settings) -> Iterator[Release]:
    release = Release(cluster, servers)
    try:
        release.install()
        yield release
    finally:
        release.uninstall()
