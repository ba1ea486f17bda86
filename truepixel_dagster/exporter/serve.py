"""Serve the metrics by HTTP on one port, until interrupted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import dagster as dg
from prometheus_client import CollectorRegistry, start_http_server

from truepixel_dagster.exporter import servers
from truepixel_dagster.exporter.history import History
from truepixel_dagster.exporter.scraped import ScrapedServer, Servers
from truepixel_dagster.instance.history import check_history
from truepixel_dagster.instance.process import dagster_home
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings

Say = Callable[[str], None]
T = TypeVar("T")

# Seconds for which results are cached. Redis is asked less often because that scans its keys.
EVERY, EVERY_REDIS = 5.0, 15.0
# A scrape waits only briefly: a server that does not answer counts as down.
SHORT = {"retries": 1, "kafka_timeout": 3.0, "elasticsearch_timeout": 3.0, "mongodb_timeout": 3.0, "redis_timeout": 2.0}


@contextmanager
def serving(settings: Settings, say: Say, *, host: str, port: int, home: Path | None = None) -> Iterator[int]:
    """Serve the metrics during the block; yield the port.

    Arguments:
        settings: The pipeline's settings.
        say: Receives a line when a server becomes unreachable or answers again.
        host: The address to listen on.
        port: The port to listen on; 0 for any free one.
        home: Dagster's home, with its dagster.yaml; the one in the data folder by default.

    Raises:
        OSError: The address cannot be bound; the message says what to do.
    """
    with open_stores(settings.model_copy(update=SHORT)) as stores:
        registry = CollectorRegistry()
        registry.register(Servers(scraped_servers(settings, stores, home, say)))
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise OSError(f"cannot listen at {host}:{port}: {error.strerror}; choose --host or --port") from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def serve(settings: Settings, say: Say, *, host: str, port: int, home: Path | None = None) -> None:
    """Serve like `serving`, until a KeyboardInterrupt."""
    with serving(settings, say, host=host, port=port, home=home) as at:
        say(f"metrics at http://{host}:{at}/metrics; Ctrl-C ends it")
        threading.Event().wait()


def scraped_servers(settings: Settings, stores: Stores, home: Path | None, say: Say) -> list[ScrapedServer]:
    """Return the servers whose metrics are scraped."""
    short = settings.model_copy(update=SHORT)
    buffers = servers.Buffers(stores.redis)
    history = History(lambda: connect(settings, home), settings.namespace)
    return [
        ScrapedServer("kafka", lambda: servers.kafka(short), EVERY, say),
        ScrapedServer("elasticsearch", lambda: servers.elasticsearch(stores.elasticsearch), EVERY, say),
        ScrapedServer("mongodb", lambda: servers.mongodb(stores.mongodb), EVERY, say),
        ScrapedServer("redis", buffers.look, EVERY_REDIS, say),
        ScrapedServer("dagster", history.look, EVERY, say),
    ]


def connect(settings: Settings, home: Path | None) -> dg.DagsterInstance:
    """Return Dagster's instance.

    Raises:
        HistoryUnavailable: Its storage does not answer.
    """
    check_history(settings)
    if settings.postgres_url is not None:
        # dagster.yaml reads the address from this variable, even if a `.env` sets it.
        os.environ["TRUEPIXEL_POSTGRES_URL"] = settings.postgres_url.get_secret_value()
    return dg.DagsterInstance.from_config(str(home or dagster_home(settings)))
