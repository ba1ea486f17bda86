"""Known shops: for five seconds, within a bound, and for an hour while MongoDB is unreachable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.collector.clock import Clock
from truepixel_dagster.collector import registry as module
from truepixel_dagster.collector.registry import AppSecrets, Known, Registry, RegistryAway
from truepixel_dagster.stores.connections import Connection, OlderToken, Secret


class FakeMongoDB:
    """Replaces MongoDB: answers, refuses or hangs, as the test sets it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.shops: dict[str, Known] = {}
        self.is_unreachable = False
        self.holds = threading.Event()
        self.holds.set()

    def __call__(self, field: str, value: str) -> Known | None:
        self.asked.append(value)
        self.holds.wait(10)
        if self.is_unreachable:
            raise ConnectionError("MongoDB at 127.0.0.1:1: refused")
        return self.shops.get(value)


def known(shop: str) -> Known:
    return Known(shop, Connection(f"{shop}.example", f"tp_{shop}", 1), ())


def run(scenario: Callable[[Registry, FakeMongoDB, Clock], Awaitable[None]]) -> None:
    async def whole() -> None:
        mongodb, clock = FakeMongoDB(), Clock()
        registry = Registry(mongodb, clock)
        await scenario(registry, mongodb, clock)
        registry.close()

    asyncio.run(whole())


def test_mongodb_is_asked_once_in_five_seconds_for_a_known_or_unknown_shop() -> None:
    async def scenario(registry: Registry, mongodb: FakeMongoDB, clock: Clock) -> None:
        mongodb.shops["a.example"] = known("a")
        for _ in range(3):
            assert await registry.by_domain("a.example") == known("a")
            assert await registry.by_domain("b.example") is None
        assert mongodb.asked == ["a.example", "b.example"]
        clock.now += module.KNOWN_SECONDS
        del mongodb.shops["a.example"]
        assert await registry.by_domain("a.example") is None

    run(scenario)


def test_concurrent_requests_for_one_shop_are_one_query() -> None:
    async def scenario(registry: Registry, mongodb: FakeMongoDB, clock: Clock) -> None:
        mongodb.shops["tp_a"] = known("a")
        mongodb.holds.clear()
        asking = [asyncio.create_task(registry.by_pixel_token("tp_a")) for _ in range(50)]
        await asyncio.sleep(0.05)
        mongodb.holds.set()
        assert await asyncio.gather(*asking) == [known("a")] * 50
        assert mongodb.asked == ["tp_a"]

    run(scenario)


def test_while_mongodb_is_unreachable_known_shops_continue_for_an_hour_and_others_get_no_answer() -> None:
    async def scenario(registry: Registry, mongodb: FakeMongoDB, clock: Clock) -> None:
        mongodb.shops["a.example"] = known("a")
        await registry.by_domain("a.example")
        await registry.by_domain("none.example")
        mongodb.is_unreachable = True
        clock.now += module.KNOWN_SECONDS + 1
        assert await registry.by_domain("a.example") == known("a")
        for name in ("none.example", "new.example"):
            with pytest.raises(RegistryAway):
                await registry.by_domain(name)
        # Not every request queries the unreachable MongoDB.
        before = len(mongodb.asked)
        for _ in range(10):
            assert await registry.by_domain("a.example") == known("a")
        assert len(mongodb.asked) == before
        assert registry.trouble is not None
        clock.now += module.STALE_SECONDS
        with pytest.raises(RegistryAway):
            await registry.by_domain("a.example")
        mongodb.is_unreachable = False
        clock.now += module.AWAY_SECONDS
        assert await registry.by_domain("a.example") == known("a")
        assert registry.trouble is None

    run(scenario)


def test_a_flood_of_names_is_bounded_in_memory_and_in_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SHOPS", 10)

    async def scenario(registry: Registry, mongodb: FakeMongoDB, clock: Clock) -> None:
        for number in range(50):
            assert await registry.by_domain(f"{number}.example") is None
        assert registry.size == 10
        mongodb.holds.clear()
        asking = [asyncio.create_task(registry.by_domain(f"x{number}.example")) for number in range(200)]
        await asyncio.sleep(0.05)
        refused = [task for task in asking if task.done() and isinstance(task.exception(), RegistryAway)]
        assert len(refused) == 200 - module.MOST_QUESTIONS
        mongodb.holds.set()
        await asyncio.gather(*asking, return_exceptions=True)

    run(scenario)


def test_a_secret_counts_until_its_time() -> None:
    own = (Secret("1", 0, sealed="-", until=100), b"old"), (Secret("2", 0, sealed="-"), b"new")
    found = known("a")._replace(secrets=own)
    assert found.keys(99) == (b"old", b"new")
    assert found.keys(100) == (b"new",)


def test_an_older_pixel_token_counts_until_its_time() -> None:
    connection = Connection("a.example", "tp_new", 1, older_tokens=(OlderToken("tp_old", 100),))
    assert connection.accepts("tp_new", 1000)
    assert connection.accepts("tp_old", 99)
    assert not connection.accepts("tp_old", 100)
    assert not connection.accepts("tp_other", 99)
    assert not Connection("a.example", "tp_new", 1, uninstalled_at=2).accepts("tp_new", 3)


def test_the_apps_secrets_are_reloaded_and_stay_while_their_file_is_missing(tmp_path: Path) -> None:
    clock: Any = Clock()
    file = tmp_path / "secrets"
    file.write_text("one\n\n two \none\n")
    secrets = AppSecrets(file, clock)
    assert secrets.now() == (b"one", b"two")
    file.write_text("three")
    assert secrets.now() == (b"one", b"two")
    changes: list[Callable[[], Any]] = [lambda: None, file.unlink, lambda: file.write_text("")]
    for change in changes:
        clock.now += 1
        change()
        assert secrets.now() == (b"three",)
    assert AppSecrets(None).now() == ()


def test_a_hanging_query_delays_no_request_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_WAIT_SECONDS", 0.05)

    async def scenario(registry: Registry, mongodb: FakeMongoDB, clock: Clock) -> None:
        mongodb.shops["a.example"] = known("a")
        await registry.by_domain("a.example")
        mongodb.holds.clear()
        clock.now += module.KNOWN_SECONDS
        assert await registry.by_domain("a.example") == known("a"), "what is cached counts"
        monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
        with pytest.raises(RegistryAway):
            await registry.by_domain("new.example")
        mongodb.holds.set()

    run(scenario)
