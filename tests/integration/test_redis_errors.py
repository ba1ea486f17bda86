"""The error replies that Redis gives for a while, each provoked on a real server: a call is repeated, then it names
the reply, and it works again when the state is over.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from tests.integration.test_server_states import Own
from tests.waiting import until
from truepixel_dagster.access import RedisAccess
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.local.servers import Address, free_ports
from truepixel_dagster.local.servers import Redis as Server
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.redis import RedisStore, client_key
from truepixel_dagster.stores.redis.connection import _NO_WRITES, _TRANSIENT_WORDS

TIMEOUT = 5.0
ORIGIN = Origin("", 0, 7)


class Clustered(Server):
    """A node of a cluster, to which no slot is assigned yet."""

    bus = 0

    def prepare(self) -> list[str]:
        # By default the port of the bus is 10,000 above the other, where any client's connection may be.
        (self.bus,) = free_ports(1)
        return [*super().prepare(), "--cluster-enabled", "yes", "--cluster-port", str(self.bus)]


class Slow(Server):
    """Takes two milliseconds for each command of its file when it starts: longer than a store tries again."""

    def prepare(self) -> list[str]:
        return [*super().prepare(), "--key-load-delay", "2000"]


class Running:
    """A server of a test's own, with a store and a client that changes its state."""

    def __init__(self, folder: Path, kind: type[Server] = Server) -> None:
        (port,) = free_ports(1)
        self.server = kind(Address("127.0.0.1", port), folder)
        self.process = Own(self.server)
        self.process.start()
        self.admin = redis.Redis(port=port, decode_responses=True)
        access = RedisAccess(SecretStr(f"redis://127.0.0.1:{port}/0"), None, None, None, TIMEOUT, 2, "{t}")
        self.store = RedisStore(access)

    @property
    def port(self) -> int:
        return self.server.address.port

    def write(self) -> None:
        self.store.bury({ORIGIN: "why"})

    def read(self) -> None:
        assert self.store.buried([ORIGIN.partition]) == {ORIGIN.partition: {ORIGIN.offset: "why"}}


@contextmanager
def running(folder: Path, kind: type[Server] = Server) -> Iterator[Running]:
    found = Running(folder, kind)
    try:
        yield found
    finally:
        found.store.close()
        found.admin.close()
        found.process.kill()


@contextmanager
def configured(on: Running, **values: str) -> Iterator[None]:
    before = {name: str(on.admin.config_get(name)[name]) for name in values}
    for name, value in values.items():
        on.admin.config_set(name, value)
    yield
    for name, value in before.items():
        on.admin.config_set(name, value)


def option(name: str, value: str) -> Callable[[Running], AbstractContextManager[None]]:
    return lambda on: configured(on, **{name: value})


@contextmanager
def replica_of_nobody(on: Running) -> Iterator[None]:
    """A failover has made the server a replica, and it has not found its primary yet."""
    (port,) = free_ports(1)
    on.admin.replicaof("127.0.0.1", port)
    yield
    on.admin.replicaof("NO", "ONE")


@contextmanager
def stale_replica(on: Running) -> Iterator[None]:
    with configured(on, **{"replica-serve-stale-data": "no"}), replica_of_nobody(on):
        yield


@contextmanager
def failing_disk(on: Running) -> Iterator[None]:
    def status() -> str:
        return str(on.admin.info("persistence")["rdb_last_bgsave_status"])

    with configured(on, save="3600 1"):
        shutil.rmtree(on.server.data)
        on.admin.bgsave()
        until(lambda: status() == "err")
        yield
        on.server.data.mkdir()


@contextmanager
def long_script(on: Running) -> Iterator[None]:
    def endless() -> None:
        with redis.Redis(port=on.port) as client, pytest.raises(redis.ResponseError):
            client.eval("while true do end", 0)

    with configured(on, **{"busy-reply-threshold": "1"}):
        script = threading.Thread(target=endless)
        script.start()
        time.sleep(0.2)
        yield
        on.admin.script_kill()
        script.join()


STATES: dict[str, tuple[Callable[[Running], AbstractContextManager[None]], str, Callable[[Running], None]]] = {
    "command not allowed when used memory": (option("maxmemory", "1"), "maxmemory is reached", Running.write),
    "MISCONF": (failing_disk, "cannot write to its disk", Running.write),
    "NOREPLICAS": (option("min-replicas-to-write", "1"), "min-replicas-to-write", Running.write),
    "READONLY": (replica_of_nobody, "ReadOnlyError", Running.write),
    "MASTERDOWN": (stale_replica, "MASTERDOWN|Link with MASTER is down", Running.read),
    "BUSY": (long_script, "BUSY|busy running a script", Running.read),
}


@pytest.mark.parametrize("reply", STATES)
def test_a_reply_that_passes_is_an_outage_and_then_over(tmp_path: Path, reply: str) -> None:
    state, said, call = STATES[reply]
    with running(tmp_path / "own") as on:
        on.write()
        with state(on), pytest.raises(Unavailable, match=said) as stopped:
            call(on)
        assert type(stopped.value) is Unavailable
        assert "\n" not in str(stopped.value)
        on.write()
        on.read()


def test_a_server_without_room_for_a_client_is_unavailable(tmp_path: Path) -> None:
    with running(tmp_path / "own") as on:
        with configured(on, maxclients="1"), pytest.raises(Unavailable, match="max number of clients reached"):
            on.write()
        on.write()


def test_a_server_that_reads_its_file_is_loading(tmp_path: Path) -> None:
    with running(tmp_path / "own", Slow) as on:
        on.write()
        with on.admin.pipeline(transaction=False) as many:
            for number in range(6000):
                many.set(f"key-{number}", "x")
            many.execute()
        on.process.kill()
        start = threading.Thread(target=on.process.start)
        start.start()
        seen: list[str] = []

        def is_loading() -> bool:
            try:
                on.read()
            except Unavailable as error:
                seen.append(str(error))
                return "BusyLoadingError" in seen[-1]
            raise AssertionError(f"it was never loading: {seen}")

        until(is_loading)
        start.join()
        on.read()


def test_a_cluster_without_its_slots_is_down_and_then_over(tmp_path: Path) -> None:
    with running(tmp_path / "own", Clustered) as on:
        with pytest.raises(Unavailable, match="ClusterDownError"):
            on.write()
        on.admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        until(lambda: on.admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        on.write()
        on.read()


def test_keys_of_a_slot_that_moves_are_tried_again(tmp_path: Path) -> None:
    """The keys of one call lie on two nodes for a moment."""
    with ExitStack() as both:
        on, other = (both.enter_context(running(tmp_path / name, Clustered)) for name in ("own", "other"))
        on.admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        assert isinstance(other.server, Clustered)
        on.admin.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.server.bus)
        there = str(other.admin.execute_command("CLUSTER MYID"))
        until(lambda: there in str(on.admin.execute_command("CLUSTER NODES")))
        until(lambda: on.admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        on.write()
        on.admin.set(client_key("{t}", "s", "a"), "c")
        slot = on.admin.execute_command("CLUSTER KEYSLOT", "{t}")
        on.admin.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there)
        with pytest.raises(Unavailable, match="TryAgainError"):
            on.store.forget_tokens("s", ["a", "b"])
        on.admin.execute_command("CLUSTER SETSLOT", slot, "STABLE")
        on.read()


def test_every_listed_reply_is_tried_here() -> None:
    others = {"LOADING", "CLUSTERDOWN", "TRYAGAIN"}
    assert STATES.keys() | others == {*_TRANSIENT_WORDS, *_NO_WRITES}
