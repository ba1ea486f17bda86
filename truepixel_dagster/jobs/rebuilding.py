"""Run a rebuild as an asset's body: log its progress, and report what it changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg
import msgspec

from truepixel_dagster.jobs.cost import Cost
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.retention import HistoryDropped
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import printable

if TYPE_CHECKING:
    from truepixel_dagster.rebuild.context import RebuildContext
    from truepixel_dagster.rebuild.stats import Progress, RebuildStats

LOG_PROGRESS_SECONDS = 5.0
DOCUMENTS_OF_A_REBUILD = "documents recomputed"


def rebuilding(
    context: dg.AssetExecutionContext, rebuild: Callable[[RebuildContext, list[str], Progress], RebuildStats]
) -> dg.MaterializeResult[None]:
    """Run a rebuild of the run's partitions.

    Arguments:
        context: The asset's context.
        rebuild: The function; it gets the rebuild's context, the partitions' keys, and a callback for its progress.

    Raises:
        OperatorError: A server does not answer or rejected a document, or retention removed the events of these days.
            The message names the cause.
    """
    # Import pandas in rebuilds only.
    from truepixel_dagster.rebuild.context import rebuilding as opened

    cost = Cost()
    keys = list(context.partition_keys)
    again = ". Documents that were written are correct, the others are unchanged: materialize it again"
    with expected_errors(also=(HistoryDropped,)), expected_errors(again), opened(load_settings()) as tools:
        result = rebuild(tools, keys, log_progress(context.log.info))
    if result.unknown:
        line = f"{result.unknown} orders have no attribution and were not counted: materialize attributions first"
        context.log.warning(printable(line))
    if result.unreadable:
        line = f"{result.unreadable} documents cannot be read and stay unchanged; the run's output names them"
        context.log.warning(printable(line))
    if result.refused:
        line = f"this version rejects {result.refused} events; their documents stay. The run's output has the reasons"
        context.log.warning(printable(line))
    counts = msgspec.to_builtins(result)
    # With several partitions, the figures are the run's, not those of one partition.
    rows = {"dagster/row_count": result.documents - result.removed} if len(keys) == 1 else {}
    return dg.MaterializeResult(
        metadata={
            **rows,
            "written by": "rebuild",
            DOCUMENTS_OF_A_REBUILD: counts["documents"],
            "documents changed": counts["changed"],
            "documents removed": counts["removed"],
            "orders without attribution": counts["unknown"],
            "documents older than the events kept": counts["older"],
            "documents that cannot be read": counts["unreadable"],
            "documents whose payload is refused": counts["refused"],
            "partitions of the run": len(keys),
            **cost.metadata(),
        }
    )


def log_progress(log: Callable[[str], None], every: float = LOG_PROGRESS_SECONDS) -> Progress:
    """Return a callback that logs a line about a rebuild's progress every few seconds."""
    last = time.monotonic()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            log(printable(f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}"))

    return progress
