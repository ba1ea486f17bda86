"""`truepixel exporter`: metrics for Prometheus."""

from __future__ import annotations

from pathlib import Path

import click

from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import say


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; loopback by default.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9464,
    show_default=True,
    help="Port to listen on; 0 for any free one.",
)
@click.option(
    "--dagster-home",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of Dagster's dagster.yaml; by default the one in the data folder that `truepixel dev` uses.",
)
def exporter(host: str, port: int, dagster_home: Path | None) -> None:
    """Serve metrics for Prometheus at http://HOST:PORT/metrics until Ctrl-C.

    The metrics show lag, freshness, throughput, latencies, duplicates, redeliveries, dead letters, buffered counters,
    runs, health checks, and violations of order and contiguity. For an unreachable server, truepixel_up is 0 and the
    command prints a line; the other metrics continue. Results are cached for 5 seconds (Redis: 15), so that scrapes
    cost little. Dagster's storage keeps the sums, so a restart neither loses nor doubles them. deploy/ has a dashboard
    and alerts.
    """
    from truepixel_dagster.exporter.serve import serve

    serve(load_settings(), say, host=host, port=port, home=dagster_home)
