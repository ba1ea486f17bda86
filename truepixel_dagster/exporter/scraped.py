"""Collect the metrics of several servers, each in its own thread, so that a slow one does not delay the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from truepixel_dagster.instance.history import HistoryUnavailable
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stream.errors import KafkaError

# Below Prometheus' own default for a scrape, 10 s.
DEADLINE_SECONDS = 8.0
# Errors whose message is one line for operators.
PLAIN = (Unavailable, KafkaError, HistoryUnavailable)


class ScrapedServer:
    """A server that is queried when Prometheus scrapes: at most once in `every` seconds, and never twice at a time.

    Arguments:
        server: Its name, as the label of `truepixel_up`.
        look: Queries it; any exception means that the server is down.
        every: Seconds.
        say: Called with one line when the server goes down and when it is up again.
    """

    def __init__(
        self, server: str, look: Callable[[], Sequence[Metric]], every: float, say: Callable[[str], None]
    ) -> None:
        self.server = server
        self._look = look
        self._every = every
        self._say = say
        self._thread: threading.Thread | None = None
        self._looked_at = float("-inf")
        self._found: Sequence[Metric] | None = None
        self._was_up: bool | None = None

    def begin(self) -> None:
        """Start a query if the last one is too old and none is running."""
        if self._is_looking() or time.monotonic() - self._looked_at < self._every:
            return
        # A daemon thread: the process may end during a query.
        self._thread = threading.Thread(target=self._run, name=f"look at {self.server}", daemon=True)
        self._thread.start()

    def end(self, deadline: float) -> Sequence[Metric] | None:
        """Return the metrics of the last query; None if the server is down or has not answered by the deadline.

        Arguments:
            deadline: A time of `time.monotonic()`.
        """
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._is_looking():
            self._tell(False, "no answer in time")
            return None
        return self._found

    def _is_looking(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._found = list(self._look())
            self._tell(True)
        except Exception as error:
            self._found = None
            lines = str(error).splitlines() or [""]
            self._tell(False, lines[0] if isinstance(error, PLAIN) else f"{type(error).__name__}: {lines[0]}")
        finally:
            self._looked_at = time.monotonic()

    def _tell(self, up: bool, why: str = "") -> None:
        if up != self._was_up and (self._was_up is not None or not up):
            self._say(f"{self.server} is back" if up else f"{self.server} is down: {why}")
        self._was_up = up


class Servers(Collector):
    """Collect all servers: whether each is up, and the metrics of those that are."""

    def __init__(self, servers: Sequence[ScrapedServer]) -> None:
        self._servers = servers
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of one scrape."""
        with self._lock:
            deadline = time.monotonic() + DEADLINE_SECONDS
            for server in self._servers:
                server.begin()
            found = {server.server: server.end(deadline) for server in self._servers}
        up = GaugeMetricFamily("truepixel_up", "Whether a server answers: 1 if it does.", labels=["server"])
        for name, metrics in found.items():
            up.add_metric([name], float(metrics is not None))
        yield up
        for metrics in found.values():
            yield from metrics or ()
