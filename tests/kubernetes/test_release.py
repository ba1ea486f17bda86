"""The chart on a cluster: its values, how pods are hardened, and that nothing is lost whatever happens to them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from tests.dagster_events import number_of
from tests.kubernetes.cluster import NEXT_IMAGE, ROOT, RUN, STREAM, Release, is_running, missing, was_killed_for_memory
from truepixel_dagster.asset_keys import KAFKA_TOPIC, LANE_TAG, LANES_TAG, PRODUCT_STATS
from truepixel_dagster.audit.account import account
from truepixel_dagster.audit.audit import audit
from truepixel_dagster.flush import flush_product_stats, flush_weekly_visitors
from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.local.traffic import FIRST, traffic
from truepixel_dagster.resources import open_stores
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.redis.leases import holders
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.topics import lag

if lacking := missing():
    pytest.skip(lacking, allow_module_level=True)

EVENTS = int(os.environ.get("TRUEPIXEL_TEST_EVENTS", "100000"))
# Events a second, and how many at once.
RATE, BURST = 90, 9
PEAK = "peak memory (MiB)"
LIMIT_MIB = 512
# Of values.yaml; Kubernetes takes a few seconds more.
TIME_TO_LIVE = 30 + 30
VALUES = [ROOT / "deploy/helm/truepixel/values.yaml", *sorted(ROOT.glob("deploy/helm/values-*.yaml"))]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_kubernetes_accepts_every_values_file(release: Release, values: Path) -> None:
    release.cluster.apply(*release.rendered(values), dry_run=True)


def test_a_pod_has_nothing_of_root_and_writes_nowhere_but_where_it_should(release: Release) -> None:
    refused, allowed = "touch /app/x /opt/venv/x /etc/x", "cd /tmp; touch x /opt/dagster/x && echo written"
    tried = f"id -u; {refused}; {allowed}; ls /var/run/secrets"
    found = release.cluster.kubectl(
        "exec", "deployment/truepixel-code", "--", "sh", "-c", f"({tried}) 2>&1", check=False
    )
    assert found.splitlines()[0] == "10001"
    assert found.count("Read-only file system") == 3
    assert "written" in found
    assert "No such file" in found, "no token of Kubernetes"


def test_the_webserver_answers_and_launches_nothing(release: Release) -> None:
    ask = (
        "import json, sys, urllib.request as r; "
        "q = {'query': 'mutation { launchRun(executionParams: {selector: {repositoryName: \"__repository__\", "
        'repositoryLocationName: "truepixel", pipelineName: "flush"}}) { __typename } }\'}; '
        "r1 = r.Request(sys.argv[1] + '/graphql', json.dumps(q).encode(), {'Content-Type': 'application/json'}); "
        "print(r.urlopen(r1).read().decode())"
    )
    port = release.cluster.objects("services", "app.kubernetes.io/component=webserver")[0]["spec"]["ports"][0]["port"]
    address = f"http://127.0.0.1:{port}"
    said = release.cluster.kubectl("exec", "deployment/truepixel-webserver", "--", "python", "-c", ask, address)
    assert "UnauthorizedError" in said, said


def test_lanes_in_pods_lose_nothing_whatever_happens_to_the_pods(release: Release) -> None:
    cluster, settings = release.cluster, release.settings
    with producing(settings):
        wait_for("a running pod on each of three lanes", lambda: busy_lanes(settings) == {(n, 3) for n in range(3)})

        assert len(cluster.end_at_once(STREAM)) >= 3
        wait_for("other pods on the lanes of those that are gone", lambda: advances(settings))

        release.upgrade("runs.resources.limits.memory=64Mi", "runs.resources.requests.memory=32Mi")
        # The waiting pods have the old limit.
        cluster.end_at_once(STREAM)
        wait_for(
            "a pod that is killed for its memory",
            lambda: any(map(was_killed_for_memory, cluster.objects("pods", STREAM))),
        )
        release.roll_back()
        wait_for("lanes that advance again", lambda: advances(settings))

        cluster.end_at_once("app.kubernetes.io/component=daemon")
        release.upgrade("settings.TRUEPIXEL_LINGER=0.2", image=NEXT_IMAGE)
        wait_for("lanes that advance after the upgrade", lambda: advances(settings))

        release.upgrade("lanes=2", image=NEXT_IMAGE)
        wait_for("two lanes", lambda: busy_lanes(settings) == {(0, 2), (1, 2)})
        cluster.end_at_once(STREAM)

    wait_for("no lag", lambda: waiting(settings) == 0, seconds=1800)
    cluster.kubectl("scale", "deployment/truepixel-daemon", "--replicas=0")
    wait_for("the last runs' end", lambda: not any(map(is_running, cluster.objects("pods", RUN))))
    with open_stores(settings) as stores:
        flush_product_stats(stores.redis, stores.elasticsearch)
        flush_weekly_visitors(stores.redis, stores.elasticsearch)
    assert audit(settings).differences == []
    found = account(settings)
    assert (found.produced, found.lost, found.lag) == (EVENTS, [], 0)

    peaks = peak_memory_of_runs(settings)
    print(f"\n{len(peaks)} runs that ended well, peak memory in MiB: {sorted(peaks.values())}")
    assert len(peaks) >= 5
    assert max(peaks.values()) < 0.6 * LIMIT_MIB

    wait_for("nothing left of any run", lambda: not cluster.objects("jobs,pods", RUN), seconds=TIME_TO_LIVE)


@contextmanager
def producing(settings: Settings) -> Iterator[None]:
    """Keep events coming meanwhile; then send the rest at once, for a backlog."""
    hurry = threading.Event()
    sender = threading.Thread(target=send, args=(settings, hurry))
    sender.start()
    try:
        yield
        assert sender.is_alive(), "all events were sent before the test of the pods ended: raise their number"
    finally:
        hurry.set()
        sender.join()


def send(settings: Settings, hurry: threading.Event) -> None:
    with EventProducer(settings.kafka()) as producer:
        for number, record in enumerate(traffic(EVENTS, seed=7, profile=FIRST)):
            producer.send(record.key, record.value, record.headers)
            if number % BURST == 0 and not hurry.is_set():
                producer.flush()
                hurry.wait(BURST / RATE)


def wait_for(what: str, true: Callable[[], bool], seconds: float = 420) -> None:
    """Check a condition every second until it is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(1)
    print(f"{time.strftime('%H:%M:%S')} {what}")


def busy_lanes(settings: Settings) -> set[tuple[int, int]]:
    """Lane and number of lanes of every run that holds a lease."""
    with open_stores(settings) as stores:
        runs = set(holders(stores.redis.client, settings.namespace, range(settings.kafka_partitions)).values())
    with history(settings) as instance:
        tags = [run.tags for run_id in runs if (run := instance.get_run_by_id(run_id))]
    return {(int(found[LANE_TAG]), int(found[LANES_TAG])) for found in tags}


def advances(settings: Settings) -> bool:
    """Whether every partition that has lag is committed further within some seconds."""
    before = {entry.partition: entry.committed or 0 for entry in lag(settings.kafka())}
    time.sleep(5)
    return all((entry.committed or 0) > before[entry.partition] or entry.lag == 0 for entry in lag(settings.kafka()))


def waiting(settings: Settings) -> int:
    return sum(entry.lag for entry in lag(settings.kafka()))


@contextmanager
def history(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with pytest.MonkeyPatch.context() as patch:
        assert settings.postgres_url
        patch.setenv("TRUEPIXEL_POSTGRES_URL", settings.postgres_url.get_secret_value())
        with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
            yield instance


def peak_memory_of_runs(settings: Settings) -> dict[str, float]:
    """The peak resident memory of each run of the stream and of the flush in MiB, as the kernel counted it."""
    with history(settings) as instance:
        stream = instance.fetch_observations(dg.AssetKey(KAFKA_TOPIC), limit=1000).records
        flush = instance.fetch_materializations(dg.AssetKey(PRODUCT_STATS), limit=1000).records
    events = [(record.run_id, record.asset_observation or record.asset_materialization) for record in [*stream, *flush]]
    return {run: number_of(event.metadata[PEAK]) for run, event in events if event and PEAK in event.metadata}
