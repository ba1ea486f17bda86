"""Query the lake with DuckDB, read-only: a view for each table, single statements, and no files but the lake's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb

from truepixel_dagster.answers.tables import KINDS, TABLES, LakeTable
from truepixel_dagster.lake.errors import LakeError, QueryRefused
from truepixel_dagster.lake.files import Lake
from truepixel_dagster.lake.listed import ListedFiles

#: Converts an error of DuckDB.
Explain = Callable[[duckdb.Error], LakeError | QueryRefused]


class Found:
    """Hold the result of a query: the names of its columns, and its rows in batches."""

    def __init__(self, result: duckdb.DuckDBPyConnection, explain: Explain) -> None:
        self._result = result
        self._explain = explain
        self.columns = [str(each[0]) for each in result.description or ()]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows."""
        try:
            while rows := self._result.fetchmany(1000):
                yield from rows
        except duckdb.Error as error:
            raise self._explain(error) from error

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows by name."""
        return [dict(zip(self.columns, row)) for row in self]


class Sql:
    """Query a lake through a connection of DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, explain: Explain) -> None:
        self._connection = connection
        self._explain = explain

    def query(self, text: str, values: Sequence[object] = ()) -> Found:
        """Run one query.

        Arguments:
            text: One statement that reads.
            values: The values of its `?`.

        Raises:
            QueryRefused: The text is not a single query, or DuckDB rejects it.
            LakeError: The bucket cannot be used.
        """
        try:
            statements = self._connection.extract_statements(text)
            # EXPLAIN ANALYZE executes the statement, even one that writes.
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise QueryRefused("write one statement that reads, such as SELECT or DESCRIBE: the lake is read-only")
            return Found(self._connection.execute(statements[0], list(values)), self._explain)
        except duckdb.Error as error:
            raise self._explain(error) from error


@contextmanager
def open_sql(lake: Lake, shop: str | None = None) -> Iterator[Sql]:
    """Open DuckDB on a lake. Queries can use its tables, and no other file, setting or extension.

    Arguments:
        lake: The lake.
        shop: Open the files of this shop only; to find them among those of all shops takes seconds.

    Raises:
        QueryRefused: A file cannot be read.
        LakeError: The bucket cannot be used.
    """
    bucket = None if lake.is_local else ListedFiles(lake)

    def explain(error: duckdb.Error) -> LakeError | QueryRefused:
        return (bucket and bucket.taken_failure()) or QueryRefused(str(error))

    with duckdb.connect() as connection:
        if bucket:
            connection.register_filesystem(bucket)
            # The cache would keep parts of files that are replaced meanwhile.
            connection.execute("SET enable_external_file_cache = false")
        connection.execute("SET TimeZone = 'UTC'")
        for table in TABLES.values():
            has_files = bucket.has(table, shop) if bucket else lake.has_files(table, shop)
            view = _select(lake, table, shop) if has_files else _no_rows(table)
            try:
                connection.execute(f"CREATE VIEW {table.name} AS {view}")
            except duckdb.Error as error:
                raise _unreadable(table, explain(error)) from error
        folders = [f"{lake.root}/", f"{lake.root.replace('://', ':///', 1)}/"]
        connection.execute("SET allowed_directories = ?", [folders])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield Sql(connection, explain)


def _unreadable(table: LakeTable, error: LakeError | QueryRefused) -> LakeError | QueryRefused:
    if isinstance(error, LakeError):
        return error
    return QueryRefused(f"a file of {table.name} cannot be read: {error}. Materialize its day")


def _no_rows(table: LakeTable) -> str:
    """Return the SELECT of a table without files."""
    columns = ", ".join(f"CAST(NULL AS {KINDS[each.kind][1]}) AS {each.name}" for each in table.columns)
    return f"SELECT {columns} WHERE false"


def _select(lake: Lake, table: LakeTable, shop: str | None) -> str:
    """Return the SELECT of a table's view. Names and types are this package's own, and the pattern is quoted."""
    pattern = lake.files(table, shop).replace("'", "''")
    names = ", ".join(each.name for each in table.columns)
    types = "hive_partitioning = true, hive_types = {'shop_id': VARCHAR, 'day': DATE}"
    return f"SELECT {names} FROM read_parquet('{pattern}', {types})"  # noqa: S608
