"""The plan of chaos and its judgement; the rounds themselves are in tests/crash."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from truepixel_dagster.audit.compare import Difference
from truepixel_dagster.local.chaos.chaos import plan
from truepixel_dagster.local.chaos.faults import FAULTS
from truepixel_dagster.local.chaos.proxy import Proxy
from truepixel_dagster.local.chaos.report import is_doubled
from truepixel_dagster.local.lock import InUse, alone
from truepixel_dagster.local.servers import Address

ROOT = Path(__file__).parents[4]


def test_four_rounds_for_each_kind_have_every_kind_four_times() -> None:
    assert Counter(plan(4 * len(FAULTS), Random(7))) == dict.fromkeys(FAULTS, 4)


def test_rounds_are_spread_evenly_over_the_kinds_that_are_asked_for() -> None:
    kinds = Counter(plan(40, Random(7), list(FAULTS)[:9]))
    assert kinds.keys() == set(list(FAULTS)[:9])
    assert set(kinds.values()) == {4, 5}


def test_the_guarantees_list_every_kind_and_no_other() -> None:
    text = (ROOT / "docs/guarantees.md").read_text().partition("### The kinds of chaos")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert [kind for row in rows for kind in re.findall("`([a-z_]+)`", row)] == list(FAULTS)


def test_every_kind_describes_itself_in_one_line() -> None:
    assert [kind for kind, fault in FAULTS.items() if not (fault.__doc__ or "").strip()] == []


def test_the_same_seed_plans_the_same_rounds_and_another_one_others() -> None:
    assert plan(40, Random(7)) == plan(40, Random(7)) != plan(40, Random(8))


@pytest.mark.parametrize(
    ("store", "expected", "actual", "doubled"),
    [
        ("customers", 3, 4, True),
        ("customers", 4, 3, False),
        ("product_stats", None, 1, True),
        ("product_stats", 1, None, False),
        ("attributions", 1, 2, False),
    ],
)
def test_only_a_counter_above_what_it_should_be_is_doubled(
    store: str, expected: int | None, actual: int | None, doubled: bool
) -> None:
    assert is_doubled(Difference(store, "id", "differs", "events", expected, actual)) is doubled


@pytest.fixture
def echo() -> Iterator[Address]:
    """A server that sends back what it gets."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while chunk := connection.recv(1024):
                connection.sendall(chunk)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield Address("127.0.0.1", listening.getsockname()[1])
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@pytest.fixture
def proxy(echo: Address) -> Iterator[Proxy]:
    proxy = Proxy(echo)
    yield proxy
    proxy.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.address.ip, proxy.address.port), timeout=10)


def answer(connection: socket.socket) -> bytes:
    connection.sendall(b"hello")
    return connection.recv(1024)


def test_a_proxy_passes_on_what_it_gets(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert answer(connection) == b"hello"


def test_a_cut_proxy_resets_old_and_new_connections_and_passes_on_again_when_healed(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        answer(connection)
        proxy.cut()
        assert refused(connection)
    with connect(proxy) as connection:
        assert refused(connection)
    proxy.heal()
    with connect(proxy) as connection:
        assert answer(connection) == b"hello"


def refused(connection: socket.socket) -> bool:
    try:
        return answer(connection) == b""
    except OSError:
        return True


def test_a_slow_proxy_still_passes_everything_on(proxy: Proxy) -> None:
    proxy.delay(0.05)
    with connect(proxy) as connection:
        assert answer(connection) == b"hello"


def test_a_proxy_answers_large_bodies_itself_and_passes_small_ones_on(proxy: Proxy) -> None:
    proxy.limit_bodies(1000)
    with connect(proxy) as connection:
        small, large = (b"POST /_bulk HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size for size in (5, 200_000))
        connection.sendall(small + b"hello")
        assert connection.recv(1024) == small + b"hello"
        connection.sendall(large + b"x" * 100_000)
        connection.sendall(b"x" * 100_000)
        assert connection.recv(1024).startswith(b"HTTP/1.1 413 ")
        assert answer(connection) == b"hello"


def test_a_proxy_of_an_unreachable_server_closes_the_connection(proxy: Proxy) -> None:
    lost = Proxy(Address("127.0.0.1", 1))
    with connect(lost) as connection:
        assert refused(connection)
    lost.close()


def test_a_second_command_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    lock, refused = tmp_path / "chaos.lock", pytest.raises(InUse, match="chaos is in use by another process")
    with alone(lock), refused, alone(lock):
        raise AssertionError
    with alone(tmp_path / "chaos.lock"):
        pass
