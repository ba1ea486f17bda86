"""The collector while Kafka, Redis, MongoDB or its disk fails, and after it was killed: every 2xx is kept."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from pydantic import SecretStr

from tests.integration.collectors import (
    SHOP,
    Senders,
    connect,
    judge,
    on_topic,
    running,
    with_app_secret,
)
from tests.integration.test_cli import run
from tests.integration.test_collector import VISIT, ago
from tests.integration.test_pipeline import completed
from tests.waiting import until
from truepixel_dagster.collector.journal_file import NAME, JournalFile
from truepixel_dagster.local.chaos.proxy import Proxy
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.servers import Address, Kafka
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.provision import provision
from truepixel_dagster.settings import Settings

# Shopify gives up after five.
ANSWER_SECONDS = 4.0


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Servers of this module's own, whose Kafka it may stop."""
    with ephemeral_stack(tmp_path_factory.mktemp("own")) as settings:
        yield settings


class KafkaProcess:
    """Kafka, to be killed, frozen and started again."""

    def __init__(self, settings: Settings) -> None:
        self._stack = Stack(settings, only=(Kafka.name,))

    @property
    def _process(self) -> psutil.Process | None:
        return self._stack.servers[0].process()

    def kill(self) -> None:
        process = self._process
        assert process is not None
        process.kill()
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)

    def freeze(self) -> None:
        assert self._process is not None
        self._process.suspend()

    def start(self) -> None:
        if self._process is not None and self._process.status() == psutil.STATUS_STOPPED:
            self._process.resume()
        self._stack.up(lambda _: None)


@pytest.fixture
def kafka(own_servers: Settings) -> Iterator[KafkaProcess]:
    process = KafkaProcess(own_servers)
    yield process
    process.start()


@pytest.fixture
def served(own_servers: Settings, tmp_path: Path, kafka: KafkaProcess) -> Settings:
    own = own_servers.model_copy(update={"namespace": f"a{time.time_ns()}", "data_dir": tmp_path})
    provision(own)
    connect(own)
    return with_app_secret(own, tmp_path)


def test_kafka_killed_under_load_loses_nothing_and_the_journal_is_sent_afterwards(
    served: Settings, kafka: KafkaProcess
) -> None:
    with running(served) as collector:
        load = Senders(collector.port, connections=8)
        until(lambda: len(load.promised) > 200)
        kafka.kill()
        before = len(load.promised)
        # The journal promises now.
        until(lambda: len(load.promised) > before + 500)
        found = collector.metrics()
        assert found["journal_records"] > 0
        assert found["journal_age_seconds"] > 0
        assert found["kafka_slow"] == 1
        until(lambda: any("Kafka fails: " in line for line in collector.lines))
        assert collector.ask("GET", "/readyz").status == 200
        kafka.start()
        until(lambda: len(load.promised) > before + 1500)
        load.end()
        until(collector.is_drained)
        assert collector.end() == 0
    assert set(load.statuses) == {200}
    assert load.slowest < ANSWER_SECONDS
    judge(load, on_topic(served))


def test_a_frozen_kafka_is_awaited_for_a_second_at_most(served: Settings, kafka: KafkaProcess) -> None:
    with running(served) as collector:
        assert collector.webhook("orders/create", {"id": 1}).seconds < 1
        kafka.freeze()
        first = collector.webhook("orders/create", {"id": 2})
        assert (first.status, 0.9 < first.seconds < ANSWER_SECONDS) == (200, True)
        second = collector.webhook("orders/create", {"id": 3})
        assert (second.status, second.seconds < 0.5) == (200, True)
        kafka.start()
        until(collector.is_drained)
        assert collector.end() == 0
    # Once each: the copy in the journal was not sent as well.
    assert sorted(record.value for record in on_topic(served)) == [b'{"id":1}', b'{"id":2}', b'{"id":3}']


def test_kill_9_under_load_with_kafka_and_without_keeps_every_promise(served: Settings, kafka: KafkaProcess) -> None:
    loads = [_killed(served, lambda: None), _killed(served, kafka.kill)]
    kafka.start()
    with running(served) as collector:
        assert any("are in the journal from before" in line for line in collector.lines)
        until(collector.is_drained)
        assert collector.end() == 0
    found = on_topic(served)
    for load in loads:
        judge(load, found)


def _killed(served: Settings, fault: Callable[[], None]) -> Senders:
    """Return the promises of a collector before and after a fault, until it was killed itself."""
    with running(served) as collector:
        load = Senders(collector.port, connections=8)
        until(lambda: len(load.promised) > 200)
        fault()
        before = len(load.promised)
        until(lambda: len(load.promised) > before + 300)
        collector.kill()
        return load.end()


def test_a_collector_begins_without_kafka_and_catches_up(served: Settings, kafka: KafkaProcess) -> None:
    kafka.kill()
    with running(served) as collector:
        load = Senders(collector.port, connections=4)
        until(lambda: len(load.promised) > 300)
        kafka.start()
        until(collector.is_drained)
        load.end()
        until(collector.is_drained)
        collector.end()
    judge(load, on_topic(served))


def test_sigterm_while_kafka_is_unreachable_ends_in_time_and_the_next_collector_continues(
    served: Settings, kafka: KafkaProcess
) -> None:
    with running(served) as collector:
        load = Senders(collector.port, connections=4)
        until(lambda: len(load.promised) > 100)
        kafka.kill()
        before = len(load.promised)
        until(lambda: len(load.promised) > before + 200)
        began = time.monotonic()
        assert collector.end() == 0
        assert time.monotonic() - began < served.collector_grace
        load.end()
        assert any("records are in the journal" in line for line in collector.lines)
    kafka.start()
    with running(served) as collector:
        until(collector.is_drained)
        collector.end()
    judge(load, on_topic(served))


def test_a_full_journal_is_reported_at_once_with_a_time_to_retry(served: Settings, kafka: KafkaProcess) -> None:
    small = served.model_copy(update={"collector_journal_bytes": 1024 * 1024})
    with running(small) as collector:
        kafka.kill()
        load = Senders(collector.port, connections=8, size=20_000)
        until(lambda: load.statuses[503] > 50)
        load.end()
        full = collector.webhook("orders/create", {"id": 1, "note": "x" * 60_000})
        assert (full.status, full.seconds < 0.5) == (503, True)
        assert int(full.headers["retry-after"]) >= 1
        pixel = collector.pixel({**VISIT, "filler": "x" * 60_000})
        assert (pixel.status, pixel.json["retry"]) == (503, True)
        assert pixel.headers["access-control-allow-origin"] == "*"
        assert collector.metrics()["journal_bytes"] <= 1024 * 1024
        assert collector.ask("GET", "/healthz").status == 200
        kafka.start()
        until(collector.is_drained)
        assert collector.webhook("orders/create", {"id": 2}).status == 200
        collector.end()
    assert load.slowest < ANSWER_SECONDS
    judge(load, on_topic(served))


def test_a_disk_that_accepts_no_writes_is_reported_and_kafka_suffices(served: Settings, kafka: KafkaProcess) -> None:
    folder = served.data_dir / "collector"
    with running(served) as collector:
        _limit_files(collector.process.pid)
        assert collector.webhook("orders/create", {"id": 1}).status == 200
        kafka.freeze()
        answer = collector.webhook("orders/create", {"id": 2, "note": "x" * 200_000})
        assert (answer.status, answer.seconds < ANSWER_SECONDS) == (503, True)
        until(lambda: collector.metrics()["journal_failing"] == 1, 5)
        until(lambda: any("the journal fails: the journal" in line for line in collector.lines))
        kafka.start()
        until(lambda: collector.webhook("orders/create", {"id": 3}).status == 200)
        collector.end()
    assert (folder / NAME).exists()
    assert b'{"id":3}' in {record.value for record in on_topic(served)}


def _limit_files(pid: int) -> None:
    """Let no file of a process grow from now on: writing fails, as on a full disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, 1))


def test_an_unreachable_redis_delays_no_answer_and_the_token_replaces_the_client(served: Settings) -> None:
    proxy = Proxy(_address(served.redis_url.get_secret_value()))
    with running(served.model_copy(update={"redis_url": SecretStr(f"redis://{proxy.address}/0")})) as collector:
        order = {"id": 1, "cart_token": "cart-1"}
        assert collector.webhook("orders/create", order).status == 200
        faults: tuple[Callable[[], None], ...] = (lambda: proxy.delay(30), proxy.cut)
        for away in faults:
            away()
            answers = [collector.webhook("orders/create", order) for _ in range(20)]
            assert {answer.status for answer in answers} == {200}
            assert max(answer.seconds for answer in answers) < 0.3
            started = {**completed("e2", "token-1", at=ago(1)), "clientId": "c-9"}
            assert collector.pixel(started).seconds < 0.3
        assert collector.metrics()["redis_failures_total"] >= 1
        proxy.heal()
        collector.end()
    proxy.close()
    keys = {record.key for record in on_topic(served) if record.headers["source"] == b"webhook"}
    assert keys == {f"{SHOP}:cart-1".encode()}


def test_while_the_registry_is_unreachable_known_shops_continue_and_others_must_retry(served: Settings) -> None:
    proxy = Proxy(_address(served.mongodb_url.get_secret_value()))
    with running(served.model_copy(update={"mongodb_url": SecretStr(f"mongodb://{proxy.address}")})) as collector:
        assert collector.webhook("orders/create", {"id": 1}).status == 200
        assert collector.pixel(VISIT).status == 200
        proxy.cut()
        # Longer than the collector caches a shop.
        time.sleep(5.5)
        for _ in range(3):
            for answer in (collector.webhook("orders/create", {"id": 2}), collector.pixel(VISIT)):
                assert (answer.status, answer.seconds < ANSWER_SECONDS) == (200, True)
        unknown = collector.webhook("orders/create", {"id": 3}, domain="who.myshopify.com")
        assert (unknown.status, unknown.seconds < ANSWER_SECONDS) == (503, True)
        left = collector.webhook("app/uninstalled", {"id": int(SHOP)})
        assert (left.status, left.seconds < 5) == (503, True)
        assert collector.metrics()["registry_away"] == 1
        proxy.heal()
        until(lambda: collector.webhook("orders/create", {"id": 3}, domain="who.myshopify.com").status == 404)
        collector.end()
    proxy.close()


def test_a_collector_is_not_ready_before_the_registry_has_answered(served: Settings) -> None:
    proxy = Proxy(_address(served.mongodb_url.get_secret_value()))
    proxy.cut()
    own = served.model_copy(update={"mongodb_url": SecretStr(f"mongodb://{proxy.address}")})
    with running(own, ready=False) as collector:
        answer = collector.ask("GET", "/readyz")
        assert (answer.status, answer.json["ready"]) == (503, False)
        webhook = collector.webhook("orders/create", {"id": 1})
        assert (webhook.status, webhook.seconds < ANSWER_SECONDS) == (503, True)
        proxy.heal()
        until(lambda: collector.ask("GET", "/readyz").status == 200)
        assert collector.webhook("orders/create", {"id": 1}).status == 200
        collector.end()
    proxy.close()


def test_a_journal_that_cannot_be_used_is_one_line_and_stays_as_it_is(served: Settings) -> None:
    folder = served.data_dir / "collector"
    JournalFile(folder).close()
    (folder / NAME).write_bytes(b"what was promised" * 1000)
    done = run(served, "collector", "--port", "0")
    assert done.returncode == 1
    assert "were promised" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert (folder / NAME).read_bytes() == b"what was promised" * 1000


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return Address(parts.hostname or "", parts.port or 0)
