"""Read and write documents by id in single requests, and replace them only if no other writer has changed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from elasticsearch import ApiError

from truepixel_dagster.access import ElasticsearchAccess
from truepixel_dagster.retrying import pause
from truepixel_dagster.stores.elasticsearch.actions import (
    AT_ONCE,
    CONFLICT,
    PART_BYTES,
    Action,
    Found,
    Outcome,
    Place,
    Written,
    fits_never,
    found_in,
    halves,
    header,
    outcome_of,
    replacing,
    requests_of,
)
from truepixel_dagster.stores.elasticsearch.connection import failed, raise_worst, words
from truepixel_dagster.stores.elasticsearch.indices import Indices
from truepixel_dagster.stores.elasticsearch_errors import INDEX_NOT_FOUND, ItemFailed, Kind, types_of, words_of
from truepixel_dagster.stores.errors import ServerRefuses, Unavailable
from truepixel_dagster.stores.index_templates import MADE_BY_SETUP
from truepixel_dagster.stores.too_large import CONTENT_TOO_LARGE, never_fits

# Lanes that keep writing one document take turns: a write that conflicts with another reads again.
_REREADS = 40
# The smallest limit to which a proxy's refusals may reduce requests.
_SMALLEST_PART = 64 * 1024
_REPLY_FIELDS = "items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by"


class Documents(Indices):
    """Read and write documents by index and id. See `Connection` for the arguments."""

    def __init__(self, access: ElasticsearchAccess, *, exact: bool = False) -> None:
        super().__init__(access, exact=exact)
        self._part_bytes = PART_BYTES
        self._senders = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bulk")

    def mget(self, documents: Sequence[Place], fields: Sequence[str] | None = None) -> list[Found | None]:
        """Read documents by index and id, in the given order; None only if a document certainly does not exist.

        Arguments:
            documents: Pairs of full index name and id.
            fields: Source fields to return; None returns all.

        Raises:
            Unavailable: No answer after all tries, or no answer for one of the documents.
        """
        found: dict[int, Found | None] = {}

        def attempt() -> None:
            asked = [position for position in range(len(documents)) if position not in found]
            docs = [{"_index": documents[i][0], "_id": documents[i][1]} for i in asked]
            reply = self.client.mget(docs=docs, source_includes=list(fields) if fields else None)
            failures: list[ItemFailed] = []
            for position, doc in zip(asked, reply["docs"]):
                try:
                    found[position] = self._document(doc)
                except ItemFailed as error:
                    failures.append(error.of(documents[position][0]))
            raise_worst(failures, f"{len(failures)} of {len(documents)} documents could not be read")
            if len(found) < len(documents):
                raise ItemFailed(Kind.TRANSIENT, f"the reply has {len(found)} of {len(documents)} documents")

        if documents:
            self._call(attempt)
        return [found[position] for position in range(len(documents))]

    def _document(self, doc: Mapping[str, Any]) -> Found | None:
        """Return the document of an item, or None if it does not exist; raise if that is unknown."""
        error = doc.get("error")
        if error is None:
            return found_in(doc)
        # A month without documents has no index yet; the indices that `setup` creates are never missing.
        if INDEX_NOT_FOUND in types_of(error) and doc["_index"] not in map(self.index, MADE_BY_SETUP):
            return None
        raise failed(error)

    def bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        """Write documents and return the outcome of each action, in order.

        Many or large actions are sent in parts, two at a time; those of one id are in the same part, in the given
        order. Actions that Elasticsearch had no room for are sent again within the tries.

        Returns:
            For each action: done, a conflict, or a refusal that concerns this one document. Callers that cannot handle
            a refused document call `write` instead.

        Raises:
            AccessDenied: The user may not write one of them.
            NotSetUp: An index lacks, or would lack, the mapping that its documents need.
            ServerRefuses: An index is closed, blocked or cannot be created; the documents are not the cause.
            Unavailable: No answer, or no room, after all tries.
        """
        self._check_targets({action.index for action in actions})
        found = self._bulk(actions)
        refusing = {action.index for action, outcome in zip(actions, found) if outcome.refused}
        if refusing:
            # A document is poison only if a sound index refuses it.
            self._check_indices(sorted(refusing))
        return found

    def _bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}

        def attempt() -> None:
            requests = requests_of([i for i in range(len(actions)) if i not in outcomes], actions, self._part_bytes)
            sent = [self._senders.submit(self._bulk_once, [actions[i] for i in part]) for part in requests]
            wait(sent)
            failures: list[ItemFailed] = []
            for part, done in zip(requests, sent):
                for position, outcome in zip(part, done.result()):
                    if isinstance(outcome, ItemFailed):
                        failures.append(outcome.of(actions[position].index))
                    else:
                        outcomes[position] = outcome
            raise_worst(failures, f"{len(failures)} of {len(actions)} actions were refused")
            if len(outcomes) < len(actions):
                raise ItemFailed(Kind.TRANSIENT, f"the reply has {len(outcomes)} outcomes for {len(actions)} actions")

        if actions:
            self._call(attempt)
        return [outcomes[i] for i in range(len(actions))]

    def write(self, actions: Sequence[Action]) -> list[Outcome]:
        """Write documents like `bulk`, for callers that cannot handle a refused document.

        Returns:
            For each action: done, or a conflict.

        Raises:
            ServerRefuses: A document was refused, or as for `bulk`; the others are written.
        """
        outcomes = self.bulk(actions)
        for action, outcome in zip(actions, outcomes):
            if outcome.refused:
                raise ServerRefuses(f"{self._server} refused {action.id} of {action.index}: {outcome.error}")
        return outcomes

    def update(
        self,
        places: Iterable[Place],
        decide: Callable[[Mapping[Place, Found | None]], Mapping[Place, bytes | None]],
        stored: Mapping[Place, Found | None] | None = None,
    ) -> Written:
        """Read documents, decide their new content, and replace those that no other writer has changed meanwhile.

        Documents that another writer has changed are read and decided again, so `decide` must return nothing for
        changes that were already applied. The same holds for places that `stored` lacks, and for places that `decide`
        returns without having received them: a document is written only after it was read.

        Arguments:
            places: The documents to read.
            decide: Returns what to write, by place, from the documents that were read since its last call (None for a
                missing one): JSON without line breaks, or None to delete the document.
            stored: The documents that were read before; None to read all of them.

        Returns:
            The result of all writes, with the documents that Elasticsearch refused.

        Raises:
            Unavailable: No answer after all tries, or too many conflicts.
        """
        left = dict.fromkeys(places)
        found = self._read(left) if stored is None else stored
        done = Written()
        for attempt in range(_REREADS):
            if attempt > 1:
                pause(attempt)
            if attempt:
                found = self._read(left)
            changed = decide(found)
            done.add(self.replace({place: new for place, new in changed.items() if place in found}, found))
            unread = (place for place in (*left, *changed) if place not in found)
            left = dict.fromkeys((*done.conflicts, *unread))
            if not left:
                done.rereads = attempt
                return done
        raise Unavailable(
            f"{self._server}: other writers changed {len(left)} documents during each of {_REREADS} tries"
        )

    def _read(self, places: Iterable[Place]) -> dict[Place, Found | None]:
        asked = list(places)
        return dict(zip(asked, self.mget(asked)))

    def replace(self, changed: Mapping[Place, bytes | None], stored: Mapping[Place, Found | None]) -> Written:
        """Replace documents that no other writer has changed since they were read, and create those that were missing.

        Arguments:
            changed: The new documents by place: JSON without line breaks, or None to delete the document.
            stored: The documents as they were read, by place; None for a missing one.

        Raises:
            Unavailable: As for `bulk`.
        """
        actions = {
            place: replacing(place, source, stored[place])
            for place, source in changed.items()
            if source is not None or stored[place] is not None
        }
        done = Written()
        for (place, action), outcome in zip(actions.items(), self.bulk(list(actions.values()))):
            if outcome.status == CONFLICT:
                done.conflicts.append(place)
            elif outcome.refused:
                done.refused[place] = outcome.error or ""
            elif action.op == "create":
                done.created += 1
            elif action.op == "index":
                done.replaced += 1
            else:
                done.deleted += 1
        return done

    def remove(self, documents: Iterable[Found]) -> int:
        """Remove documents that no writer has changed since they were read; return how many were removed.

        Raises:
            Unavailable: As for `write`.
        """
        actions = [replacing((old.index, old.id), None, old) for old in documents]
        return sum(not outcome.error for outcome in self.write(actions))

    def _bulk_once(self, actions: Sequence[Action]) -> list[Outcome | ItemFailed]:
        """Send one request, or smaller ones if Elasticsearch or its proxy never accepts its size."""
        lines: list[bytes] = []
        for action in actions:
            lines += (header(action), action.source) if action.source else (header(action),)
        body = b"\n".join([*lines, b""])
        try:
            reply = self.client.bulk(operations=body, filter_path=_REPLY_FIELDS)  # type: ignore[arg-type]
        except ApiError as error:
            reason = words(error) or ""
            if not never_fits(error.status_code, reason, len(body)):
                raise
            return self._in_smaller(actions, len(body), reason)
        items = [next(iter(item.values())) for item in reply.body["items"]]
        found = [outcome_of(item) for item in items]
        large = [n for n, item in enumerate(items) if item.get("error") and fits_never(item, actions[n])]
        if large and len(actions) == 1:
            return self._in_smaller(actions, len(body), words_of(items[0]["error"]))
        if large:
            # None of these is written yet; smaller requests may fit.
            again = [actions[n] for n in large]
            requests = halves(again) if len(again) == len(actions) else [again]
            for n, outcome in zip(large, [outcome for part in requests for outcome in self._bulk_once(part)]):
                found[n] = outcome
        return found

    def _in_smaller(self, actions: Sequence[Action], size: int, reason: str) -> list[Outcome | ItemFailed]:
        """Send a request that was too large in halves, repeatedly; refuse a document that is too large alone."""
        if len(actions) == 1:
            error = f"{size} bytes are too large for Elasticsearch or a proxy before it: {reason}"
            return [Outcome(CONTENT_TOO_LARGE, error[:500])]
        # Further requests of this size would fail, too.
        self._part_bytes = max(_SMALLEST_PART, min(self._part_bytes, size // 2))
        return [outcome for part in halves(actions) for outcome in self._bulk_once(part)]

    def close(self) -> None:
        """Close the connections."""
        self._senders.shutdown()
        super().close()
