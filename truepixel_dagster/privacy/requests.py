"""Do what was asked for about personal data: requests in the order in which they came, each until it is done.

A redaction goes: find who it is and note it; keep the redaction, which the stream then reads records by; wait until
what the stream had in hand has landed; look again; forget, store by store; search. Whatever ends it on the way, the
request waits, and the next run goes on with all that had been found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from pymongo import UpdateOne

from truepixel_dagster.events.identifiers import Identifier
from truepixel_dagster.events.privacy_request import DATA_REQUEST, SHOP_REDACT
from truepixel_dagster.privacy import export, letters
from truepixel_dagster.privacy.forget import Forgotten, forget_person, forget_shop, recompute
from truepixel_dagster.privacy.person import asked_for, find
from truepixel_dagster.privacy.search import Searched, search, search_shop
from truepixel_dagster.private_files import private_folder
from truepixel_dagster.rebuild.context import RebuildContext, rebuilding
from truepixel_dagster.rebuild.stream_progress import read_stream_progress
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores import privacy_requests
from truepixel_dagster.stores.errors import Unavailable
from truepixel_dagster.stores.leases import holders
from truepixel_dagster.stores.mongodb import PRIVACY_REQUESTS
from truepixel_dagster.stores.privacy_requests import Waiting
from truepixel_dagster.stores.redactions import KNOWN_SECONDS, WHOLE_SHOP, Moment, Redactions
from truepixel_dagster.text import file_name

# What is in hand lands within a run; one that takes longer is stuck.
LONGEST_WAIT = 600.0
_LOOK_SECONDS = 0.2
_PASSES = 5
_ANSWER, _ANSWER_TYPE = "data-request", ".jsonl"
Say = Callable[[str], None]


class LeftOver(Exception):
    """Something of a person or shop was still found after it was forgotten."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a request: how many documents by store, what the search looked at, where the answer is."""

    id: str
    topic: str
    documents: dict[str, int]
    searched: dict[str, Searched] = {}
    file: str | None = None


def run(settings: Settings, say: Say, shop: str | None = None) -> Iterator[Outcome]:
    """Do the requests that wait, those of one shop or all.

    Raises:
        LeftOver: A search still found something; the request waits.
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
                # The others need not wait for this one.
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
    # A folder that was chosen may hold other things, which are not ours to tighten.
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
        say("something was still found: once more")
    places = ", ".join(f"{name} {place.found}" for name, place in found.items() if place.found)
    raise LeftOver(f"after {_PASSES} passes something is still there ({places}); the request waits, run it again")


Pass = tuple[frozenset[Identifier], Forgotten, Mapping[str, Searched]]


def _person(
    context: RebuildContext, request: Waiting, ids: frozenset[Identifier], redactions: Redactions, say: Say
) -> Pass:
    shop = request.request.shop_id
    say("looking for everything of the person")
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
    """Forget everywhere, and work out what rests on what remains."""
    say("forgetting")
    counts = {"dead letters": letters.forget(context.settings, redactions)}
    counts |= _forget_requests(context, request.request.shop_id, ids, redactions, request.id)
    forgotten = forget(_with_progress(context))
    # What read touches before they were worked out has landed then.
    context = wait_for_lanes(context, say)
    recompute(context, forgotten)
    forgotten.counts |= counts
    say("searching")
    return context, forgotten


def _keep(
    context: RebuildContext, shop: str, ids: frozenset[Identifier], redactions: Redactions, say: Say
) -> RebuildContext:
    """Keep the redaction; when this returns, nobody writes any more what was read without it."""
    moment = Moment({str(p): end for p, end in context.log.ends().items()}, int(time.time() * 1000))
    redactions.add(shop, ids, moment)
    return wait_for_lanes(context, say)


def wait_for_lanes(context: RebuildContext, say: Say) -> RebuildContext:
    """Wait until the lanes that are at work have committed what they may have read until now, or have ended.

    Raises:
        Unavailable: One has not for ten minutes.
    """
    # By then every reader asks again which shops have redactions.
    time.sleep(KNOWN_SECONDS)
    settings, client = context.settings, context.stores.redis.client
    ends = context.log.ends()
    at_work = holders(client, settings.namespace, sorted(ends))
    deadline = time.monotonic() + LONGEST_WAIT
    told = False
    while True:
        committed = context.log.committed()
        now = holders(client, settings.namespace, sorted(at_work))
        left = [p for p, run_ in at_work.items() if now.get(p) == run_ and committed.get(p, 0) < ends[p]]
        if not left:
            return _with_progress(context)
        if time.monotonic() > deadline:
            raise Unavailable(
                f"run {at_work[left[0]]} does not get on with partition {left[0]}: see why, then"
                " `truepixel privacy run`"
            )
        if not told:
            say("waiting for what the stream has in hand")
            told = True
        time.sleep(_LOOK_SECONDS)


def _with_progress(context: RebuildContext) -> RebuildContext:
    return context._replace(stream=read_stream_progress(context.log, context.stores))


def _forget_reasons(context: RebuildContext, words: Any) -> None:
    """A mark of a refusal may quote the person's ids; it stays, without its reason."""
    context.stores.redis.forget_reasons(lambda text: words is not None and bool(words.search(text)))


def _forget_requests(
    context: RebuildContext, shop: str, ids: frozenset[Identifier], redactions: Redactions, own: str
) -> dict[str, int]:
    """Answers that were given to data requests, and other requests about the same person, are gone with the person."""
    mongodb = context.stores.mongodb
    digests = [redactions.digest(shop, id_) for id_ in ids]
    answered = list(mongodb.find(PRIVACY_REQUESTS, {"subject": {"$in": digests}}))
    for answer in answered:
        file = Path(answer["file"])
        # Whoever writes to MongoDB may name any file there: nothing else than an answer is deleted.
        if file.name.startswith(f"{_ANSWER}-") and file.suffix == _ANSWER_TYPE:
            file.unlink(missing_ok=True)
    forgotten = [UpdateOne({"_id": answer["_id"]}, {"$unset": {"subject": "", "file": ""}}) for answer in answered]
    mongodb.write(PRIVACY_REQUESTS, forgotten)
    for other in privacy_requests.waiting(mongodb, shop):
        if other.id != own and (WHOLE_SHOP in ids or asked_for(other.request) & ids):
            privacy_requests.done(mongodb, other.id, {"done_by": own})
    return {"answers": len(answered)}
