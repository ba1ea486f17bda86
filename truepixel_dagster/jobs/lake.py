"""Materialize tables of the lake, and report what was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from truepixel_dagster.jobs.cost import Cost
from truepixel_dagster.jobs.expected_errors import expected_errors
from truepixel_dagster.jobs.rebuilding import log_progress
from truepixel_dagster.lake.errors import LakeError, NotImported
from truepixel_dagster.settings import load_settings
from truepixel_dagster.text import printable

if TYPE_CHECKING:
    from truepixel_dagster.rebuild.lake import Making
    from truepixel_dagster.rebuild.spend_files import Imported


def made(context: dg.AssetExecutionContext, key: str) -> dg.MaterializeResult[None]:
    """Recompute the run's days of a table.

    Arguments:
        context: The asset's context.
        key: The asset's key.

    Raises:
        Failure: A server, disk or bucket does not answer. The message names it.
    """
    # Import Arrow in these runs only.
    from truepixel_dagster.rebuild.answers import MAKERS
    from truepixel_dagster.rebuild.lake import make

    days = list(context.partition_keys)
    return reported(context, lambda tools, progress: make(tools, MAKERS[key], days, progress))


def reported(context: dg.AssetExecutionContext, write: Making) -> dg.MaterializeResult[None]:
    """Write tables and report what was written.

    Arguments:
        context: The asset's context.
        write: Writes the tables, given the makers' tools and a function that reports progress.

    Raises:
        Failure: A server, disk or bucket does not answer. The message names it.
    """
    from truepixel_dagster.rebuild.lake import making

    cost = Cost()
    with expected_errors(". Materialize it again", also=(LakeError, OSError)), making(load_settings()) as tools:
        done = write(tools, log_progress(context.log.info))
    if done.left_out:
        context.log.warning(printable(f"{done.left_out} shops are left out: their ids are too long for a file's name"))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.rows,
            "files": done.files,
            "files changed": done.changed,
            "files removed": done.removed,
            "partitions of the run": len(context.partition_keys) if context.has_partition_key_range else 1,
            **cost.metadata(),
        }
    )


def import_file(context: dg.OpExecutionContext, path: str) -> Imported:
    """Import one file of the watched folder, all of it or nothing.

    Raises:
        Failure: A line is bad, or the file cannot be read. The message says why.
    """
    from truepixel_dagster.rebuild.spend_files import import_watched

    with expected_errors(also=(LakeError, NotImported, OSError)):
        imported = import_watched(load_settings(), path)
    context.log.info(printable(f"{path}: {imported.rows:,} rows of {imported.form}, {len(imported.days)} days"))
    return imported
