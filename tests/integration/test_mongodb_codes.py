"""The error codes that the store lists, each given by a real MongoDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr
from pymongo.errors import PyMongoError

from tests.integration.test_server_states import Own, primary
from truepixel_dagster.access import MongoAccess
from truepixel_dagster.local.servers import Address, MongoDB, free_ports
from truepixel_dagster.stores.errors import AccessDenied, ServerRefuses, Unavailable
from truepixel_dagster.stores.mongodb import ORDERS, MongoStore
from truepixel_dagster.stores.mongodb.errors import (
    _AUTHENTICATION_FAILED,
    _NEXT_STEP,
    _POISON_CODES,
    _TRANSIENT_CODES,
    _UNAUTHORIZED,
    MAX_BSON_SIZE,
    TOO_LARGE,
)

# A client that believes its server is no primary looks again this soon.
OFTEN = "heartbeatFrequencyMS=500"
OF_A_DOCUMENT = {121, 17419, 17420}
# pymongo and MongoDB accept a request that is this much larger than a document.
BESIDE_A_DOCUMENT = 16 * 1024


class Node:
    """A replica set of one with MongoDB's own fail points, and a store on it."""

    def __init__(self, port: int) -> None:
        self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            f"mongodb://127.0.0.1:{port}/?directConnection=true&{OFTEN}"
        )
        member = {"_id": 0, "host": f"127.0.0.1:{port}"}
        self.client.admin.command("replSetInitiate", {"_id": MongoDB.REPLICA_SET, "members": [member]})
        primary(self.client)
        url = SecretStr(f"mongodb://127.0.0.1:{port}/?replicaSet={MongoDB.REPLICA_SET}&{OFTEN}")
        self.store = MongoStore(MongoAccess(url, None, None, None, 2.0, 1, "codes"))

    @contextmanager
    def failing(self, code: int) -> Iterator[str]:
        """Let every read fail by a code; yield the name that MongoDB has for it."""
        data = {"failCommands": ["find"], "errorCode": code}
        self.client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        try:
            with pytest.raises(PyMongoError) as refused:
                self.client.codes.orders.find_one()
            yield str((getattr(refused.value, "details", None) or {})["codeName"])
        finally:
            self.client.admin.command("configureFailPoint", "failCommand", mode="off")
            primary(self.client)

    def read(self) -> None:
        self.store.read(ORDERS, ["s:1"])

    def refusal(self, document: dict[str, Any], stored: dict[str, Any] | None = None) -> str:
        """Write one document; return why it is rejected."""
        before = {"s:1": stored} if stored else {}
        complete, rejected = self.store.replace(ORDERS, {"s:1": document}, before)
        assert complete
        return rejected["s:1"].reason


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    (port,) = free_ports(1)
    own = Own(MongoDB(Address("127.0.0.1", port), tmp_path_factory.mktemp("codes") / "mongodb", replica_set=True))
    own.start()
    try:
        found = Node(port)
        yield found
        found.store.close()
        found.client.close()
    finally:
        own.kill()


@pytest.mark.parametrize("code", sorted(_TRANSIENT_CODES))
def test_a_code_that_passes_is_an_outage_and_then_over(node: Node, code: int) -> None:
    with node.failing(code) as name:
        assert not name.startswith("Location")  # MongoDB's name for a code that it does not know
        with pytest.raises(Unavailable) as stopped:
            node.read()
    assert type(stopped.value) is Unavailable
    assert "\n" not in str(stopped.value)
    node.read()


@pytest.mark.parametrize("code", sorted(_NEXT_STEP))
def test_a_code_that_needs_an_operator_names_the_next_step(node: Node, code: int) -> None:
    with (
        node.failing(code) as name,
        pytest.raises(ServerRefuses, match=rf"{name} \({code}\): .*\({_NEXT_STEP[code]}\)"),
    ):
        node.read()


@pytest.mark.parametrize("code", [_UNAUTHORIZED, _AUTHENTICATION_FAILED])
def test_a_denied_read_raises_access_denied(node: Node, code: int) -> None:
    with node.failing(code), pytest.raises(AccessDenied):
        node.read()


def test_a_document_that_breaks_the_collections_rule_is_poison(node: Node) -> None:
    database = node.client.codes
    database.create_collection(ORDERS, validator={"rank": {"$lt": 0}})
    assert node.refusal({"rank": 1}) == "Document failed validation"  # 121
    database.drop_collection(ORDERS)


def test_a_document_that_is_too_large_is_poison(node: Node) -> None:
    large = {"text": "x" * MAX_BSON_SIZE}
    assert node.refusal(large) == "Document to upsert is larger than 16777216"  # 17420
    node.client.codes.orders.insert_one(stored := {"_id": "s:1", "v": 1})
    assert node.refusal(large, stored) == "Resulting document after update is larger than 16777216"  # 17419
    much_larger = {"text": "x" * (MAX_BSON_SIZE + BESIDE_A_DOCUMENT)}  # 10334, for the whole request
    assert "is larger than" in node.refusal(much_larger, stored)


def test_every_code_of_one_document_is_tried() -> None:
    assert OF_A_DOCUMENT | {TOO_LARGE} == _POISON_CODES
