"""Fetch the jars of Kafka and Elasticsearch once into the user's cache, which all stacks on the machine share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import stamina

from truepixel_dagster.local.lock import only_one
from truepixel_dagster.local.steps import step

FETCH_TRIES = 3
FETCH_TIMEOUT = 30  # seconds for one file


@dataclass(frozen=True)
class JarSet:
    """Jars by Maven coordinates, with their runtime dependencies unless `alone`.

    `name` is the name of their folder and ends in the version; `mebibytes` is the size of the download.
    """

    name: str
    coordinates: tuple[str, ...]
    mebibytes: int
    alone: bool = False


KAFKA_JARS = JarSet("kafka-4.4.0", ("org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-simple:1.7.36"), 43)
ELASTICSEARCH_JARS = JarSet("elasticsearch-9.5.3", ("org.elasticsearch:elasticsearch:9.5.3",), 40)
NETTY_JARS = JarSet("transport-netty4-9.5.3", ("org.elasticsearch.plugin:transport-netty4:9.5.3",), 4)


class JarsError(Exception):
    """Jars could not be fetched. The message names them and the reason."""


class JarCache:
    """Store jars in the user's cache.

    Arguments:
        spare: The folder for jars if the user's cache cannot be written.
    """

    def __init__(self, spare: Path) -> None:
        self._caches = [*_user_cache(), spare]

    def folder(self, jars: JarSet, progress: Callable[[str], None] = lambda _: None) -> Path:
        """Return the folder of a set of jars; fetch them if it does not exist.

        Arguments:
            jars: The set.
            progress: Receives lines while jars are fetched.

        Raises:
            JarsError: Fetching failed.
        """
        folders = [cache / jars.name for cache in self._caches]
        found = next(filter(_is_folder, folders), None)
        return found or _fetched(jars, _first_writable(self._caches), progress)


def _user_cache() -> list[Path]:
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
    except RuntimeError:  # no home at all
        return []
    return [base / "truepixel" / "jars"] if base.is_absolute() else []


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:  # somebody else's home
        return False


def _first_writable(folders: list[Path]) -> Path:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise JarsError(f"none of these folders can be written: {', '.join(map(str, folders))}")


def _fetched(jars: JarSet, cache: Path, progress: Callable[[str], None]) -> Path:
    folder = cache / jars.name
    with only_one(cache / "lock"):
        if not folder.is_dir():
            for interrupted in cache.glob(".fetching-*"):
                shutil.rmtree(interrupted)
            try:
                with step(progress, f"fetching {jars.name}, once", lambda: _fetched_so_far(cache, jars)):
                    _fetch(jars, folder)
            except Exception as error:
                raise JarsError(f"fetching {jars.name} failed: {error}") from error
    return folder


def _fetched_so_far(cache: Path, jars: JarSet) -> str:
    """Return how much has been fetched; files and folders may appear and disappear meanwhile."""
    size = 0
    with suppress(OSError):
        for path in cache.glob(".fetching-*/**/*.jar"):
            with suppress(OSError):
                size += path.stat().st_size
    return f"{jars.name}: {size / 2**20:.0f} of {jars.mebibytes} MiB"


@stamina.retry(on=Exception, attempts=FETCH_TRIES, timeout=None, wait_initial=1.0)
def _fetch(jars: JarSet, folder: Path) -> None:
    """Fetch jars into a temporary folder and rename it at the end, so that the final folder is always complete."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as name:
        repository, flat = Path(name, "repository"), Path(name, "flat")
        context = MavenContext(repo_cache=repository, timeout=FETCH_TIMEOUT)
        named = [context.create_dependency(one) for one in jars.coordinates]
        named, needed = (named, []) if jars.alone else context.resolver.resolve(named)
        flat.mkdir()
        for dependency in [*named, *(one for one in needed if one.scope in ("compile", "runtime"))]:
            shutil.move(dependency.artifact.resolve(), flat)
        flat.rename(folder)
