"""Report whether a server runs and answers, and how much disk space it uses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from truepixel_dagster.local.servers import NotAnsweringError, Server


@dataclass(frozen=True)
class ServerStatus:
    """The status of a server. `data_bytes` is the disk space of its data.

    `pid` is None if it has no live process, and `version` if it does not answer; `running` means that it answers.
    """

    name: str
    address: str
    pid: int | None
    version: str | None
    data_bytes: int
    running: bool


def status_of(server: Server) -> ServerStatus:
    """Ask a server for its status."""
    process = server.process()
    try:
        version = server.ask() if process else None
    except NotAnsweringError:
        version = None
    pid = process.pid if process else None
    return ServerStatus(server.name, str(server.address), pid, version, _disk_bytes(server.data), version is not None)


def _disk_bytes(folder: Path) -> int:
    """Return the disk space of a folder: Kafka's index files, for example, are sparse."""
    return sum(_file_bytes(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _file_bytes(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:  # a live server removes files
        return 0
