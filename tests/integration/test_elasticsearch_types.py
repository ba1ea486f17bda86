"""The types of errors that `elasticsearch_errors.py` lists: each is provoked on a real Elasticsearch, or named with
its class and the reason why one node does not send it.
"""

from __future__ import annotations

import resource
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from elasticsearch import ApiError, Elasticsearch

from tests.waiting import until
from truepixel_dagster.local.ephemeral import ephemeral_stack
from truepixel_dagster.local.jars import ELASTICSEARCH_JARS, JarCache
from truepixel_dagster.local.servers import Elasticsearch as Server
from truepixel_dagster.local.stack import Stack
from truepixel_dagster.stores.elasticsearch_errors import (
    CONFLICT_TYPE,
    DENIED,
    INDEX_NOT_FOUND,
    NEXT_STEP,
    POISON,
    TRANSIENT,
    Kind,
    kind_of,
    types_of,
)

MIB = 1024 * 1024
SMALL_FILES = 4000  # bytes
Error = Mapping[str, Any]
Provoke = Callable[["Node"], Error]


class Node:
    """One real node, and an index of its own for each test."""

    def __init__(self, url: str, server: Server) -> None:
        self.server = server
        self.client = Elasticsearch(url, request_timeout=60, max_retries=0)
        self._count = 0

    def index(self, *, settings: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Create an index with one document field; return its name."""
        self._count += 1
        name = f"index-{self._count}"
        mappings = {"dynamic": "strict", "properties": {"word": {"type": "keyword"}}}
        own = {"number_of_replicas": 0, "refresh_interval": "-1", **(settings or {})}
        self.client.indices.create(index=name, settings=own, mappings=mappings, **options)
        return name

    def unallocated(self) -> str:
        """Create an index whose shard no node may hold; return its name."""
        return self.index(settings={"routing.allocation.require._name": "nobody"}, wait_for_active_shards=0)

    def written(self, index: str, source: Any, op: str = "index", **options: Any) -> Error:
        """Write one document; return the error of its item or of the request, empty if there is none."""
        body = [{op: {"_index": index, "_id": "1"}}, source]
        return refused(lambda: self.client.bulk(operations=body, **options))

    def searched(self, index: str, **options: Any) -> Error:
        return refused(lambda: self.client.search(index=index, allow_partial_search_results=False, **options))

    @contextmanager
    def cluster_setting(self, name: str, value: Any) -> Iterator[None]:
        self.client.cluster.put_settings(persistent={name: value})
        try:
            yield
        finally:
            self.client.cluster.put_settings(persistent={name: None})

    @contextmanager
    def limit(self, which: int, most: int) -> Iterator[None]:
        """Limit what the node's process may use, as a full machine does."""
        process = self.server.process()
        assert isinstance(process, psutil.Process)
        before = resource.prlimit(process.pid, which)
        resource.prlimit(process.pid, which, (most, before[1]))
        try:
            yield
        finally:
            resource.prlimit(process.pid, which, before)
            until(lambda: not refused(lambda: self.client.cluster.reroute(retry_failed=True, master_timeout="1s")))


def refused(call: Callable[[], Any]) -> Error:
    """Return the error of a request or of the first item of its reply; empty if there is none."""
    try:
        reply = call().body
    except ApiError as error:
        return dict(error.body["error"])
    items = [*reply.get("docs", ()), *(next(iter(item.values())) for item in reply.get("items", ()))]
    return dict(next((item["error"] for item in items if "error" in item), {}))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with ephemeral_stack(tmp_path_factory.mktemp("node"), only=(Server.name,)) as settings:
        (server,) = Stack(settings, only=(Server.name,)).servers
        assert isinstance(server, Server)
        found = Node(settings.elasticsearch_url, server)
        yield found
        found.client.close()


# --- What is wrong with one document ---


def conflict(node: Node) -> Error:
    index = node.index()
    node.written(index, {"word": "a"})
    return node.written(index, {"word": "b"}, op="create")


def unknown_field(node: Node) -> Error:
    return node.written(node.index(), {"of_nobody": 1})


def not_parsed(node: Node) -> Error:
    return node.written(node.index(), {"word": {"is": "an object"}})


# --- What passes by itself ---


def no_memory(node: Node) -> Error:
    index = node.index()
    with node.cluster_setting("indices.breaker.total.limit", "1b"):
        return node.written(index, {"word": "a"})


def full_queue(node: Node) -> Error:
    """More bytes at once than a tenth of the node's memory."""
    return node.written(node.index(), {"word": "x" * (53 * MIB)})


def not_active(node: Node) -> Error:
    return node.written(node.unallocated(), {"word": "a"}, timeout="100ms")


def no_copy(node: Node) -> Error:
    index = node.unallocated()
    return refused(lambda: node.client.mget(docs=[{"_index": index, "_id": "1"}]))


def full_disk(node: Node) -> Error:
    """Elasticsearch's block at the flood stage, which it removes itself."""
    index = node.index(settings={"blocks.read_only_allow_delete": True})
    return node.written(index, {"word": "a"})


def busy_master(node: Node) -> Error:
    """The master has other tasks for longer than the request waits."""
    over = threading.Event()

    def occupy() -> None:
        while not over.is_set():
            node.client.indices.delete(index=node.index(wait_for_active_shards=0))

    tasks = threading.Thread(target=occupy)
    index = node.index()
    tasks.start()
    try:
        for number in range(1000):
            name = f"alias-{number}"
            put = partial(node.client.indices.put_alias, index=index, name=name, master_timeout="1ms")
            if error := refused(put):
                return error
    finally:
        over.set()
        tasks.join()
    raise AssertionError("the master was never busy")


def no_master(node: Node) -> Error:
    """The node cannot write the cluster's state, for lack of files, and gives up being the master."""
    index = node.index()
    with node.limit(resource.RLIMIT_NOFILE, 3):
        node.written(index, {"word": "a"}, refresh=True, timeout="1s")
        return refused(lambda: node.client.indices.delete(index=index, master_timeout="1s"))


def blocked_without_master(node: Node) -> Error:
    index = node.index()
    with node.limit(resource.RLIMIT_NOFILE, 3):
        node.written(index, {"word": "a"}, refresh=True, timeout="1s")
        return node.written(index, {"word": "b"}, timeout="100ms")


def slow(patterns: int) -> Mapping[str, Any]:
    """Return a query that compares every word of an index with every pattern."""
    return {"bool": {"should": [{"wildcard": {"word": f"*a*b*c*j*{number}z"}} for number in range(patterns)]}}


def many_words(node: Node) -> str:
    index = node.index()
    lines: list[dict[str, Any]] = []
    for number in range(10_000):
        lines += ({"index": {}}, {"word": f"{number:08}" + "abcdefghij" * 6})
    node.client.bulk(index=index, operations=lines, refresh=True)
    return index


def late_shard(node: Node) -> Error:
    return node.searched(many_words(node), query=slow(100), timeout="1ms")


@contextmanager
def slow_search(node: Node, errors: list[Error]) -> Iterator[str]:
    """Run a search that takes seconds; yield the id of its task."""
    index = many_words(node)
    search = threading.Thread(target=lambda: errors.append(node.searched(index, query=slow(900))))
    search.start()

    def tasks() -> list[str]:
        reply = node.client.perform_request("GET", "/_tasks?actions=indices:data/read/search", headers=JSON).body
        return [task for each in reply["nodes"].values() for task in each["tasks"]]

    until(lambda: bool(tasks()))
    yield tasks()[0]
    node.client.perform_request("POST", "/_tasks/_cancel?actions=*search*", headers=JSON)
    search.join()


JSON = {"accept": "application/json"}


def cancelled(node: Node) -> Error:
    errors: list[Error] = []
    with slow_search(node, errors):
        pass
    return errors[0]


def timed_out(node: Node) -> Error:
    with slow_search(node, []) as task:
        wait = f"/_tasks/{task}?wait_for_completion=true&timeout=1ms"
        return refused(lambda: node.client.perform_request("GET", wait, headers=JSON))


# --- What an operator must correct ---


def write_block(node: Node) -> Error:
    return node.written(node.index(settings={"blocks.write": True}), {"word": "a"})


def closed(node: Node) -> Error:
    index = node.index()
    node.client.indices.close(index=index)
    return node.written(index, {"word": "a"})


def not_created(node: Node) -> Error:
    with node.cluster_setting("action.auto_create_index", "false"):
        return node.written("of-nobody", {"word": "a"})


def too_many_shards(node: Node) -> Error:
    node.index()
    with node.cluster_setting("cluster.max_shards_per_node", 1):
        return node.written("one-more", {"word": "a"})


def no_pipeline(node: Node) -> Error:
    return node.written(node.index(settings={"default_pipeline": "none-such"}), {"word": "a"})


def capital_name(node: Node) -> Error:
    return node.written("Of-Nobody", {"word": "a"})


def disk_takes_no_writes(node: Node) -> Error:
    index = node.index()
    with node.limit(resource.RLIMIT_FSIZE, SMALL_FILES):
        return node.written(index, {"word": "x" * 2 * SMALL_FILES}, timeout="1s")


def no_more_files(node: Node) -> Error:
    index = node.index()
    with node.limit(resource.RLIMIT_NOFILE, 3):
        return node.written(index, {"word": "a"}, refresh=True, timeout="1s")


def damaged(node: Node) -> Error:
    """Zeros in the middle of the file with the documents."""
    index = many_words(node)
    node.client.indices.flush(index=index, force=True)
    uuid = node.client.indices.get_settings(index=index)[index]["settings"]["index"]["uuid"]
    (data,) = node.server.data.rglob(f"{uuid}/0/index")
    for path in [*data.glob("*.fdt"), *data.glob("*.cfs")]:
        with path.open("r+b") as file:
            size = path.stat().st_size
            file.seek(size // 100 + 120)
            file.write(bytes(size * 9 // 10))
    return node.searched(index)


def search_of_before(node: Node) -> Error:
    """A search over pages continues after the node has forgotten it, as after its restart."""
    pit = node.client.open_point_in_time(index=node.index(), keep_alive="1m")["id"]
    node.client.close_point_in_time(id=pit)
    return refused(lambda: node.client.search(pit={"id": pit}))


PROVOKED: dict[str, tuple[Kind, Provoke]] = {
    CONFLICT_TYPE: (Kind.CONFLICT, conflict),
    "document_parsing_exception": (Kind.POISON, not_parsed),
    "strict_dynamic_mapping_exception": (Kind.POISON, unknown_field),
    "circuit_breaking_exception": (Kind.TRANSIENT, no_memory),
    "es_rejected_execution_exception": (Kind.TRANSIENT, full_queue),
    "master_not_discovered_exception": (Kind.TRANSIENT, no_master),
    "no_shard_available_action_exception": (Kind.TRANSIENT, no_copy),
    "process_cluster_event_timeout_exception": (Kind.TRANSIENT, busy_master),
    "search_timeout_exception": (Kind.TRANSIENT, late_shard),
    "task_cancelled_exception": (Kind.TRANSIENT, cancelled),
    "timeout_exception": (Kind.TRANSIENT, timed_out),
    "unavailable_shards_exception": (Kind.TRANSIENT, not_active),
    "cluster_block_exception": (Kind.OUTAGE, write_block),
    "index_closed_exception": (Kind.OUTAGE, closed),
    INDEX_NOT_FOUND: (Kind.OUTAGE, not_created),
    "validation_exception": (Kind.OUTAGE, too_many_shards),
    "illegal_argument_exception": (Kind.OUTAGE, no_pipeline),
    "invalid_index_name_exception": (Kind.OUTAGE, capital_name),
    "i_o_exception": (Kind.OUTAGE, disk_takes_no_writes),
    "file_system_exception": (Kind.OUTAGE, no_more_files),
    "corrupt_index_exception": (Kind.OUTAGE, damaged),
    "search_context_missing_exception": (Kind.OUTAGE, search_of_before),
}
#: The same type as above, but it passes by itself.
TEMPORARY_BLOCKS: tuple[Provoke, ...] = (full_disk, blocked_without_master)
#: Only a node with Elasticsearch's security sends it: test_locked_doors.py has one.
WITH_SECURITY = frozenset({"security_exception"})
TRANSPORT, SHARD, COORDINATION = "org.elasticsearch.transport", "org.elasticsearch.index.shard", "the master changes"
#: The class of each other type, and what has to happen between nodes, or within a moment.
NOT_BY_ONE_NODE: dict[str, tuple[str, str]] = {
    "connect_transport_exception": (f"{TRANSPORT}.ConnectTransportException", "a node does not reach another one"),
    "node_disconnected_exception": (f"{TRANSPORT}.NodeDisconnectedException", "a node leaves during a request to it"),
    "node_not_connected_exception": (f"{TRANSPORT}.NodeNotConnectedException", "a node has left before a request"),
    "receive_timeout_transport_exception": (
        f"{TRANSPORT}.ReceiveTimeoutTransportException",
        "another node does not answer in time",
    ),
    "node_closed_exception": (
        "org.elasticsearch.node.NodeClosedException",
        "another node closes; a single one answers its requests first",
    ),
    "not_master_exception": ("org.elasticsearch.cluster.NotMasterException", COORDINATION),
    "failed_to_commit_cluster_state_exception": (
        "org.elasticsearch.cluster.coordination.FailedToCommitClusterStateException",
        COORDINATION,
    ),
    "retry_on_primary_exception": (
        "org.elasticsearch.action.support.replication.ReplicationOperation$RetryOnPrimaryException",
        "a primary shard moves to another node",
    ),
    "retry_on_replica_exception": (
        "org.elasticsearch.action.support.replication.TransportReplicationAction$RetryOnReplicaException",
        "a replica waits for the mapping that its primary has",
    ),
    "shard_not_found_exception": (f"{SHARD}.ShardNotFoundException", "a shard has moved since the request was routed"),
    "shard_not_in_primary_mode_exception": (f"{SHARD}.ShardNotInPrimaryModeException", "a primary shard moves"),
    "illegal_index_shard_state_exception": (f"{SHARD}.IllegalIndexShardStateException", "a shard starts or moves"),
    "index_shard_not_started_exception": (
        f"{SHARD}.IndexShardNotStartedException",
        "a shard starts; a node routes nothing to its own before",
    ),
    "index_shard_closed_exception": (f"{SHARD}.IndexShardClosedException", "a shard closes during a request"),
    "already_closed_exception": (
        "org.apache.lucene.store.AlreadyClosedException",
        "a request meets a shard between its failure and its removal",
    ),
    "translog_exception": ("org.elasticsearch.index.translog.TranslogException", "the log fails while it is read"),
}


@pytest.mark.parametrize("name", PROVOKED)
def test_a_listed_type_means_what_it_is_listed_as(node: Node, name: str) -> None:
    kind, provoke = PROVOKED[name]
    error = provoke(node)
    assert name in types_of(error), error
    assert kind_of(error) is kind


@pytest.mark.parametrize("provoke", TEMPORARY_BLOCKS)
def test_a_block_that_elasticsearch_removes_itself_is_temporary(node: Node, provoke: Provoke) -> None:
    error = provoke(node)
    assert "cluster_block_exception" in types_of(error)
    assert kind_of(error) is Kind.TRANSIENT


def deep(levels: int) -> str:
    return '{"word":' + "[" * levels + '"x"' + "]" * levels + "}"


DOCUMENTS = {
    "a term that is too long": msgspec.json.encode({"word": "x" * 40_000}).decode(),
    "nested too deeply": deep(1500),
    "a number that is too long": '{"word":' + "1" * 2000 + "}",
    "a field twice": '{"word":"a","word":"b"}',
    "a field without a name": '{"":"a"}',
    "a field of Elasticsearch's": '{"_id":"a"}',
    "no JSON": '{"word"',
    "no object": '"word"',
    "no UTF-8": b'{"word":"\xff"}',
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_error_of_one_document_is_poison(node: Node, name: str) -> None:
    """No lane stops for it."""
    assert kind_of(node.written(node.index(), DOCUMENTS[name])) is Kind.POISON


def test_every_listed_type_is_provoked_or_named() -> None:
    listed = POISON | TRANSIENT | DENIED | NEXT_STEP.keys() | {CONFLICT_TYPE}
    named = [*PROVOKED, *WITH_SECURITY, *NOT_BY_ONE_NODE]
    assert sorted(named) == sorted(listed)


@pytest.mark.usefixtures("node")  # which fetches the jars
def test_each_listed_type_is_an_exception_of_this_version() -> None:
    """Elasticsearch makes a type of the last part of a class's name."""
    folder = JarCache(Path()).folder(ELASTICSEARCH_JARS)
    jars = [*folder.glob("elasticsearch-[0-9]*.jar"), *folder.glob("lucene-core-*.jar")]
    classes = {name for jar in jars for name in zipfile.ZipFile(jar).namelist()}
    for name, (class_, _) in NOT_BY_ONE_NODE.items():
        assert class_.replace(".", "/") + ".class" in classes
        last = class_.rpartition("$")[2].rpartition(".")[2]
        assert "".join(f"_{c.lower()}" if c.isupper() else c for c in last).lstrip("_") == name
