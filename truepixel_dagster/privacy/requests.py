"""Process requests about personal data in the order in which they arrived, each until it is done.

A redaction has these steps: find the person's ids and store them; store the redaction, which the stream then applies to
the records that it reads; wait until the stream has written what it read before; find ids again; redact store by store;
search. If a step fails, the request waits, and the next run continues with all ids found so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from truepixel_dagster.events.identifiers import Identifier
from truepixel_dagster.events.privacy_request import DATA_REQUEST, SHOP_REDACT
from truepixel_dagster.privacy import dead_letters, export
from truepixel_dagster.privacy.forget import Forgotten, forget_person, forget_shop, recompute
from truepixel_dagster.privacy.person import asked_for, find
from truepixel_dagster.privacy.search import Searched, search, search_shop
from truepixel_dagster.private_files import private_folder
from truepixel_dagster.rebuild.context import RebuildContext, rebuilding
from truepixel_dagster.rebuild.stream_progress import read_stream_progress
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores import privacy_requests
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.mongodb import PRIVACY_REQUESTS, UpdateOne
from truepixel_dagster.stores.privacy_requests import Waiting
from truepixel_dagster.stores.redactions import KNOWN_SECONDS, WHOLE_SHOP, Moment, Redactions
from truepixel_dagster.stores.redis.leases import holders
from truepixel_dagster.text import file_name

# In seconds. A micro-batch is written within a run; a lane that takes longer makes no progress.
LONGEST_WAIT = 600.0
_LOOK_SECONDS = 0.2
_PASSES = 5
_ANSWER, _ANSWER_TYPE = "data-request", ".jsonl"
Say = Callable[[str], None]


class LeftOver(Exception):
    """Raised when the search after a redaction still finds data of the person or shop."""


class Outcome(msgspec.Struct, frozen=True):
    """Hold the result of a request: the number of documents by store, what was searched, and the file of the answer."""

    id: str
    topic: str
    documents: dict[str, int]
    searched: dict[str, Searched] = {}
    file: str | None = None


def run(settings: Settings, say: Say, shop: str | None = None) -> Iterator[Outcome]:
    """Process the waiting requests of one shop, or of all.

    Raises:
        LeftOver: A search still found data; the request waits.
        KafkaUnavailable, Unavailable: A server does not answer; the request waits.
        OSError: An answer cannot be written; the request waits.
    """
    with rebuilding(settings) as context:
        failed: LeftOver | None = None
        for request in privacy_requests.waiting(context.stores.mongodb, shop):
            say(f"{request.request.topic} ({request.id})")
            try:
                yield _do(_with_progress(context), request, say)
            except LeftOver as error:
                # Continue with the other requests.
                failed = error
        if failed:
            raise failed


def _do(context: RebuildContext, request: Waiting, say: Say) -> Outcome:
    if request.request.topic == DATA_REQUEST:
        return _answer(context, request, say)
    if request.request.topic == SHOP_REDACT:
        return _redact(context, request, say, _shop)
    return _redact(context, request, say, _person)


def _answer(context: RebuildContext, request: Waiting, say: Say) -> Outcome:
    settings, shop = context.settings, request.request.shop_id
    person = find(context, shop, asked_for(request.request))
    # A configured folder may hold other files, so its permissions stay.
    folder = settings.privacy_dir or private_folder(settings.data_dir / "privacy")
    path = folder / file_name(_ANSWER, request.id, _ANSWER_TYPE)
    counts = export.write(path, export.held(context, shop, person))
    say(f"{sum(counts.values())} documents written to {path}")
    redactions = Redactions(context.stores.mongodb, context.history.sites)
    redactions.prepare()
    subject = [redactions.digest(shop, id_) for id_ in asked_for(request.request)]
    outcome = Outcome(request.id, request.request.topic, counts, file=str(path))
    whose = [*subject, redactions.digest(shop, WHOLE_SHOP)]
    privacy_requests.done(context.stores.mongodb, request.id, {"file": str(path), "subject": whose})
    return outcome


def _redact(context: RebuildContext, request: Waiting, say: Say, forget: Any) -> Outcome:
    redactions = Redactions(context.stores.mongodb, context.history.sites)
    ids = asked_for(request.request) | set(request.found)
    counts: dict[str, int] = {}
    for _ in range(_PASSES):
        ids, forgotten, found = forget(context, request, ids, redactions, say)
        for store, count in forgotten.counts.items():
            counts[store] = counts.get(store, 0) + count
        if not any(place.found for place in found.values()):
            privacy_requests.done(context.stores.mongodb, request.id, {"documents": counts})
            return Outcome(request.id, request.request.topic, counts, found)
        say("the search still found data: redacting again")
    places = ", ".join(f"{name} {place.found}" for name, place in found.items() if place.found)
    raise LeftOver(f"the search still finds data after {_PASSES} passes ({places}). The request waits: run it again")


Pass = tuple[frozenset[Identifier], Forgotten, Mapping[str, Searched]]


def _person(
    context: RebuildContext, request: Waiting, ids: frozenset[Identifier], redactions: Redactions, say: Say
) -> Pass:
    shop = request.request.shop_id
    say("finding the ids of the person")
    person = find(context, shop, ids)
    while True:
        privacy_requests.note(context.stores.mongodb, request.id, person.ids)
        context = _keep(context, shop, person.ids, redactions, say)
        before, person = person, find(context, shop, person.ids)
        if person.ids == before.ids:
            break
    _forget_reasons(context, person.words())
    forget = partial(forget_person, person=person, redactions=redactions)
    context, forgotten = _forget(context, request, person.ids, redactions, say, forget)
    return person.ids, forgotten, search(context, person, redactions, request.id)


def _shop(
    context: RebuildContext, request: Waiting, ids: frozenset[Identifier], redactions: Redactions, say: Say
) -> Pass:
    shop = request.request.shop_id
    context = _keep(context, shop, frozenset({WHOLE_SHOP}), redactions, say)
    forget = partial(forget_shop, shop=shop, redactions=redactions)
    context, forgotten = _forget(context, request, frozenset({WHOLE_SHOP}), redactions, say, forget)
    return ids, forgotten, search_shop(context, shop, redactions, request.id)


def _forget(
    context: RebuildContext,
    request: Waiting,
    ids: frozenset[Identifier],
    redactions: Redactions,
    say: Say,
    forget: Callable[[RebuildContext], Forgotten],
) -> tuple[RebuildContext, Forgotten]:
    """Redact every store, and recompute what depends on the anonymised data."""
    say("redacting")
    counts = {"dead letters": dead_letters.forget(context.settings, redactions)}
    counts |= _forget_requests(context, request.request.shop_id, ids, redactions, request.id)
    forgotten = forget(_with_progress(context))
    # Afterwards, every batch that read the old touches is written.
    context = wait_for_lanes(context, say)
    recompute(context, forgotten)
    forgotten.counts |= counts
    say("searching")
    return context, forgotten


def _keep(
    context: RebuildContext, shop: str, ids: frozenset[Identifier], redactions: Redactions, say: Say
) -> RebuildContext:
    """Store the redaction; when this returns, no process still writes records read without it."""
    moment = Moment({str(p): end for p, end in context.log.ends().items()}, int(time.time() * 1000))
    redactions.add(shop, ids, moment)
    return wait_for_lanes(context, say)


def wait_for_lanes(context: RebuildContext, say: Say) -> RebuildContext:
    """Wait until the running lanes have committed what they may have read so far, or have ended.

    Raises:
        Unavailable: A lane has done neither for ten minutes.
    """
    # After this time, every reader has reloaded which shops have redactions.
    time.sleep(KNOWN_SECONDS)
    settings, client = context.settings, context.stores.redis.client
    ends = context.log.ends()
    at_work = holders(client, settings.namespace, sorted(ends))
    deadline = time.monotonic() + LONGEST_WAIT
    reported = False
    while True:
        committed = context.log.committed()
        now = holders(client, settings.namespace, sorted(at_work))
        left = [p for p, run_ in at_work.items() if now.get(p) == run_ and committed.get(p, 0) < ends[p]]
        if not left:
            return _with_progress(context)
        if time.monotonic() > deadline:
            raise Unavailable(
                f"run {at_work[left[0]]} makes no progress on partition {left[0]}. See its log for the reason, then run"
                " `truepixel privacy run`"
            )
        if not reported:
            say("waiting for the stream to commit the records that it has read")
            reported = True
        time.sleep(_LOOK_SECONDS)


def _with_progress(context: RebuildContext) -> RebuildContext:
    return context._replace(stream=read_stream_progress(context.log, context.stores))


def _forget_reasons(context: RebuildContext, words: Any) -> None:
    """Remove reasons that quote the person's ids from the stored refusals; the refusals stay."""
    context.stores.redis.forget_reasons(lambda text: words is not None and bool(words.search(text)))


def _forget_requests(
    context: RebuildContext, shop: str, ids: frozenset[Identifier], redactions: Redactions, own: str
) -> dict[str, int]:
    """Delete the answers to data requests, and other requests, about the same person; return their numbers."""
    mongodb = context.stores.mongodb
    digests = [redactions.digest(shop, id_) for id_ in ids]
    answered = list(mongodb.find(PRIVACY_REQUESTS, {"subject": {"$in": digests}}))
    for answer in answered:
        file = Path(answer["file"])
        # A writer to MongoDB could name any file there, so only answers are deleted.
        if file.name.startswith(f"{_ANSWER}-") and file.suffix == _ANSWER_TYPE:
            file.unlink(missing_ok=True)
    forgotten = [UpdateOne({"_id": answer["_id"]}, {"$unset": {"subject": "", "file": ""}}) for answer in answered]
    mongodb.write(PRIVACY_REQUESTS, forgotten)
    for other in privacy_requests.waiting(mongodb, shop):
        if other.id != own and (WHOLE_SHOP in ids or asked_for(other.request) & ids):
            privacy_requests.done(mongodb, other.id, {"done_by": own})
    return {"answers": len(answered)}
