"""`truepixel collector`: parses arguments and prints."""

from __future__ import annotations

from pathlib import Path

import click

from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import say

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 for any free port.")
@click.option("--tls-cert", type=_FILE, help="PEM file of the certificate and its chain; without it, HTTP.")
@click.option("--tls-key", type=_FILE, help="PEM file of the key, unless --tls-cert contains it.")
def collector(host: str, port: int, tls_cert: Path | None, tls_key: Path | None) -> None:
    """Receive Shopify's webhooks and the pixel's events over HTTP, and write them to the topic.

    A 2xx answer means that Kafka has acknowledged the record or the journal has synced it to disk. See
    docs/collector.md.
    """
    from truepixel_dagster.collector.journal_file import JournalFailed
    from truepixel_dagster.collector.serve import CollectorFailed, run

    if tls_key and not tls_cert:
        raise click.UsageError("--tls-key requires --tls-cert")
    try:
        run(load_settings(), say, host=host, port=port, certificate=tls_cert, key=tls_key)
    except (CollectorFailed, JournalFailed) as error:
        raise click.ClickException(str(error)) from error
