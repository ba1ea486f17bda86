"""Let DuckDB read a lake in object storage; through fsspec alone it lists every folder and requests files in parts."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from typing import Any

from fsspec.spec import AbstractFileSystem

from truepixel_dagster.answers.tables import LakeTable
from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.lake.files import Lake


class ListedFiles(AbstractFileSystem):  # type: ignore[misc]
    """List a table once, and read a file by one request, so that a reader sees the old file or the new one.

    Arguments:
        lake: A lake in object storage.
    """

    cachable = False

    def __init__(self, lake: Lake) -> None:
        super().__init__()
        self.protocol = lake.fs.protocol
        # DuckDB reduces an error in Python to a text with its traceback.
        self._failure: LakeError | None = None
        self._lake = lake
        self._listed: dict[str, list[str]] = {}
        self._sizes: dict[str, int] = {}

    def has(self, table: LakeTable, shop: str | None) -> bool:
        """List the files of a table, of one shop or of all; return whether there are any.

        Raises:
            LakeError: The bucket cannot be used.
        """
        found = self._listed[self._lake.files(table, shop)] = self._lake.paths(table, shop)
        return bool(found)

    def taken_failure(self) -> LakeError | None:
        """Return why a file was not read, once; None if every file was."""
        failure, self._failure = self._failure, None
        return failure

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the files of a table for its pattern."""
        return self._listed.get(path, [])

    def open(self, path: str, *_: Any, **__: Any) -> io.BytesIO:
        """Return the content of a file."""
        try:
            content = self._lake.content(self._lake.fs._strip_protocol(path))
        except FileNotFoundError as error:
            self._failure = LakeError(f"{path} was removed meanwhile: run the query again")
            raise self._failure from error
        except LakeError as error:
            self._failure = error
            raise
        self._sizes[path] = len(content)
        return io.BytesIO(content)

    def size(self, path: str) -> int:
        """Return the number of bytes of an opened file."""
        return self._sizes[path]

    def modified(self, _path: str) -> datetime:
        """Return a time, which DuckDB asks for and does not use."""
        return datetime.fromtimestamp(0, timezone.utc)
