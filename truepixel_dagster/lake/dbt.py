"""Describe the lake for dbt-duckdb. The description is generated from the schemas, so it cannot differ from them."""

from __future__ import annotations

import json

from truepixel_dagster.answers.tables import KINDS, TABLES, LakeTable
from truepixel_dagster.lake.files import Lake


def sources_of(lake: Lake) -> str:
    """Return the text of a `sources.yml`: one source `truepixel` with all tables of the lake."""
    return "\n".join(
        [
            "version: 2",
            "sources:",
            "  - name: truepixel",
            "    tables:",
            *(line for table in TABLES.values() for line in _table(lake, table)),
        ]
    )


def _table(lake: Lake, table: LakeTable) -> list[str]:
    # dbt-duckdb treats braces as placeholders, so no types can be given here; those of the files apply.
    location = f"read_parquet('{lake.files(table)}', hive_partitioning=false)"
    lines = [
        f"      - name: {table.name}",
        f"        description: {json.dumps(table.says)}",
        "        config:",
        f"          external_location: {json.dumps(location)}",
        "        columns:",
    ]
    for each in table.columns:
        lines += [
            f"          - name: {each.name}",
            f"            data_type: {json.dumps(KINDS[each.kind][1])}",
            f"            description: {json.dumps(each.says)}",
        ]
        if not each.optional:
            lines.append("            data_tests: [not_null]")
    return lines
