"""Where the files of the lake are, how they are replaced, and what they were made of.

    <lake>/orders/v1/day=2026-01-31/_made.json
    <lake>/orders/v1/day=2026-01-31/shop_id=548380009/part.parquet

A file is replaced as a whole: by a rename on a disk, by one upload in object storage. So a reader sees the old file or
the new one. `_made.json` is written last and says of each shop what its file was made of: where it does not match, the
day is stale, and materializing it again is all that it takes.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem

from truepixel_dagster.answers.tables import LakeTable
from truepixel_dagster.lake.arrow import Row, parquet, rows_of
from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.settings import Settings

_MADE, _FILE = "_made.json", "part.parquet"
# Of a file's name, on every disk.
_LONGEST_NAME = 240


class Made(msgspec.Struct, frozen=True):
    """What is known of one file: its rows, its digest, and what it was made of."""

    rows: int
    sha256: str
    sources: str


class Written(msgspec.Struct, frozen=True):
    """What writing a day did: rows, files, and which of these were changed or removed."""

    rows: int = 0
    files: int = 0
    changed: int = 0
    removed: int = 0
    #: Shops whose id is too long to name a file: they are left out.
    left_out: int = 0

    def __add__(self, other: Written) -> Written:
        """The sum of two."""
        return Written(*(a + b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other))))


class Lake:
    """The files of one lake.

    Arguments:
        url: A folder, or the address of a bucket as fsspec has it, such as `s3://bucket/truepixel`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self.fs, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise LakeError(f"{self.url}: {error}; install the package that fsspec needs for it") from error

    @property
    def root(self) -> str:
        """The address as the file system itself writes it."""
        return str(self.fs.unstrip_protocol(self._root)) if not self.is_local else str(self._root)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def write(
        self, table: LakeTable, day: str, shops: Mapping[str, Sequence[Row]], sources: Mapping[str, str]
    ) -> Written:
        """Replace the files of a day. Shops that are not named have no row on it: their files go.

        Arguments:
            table: Which table.
            day: ISO.
            shops: The rows of each shop; read one shop at a time.
            sources: What the rows of each shop were made of; shops without rows may have some, too.

        Raises:
            OSError: The disk or bucket refuses.
        """
        before = self.made(table, day)
        named = [shop for shop in sorted(shops) if len(_shop(shop)) <= _LONGEST_NAME]
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
            self.fs.rm_file(self._file(table, day, shop))
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
        """Return the rows of a shop's day; none where there is no file.

        Raises:
            LakeError: Somebody is replacing it.
        """
        made = self.made(table, day).get(shop)
        if made is None or not made.rows:
            return []
        content = self.fs.cat_file(self._file(table, day, shop))
        if hashlib.sha256(content).hexdigest() != made.sha256:
            raise LakeError(
                f"{self._file(table, day, shop)} is not what {_MADE} says: it is being replaced, or was;"
                f" materialize {table.name} of {day} again"
            )
        return rows_of(content, columns)

    def made(self, table: LakeTable, day: str) -> dict[str, Made]:
        """Return what the files of a day were made of, by shop; empty where the day was never made."""
        return self.made_of(table, [day]).get(day, {})

    def made_of(self, table: LakeTable, days: Iterable[str]) -> dict[str, dict[str, Made]]:
        """Return what the files of several days were made of, by day and shop, of the days that were made."""
        paths = {f"{self._day(table, day)}/{_MADE}": day for day in days}
        found = self.fs.cat(list(paths), on_error="omit") if paths else {}
        # A file system that is given one path returns its content alone.
        contents = found if isinstance(found, dict) else dict(zip(paths, [found]))
        by_path = {str(path).lstrip("/"): content for path, content in contents.items()}
        read = {day: by_path.get(path.lstrip("/")) for path, day in paths.items()}
        return {day: msgspec.json.decode(content, type=dict[str, Made]) for day, content in read.items() if content}

    def shops(self, table: LakeTable, day: str) -> list[str]:
        """Return the shops that have a file of a day."""
        self.fs.invalidate_cache(self._day(table, day))
        found = self.fs.glob(f"{self._day(table, day)}/*/{_FILE}")
        return sorted(unquote(str(path).rsplit("/", 2)[1].partition("=")[2]) for path in found)

    def days(self, table: LakeTable) -> list[str]:
        """Return the days that a table has, in order."""
        return sorted(name.partition("=")[2] for name in self._names(f"{self._root}/{table.path}", "day="))

    def has_files(self, table: LakeTable) -> bool:
        """Return whether a table has any file."""
        return bool(self.fs.glob(f"{self._root}/{table.path}/*/*/{_FILE}"))

    def files(self, table: LakeTable) -> str:
        """Return the pattern of all files of a table."""
        return f"{self.root}/{table.path}/*/*/{_FILE}"

    def path(self, name: str) -> str:
        """Return the path of something else that is kept in the lake."""
        return f"{self._root}/{name}"

    def put(self, path: str, content: bytes) -> None:
        """Replace a file as a whole."""
        if not self.is_local:
            self.fs.pipe_file(path, content)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    def _has(self, table: LakeTable, day: str, shop: str, digest: str) -> bool:
        """Return whether a file is as it should be; two that wrote it at once may have left the other's content."""
        try:
            return hashlib.sha256(self.fs.cat_file(self._file(table, day, shop))).hexdigest() == digest
        except FileNotFoundError:
            return False

    def _names(self, path: str, prefix: str) -> Iterator[str]:
        self.fs.invalidate_cache(path)
        try:
            found = self.fs.ls(path, detail=False)
        except FileNotFoundError:
            return
        for each in found:
            name = str(each).rstrip("/").rpartition("/")[2]
            if name.startswith(prefix):
                yield name

    def _day(self, table: LakeTable, day: str) -> str:
        return f"{self._root}/{table.path}/day={day}"

    def _file(self, table: LakeTable, day: str, shop: str) -> str:
        return f"{self._day(table, day)}/{_shop(shop)}/{_FILE}"


def _shop(shop: str) -> str:
    return f"shop_id={quote(shop, safe='')}"


def lake_of(settings: Settings) -> Lake:
    """Return the lake that the settings name: a folder of `TRUEPIXEL_DATA_DIR` by default."""
    return Lake(settings.lake_url or str(settings.data_dir.absolute() / "lake"))
