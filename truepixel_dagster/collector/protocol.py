"""HTTP through uvicorn and httptools, with limits on time and size for senders that are too slow or send too much."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# From the first byte of a request to its last. A healthy sender needs a second for 10 MiB.
REQUEST_SECONDS = 4.0
# How long a connection may stay silent before its first request.
SILENT_SECONDS = 10.0
HEAD_BYTES, _MOST_HEADERS = 64 * 1024, 200
_PLAIN = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _PLAIN
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\n" + _PLAIN


class BoundedProtocol(HttpToolsProtocol):
    """Limit a connection. Call `sweep` about once a second."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._since: float | None = None
        self._limit = SILENT_SECONDS
        self._head: int | None = 0

    def connection_made(self, transport: Any) -> None:
        """Note that a connection was opened."""
        super().connection_made(transport)
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        if self._since is None or self._limit == SILENT_SECONDS:
            # These are the first bytes of a request, perhaps only a part of its first line.
            self._since, self._limit = self.loop.time(), REQUEST_SECONDS
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """Note that all headers have arrived."""
        self._head = None
        if len(self.headers) > _MOST_HEADERS:
            raise ValueError("too many headers")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        self._since = None
        self._head = 0
        super().on_message_complete()

    def sweep(self, now: float) -> None:
        """Close the connection if its request takes too long. `now` is the event loop's time."""
        if self._since is None or now - self._since < self._limit or self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse(_TOO_SLOW)

    def _refuse(self, answer: bytes) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # The endpoint sees that the sender has disconnected.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(answer)
        self.transport.close()
