"""Read, replace and list the files of the lake, and record their sources.

    <lake>/orders/v1/day=2026-01-31/_made.json
    <lake>/orders/v1/day=2026-01-31/shop_id=548380009/part.parquet

A file is replaced as a whole: by a rename on a disk, by one upload in object storage. So a reader sees the old file or
the new one. `_made.json` is written last and records the sources of each shop's file: if they no longer match, the day
is stale, and materializing it again corrects it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import pyarrow as pa

from truepixel_dagster.answers.tables import LakeTable
from truepixel_dagster.lake.arrow import Row, parquet, schema_of, table_of
from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.lake.storage import Storage
from truepixel_dagster.settings import Settings

_MADE, _FILE = "_made.json", "part.parquet"
#: The longest name of a file that every disk allows, with some room.
LONGEST_NAME = 240


class Made(msgspec.Struct, frozen=True):
    """Hold the number of rows of one file, its digest, and a text that identifies its sources."""

    rows: int
    sha256: str
    sources: str


class Written(msgspec.Struct, frozen=True):
    """Count the rows and files of written days, and the files that were changed or removed."""

    rows: int = 0
    files: int = 0
    changed: int = 0
    removed: int = 0
    #: Shops that are left out because their id is too long for a file name.
    left_out: int = 0

    def __add__(self, other: Written) -> Written:
        """Return the sum of both."""
        return Written(*(a + b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other))))


class Lake(Storage):
    """Read and write the files of one lake."""

    def write(
        self, table: LakeTable, day: str, shops: Mapping[str, Sequence[Row]], sources: Mapping[str, str]
    ) -> Written:
        """Replace the files of a day, and remove the files of shops without rows.

        Arguments:
            table: The table.
            day: The day in ISO form.
            shops: The rows of each shop; read one shop at a time.
            sources: A text for each shop that identifies the sources of its rows; also for shops without rows.

        Raises:
            OSError, LakeError: The disk or bucket rejects a write.
        """
        before = self.made(table, day)
        named = [shop for shop in sorted(shops) if len(shop_folder(shop)) <= LONGEST_NAME]
        made: dict[str, Made] = {}
        changed = 0
        for shop in named:
            rows = shops[shop]
            content = parquet(table, rows) if rows else b""
            digest = hashlib.sha256(content).hexdigest()
            made[shop] = Made(len(rows), digest, sources.get(shop, ""))
            there = before.get(shop)
            if rows and (there is None or there.sha256 != digest or not self._has(table, day, shop, digest)):
                self.put(self._file(table, day, shop), content)
                changed += 1
        gone = [shop for shop in self.shops(table, day) if shop not in made or not made[shop].rows]
        for shop in gone:
            self.remove(self._file(table, day, shop))
        for shop, words in sources.items():
            made.setdefault(shop, Made(0, "", words))
        if made != before:
            self.put(f"{self._day(table, day)}/{_MADE}", msgspec.json.encode(dict(sorted(made.items()))))
        return Written(
            sum(each.rows for each in made.values()),
            sum(bool(each.rows) for each in made.values()),
            changed,
            len(gone),
            len(shops) - len(named),
        )

    def read(self, table: LakeTable, day: str, shop: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a shop's day; none if there is no file.

        Raises:
            LakeError: Another process is replacing the file.
        """
        made = self.made(table, day).get(shop)
        if made is None or not made.rows:
            return []
        rows: list[dict[str, Any]] = self._table(table, day, shop, made, columns).to_pylist()
        return rows

    def read_day(self, table: LakeTable, day: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of all shops on a day.

        Raises:
            LakeError: Another process is replacing a file.
        """
        names = columns or [each.name for each in table.columns]
        made = {shop: each for shop, each in self.made(table, day).items() if each.rows}
        found = [self._table(table, day, shop, each, names) for shop, each in sorted(made.items())]
        return pa.concat_tables([schema_of(table).empty_table().select(names), *found])

    def _table(self, table: LakeTable, day: str, shop: str, made: Made, columns: Sequence[str] | None) -> pa.Table:
        content = self.content(self._file(table, day, shop))
        if hashlib.sha256(content).hexdigest() != made.sha256:
            raise LakeError(
                f"{self._file(table, day, shop)} does not match its {_MADE}, because another process replaces it or"
                f" was interrupted: materialize {table.name} of {day} again"
            )
        return table_of(content, columns)

    def made(self, table: LakeTable, day: str) -> dict[str, Made]:
        """Return what `_made.json` of a day records, by shop; empty if the day was never written."""
        return self.made_of(table, [day]).get(day, {})

    def made_of(self, table: LakeTable, days: Iterable[str]) -> dict[str, dict[str, Made]]:
        """Return what `_made.json` records, by day and shop, for those of some days that were written."""
        paths = {f"{self._day(table, day)}/{_MADE}": day for day in days}
        found = self.contents(paths)
        return {paths[path]: msgspec.json.decode(content, type=dict[str, Made]) for path, content in found.items()}

    def shops(self, table: LakeTable, day: str) -> list[str]:
        """Return the shops that have a file for a day."""
        found = (path for path in self.below(self._day(table, day)) if path.endswith(f"/{_FILE}"))
        return sorted(unquote(path.rsplit("/", 2)[1].partition("=")[2]) for path in found)

    def days(self, table: LakeTable) -> list[str]:
        """Return the days that a table has, in order."""
        names = self.names(self.path(table.path))
        return sorted(name.partition("=")[2] for name in names if name.startswith("day="))

    def paths(self, table: LakeTable, shop: str | None = None) -> list[str]:
        """Return the files of a table, of one shop or of all."""
        end = f"/{_FILE}" if shop is None else f"/{shop_folder(shop)}/{_FILE}"
        return [path for path in self.below(self.path(table.path)) if path.endswith(end)]

    def has_files(self, table: LakeTable, shop: str | None = None) -> bool:
        """Return whether a table has any file, of one shop or of any."""
        # A pattern would look into the folders of all shops.
        days = self.days(table)
        if shop is None:
            return any(self.shops(table, day) for day in days)
        return any(self.exists(self._file(table, day, shop)) for day in days)

    def files(self, table: LakeTable, shop: str | None = None) -> str:
        """Return the pattern of the files of a table, of one shop or of all."""
        # A quoted shop id has no character that a pattern gives a meaning.
        return f"{self.root}/{table.path}/*/{'*' if shop is None else shop_folder(shop)}/{_FILE}"

    def _has(self, table: LakeTable, day: str, shop: str, digest: str) -> bool:
        """Return whether a file has the recorded content; a concurrent writer may have left another."""
        try:
            return hashlib.sha256(self.content(self._file(table, day, shop))).hexdigest() == digest
        except FileNotFoundError:
            return False

    def _day(self, table: LakeTable, day: str) -> str:
        return self.path(f"{table.path}/day={day}")

    def _file(self, table: LakeTable, day: str, shop: str) -> str:
        return f"{self._day(table, day)}/{shop_folder(shop)}/{_FILE}"


def shop_folder(shop: str) -> str:
    """Return the name of a shop's folder; longer than `LONGEST_NAME`, no disk may allow it."""
    return f"shop_id={quote(shop, safe='')}"


def lake_of(settings: Settings) -> Lake:
    """Return the lake that the settings name: a folder of `TRUEPIXEL_DATA_DIR` by default."""
    return Lake(settings.lake_url or str(settings.data_dir.absolute() / "lake"))
