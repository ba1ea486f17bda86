"""docs/tables.md describes every table as its schema does."""

from __future__ import annotations

import re
from pathlib import Path

from truepixel_dagster.answers.tables import KINDS, TABLES, as_markdown
from truepixel_dagster.lake.arrow import schema_of
from truepixel_dagster.lake.dbt import sources_of
from truepixel_dagster.lake.files import Lake

DOCS = Path(__file__).parents[3] / "docs" / "tables.md"


def test_the_page_describes_the_tables_as_they_are() -> None:
    described = DOCS.read_text().partition("\n## Tables\n\n")[2].strip()
    assert described == as_markdown(), "replace what follows `## Tables` by what `as_markdown()` returns"


def test_arrow_duckdb_and_dbt_know_the_same_columns() -> None:
    text = sources_of(Lake("memory://lake"))
    for table in TABLES.values():
        own = text.partition(f"- name: {table.name}\n")[2].partition("external_location")[2].partition("      - name: ")
        named = re.findall(r"          - name: (\w+)\n            data_type: \"(.*)\"", own[0] + own[1] + own[2])
        expected = [(each.name, KINDS[each.kind][1]) for each in table.columns]
        assert named[: len(expected)] == expected
        assert schema_of(table).names == [name for name, _ in expected]
