"""What the endpoints have in common: reading a body within bounds, and answering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON, TEXT = (b"content-type", b"application/json"), (b"content-type", b"text/plain; charset=utf-8")
CLOSE: Header = (b"connection", b"close")


class Answer:
    """A response; made once where it is always the same."""

    __slots__ = ("_body", "_start", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Iterable[Header] = ()) -> None:
        self.status = status
        all_headers = [*headers]
        if status != 204:
            all_headers.append((b"content-length", str(len(body)).encode()))
        self._start = {"type": "http.response.start", "status": status, "headers": all_headers}
        self._body = {"type": "http.response.body", "body": body}

    async def send(self, send: Send) -> None:
        """Send it."""
        await send(self._start)
        await send(self._body)


def told(status: int, what: Mapping[str, Any], headers: Iterable[Header] = ()) -> Answer:
    """A response in JSON."""
    return Answer(status, msgspec.json.encode(what), (JSON, *headers))


def error(status: int, reason: str, headers: Iterable[Header] = ()) -> Answer:
    """A response that says in one line why; one of 503 or 429 may be tried again."""
    return told(status, {"error": reason, "retry": status in (429, 503)}, headers)


def again_after(seconds: float) -> Header:
    """The header that says when to come again."""
    return (b"retry-after", str(max(1, -int(-seconds // 1))).encode())


class Room:
    """The bytes of all bodies that are in memory at once, within a bound."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, size: int) -> bool:
        """Whether there was room for so many bytes more."""
        if self.used + size > self._most:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """They are needed no more."""
        self.used -= size


class TooLarge(Exception):
    """A body beyond its bound."""


class NoRoom(Exception):
    """Too many large bodies at once."""


class Gone(Exception):
    """Whoever sent the request has left, or was too slow."""


class Body:
    """A request's body; use it as a context, which gives its room back.

    Arguments:
        scope: The request.
        receive: Gives its parts.
        most: Bytes that it may have.
        room: What all have together.
    """

    __slots__ = ("_length", "_most", "_receive", "_room", "_taken")

    def __init__(self, scope: Scope, receive: Receive, most: int, room: Room) -> None:
        self._receive = receive
        self._most = most
        self._room = room
        self._taken = 0
        self._length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.give_back(self._taken)

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            TooLarge: It is, or says that it will be, beyond its bound.
            NoRoom: There are too many at once.
            Gone: It never came to its end.
        """
        if self._length.isdigit():
            self._take(int(self._length))
        message = await self._part()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            self._take(len(body))
            return body
        parts, size = [body], len(body)
        while message.get("more_body", False):
            message = await self._part()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            self._take(size)
        return b"".join(parts)

    async def _part(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        return message

    def _take(self, size: int) -> None:
        """Have room for so many bytes in all."""
        if size > self._most:
            raise TooLarge
        more = size - self._taken
        if more > 0:
            if not self._room.take(more):
                raise NoRoom
            self._taken = size
