"""HTTP by uvicorn and httptools, within bounds of time and size for whoever sends too slowly or too much."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Between the first byte of a request and its last. An honest sender of 10 MiB needs a second.
REQUEST_SECONDS = 4.0
# How long a connection may say nothing before its first request.
SILENT_SECONDS = 10.0
HEAD_BYTES, _MOST_HEADERS = 64 * 1024, 200
_PLAIN = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n" + _PLAIN
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\n" + _PLAIN


class BoundedProtocol(HttpToolsProtocol):
    """A connection. `sweep` is to be called about once a second."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._since: float | None = None
        self._limit = SILENT_SECONDS
        self._head: int | None = 0

    def connection_made(self, transport: Any) -> None:
        """A connection has begun."""
        super().connection_made(transport)
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._since is None or self._limit == SILENT_SECONDS:
            # The first of a request, which may be a part of its first line.
            self._since, self._limit = self.loop.time(), REQUEST_SECONDS
        if self._head is not None:
            self._head += len(data)
        super().data_received(data)
        if self._head is not None and self._head > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request has begun."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """All headers have come."""
        self._head = None
        if len(self.headers) > _MOST_HEADERS:
            raise ValueError("too many headers")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request has come to its end."""
        self._since = None
        self._head = 0
        super().on_message_complete()

    def sweep(self, now: float) -> None:
        """End the connection if its request takes too long; by the event loop's clock."""
        if self._since is None or now - self._since < self._limit or self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse(_TOO_SLOW)

    def _refuse(self, answer: bytes) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # Whoever works on it is told that the sender has gone.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(answer)
        self.transport.close()
