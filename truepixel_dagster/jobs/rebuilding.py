"""Run a rebuild as an asset's body: log its progress, and report what it changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg
import msgspec

from truepixel_dagster.jobs.cost import Cost
from truepixel_dagster.jobs.plainly import plainly
from truepixel_dagster.retention import HistoryDropped
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import printable

if TYPE_CHECKING:
    from truepixel_dagster.rebuild.context import RebuildContext
    from truepixel_dagster.rebuild.stats import Progress, RebuildStats

TOLD_EVERY = 5.0
DOCUMENTS_OF_A_REBUILD = "documents recomputed"


def rebuilding(
    context: dg.AssetExecutionContext, rebuild: Callable[[RebuildContext, list[str], Progress], RebuildStats]
) -> dg.MaterializeResult[None]:
    """Run a rebuild of the run's partitions.

    Arguments:
        context: Of the asset.
        rebuild: The function; it gets the rebuild's context, the partitions' keys, and a callback for its progress.

    Raises:
        Failure: A server does not answer, or refused a document; or the events of these days are no longer kept. The
            message says which.
    """
    # Only a rebuild pays for pandas.
    from truepixel_dagster.rebuild.context import rebuilding as opened

    cost = Cost()
    keys = list(context.partition_keys)
    again = ". What was written is right, and the rest as it was: materialize it again"
    with plainly(also=(HistoryDropped,)), plainly(again), opened(load_settings()) as tools:
        result = rebuild(tools, keys, telling(context.log.info))
    if result.unknown:
        line = f"{result.unknown} orders have no attribution and were not counted: materialize attributions first"
        context.log.warning(printable(line))
    if result.unreadable:
        line = f"{result.unreadable} documents cannot be read and stay as they are; the output says which"
        context.log.warning(printable(line))
    if result.refused:
        line = f"{result.refused} events are refused by this version; their documents stay, and the output says why"
        context.log.warning(printable(line))
    counts = msgspec.to_builtins(result)
    # The figures are the run's: with several partitions, no single one has so many rows.
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


def telling(say: Callable[[str], None], every: float = TOLD_EVERY) -> Progress:
    """Says how far a rebuild has come, in lines, every few seconds."""
    last = time.monotonic()

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            say(printable(f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}"))

    return progress
