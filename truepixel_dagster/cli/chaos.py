"""`truepixel chaos`: faults under load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from truepixel_dagster.cli.options import (
    progress_bar,
)
from truepixel_dagster.settings import load_settings
from truepixel_dagster.terminal import echo, out, say, table

if TYPE_CHECKING:
    from truepixel_dagster.local.chaos.report import Report


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Number of faults.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses the faults and their order.")
@click.option("--rate", type=click.FloatRange(1, 2000), default=100, show_default=True, help="Events a second.")
@click.option("--kinds", default="", help="Only these kinds of fault, separated by commas.")
@click.option("--list", "list_kinds", is_flag=True, help="Print the kinds of fault, and do nothing.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to this file."
)
def chaos(rounds: int, seed: int, rate: float, kinds: str, list_kinds: bool, json_file: Path | None) -> None:
    """Cause every known kind of fault in a pipeline under load, and audit the result.

    It starts its own servers and touches nothing else on the machine. A round takes about half a minute. Exits with 1
    if anything is lost, doubled or different, or if a round did not recover.
    """
    from truepixel_dagster.local.chaos.chaos import chaos as run
    from truepixel_dagster.local.chaos.faults import FAULTS

    if list_kinds:
        for kind, fault in FAULTS.items():
            echo(f"{kind:20}{(fault.__doc__ or '').splitlines()[0]}")
        return
    wanted = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    if unknown := [kind for kind in wanted if kind not in FAULTS]:
        raise click.BadParameter(f"unknown kinds: {', '.join(unknown)}. --list prints the kinds", param_hint="--kinds")
    with progress_bar("rounds", rounds) as done:
        report = run(load_settings(), say, rounds=rounds, seed=seed, rate=rate, kinds=wanted, on_round=done)
    if json_file:
        json_file.write_text(json.dumps(msgspec.to_builtins(report), indent=2) + "\n")
    rows = []
    for kind, seconds in report.recovery_seconds.items():
        times = report.rounds if kind == "all" else report.kinds[kind]
        rows.append((kind, times, f"{seconds['median']:.1f} s", f"{seconds['max']:.1f} s"))
    columns = ("fault", "rounds", "median recovery", "longest")
    out.print(table(columns, rows, title=f"{report.produced:,} events"))
    _echo_details(report)
    for example in report.examples:
        echo(example, to_stderr=True)
    verdict = (
        f"lost {report.lost}, doubled {report.doubled}, differences {report.differences},"
        f" not recovered {report.not_recovered}, days not shown {len(report.days_not_shown)}"
        + (f" ({', '.join(report.days_not_shown[:5])})" if report.days_not_shown else "")
    )
    if not report.passed:
        raise click.ClickException(verdict)
    echo(verdict)


def _echo_details(report: Report) -> None:
    """Print the figures that only some kinds of fault have."""
    if report.excused or report.lost_to_retention:
        echo(
            f"excused by the audit: {report.excused} differences in the order of users whose key moved when partitions"
            f" were added; {report.lost_to_retention} records that retention removed before they were read"
        )
    if report.promised:
        echo(f"the collector promised {report.promised:,} records; each one was looked up in the topic")
    if taken := report.takeover_seconds:
        echo(f"frozen lanes were taken over after {taken['median']:.1f} s (median), {taken['max']:.1f} s at most")
