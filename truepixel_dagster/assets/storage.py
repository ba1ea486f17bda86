"""Return the metadata that shows where an asset is stored: its name there, its columns, its page and a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from truepixel_dagster.answers.tables import KINDS, LakeTable
from truepixel_dagster.settings import load_or_default
from truepixel_dagster.stores.fields import fields_of, fields_of_mapping
from truepixel_dagster.stores.index_templates import BY_MONTH, template

SETTINGS = load_or_default()
AUDIT = "truepixel audit"


def in_index(name: str, command: str = AUDIT) -> dict[str, Any]:
    """Return the metadata of an asset in the indices of a template.

    Arguments:
        name: The template's name.
        command: Repeats or checks the asset's figures.
    """
    body = template(name, SETTINGS.namespace, 0)
    index = f"{SETTINGS.namespace}-{name}{'-YYYY.MM' if name in BY_MONTH else ''}"
    return _shown(index, _columns(fields_of_mapping(body["template"]["mappings"])), f"documents.md#{name}", command)


def in_collection(name: str, documents: type, command: str = AUDIT) -> dict[str, Any]:
    """Return the metadata of an asset in a collection of MongoDB.

    Arguments:
        name: The collection.
        documents: The struct of its documents.
        command: Repeats or checks the asset's figures.
    """
    columns = _columns({"_id": "text", **fields_of(documents)})
    return _shown(f"{SETTINGS.database}.{name}", columns, f"documents.md#{name}", command)


def in_lake(table: LakeTable) -> dict[str, Any]:
    """Return the metadata of an asset in a table of the lake."""
    columns = (
        dg.TableColumn(
            each.name,
            type=KINDS[each.kind][1],
            description=each.says,
            constraints=dg.TableColumnConstraints(nullable=each.optional),
        )
        for each in table.columns
    )
    by = "day" if any(each.name == "day" for each in table.columns) else "shop_id"
    command = f'truepixel sql "SELECT {by}, count(*) FROM {table.name} GROUP BY {by} ORDER BY {by}"'  # noqa: S608 (to copy)
    return _shown(table.path, columns, f"tables.md#{table.name}", command)


def _columns(types: Mapping[str, str]) -> list[dg.TableColumn]:
    return [dg.TableColumn(name, type=kind) for name, kind in types.items()]


def _shown(name: str, columns: Iterable[dg.TableColumn], page: str, command: str) -> dict[str, Any]:
    return {
        "dagster/table_name": name,
        "dagster/column_schema": dg.TableSchema(columns=list(columns)),
        "documentation": dg.MetadataValue.path(f"docs/{page}"),
        "command that repeats the figures": command,
    }
