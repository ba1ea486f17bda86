"""The local stack with its real servers: start, stop, kill, start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pymongo
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from elasticsearch import Elasticsearch

from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.server_status import ServerStatus
from truepixel_dagster.local.servers import StackError, free_ports
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.settings import Settings

MIB = 1024 * 1024

# A process of its own that starts the stack of its environment, says so line by line, and then stays or ends.
STARTER = """
import sys, time
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.settings import Settings
Stack(Settings(), tied_to_parent="tied" in sys.argv).up(lambda line: print(line, flush=True))
time.sleep(600 if "stay" in sys.argv else 0)
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with ephemeral_stack(tmp_path_factory.mktemp("stack")) as settings:
        yield settings


@pytest.fixture
def stack(settings: Settings) -> Stack:
    """The module's stack, running again whatever the previous test did to it."""
    stack = Stack(settings, tied_to_parent=True)
    stack.up(print)
    return stack


@pytest.fixture
def unstarted(tmp_path: Path) -> Iterator[Settings]:
    """Settings of another stack, of which nothing runs; servers that a test starts are ended."""
    kafka, elasticsearch, mongodb, redis_port = free_ports(4)
    other = Settings(
        data_dir=tmp_path,
        kafka_bootstrap=f"127.0.0.1:{kafka}",
        elasticsearch_url=f"http://127.0.0.1:{elasticsearch}",
        mongodb_url=f"mongodb://127.0.0.1:{mongodb}",
        redis_url=f"redis://127.0.0.1:{redis_port}",
    )
    yield other
    Stack(other).down(print)


def pids(stack: Stack) -> dict[str, int | None]:
    return {one.name: one.pid for one in stack.status()}


def processes_of(settings: Settings) -> list[int]:
    """Every live process that names the stack's folder, whether or not a pid file knows it."""
    folder = str(settings.data_dir / "stack")
    return [
        one.pid
        for one in psutil.process_iter(["cmdline", "status"])
        if one.info["status"] != psutil.STATUS_ZOMBIE and any(folder in word for word in one.info["cmdline"] or [])
    ]


def starter(settings: Settings, *words: str) -> subprocess.Popen[str]:
    addresses = {
        "TRUEPIXEL_DATA_DIR": str(settings.data_dir),
        "TRUEPIXEL_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "TRUEPIXEL_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "TRUEPIXEL_MONGODB_URL": settings.mongodb_url.get_secret_value(),
        "TRUEPIXEL_REDIS_URL": settings.redis_url.get_secret_value(),
    }
    command = [sys.executable, "-c", STARTER, *words]
    return subprocess.Popen(
        command,
        env=os.environ | addresses,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell has its background jobs ignore Ctrl-C, and their children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if words in line:
            return
    raise AssertionError(f"the process ended without saying {words!r}, but: {''.join(said)}")


def mongodb(settings: Settings) -> pymongo.MongoClient[dict[str, object]]:
    return pymongo.MongoClient(settings.mongodb_url.get_secret_value())


def produced_value(settings: Settings, topic: str) -> bytes | None:
    """The value of the first record of a topic with one partition."""
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap, "group.id": "reader", "fetch.message.max.bytes": 48 * MIB}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(30)
        return message.value() if message else None
    finally:
        consumer.close()


def produce(settings: Settings, topic: str, value: bytes) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    for created in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        created.result(30)
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap, "message.max.bytes": 48 * MIB})
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert errors == [None]


def test_every_running_server_shows_its_name_and_version(stack: Stack, settings: Settings) -> None:
    shown = {one.name: one for one in stack.status()}
    assert all(one.running and one.pid and one.data_bytes > 0 for one in shown.values())
    assert shown["kafka"].version == "4.4.0"
    assert shown["elasticsearch"].version == "9.5.3"
    with mongodb(settings) as client:
        assert shown["mongodb"].version == client.server_info()["version"]
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        assert shown["redis"].version == client.info("server")["valkey_version"]


def test_servers_listen_on_loopback_only(stack: Stack) -> None:
    listening = [
        connection.laddr.ip
        for pid in pids(stack).values()
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_servers_are_out_of_reach_of_the_terminals_ctrl_c(stack: Stack) -> None:
    for pid in pids(stack).values():
        assert pid is not None
        assert os.getsid(pid) == pid


def test_up_on_a_running_stack_starts_nothing(stack: Stack) -> None:
    before = pids(stack)
    stack.up(print)
    assert pids(stack) == before


def test_a_record_of_33_mib_is_taken_and_returned(stack: Stack, settings: Settings) -> None:
    value = os.urandom(33 * MIB)
    produce(settings, "large", value)
    assert produced_value(settings, "large") == value


def test_kafka_creates_no_topic_by_itself(stack: Stack, settings: Settings) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    admin.list_topics("typing-error", timeout=30)
    assert "typing-error" not in admin.list_topics(timeout=30).topics


def test_data_are_kept_across_down_and_up_and_down_leaves_no_process(stack: Stack, settings: Settings) -> None:
    produce(settings, "kept", b"record")
    with Elasticsearch(settings.elasticsearch_url) as client:
        client.index(index="kept", id="1", document={"kept": "document"}, refresh=True)
    with mongodb(settings) as client:
        client.kept.kept.insert_one({"_id": 1})
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.set("kept", "value")

    stack.down(print)
    assert processes_of(settings) == []
    assert [(one.pid, one.version, one.running) for one in stack.status()] == [(None, None, False)] * 4

    stack.up(print)
    assert produced_value(settings, "kept") == b"record"
    with Elasticsearch(settings.elasticsearch_url) as client:
        assert client.get(index="kept", id="1")["_source"] == {"kept": "document"}
    with mongodb(settings) as client:
        assert client.kept.kept.find_one() == {"_id": 1}
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        assert client.get("kept") == b"value"


@pytest.mark.parametrize("name", ["kafka", "elasticsearch", "mongodb", "redis"])
def test_up_starts_a_killed_server_again_and_leaves_the_others_alone(stack: Stack, name: str) -> None:
    before = pids(stack)
    killed = before[name]
    assert killed is not None
    psutil.Process(killed).kill()
    stack.up(print)
    after = pids(stack)
    assert after.pop(name) not in (None, before.pop(name))
    assert after == before
    assert all(one.running for one in stack.status())


def test_a_stopped_server_is_not_shown_as_running(stack: Stack) -> None:
    def shown(name: str) -> ServerStatus:
        return next(one for one in stack.status() if one.name == name)

    pid = shown("redis").pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        stopped = shown("redis")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (stopped.pid, stopped.version, stopped.running) == (pid, None, False)
    assert shown("redis").running


def test_a_taken_port_is_named_with_its_holder_and_nothing_is_started(unstarted: Settings) -> None:
    port = int(unstarted.redis_url.get_secret_value().rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StackError, match=rf"Redis.* 127\.0\.0\.1:{port}: pid {os.getpid()} "),
    ):
        Stack(unstarted).up(print)
    assert processes_of(unstarted) == []


def test_a_server_that_cannot_start_is_reported_with_its_log_and_the_others_are_ended(unstarted: Settings) -> None:
    damaged = unstarted.data_dir / "stack" / "mongodb" / "data" / "storage.bson"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not BSON")
    with pytest.raises(StackError, match=r"MongoDB ended during its start \(exit code [1-9]\d*\)") as failed:
        Stack(unstarted).up(print)
    assert "Unable to read the storage engine metadata file" in str(failed.value)
    assert processes_of(unstarted) == []


def test_a_kafka_folder_that_was_formatted_half_way_is_formatted_again(unstarted: Settings) -> None:
    half_way = unstarted.data_dir / "stack" / "kafka" / "data" / "bootstrap.checkpoint"
    half_way.parent.mkdir(parents=True)
    half_way.write_bytes(b"half")
    stack = Stack(unstarted, tied_to_parent=True)
    stack.up(print)
    assert all(one.running for one in stack.status())


@pytest.mark.parametrize("moment", ["starting", "answers on"])
def test_ctrl_c_during_up_leaves_nothing_behind(unstarted: Settings, moment: str) -> None:
    with starter(unstarted) as process:
        read_until(process, moment)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == -signal.SIGINT
    assert processes_of(unstarted) == []
    assert list((unstarted.data_dir / "stack").glob("*/server.pid")) == []


def test_a_tied_stack_dies_with_a_killed_parent(unstarted: Settings) -> None:
    with starter(unstarted, "tied", "stay") as process:
        read_until(process, "Kafka 4")
        servers = [psutil.Process(pid) for pid in processes_of(unstarted)]
        process.kill()
    assert len(servers) == 4
    _, alive = psutil.wait_procs(servers, timeout=30)
    assert alive == []


def test_an_untied_stack_outlives_the_process_that_started_it(unstarted: Settings) -> None:
    with starter(unstarted) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    stack = Stack(unstarted)
    assert all(one.running for one in stack.status())
    stack.down(print)
    assert processes_of(unstarted) == []
