"""Reach files in a folder or in object storage. An error of object storage names its address and the next step."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from truepixel_dagster.lake.errors import LakeError
from truepixel_dagster.text import with_advice

_CREDENTIALS = re.compile(r"//[^/@\s]*@")


class Storage:
    """Read, replace and list the files at one address.

    A missing file is a FileNotFoundError; any other failure is an OSError on a disk and a LakeError in object storage.

    Arguments:
        url: A folder or file, or its address in fsspec's form, such as `s3://bucket/truepixel`.

    Raises:
        LakeError: fsspec does not know the address, or needs a package for it.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            # Another process may write at any time, so a cached listing may be out of date.
            self.fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            needed = "install the package that fsspec needs for it"
            raise LakeError(f"{without_credentials(self.url)}: {error}; {needed}") from error

    @property
    def root(self) -> str:
        """Return the address in the file system's own form."""
        return str(self.fs.unstrip_protocol(self._root)) if not self.is_local else str(self._root)

    @property
    def is_local(self) -> bool:
        """Return whether it is a folder on this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the path of a file or folder in it; an empty name stands for the address itself."""
        return f"{self._root}/{name}" if name else str(self._root)

    def content(self, path: str, most: int | None = None) -> bytes:
        """Return the first `most` bytes of a file, or all.

        Raises:
            FileNotFoundError, OSError, LakeError: As the class says.
        """
        try:
            with self._reached():
                if most is None:
                    return bytes(self.fs.cat_file(path))
                with self.fs.open(path, "rb") as file:
                    return bytes(file.read(most))
        except FileNotFoundError as error:
            if self.is_local:
                raise
            raise FileNotFoundError(f"{self.fs.unstrip_protocol(path)} does not exist") from error

    def contents(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of those of some files that exist, by path; object storage gets many requests at once.

        Raises:
            OSError, LakeError: As the class says.
        """
        wanted = list(paths)
        with self._reached():
            found: Mapping[str, Any] = self.fs.cat(wanted, on_error="return") if wanted else {}
            by_path = {str(path).lstrip("/"): _present(content) for path, content in found.items()}
        read = ((path, by_path[path.lstrip("/")]) for path in wanted)
        return {path: content for path, content in read if content is not None}

    def exists(self, path: str) -> bool:
        """Return whether there is such a file.

        Raises:
            OSError, LakeError: As the class says.
        """
        with self._reached():
            return bool(self.fs.exists(path))

    def names(self, path: str) -> list[str]:
        """Return the names of the files and folders in a folder; none if it does not exist.

        Raises:
            OSError, LakeError: As the class says.
        """
        try:
            with self._reached():
                found = self.fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return [str(each).rstrip("/").rpartition("/")[2] for each in found]

    def below(self, path: str) -> dict[str, dict[str, Any]]:
        """Return the details of every file below a folder, by path; empty if the folder does not exist.

        Raises:
            OSError, LakeError: As the class says.
        """
        try:
            with self._reached():
                return dict(self.fs.find(path, detail=True))
        except FileNotFoundError:
            return {}

    def put(self, path: str, content: bytes) -> None:
        """Replace a file as a whole.

        Raises:
            OSError, LakeError: As the class says.
        """
        if self.is_local:
            _replace(Path(path), content)
            return
        with self._reached():
            self.fs.pipe_file(path, content)

    def remove(self, path: str) -> None:
        """Remove a file.

        Raises:
            FileNotFoundError, OSError, LakeError: As the class says.
        """
        with self._reached():
            self.fs.rm_file(path)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every client of object storage has errors of its own
            if self.is_local or (isinstance(error, FileNotFoundError) and not _no_bucket(error)):
                raise
            raise _failure(self.url, error) from error


def without_credentials(url: str) -> str:
    """Return an address without user and password.

    >>> without_credentials("sftp://me:hidden@host/lake")
    'sftp://host/lake'
    """
    return _CREDENTIALS.sub("//", url)


def _failure(url: str, error: Exception) -> LakeError:
    shown = without_credentials(url)
    if _no_bucket(error):
        return LakeError(f"the bucket of {shown} does not exist: create it, or correct the address")
    step = "Check its endpoint, its credentials and the network: see docs/tables.md"
    return LakeError(
        with_advice(f"{shown} cannot be used", without_credentials(str(error)) or type(error).__name__, step)
    )


def _no_bucket(error: Exception) -> bool:
    """Return whether S3 has no such bucket: s3fs raises the same for a bucket and for a file."""
    answer = getattr(error.__cause__, "response", None) or {}
    return bool(answer.get("Error", {}).get("Code") == "NoSuchBucket")


def _present(content: bytes | Exception) -> bytes | None:
    """Return the content of a file, or None if the file does not exist."""
    if isinstance(content, FileNotFoundError) and not _no_bucket(content):
        return None
    if isinstance(content, Exception):
        raise content
    return content


def _replace(target: Path, content: bytes) -> None:
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
