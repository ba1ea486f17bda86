"""A server that is unreachable, hangs or returns, during a scrape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric

from truepixel_dagster.exporter import scraped as module
from truepixel_dagster.exporter.scraped import ScrapedServer, Servers
from truepixel_dagster.stores.errors import Unavailable


class Server:
    """Replaces a server: answers, refuses or hangs, as the test sets it."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    def look(self) -> Sequence[Metric]:
        self.asked += 1
        self.go_on.wait(30)
        if self.error:
            raise self.error
        return [GaugeMetricFamily("of_it", "says", value=7)]


def scraped(servers: Servers) -> dict[str, float]:
    return {
        sample.labels.get("server", sample.name): sample.value
        for metric in servers.collect()
        for sample in metric.samples
    }


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def servers(server: Server, said: list[str]) -> Callable[[float], Servers]:
    return lambda every: Servers([ScrapedServer("it", server.look, every, said.append)])


def test_scrapes_within_a_few_seconds_ask_once(server: Server, servers: Callable[[float], Servers]) -> None:
    both = servers(60)
    assert scraped(both) == scraped(both) == {"it": 1, "of_it": 7}
    assert server.asked == 1


def test_a_server_that_goes_and_comes_back_is_a_line_each(
    server: Server, servers: Callable[[float], Servers], said: list[str]
) -> None:
    mine = servers(0)
    server.error = Unavailable("it at host:1 does not answer\nand more")
    assert [scraped(mine) for _ in range(3)] == [{"it": 0}] * 3
    server.error = KeyError("a mistake of ours")
    scraped(mine)
    server.error = None
    assert [scraped(mine) for _ in range(2)] == [{"it": 1, "of_it": 7}] * 2
    assert said == ["it is down: it at host:1 does not answer", "it is back"]


def test_a_hanging_server_is_down_after_the_deadline_and_is_not_asked_again(
    server: Server, servers: Callable[[float], Servers], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 0.05)
    mine = servers(0)
    server.go_on.clear()
    assert [scraped(mine) for _ in range(3)] == [{"it": 0}] * 3
    assert server.asked == 1
    assert said == ["it is down: no answer in time"]
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 30.0)
    server.go_on.set()
    assert scraped(mine) == {"it": 1, "of_it": 7}
