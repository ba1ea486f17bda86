"""Shared helpers of the endpoints: they read a body within limits, and send answers."""

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
    """Hold a response; a response that never changes is built once."""

    __slots__ = ("_body", "_start", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Iterable[Header] = ()) -> None:
        self.status = status
        all_headers = [*headers]
        if status != 204:
            all_headers.append((b"content-length", str(len(body)).encode()))
        self._start = {"type": "http.response.start", "status": status, "headers": all_headers}
        self._body = {"type": "http.response.body", "body": body}

    async def send(self, send: Send) -> None:
        """Send the response."""
        await send(self._start)
        await send(self._body)


def json_answer(status: int, what: Mapping[str, Any], headers: Iterable[Header] = ()) -> Answer:
    """Return a JSON response."""
    return Answer(status, msgspec.json.encode(what), (JSON, *headers))


def error(status: int, reason: str, headers: Iterable[Header] = ()) -> Answer:
    """Return a response that gives the reason in one line and, for 503 and 429, that a retry makes sense."""
    return json_answer(status, {"error": reason, "retry": status in (429, 503)}, headers)


def again_after(seconds: float) -> Header:
    """Return the `Retry-After` header."""
    return (b"retry-after", str(max(1, -int(-seconds // 1))).encode())


class Room:
    """Limit the bytes of all request bodies that are in memory at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, size: int) -> bool:
        """Reserve bytes; return whether there was room."""
        if self.used + size > self._most:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """Release bytes."""
        self.used -= size


class TooLarge(Exception):
    """The body exceeds its limit."""


class NoRoom(Exception):
    """Too many large bodies are in memory at once."""


class Gone(Exception):
    """The sender disconnected, or was too slow."""


class Body:
    """Read a request's body; used as a context manager, it releases its room on exit.

    Arguments:
        scope: The request.
        receive: Receives its parts.
        most: The limit in bytes.
        room: The limit of all bodies together.
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
        """Return the whole body.

        Raises:
            TooLarge: It exceeds its limit, or its Content-Length does.
            NoRoom: Too many bodies are in memory at once.
            Gone: It ended before it was complete.
        """
        # Room is for what has arrived: a sender that only announces a large body takes none from the others.
        if self._length.isdigit() and int(self._length) > self._most:
            raise TooLarge
        message = await self._part()
        body: bytes = message.get("body", b"")
        self._take(len(body))
        if not message.get("more_body", False):
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
        """Reserve room for this many bytes in total."""
        if size > self._most:
            raise TooLarge
        more = size - self._taken
        if more > 0:
            if not self._room.take(more):
                raise NoRoom
            self._taken = size
