"""Start a stack for one test or trial, on free ports, and check that its own servers answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from truepixel_dagster.local.addresses import settings_at
from truepixel_dagster.local.servers import Address, Elasticsearch, Kafka, MongoDB, Postgres, Redis, free_ports
from truepixel_dagster.local.stack import Progress, Stack
from truepixel_dagster.settings import Settings


@contextmanager
def ephemeral_stack(
    base_dir: Path,
    settings: Settings | None = None,
    progress: Progress = lambda _: None,
    *,
    with_postgres: bool = False,
    only: Collection[str] = (),
) -> Iterator[Settings]:
    """Start a stack on free ports, for a test or a trial; its servers end with the block or with this process.

    Call it from the main thread (see `Stack`).

    Arguments:
        base_dir: The stack's data folder; it stays at the end.
        settings: Settings for everything but addresses and folders; by default from the environment, without `.env`.
        progress: Receives lines about the progress.
        with_postgres: Whether it has PostgreSQL for Dagster's own storage.
        only: As in `Stack`.

    Yields:
        The settings with the stack's addresses and data folder. `Stack(settings)` is the same stack.

    Raises:
        StackError: A server did not start.
    """
    addresses = [Address("127.0.0.1", port) for port in free_ports(5 if with_postgres else 4)]
    own = settings_at(settings or Settings(_env_file=None), *addresses)
    own = own.model_copy(update={"data_dir": base_dir.absolute()})
    stack = Stack(own, tied_to_parent=True, with_postgres=with_postgres, only=only)
    try:
        stack.up(progress)
        _prove(stack, own)
        yield own
    finally:
        stack.down(progress)


def identified(settings: Settings) -> Settings:
    """Return the settings with the stack's identity: every process then checks that its servers belong to the stack."""
    return settings.model_copy(update={"servers_identity": Stack(settings).identity})


def _prove(stack: Stack, own: Settings) -> None:
    """Check, before anything is written, that the stack's own servers answer at its addresses.

    Raises:
        HistoryUnavailable, KafkaError, Unavailable: Another server answers, or none.
    """
    from truepixel_dagster.instance.history import check_history
    from truepixel_dagster.resources import open_stores
    from truepixel_dagster.stream.client_config import client_config

    expected = identified(own)
    names = {server.name for server in stack.servers}
    if Postgres.name in names:
        check_history(expected)
    if names >= {Kafka.name, Elasticsearch.name, MongoDB.name, Redis.name}:
        client_config(expected.kafka())
        with open_stores(expected):
            pass
