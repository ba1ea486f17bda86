"""Classify Elasticsearch's errors by their types; no other module does.

An HTTP status is ambiguous: 400 means a document that cannot be parsed, a closed index, or a cluster at its limit of
shards; 403 means a missing privilege or an index whose writes are blocked. The types decide instead, for an error of a
whole request and for one of a single item in a reply with status 200. An error is poison only if its type is known to
concern one document. A type that is not in the table stops the lane: an event that is mistaken for an outage waits,
while an outage that is mistaken for poison would lose events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

CONFLICT_TYPE = "version_conflict_engine_exception"
INDEX_NOT_FOUND = "index_not_found_exception"

#: Errors of one document, if its index has the right mapping.
POISON = frozenset({"document_parsing_exception", "strict_dynamic_mapping_exception"})
#: Errors that may pass within seconds: shards that start, nodes that leave, full queues, full memory.
TRANSIENT = frozenset(
    {
        "circuit_breaking_exception",
        "connect_transport_exception",
        "es_rejected_execution_exception",
        "failed_to_commit_cluster_state_exception",
        "illegal_index_shard_state_exception",
        "index_shard_closed_exception",
        "index_shard_not_started_exception",
        "master_not_discovered_exception",
        "no_shard_available_action_exception",
        "node_closed_exception",
        "node_disconnected_exception",
        "node_not_connected_exception",
        "not_master_exception",
        "process_cluster_event_timeout_exception",
        "receive_timeout_transport_exception",
        "retry_on_primary_exception",
        "retry_on_replica_exception",
        "search_timeout_exception",
        "shard_not_found_exception",
        "shard_not_in_primary_mode_exception",
        "task_cancelled_exception",
        "timeout_exception",
        "unavailable_shards_exception",
    }
)
DENIED = frozenset({"security_exception"})
#: Errors that an operator must correct, and how.
NEXT_STEP: Mapping[str, str] = {
    "cluster_block_exception": (
        "the index or the cluster is blocked: free disk space, then set index.blocks.* and cluster.blocks.* to null"
    ),
    "index_closed_exception": "open the index (POST INDEX/_open)",
    INDEX_NOT_FOUND: "allow action.auto_create_index for the pipeline's indices, then run `truepixel setup`",
    "validation_exception": "remove unused indices, or raise cluster.max_shards_per_node",
    "illegal_argument_exception": "check the settings of the index and its pipeline",
    "invalid_index_name_exception": "check TRUEPIXEL_NAMESPACE",
    "i_o_exception": "check the disk of the node: it may be full or failing",
    "file_system_exception": "check the disk of the node: it may be full or failing",
    "already_closed_exception": "read the node's log: the shard has failed; its disk may be full",
    "translog_exception": "check the disk of the node: it may be full or failing",
    "corrupt_index_exception": "restore the index from a snapshot or from Kafka",
    "search_context_missing_exception": "start the command again: the node has restarted during its search",
}


class Kind(Enum):
    """What to do about an error."""

    CONFLICT = "the document has changed: read it again"
    POISON = "write a dead letter"
    TRANSIENT = "retry, then stop the lane"
    DENIED = "stop the lane: permission denied"
    OUTAGE = "stop the lane: an operator must correct something"


class ItemFailed(Exception):
    """An item of a reply has an error that concerns more than its own document.

    Attributes:
        kind: What to do about the error.
    """

    def __init__(self, kind: Kind, words: str) -> None:
        super().__init__(words)
        self.kind = kind

    def of(self, index: str) -> ItemFailed:
        """Return the error with the name of its index, which many of Elasticsearch's reasons lack."""
        return self if index in str(self) else ItemFailed(self.kind, f"{index}: {self}")


def kind_of(error: Mapping[str, Any]) -> Kind:
    """Return what to do about the error of one item of a reply."""
    first, *causes = types_of(error)
    types = {first, *causes}
    if types & DENIED:
        return Kind.DENIED
    if types & TRANSIENT or _is_temporary_block(error):
        return Kind.TRANSIENT
    if first == CONFLICT_TYPE:
        return Kind.CONFLICT
    return Kind.POISON if first in POISON else Kind.OUTAGE


def _is_temporary_block(error: Mapping[str, Any]) -> bool:
    """Return whether an error is the block of a full disk, or of a cluster without a master, which ends by itself.

    Only this type's reason is examined: reasons of other types may quote documents.
    """
    levels = ("TOO_MANY_REQUESTS/", "SERVICE_UNAVAILABLE/")
    return error.get("type") == "cluster_block_exception" and any(level in str(error.get("reason")) for level in levels)


def types_of(error: Mapping[str, Any]) -> list[str]:
    """Return the type of an error, then the types of its causes and of failed shards."""
    return [str(each.get("type")) for each in _errors(error)]


def words_of(error: Mapping[str, Any]) -> str:
    """Return an error's type and reason in one line, with its cause and the next step, if they are known."""
    lines: list[str] = []
    for each in _errors(error):
        reason = " ".join(str(each.get("reason") or "").split())
        line = f"{each.get('type')}: {reason[:300]}" if reason else str(each.get("type"))
        if line not in lines:
            lines.append(line)
    step = next((NEXT_STEP[kind] for kind in types_of(error) if kind in NEXT_STEP), "")
    # The first line says what happened, the last one is the root cause.
    shown = "; caused by ".join(dict.fromkeys((lines[0], lines[-1])))
    return f"{shown[:600]} ({step})" if step and kind_of(error) is not Kind.POISON else shown[:600]


def failed_shards(reply: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first failure of a reply that lacks a shard or timed out; None for a complete reply."""
    shards = reply.get("_shards", {})
    if shards.get("failed"):
        failures: Sequence[Mapping[str, Any]] = shards.get("failures", ())
        reason: Mapping[str, Any] = next((each["reason"] for each in failures if each.get("reason")), {})
        return reason or {"type": "no_shard_available_action_exception", "reason": f"{shards['failed']} shards failed"}
    if reply.get("timed_out"):
        return {"type": "timeout_exception", "reason": "the search timed out on a shard"}
    return None


def _errors(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield error
    for each in error.get("root_cause", ()):
        yield each
    for each in error.get("failed_shards", ()):
        if each.get("reason"):
            yield from _errors(each["reason"])
    if error.get("caused_by"):
        yield from _errors(error["caused_by"])
