"""Clients by token: queried together, and awaited only briefly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from truepixel_dagster.collector import tokens as module
from truepixel_dagster.collector.tokens import Tokens


class FakeRedis:
    def __init__(self) -> None:
        self.identity = ""
        self.values: dict[str, str] = {}
        self.calls: list[list[str]] = []
        self.delay = 0.0
        self.is_away = False

    async def ping(self) -> None:
        await self._reach()

    async def info(self, section: str) -> dict[str, Any]:
        return {"availability_zone": self.identity}

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        self.calls.append(list(keys))
        await self._reach()
        return [value.encode() if (value := self.values.get(key)) else None for key in keys]

    def pipeline(self, transaction: bool = True) -> Any:
        return FakePipeline(self)

    async def _reach(self) -> None:
        await asyncio.sleep(self.delay)
        if self.is_away:
            raise ConnectionError


class FakePipeline:
    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._values: dict[str, str] = {}

    def set(self, key: str, value: str, ex: int) -> None:
        assert ex == module.KEPT_SECONDS
        self._values[key] = value

    async def execute(self) -> None:
        await self._redis._reach()
        self._redis.values |= self._values


def run(scenario: Callable[[Tokens, FakeRedis], Awaitable[None]], identity: str | None = None) -> None:
    async def whole() -> None:
        redis = FakeRedis()
        await scenario(Tokens(redis, "ns", identity), redis)

    asyncio.run(whole())


def test_queries_of_one_moment_are_one_call() -> None:
    async def scenario(tokens: Tokens, redis: FakeRedis) -> None:
        redis.values["ns:client:s:t1"] = "c-1"
        asked = (tokens.client_of("s", [f"t{number % 3}", "x"]) for number in range(20))
        found = await asyncio.gather(*asked)
        assert found == [("c-1" if number % 3 == 1 else None) for number in range(20)]
        assert len(redis.calls) == 1

    run(scenario)


def test_an_entry_that_a_redaction_deletes_is_unknown_at_once() -> None:
    async def scenario(tokens: Tokens, redis: FakeRedis) -> None:
        tokens.report("s", ["t1"], "c-1")
        await asyncio.sleep(0.01)
        assert await tokens.client_of("s", ["t1"]) == "c-1"
        redis.values.clear()
        assert await tokens.client_of("s", ["t1"]) is None

    run(scenario)


def test_redis_is_not_used_before_it_shows_the_identity_that_the_settings_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(tokens: Tokens, redis: FakeRedis) -> None:
        redis.values["ns:client:s:t1"] = "c-1"
        for redis.identity in ("", "another", "another"):
            await tokens.begin()
            assert await tokens.client_of("s", ["t1"]) is None
            tokens.report("s", ["t2"], "c-2")
        assert redis.calls == []
        assert len(caplog.messages) == 2
        assert "'another'" in caplog.messages[1]
        redis.identity = "ours"
        await tokens.begin()
        assert await tokens.client_of("s", ["t1"]) == "c-1"
        assert redis.values == {"ns:client:s:t1": "c-1"}

    run(scenario, identity="ours")


def test_a_stored_token_is_known_at_once_and_written_in_the_background() -> None:
    async def scenario(tokens: Tokens, redis: FakeRedis) -> None:
        tokens.report("s", ["t1", "a:b"], "c-1")
        assert await tokens.client_of("s", ["other", "t1"]) == "c-1"
        await asyncio.sleep(0.01)
        assert redis.values == {"ns:client:s:t1": "c-1", "ns:client:s:a%3Ab": "c-1"}
        assert await tokens.client_of("other", ["t1"]) is None

    run(scenario)


def test_a_slow_store_is_not_awaited_and_gets_no_query_for_a_second() -> None:
    async def scenario(tokens: Tokens, redis: FakeRedis) -> None:
        redis.delay = 5
        began = time.monotonic()
        assert await asyncio.gather(*(tokens.client_of("s", [f"t{number}"]) for number in range(10))) == [None] * 10
        assert time.monotonic() - began < 1
        assert tokens.failures == 1
        for _ in range(5):
            assert await tokens.client_of("s", ["t1"]) is None
            tokens.report("s", ["t2"], "c-2")
        assert len(redis.calls) == 1
        assert tokens.not_stored == 5
        assert await tokens.client_of("s", []) is None

    run(scenario)


def test_the_queue_of_writes_is_bounded() -> None:
    async def scenario(tokens: Tokens, redis: FakeRedis) -> None:
        redis.delay = 0.5
        tokens.report("s", (f"t{number}" for number in range(module.MOST_REPORTED + 10)), "c")
        assert tokens.not_stored == 10
        assert len(tokens._reported) == module.MOST_REPORTED

    run(scenario)


def test_a_value_that_is_no_text_delays_no_request() -> None:
    class Odd(FakeRedis):
        async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
            return [b"\xff" for _ in keys]

    async def scenario() -> None:
        tokens = Tokens(Odd(), "ns")
        assert await asyncio.wait_for(tokens.client_of("s", ["t1"]), 5) is None
        assert tokens.failures == 1

    asyncio.run(scenario())
