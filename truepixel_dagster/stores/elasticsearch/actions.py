"""Define stored documents, and the lines and outcomes of a bulk request."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from truepixel_dagster.settings import MIB
from truepixel_dagster.stores.elasticsearch.connection import failed
from truepixel_dagster.stores.elasticsearch_errors import ItemFailed, Kind, kind_of, words_of
from truepixel_dagster.stores.too_large import never_fits

# Full index name and id of a document.
Place = tuple[str, str]
# A shard processes one request in one thread, so two halves of a large request take less time.
AT_ONCE, _WORTH_PARTING = 2, 128
# A request's body is a copy of its documents: memory has room for only a few beside a large micro-batch.
PART_BYTES = 4 * MIB


class Found(msgspec.Struct, frozen=True):
    """Hold a stored document and the sequence number under which it may be replaced."""

    index: str
    id: str
    source: dict[str, Any]
    seq_no: int
    primary_term: int


class Action(msgspec.Struct, frozen=True):
    """Hold one line of a bulk request; `source` is JSON bytes without line breaks, or empty for a deletion."""

    op: Literal["create", "index", "delete"]
    index: str
    id: str
    source: bytes = b""
    if_seq_no: int | None = None
    if_primary_term: int | None = None


CONFLICT = 409


class Outcome(msgspec.Struct, frozen=True):
    """Hold the status of one action.

    It is 200 or 201, 404 for the deletion of a missing document, 409 for a conflict, or another 4xx with its reason for
    a poison document. Any other error is raised instead.
    """

    status: int
    error: str | None = None

    @property
    def refused(self) -> bool:
        """Return whether the document is poison."""
        return self.error is not None and self.status != CONFLICT


class Written(msgspec.Struct):
    """Hold the result of replacing documents that must not have changed since they were read.

    `refused` has the reasons of poison documents by place. `conflicts` are the documents that another writer has
    changed since they were read; they are not written. `rereads` counts how often documents had to be read again.
    """

    created: int = 0
    replaced: int = 0
    deleted: int = 0
    refused: dict[Place, str] = {}
    conflicts: list[Place] = []
    rereads: int = 0

    def add(self, other: Written) -> None:
        """Add the result of a further write; its conflicts replace the earlier ones."""
        self.created += other.created
        self.replaced += other.replaced
        self.deleted += other.deleted
        self.refused |= other.refused
        self.conflicts = other.conflicts


def replacing(place: Place, source: bytes | None, stored: Found | None) -> Action:
    """Return the action that replaces a document if it has not changed since it was read, or deletes it for None."""
    index, id_ = place
    if stored is None:
        return Action("create", index, id_, source or b"")
    op: Literal["index", "delete"] = "delete" if source is None else "index"
    return Action(op, index, id_, source or b"", stored.seq_no, stored.primary_term)


def fits_never(item: Mapping[str, Any], action: Action) -> bool:
    """Return whether an item was refused because its size is never accepted."""
    return never_fits(item["status"], str(item["error"].get("reason")), len(action.source))


def halves(actions: Sequence[Action]) -> list[Sequence[Action]]:
    """Return the two halves of some actions."""
    middle = len(actions) // 2
    return [actions[:middle], actions[middle:]]


def requests_of(positions: Sequence[int], actions: Sequence[Action], largest: int = PART_BYTES) -> list[list[int]]:
    """Divide many or large actions into requests; return their positions. Actions of one id share a request."""
    size = sum(len(actions[position].source) for position in positions)
    count = max(AT_ONCE if len(positions) >= _WORTH_PARTING else 1, -(-size // largest))
    parts: list[list[int]] = [[] for _ in range(count)]
    for position in positions:
        parts[zlib.crc32(actions[position].id.encode()) % count].append(position)
    return [part for part in parts if part]


def header(action: Action) -> bytes:
    """Return the line that precedes the document."""
    meta: dict[str, Any] = {"_index": action.index, "_id": action.id}
    if action.if_seq_no is not None:
        meta |= {"if_seq_no": action.if_seq_no, "if_primary_term": action.if_primary_term}
    return msgspec.json.encode({action.op: meta})


def found_in(doc: Mapping[str, Any]) -> Found | None:
    """Return the document of a reply's item; None if there is none."""
    if not doc.get("found"):
        return None
    return Found(doc["_index"], doc["_id"], doc.get("_source", {}), doc["_seq_no"], doc["_primary_term"])


def outcome_of(item: Mapping[str, Any]) -> Outcome | ItemFailed:
    """Return the outcome of an action, or a failure that the document did not cause."""
    error = item.get("error")
    if error is None:
        return Outcome(item["status"])
    kind = kind_of(error)
    if kind is Kind.CONFLICT:
        return Outcome(CONFLICT, words_of(error)[:500])
    return Outcome(item["status"], words_of(error)[:500]) if kind is Kind.POISON else failed(error)
