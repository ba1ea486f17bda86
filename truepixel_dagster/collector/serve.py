"""Run the collector's process: create the endpoints' services, serve until SIGTERM, and shut down in order.

On SIGTERM, `/readyz` fails, and the process keeps answering for `TRUEPIXEL_COLLECTOR_LEAVE` seconds. Then it accepts no
new connections, answers the requests in progress, lets Kafka acknowledge or the journal store every record, and exits
with 0.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis.asyncio
import uvicorn
import uvloop

from truepixel_dagster.collector.app import application
from truepixel_dagster.collector.certificate import Certificate
from truepixel_dagster.collector.delivery import Delivery
from truepixel_dagster.collector.google_tokens import GoogleTokens, download
from truepixel_dagster.collector.journal import Journal
from truepixel_dagster.collector.journal_file import JournalFile
from truepixel_dagster.collector.kafka import KafkaTopic
from truepixel_dagster.collector.limits import Limiter, networks
from truepixel_dagster.collector.metrics import State
from truepixel_dagster.collector.protocol import BoundedProtocol
from truepixel_dagster.collector.registry import MOST_SHOPS, AppSecrets, Looker, Registry
from truepixel_dagster.collector.services import Services
from truepixel_dagster.collector.tokens import Tokens
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.mongodb import MongoStore
from truepixel_dagster.stores.store import given
from truepixel_dagster.stream.errors import KafkaError

Say = Callable[[str], None]
MOST_CONNECTIONS = 4096
KEEP_ALIVE_SECONDS = 75
# A bucket holds what arrives at its rate in this many seconds.
BURST_SECONDS = 20
MOST_ADDRESSES = 50_000
# An answer is due within seconds, so a slow MongoDB counts as unreachable.
_SHORT = {"retries": 1, "mongodb_timeout": 1.5}
_SWEEP_TICKS = 5
_CERTIFICATE_SECONDS = 5.0
# The time at shutdown for records that neither Kafka has acknowledged nor the journal has stored.
_FLUSH_SECONDS = 4.0


class CollectorFailed(Exception):
    """The collector cannot start, or must stop; the message says in one line what to do."""


class Server(uvicorn.Server):
    """Extend uvicorn's server with an orderly shutdown and the closing of slow connections."""

    def __init__(self, config: uvicorn.Config, leave: Callable[[], None], seconds: float) -> None:
        super().__init__(config)
        self._leave = leave
        self._leave_seconds = seconds
        self._is_leaving = False

    def leave(self) -> None:
        """Begin the shutdown; a second call skips the wait."""
        loop = asyncio.get_running_loop()
        self._leave()
        loop.call_later(0 if self._is_leaving else self._leave_seconds, setattr, self, "should_exit", True)
        self._is_leaving = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM and Ctrl-C inside the block."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave)
        yield

    async def on_tick(self, counter: int) -> bool:
        """Run the periodic work; uvicorn calls this ten times a second."""
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.sweep(now)
        return await super().on_tick(counter)


def run(
    settings: Settings, say: Say, *, host: str, port: int, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Arguments:
            settings: The pipeline's settings.
            say: Prints a line where the server listens and when it stops.
            host: The address to listen on.
            port: The port to listen on; 0 for any free one.
            certificate: PEM file of the certificate and its chain; None for HTTP.
            key: PEM file of the key, unless the certificate's file contains it.

    Raises:
        CollectorFailed: It cannot listen there, the certificate is unusable, or Kafka's client has failed for good.
        JournalFailed: The journal cannot be used.
    """
    with closing(listening(host, port)) as listener:
        renewed = None if certificate is None else Certificate(certificate, key)
        config = _config(settings, certificate, key, renewed)
        uvloop.run(_serve(settings, say, listener, config, renewed))


def listening(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        CollectorFailed: The address cannot be bound.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CollectorFailed(f"cannot listen at {host}:{port}: {error.strerror}. Choose another address") from error


def _config(
    settings: Settings, certificate: Path | None, key: Path | None, renewed: Certificate | None
) -> uvicorn.Config:
    config = uvicorn.Config(
        app=_nothing,
        loop="none",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, int(settings.collector_grace) - 5),
        ssl_certfile=certificate and str(certificate),
        ssl_keyfile=key and str(key),
    )
    try:
        if renewed is not None:
            renewed.check()
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise CollectorFailed(
            f"the certificate {certificate} cannot be used: {error}. Its key must match and have no passphrase"
        ) from error
    return config


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for the application until it is built."""


async def _serve(
    settings: Settings, say: Say, listener: socket.socket, config: uvicorn.Config, certificate: Certificate | None
) -> None:
    file = JournalFile(settings.collector_journal_dir or settings.data_dir / "collector")
    journal = Journal(file, settings.collector_journal_bytes, asyncio.get_running_loop())
    delivery = Delivery(journal, file.keys())
    if held := journal.held.records:
        say(f"{held:,} records are in the journal from before: the collector sends them first")
    with closing(MongoStore(settings.model_copy(update=_SHORT).mongodb())) as mongodb:
        services = _services(settings, delivery, mongodb)
        config.loaded_app = application(services)
        server = Server(config, lambda: setattr(services, "is_leaving", True), settings.collector_leave)
        beside = [
            asyncio.create_task(_connect(settings, delivery, say)),
            asyncio.create_task(_watch(services, server, say)),
        ]
        if certificate is not None and config.ssl is not None:
            beside.append(asyncio.create_task(_renew(certificate, config.ssl)))
        failures: list[BaseException] = []
        for task in beside:
            task.add_done_callback(partial(_stop_if_failed, server, failures))
        scheme = "https" if config.is_ssl else "http"
        address, port = listener.getsockname()[:2]
        say(
            f"listening at {scheme}://{f'[{address}]' if ':' in address else address}:{port}; SIGTERM or Ctrl-C ends it"
        )
        # Exclude existing objects from garbage collection: scanning them repeatedly would cost as much as the requests.
        gc.collect()
        gc.freeze()
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in beside:
                task.cancel()
            await delivery.close(_FLUSH_SECONDS)
            services.registry.close()
            journal.close()
            say(f"stopped: {journal.held.records:,} records are in the journal")
    if failures:
        raise CollectorFailed(
            f"a part of the collector has failed: {failures[0]!r}. Restart the collector"
        ) from failures[0]
    if delivery.topic is not None and delivery.topic.is_broken:
        raise CollectorFailed(f"Kafka's client has failed for good: {delivery.topic.trouble}. Restart the collector")


def _services(settings: Settings, delivery: Delivery, mongodb: MongoStore) -> Services:
    look = Looker(settings, mongodb)
    file, keys = settings.collector_app_secrets_file, settings.collector_eventbridge_keys_file
    shop_rate, address_rate = settings.collector_shop_rate, settings.collector_address_rate
    services = Services(
        delivery=delivery,
        registry=Registry(look),
        tokens=Tokens(_redis(settings), settings.namespace, settings.servers_identity),
        app_secrets=AppSecrets(Path(file) if file else None),
        google=_google(settings),
        eventbridge_keys=AppSecrets(Path(keys)) if keys else None,
        uninstalled=look.uninstalled,
        by_shop=Limiter(shop_rate, shop_rate * BURST_SECONDS, MOST_SHOPS),
        by_address=Limiter(address_rate, address_rate * BURST_SECONDS, MOST_ADDRESSES),
        proxies=networks(settings.collector_proxies),
        consent=settings.collector_consent,
    )
    services.metrics.registry.register(State(delivery, services.registry, services.tokens, services.room))
    return services


def _google(settings: Settings) -> GoogleTokens | None:
    audience, account = settings.collector_pubsub_audience, settings.collector_pubsub_account
    keys = partial(download, settings.collector_google_keys_url)
    return GoogleTokens(audience, account, keys) if audience and account else None


def _redis(settings: Settings) -> Any:
    return redis.asyncio.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=1.0,
        socket_connect_timeout=1.0,
        retry=None,
        **given(
            username=settings.redis_username,
            password=settings.redis_password,
            ssl_ca_certs=settings.redis_ca_certs,
        ),
    )


async def _connect(settings: Settings, delivery: Delivery, say: Say) -> None:
    """Create Kafka's client as soon as Kafka answers; until then the journal stores the records."""
    reported = ""
    while True:
        try:
            topic = await asyncio.to_thread(KafkaTopic, settings.kafka(), settings.collector_queue_bytes)
        except KafkaError as error:
            if str(error) != reported:
                reported = str(error)
                say(f"the journal stores all records until Kafka answers: {reported}")
            await asyncio.sleep(1.0)
            continue
        return delivery.start(topic)


def _stop_if_failed(server: Server, failures: list[BaseException], task: asyncio.Task[None]) -> None:
    """Stop serving once a task beside the server has failed: without it, records would stay in the journal unseen."""
    if not task.cancelled() and (error := task.exception()) is not None:
        failures.append(error)
        server.leave()


async def _renew(certificate: Certificate, context: ssl.SSLContext) -> None:
    """Reload the certificate whenever its files change."""
    while True:
        await asyncio.sleep(_CERTIFICATE_SECONDS)
        certificate.refresh(context)


async def _watch(services: Services, server: Server, say: Say) -> None:
    """Ask Redis and the registry until they answer, and stop the server if Kafka's client fails for good.

    It also reports when Kafka or the journal begins to fail, and when it works again.
    """
    failing: dict[str, bool] = {}
    await services.tokens.begin()
    while True:
        if not services.tokens.is_proven:
            await services.tokens.begin()
        if not services.registry.has_answered:
            await services.registry.ask_once()
        topic, journal = services.delivery.topic, services.delivery.journal
        if topic is not None and topic.is_broken:
            server.leave()
        for name, reason in (("Kafka", topic and topic.trouble), ("the journal", journal and journal.failure)):
            # The text of the reason changes from attempt to attempt: report only the first.
            if bool(reason) != failing.get(name, False):
                failing[name] = bool(reason)
                say(f"{name} fails: {reason}" if reason else f"{name} works again")
        await asyncio.sleep(0.25)
