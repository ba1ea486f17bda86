"""Convert tables to and from Arrow and Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from truepixel_dagster.answers.tables import Kind, LakeTable

Row = Mapping[str, Any]

_TYPES: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "integer": pa.int64(),
    "amount": pa.int64(),
    "amounts": pa.map_(pa.string(), pa.int64()),
    "share": pa.decimal128(18, 6),
    "ratio": pa.decimal128(18, 4),
    "rate": pa.decimal128(30, 12),
    "flag": pa.bool_(),
    "day": pa.date32(),
    "time": pa.timestamp("ms", "UTC"),
}


def schema_of(table: LakeTable) -> pa.Schema:
    """Return the Arrow schema of a table."""
    return pa.schema([pa.field(each.name, _TYPES[each.kind], nullable=each.optional) for each in table.columns])


def parquet(table: LakeTable, rows: Sequence[Row]) -> bytes:
    """Return rows as a Parquet file: the same rows give the same bytes, in any order.

    Raises:
        ValueError: A value is missing, or is not of its column's type.
    """
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in table.key))
    made = pa.Table.from_pylist(ordered, schema_of(table))
    for field in made.schema:
        if not field.nullable and made[field.name].null_count:
            raise ValueError(f"table {table.name}: column {field.name} has no value in some row")
    sink = io.BytesIO()
    pq.write_table(made, sink, compression="zstd")
    return sink.getvalue()


def table_of(file: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a Parquet file with the given columns; None stands for all columns."""
    # Several threads take longer than one for files of this size.
    return pq.ParquetFile(pa.BufferReader(file)).read(columns and list(columns), use_threads=False)


def summed(table: pa.Table, by: Sequence[str], amounts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the exact sums of some columns by others, each with the number of its `rows`."""
    functions = [*((name, "sum") for name in amounts), ([], "count_all")]
    sums = table.group_by(list(by), use_threads=False).aggregate(functions)
    rows: list[dict[str, Any]] = sums.rename_columns([*by, *amounts, "rows"]).to_pylist()
    return rows


def where(table: pa.Table, column: str, value: str) -> pa.Table:
    """Return the rows whose column has a value."""
    return table.filter(pc.equal(table[column], value))


def by_shop(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return rows by their shop."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["shop_id"], []).append(row)
    return found
