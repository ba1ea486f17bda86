"""Connect to MongoDB, and report its identity and durability."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient, WriteConcern
from pymongo import UpdateOne as UpdateOne
from pymongo.errors import OperationFailure, PyMongoError

from truepixel_dagster.access import MongoAccess
from truepixel_dagster.stores.errors import AccessDenied
from truepixel_dagster.stores.mongodb.errors import denial, is_transient, words
from truepixel_dagster.stores.store import Store, given

Document = dict[str, Any]


class Connection(Store):
    """Connect to MongoDB at the first call."""

    def __init__(self, access: MongoAccess) -> None:
        milliseconds = int(access.timeout * 1000)
        super().__init__(access.retries, transient=is_transient, denial=denial, words=words)
        self.client: MongoClient[Document] = MongoClient(
            access.url.get_secret_value(),
            connect=False,
            timeoutMS=milliseconds,
            serverSelectionTimeoutMS=min(milliseconds, 5000),
            appname="truepixel",
            maxPoolSize=16,
            **given(
                username=access.username,
                password=access.password,
                tlsCAFile=access.ca_certs,
            ),
        )
        # Journaled: an acknowledged write survives kill -9 of the server.
        self._database = self.client.get_database(access.database, write_concern=WriteConcern(w="majority", j=True))

    def ping(self, timeout: float = 2.0) -> None:
        """Ask for an answer once.

        Raises:
            AccessDenied: MongoDB denies access.
            Unavailable: No answer.
        """
        import pymongo

        try:
            with pymongo.timeout(timeout):
                # MongoDB also answers a ping without a password.
                self._database.command("listCollections", nameOnly=True, authorizedCollections=True)
        except PyMongoError as error:
            raise self._no_answer(error, "TRUEPIXEL_MONGODB_URL") from error

    def collection(self, name: str) -> Any:
        """Return the collection itself, for reports and audits."""
        return self._database[name]

    def identity(self) -> str | None:
        """Return the prefix of its sockets' names, which its command line sets; None without permission to read it.

        Raises:
            Unavailable: No answer after all tries.
        """
        try:
            found = self._call(lambda: self.client.admin.command("getCmdLineOpts"))
        except OperationFailure:
            return None
        prefix: str | None = found.get("parsed", {}).get("net", {}).get("unixDomainSocket", {}).get("pathPrefix")
        return prefix

    def journal(self) -> bool | None:
        """Return whether the server journals its writes; None without permission to read it.

        Raises:
            Unavailable: No answer after all tries.
        """
        try:
            found = self._call(lambda: self.client.admin.command("getCmdLineOpts"))
        except (OperationFailure, AccessDenied):
            return None
        return bool(found.get("parsed", {}).get("storage", {}).get("journal", {}).get("enabled", True))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    @property
    def _server(self) -> str:
        # The URL may hold a password: name the hosts only.
        nodes = self.client.nodes or frozenset()
        seeds = getattr(self.client, "_topology_settings", None)
        hosts = nodes or (seeds.seeds if seeds else ())
        return "MongoDB at " + ",".join(f"{host}:{port}" for host, port in sorted(hosts))
