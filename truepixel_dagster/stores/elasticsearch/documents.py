"""Documents by id: read in one request, written in one, and replaced only where nobody else has changed them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from elasticsearch import ApiError

from truepixel_dagster.retrying import pause
from truepixel_dagster.settings import Settings
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

# Several lanes that write one document again and again take turns: a write that meets another's reads again.
_REREADS = 40
# Requests are not made smaller than this for a proxy's sake.
_SMALLEST_PART = 64 * 1024
_REPLY_FIELDS = "items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by"


class Documents(Indices):
    """Read and write documents by index and id. See `Connection` for the arguments."""

    def __init__(self, settings: Settings, *, exact: bool = False) -> None:
        super().__init__(settings, exact=exact)
        self._part_bytes = PART_BYTES
        self._senders = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bulk")

    def mget(self, documents: Sequence[Place], fields: Sequence[str] | None = None) -> list[Found | None]:
        """Read documents by index and id, in the order asked for; None only where it is known that there is none.

        Arguments:
            documents: Pairs of full index name and id.
            fields: Source fields to return; None returns all.

        Raises:
            Unavailable: No answer after all tries, or none for one of the documents.
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
                raise ItemFailed(Kind.TRANSIENT, f"{len(found)} answers to {len(documents)} questions")

        if documents:
            self._call(attempt)
        return [found[position] for position in range(len(documents))]

    def _document(self, doc: Mapping[str, Any]) -> Found | None:
        """What an item says: a document, none, or that it is not known."""
        error = doc.get("error")
        if error is None:
            return found_in(doc)
        # A month that nobody has written to; what `setup` made is never missing.
        if INDEX_NOT_FOUND in types_of(error) and doc["_index"] not in map(self.index, MADE_BY_SETUP):
            return None
        raise failed(error)

    def bulk(self, actions: Sequence[Action]) -> list[Outcome]:
        """Write documents and say for each what became of it, in order.

        Many, or large ones, go in parts, two side by side; those of one id in the same one, in the order given. Actions
        that Elasticsearch had no room for are sent again within the tries.

        Returns:
            For each action: done, a conflict, or a refusal that concerns this one document. Whoever has nothing to do
            with a refused document calls `write` instead.

        Raises:
            AccessDenied: The user may not write one of them.
            NotSetUp: An index does not have, or would not get, the mapping that its documents need.
            ServerRefuses: An index is closed, blocked or cannot be made: no fault of the documents.
            Unavailable: No answer, or no room, after all tries.
        """
        self._check_targets({action.index for action in actions})
        found = self._bulk(actions)
        refusing = {action.index for action, outcome in zip(actions, found) if outcome.refused}
        if refusing:
            # A document is poison only where a sound index refuses it.
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
                raise ItemFailed(Kind.TRANSIENT, f"{len(outcomes)} answers to {len(actions)} actions")

        if actions:
            self._call(attempt)
        return [outcomes[i] for i in range(len(actions))]

    def write(self, actions: Sequence[Action]) -> list[Outcome]:
        """Write documents as `bulk` does, for whoever has no place for a refused one.

        Returns:
            For each action: done, or a conflict.

        Raises:
            ServerRefuses: A document was refused, or what `bulk` raises; the others are written.
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
        """Read documents, decide what becomes of them, and replace those that nobody else has changed meanwhile.

        Those that somebody else has changed are read and decided again, so `decide` must return nothing for what was
        already applied. So are places that `stored` lacks, and places that `decide` returns without having been given
        them: nothing is written where nothing was read.

        Arguments:
            places: The documents to read.
            decide: Returns what to write, by place, from the documents that were read since it was last called (None
                where there is none): JSON without line breaks, or None to delete the document.
            stored: The documents that were read before; None to read all of them.

        Returns:
            What was done in all, and which documents Elasticsearch refused.

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
        raise Unavailable(f"{self._server}: {len(left)} documents kept changing under {_REREADS} tries")

    def _read(self, places: Iterable[Place]) -> dict[Place, Found | None]:
        asked = list(places)
        return dict(zip(asked, self.mget(asked)))

    def replace(self, changed: Mapping[Place, bytes | None], stored: Mapping[Place, Found | None]) -> Written:
        """Replace documents that nobody else has changed since they were read, and create those that were not there.

        Arguments:
            changed: The new documents by place: JSON without line breaks, or None to delete the document.
            stored: The documents as they were read, by place; None for one that was not there.

        Raises:
            Unavailable: What `bulk` raises.
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
        """Remove documents that nobody has changed since they were read; return how many were removed.

        Raises:
            Unavailable: What `write` raises.
        """
        actions = [replacing((old.index, old.id), None, old) for old in documents]
        return sum(not outcome.error for outcome in self.write(actions))

    def _bulk_once(self, actions: Sequence[Action]) -> list[Outcome | ItemFailed]:
        """One request; smaller ones where it is larger than Elasticsearch, or a proxy before it, ever takes."""
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
            # Nothing of these is written; one alone may fit.
            again = [actions[n] for n in large]
            requests = halves(again) if len(again) == len(actions) else [again]
            for n, outcome in zip(large, [outcome for part in requests for outcome in self._bulk_once(part)]):
                found[n] = outcome
        return found

    def _in_smaller(self, actions: Sequence[Action], size: int, reason: str) -> list[Outcome | ItemFailed]:
        """A request that was too large in halves, and so on; a document that is too large alone is refused."""
        if len(actions) == 1:
            error = f"{size} bytes are too large for Elasticsearch or a proxy before it: {reason}"
            return [Outcome(CONTENT_TOO_LARGE, error[:500])]
        # The next ones need not be tried in vain.
        self._part_bytes = max(_SMALLEST_PART, min(self._part_bytes, size // 2))
        return [outcome for part in halves(actions) for outcome in self._bulk_once(part)]

    def close(self) -> None:
        """Close the connections."""
        self._senders.shutdown()
        super().close()
