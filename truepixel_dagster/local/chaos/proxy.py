"""A TCP proxy on loopback that can cut and slow down connections, like a bad network.

It can also refuse large HTTP bodies.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from truepixel_dagster.local.servers import Address

CHUNK = 64 * 1024
TOO_LARGE = b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)\r\n")
_END = b"\r\n\r\n"

T = TypeVar("T")


class Proxy:
    """Forward connections to a server, on its own thread, until it is closed.

    Arguments:
        target: The server.

    Attributes:
        address: Where the proxy listens.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self._delay = 0.0
        self._is_cut = False
        self._largest_body: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-of-{target}", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Reset all connections, also new ones, until `heal`."""
        self._is_cut = True
        self._do(self._abort())

    def delay(self, seconds: float) -> None:
        """Delay each chunk by this time in both directions, until `heal`."""
        self._delay = seconds

    def limit_bodies(self, size: int) -> None:
        """Answer 413 to HTTP requests with larger bodies (bytes), until `heal`."""
        self._largest_body = size

    def heal(self) -> None:
        """Forward everything again without delay."""
        self._is_cut, self._delay, self._largest_body = False, 0.0, None

    def close(self) -> None:
        """End the proxy and its connections."""
        self._is_cut = True
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        # Let the loop run once, so that the connections notice.
        await asyncio.sleep(0)

    async def _end(self) -> None:
        # Close it on the loop's thread: closing it from another thread may wake its waiters twice.
        self._server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        await self._abort()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if not self._is_cut:
                await self._connect(reader, writer)
        except OSError:
            pass  # the server is unreachable: its client finds the connection closed
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._target.ip, self._target.port)
        self._writers.add(there_writer)
        both = [self._pump(reader, there_writer, refuse=writer), self._pump(there_reader, writer)]
        tasks = [asyncio.ensure_future(one) for one in both]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writers.discard(there_writer)
            there_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refuse: asyncio.StreamWriter | None = None
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if self._delay:
                await asyncio.sleep(self._delay)
            if refuse and (left := self._refused(chunk)) is not None:
                # Read the body nevertheless: a client whose connection is cut while it sends never sees the answer.
                while left > 0 and (rest := await reader.read(min(CHUNK, left))):
                    left -= len(rest)
                refuse.write(TOO_LARGE)
                await refuse.drain()
                continue
            writer.write(chunk)
            await writer.drain()

    def _refused(self, chunk: bytes) -> int | None:
        """Return the bytes of a refused body that have not arrived; None if the chunk does not begin such a request."""
        if self._largest_body is None or not chunk.startswith((b"POST ", b"PUT ")):
            return None
        head, _, body = chunk.partition(_END)
        found = _LENGTH.search(head + b"\r\n")
        return int(found[1]) - len(body) if found and int(found[1]) > self._largest_body else None
