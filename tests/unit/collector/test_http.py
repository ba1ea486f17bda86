"""Bodies of requests, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from truepixel_dagster.collector.http import Body, NoRoom, Room, TooLarge

MOST = 100


def read(room: Room, announced: bytes, *parts: bytes) -> bytes:
    """A body that arrives in parts."""
    remaining: Iterator[dict[str, Any]] = iter(
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    )

    async def receive() -> dict[str, Any]:
        return next(remaining)

    with Body({"headers": [(b"content-length", announced)]}, receive, MOST, room) as body:
        return asyncio.run(body.read())


def test_room_is_taken_by_what_has_arrived_and_given_back() -> None:
    room = Room(10)
    assert read(room, b"100", b"abc", b"def") == b"abcdef", "what is only announced takes no room"
    with pytest.raises(NoRoom):
        read(room, b"12", b"x" * 6, b"x" * 6)
    assert room.used == 0


@pytest.mark.parametrize("parts", [[b""], [b"x" * 60, b"x" * 60]])
def test_a_body_is_too_large_as_soon_as_it_is_known(parts: list[bytes]) -> None:
    room = Room(1000)
    with pytest.raises(TooLarge):
        read(room, b"101" if parts == [b""] else b"", *parts)
    assert room.used == 0
