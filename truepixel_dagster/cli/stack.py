"""`truepixel stack up | down | status`: the real servers on this machine."""

from __future__ import annotations

import sys

import click

from truepixel_dagster.cli.options import (
    as_json,
)
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import out, print_json, say, table


@click.group()
def stack() -> None:
    """Run Kafka, Elasticsearch, MongoDB, a Redis-protocol server and, if wanted, PostgreSQL locally, on loopback."""


@stack.command()
@click.option("--with-postgres", is_flag=True, help="With PostgreSQL, for Dagster's own storage.")
def up(with_postgres: bool) -> None:
    """Start what is not running and wait until every server answers. Safe to call twice.

    Once started, PostgreSQL belongs to the stack: `up`, `status` and `down` include it with or without the option,
    until its folder in the stack's folder is deleted.
    """
    from truepixel_dagster.local.servers import Postgres
    from truepixel_dagster.local.stack import Stack

    settings = load_settings()
    servers = Stack(settings, with_postgres=with_postgres)
    servers.up(say)
    postgres = next((server for server in servers.servers if isinstance(server, Postgres)), None)
    if postgres and settings.postgres_url is None:
        say(f"Dagster still keeps its history in SQLite files: set TRUEPIXEL_POSTGRES_URL={postgres.url}")


@stack.command()
def down() -> None:
    """End the servers; their data is kept."""
    from truepixel_dagster.local.stack import Stack

    Stack(load_settings()).down(say)


@stack.command()
@as_json
def status(as_json: bool) -> None:
    """Show the address, pid, version and data size of each server; exit with 1 if one is not running."""
    from dataclasses import asdict

    from truepixel_dagster.local.stack import Stack

    servers = Stack(load_settings()).status()
    if as_json:
        print_json([asdict(server) for server in servers])
    else:
        rows = []
        for server in servers:
            size = f"{server.data_bytes / 2**20:.1f} MiB"
            running = "yes" if server.running else "no"
            rows.append((server.name, running, server.address, server.pid, server.version, size))
        out.print(table(("server", "running", "address", "pid", "version", "data"), rows))
    if not all(server.running for server in servers):
        sys.exit(1)
