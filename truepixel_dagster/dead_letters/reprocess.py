"""Reprocess dead letters from the stage that rejected them, under their original origin, each applied exactly once.

A dead letter has two tries, and a try counts only if the outcome changes: a dead letter that is rejected at another
stage, or for another reason, is written again with one more try before anything records the try. One that is rejected
as before stays unchanged. A given-up dead letter can be reopened: it is written again without tries.

A dead letter is reprocessed only after the stream has committed past its record, so that the stream will not process
the record itself. Reprocessing may run beside the stream and beside another reprocessing:

- index, ad_lead, attribution and order status recognise a record by its origin, like the stream after a redelivery;
- a customer's document names the reprocessed records (`replayed`), and is replaced under its version;
- one Lua call adds to the product statistics and marks the record, or does neither;
- last, the record is marked as replayed. If reprocessing stops before that, the next one repeats it without effect.

A dead letter of stage `customer` is already in the product statistics: the stream counted it, or the reprocessing that
wrote it.

Touches are inserted by their offsets, and reprocessed orders see them. An order that is already attributed is not
credited again, and a touch that would now repeat a reprocessed one stays: a rebuild from the history corrects both. As
in the stream, the record that reaches its stage first decides which sighting counts an order, and which of two records
with one event id remains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.dead_letters.inspect import GIVEN_UP, WAITING, Wanted, listed
from truepixel_dagster.dead_letters.topic import DeadLetter, DeadLetters, Letter
from truepixel_dagster.events.decode import Undecodable, decode
from truepixel_dagster.events.event import Event
from truepixel_dagster.events.identifiers import shop_and_client
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.events.sites import Sites
from truepixel_dagster.redis_state import check_applied
from truepixel_dagster.resources import Stores, open_stores, sites_of
from truepixel_dagster.settings import Settings
from truepixel_dagster.source_log import checked
from truepixel_dagster.stages import ad_lead, attribution, customer, index, product_stats
from truepixel_dagster.stages.attribution import Attributed
from truepixel_dagster.stages.product_stats import Counting
from truepixel_dagster.stages.refused import Refused
from truepixel_dagster.stages.settling import StageRules, settling, stage_rules_of, with_visits
from truepixel_dagster.stages.stage import AD_LEAD, ATTRIBUTION, CUSTOMER, DECODE, INDEX, ORDERS, REJECTING
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stores.shops import Shops
from truepixel_dagster.stream.micro_batch import group_by_user

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Replay(msgspec.Struct, frozen=True):
    """Count what happened to the requested dead letters; each is counted once.

    `given_up` had no try left, `in_flight` are not committed by the stream yet, `gone` were removed by the topic's
    retention meanwhile. Dead letters that failed again for the same reason have lost no try.
    """

    replayed: int = 0
    duplicates: int = 0
    failed_again: int = 0
    given_up: int = 0
    in_flight: int = 0
    gone: int = 0


class Plan(NamedTuple):
    """Hold the dead letters that would be reprocessed, and the numbers of those that would be skipped."""

    ready: list[Letter]
    in_flight: int
    given_up: int


def replay(
    settings: Settings,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    **wanted: Unpack[Wanted],
) -> Replay:
    """Reprocess the waiting dead letters in micro-batches, in the order of their origins.

    Arguments:
        settings: The pipeline's settings.
        on_progress: Called with the number done and the total, before the first micro-batch and after each.
        wanted: The filters for dead letters.

    Raises:
        StateLost: Redis has lost the marks of reprocessed records.
        KafkaUnavailable, Unavailable: A server does not answer; the next reprocessing does the rest.
    """
    with open_stores(settings) as stores, closing(DeadLetters(settings.kafka(), settings.dead_letter_bytes)) as out:
        ready, in_flight, given_up = _plan(settings, stores, wanted)
        result = Replay(given_up=given_up, in_flight=in_flight)
        rules, sites = stage_rules_of(settings), sites_of(settings)
        redactions = Redactions(stores.mongodb, sites)
        done = 0
        on_progress(done, len(ready))
        for batch in dead_letters.batches(ready, settings.batch_messages, settings.batch_bytes):
            letters = _readable(redactions, dead_letters.reread(settings.kafka(), batch))
            result = _sum(result, _MicroBatch(letters, rules, stores, sites).run(out))
            result = _sum(result, Replay(gone=len(batch) - len(letters)))
            done += len(batch)
            on_progress(done, len(ready))
        return result


def _is_committed(letter: Letter, base: int, committed: Mapping[int, int]) -> bool:
    """Return whether the stream will not process a record again: it is committed, or from an older log."""
    offset = letter.origin.offset
    return offset < base or offset < committed.get(letter.origin.partition, 0)


def plan(settings: Settings, **wanted: Unpack[Wanted]) -> Plan:
    """Plan the reprocessing without doing it.

    Raises:
        KafkaUnavailable, Unavailable: A server does not answer.
    """
    with open_stores(settings) as stores:
        return _plan(settings, stores, wanted)


def _plan(settings: Settings, stores: Stores, wanted: Wanted) -> Plan:
    # Read this before the dead letters: the stream writes no further dead letter for a record that is committed now.
    log = checked(settings.kafka(), stores)
    committed = log.committed()
    check_applied(settings.kafka(), stores, committed, log.base)
    found = listed(settings, stores, **wanted)
    waiting = [entry.letter for entry in found if entry.state == WAITING]
    ready = [letter for letter in waiting if _is_committed(letter, log.base, committed)]
    return Plan(ready, len(waiting) - len(ready), sum(entry.state == GIVEN_UP for entry in found))


def reopen(settings: Settings, **wanted: Unpack[Wanted]) -> int:
    """Give the given-up dead letters their tries back; return how many. A second call finishes an interrupted one.

    Raises:
        KafkaError, Unavailable: A server does not answer.
    """
    count = 0
    with open_stores(settings) as stores, closing(DeadLetters(settings.kafka(), settings.dead_letter_bytes)) as out:
        found = listed(settings, stores, **wanted)
        given_up = [entry.letter for entry in found if entry.state == GIVEN_UP]
        redactions = Redactions(stores.mongodb, sites_of(settings))
        for batch in dead_letters.batches(given_up, settings.batch_messages, settings.batch_bytes):
            letters = _readable(redactions, dead_letters.reread(settings.kafka(), batch))
            for dead in letters:
                out.send(dead.message, error=dead.error, stage=dead.stage, reopened=dead.letter.reopened + 1)
            out.flush()
            count += len(letters)
    return count


class _MicroBatch:
    """Pass dead letters of one partition through the stages, and collect those that fail again."""

    def __init__(self, letters: Sequence[DeadLetter], rules: StageRules, stores: Stores, sites: Sites) -> None:
        self._letters = {letter.message.origin: letter for letter in letters}
        self._rules = rules
        self._stores = stores
        self._shops = Shops(stores.mongodb)
        self._sites = sites
        self._failed: dict[Origin, tuple[str, str]] = {}

    def run(self, out: DeadLetters) -> Replay:
        """Continue from the refusing stages; write the dead letters that failed again, and mark the others."""
        events = self._decode()
        self._shops.learn(events)
        indexed = self._index(events)
        self._count(indexed, self._attribute(indexed))
        self._write_again(out)
        resolved = self._standing(events)
        self._stores.redis.mark_replayed([event.origin for event in resolved])
        replayed = len(self._standing(indexed))
        return Replay(replayed=replayed, duplicates=len(resolved) - replayed, failed_again=len(self._failed))

    def _decode(self) -> list[Event]:
        messages = [letter.message for letter in self._letters.values()]
        known = self._shops.read({shop_and_client(message)[0] for message in messages})
        sites = self._sites.with_shops(known)
        decoded = [decode(message, sites) for message in messages]
        bad = [item for item in decoded if isinstance(item, Undecodable)]
        self._failed.update({item.message.origin: (DECODE, item.reason) for item in bad})
        return [item for item in decoded if isinstance(item, Event)]

    def _index(self, events: Sequence[Event]) -> list[Event]:
        """Run stage 1; return the events that are not duplicates."""
        new = self._until(INDEX, events)
        indexed = index.run(new, self._stores.elasticsearch)
        self._refuse(INDEX, indexed.refused)
        stopped = {event.origin for event in new} - {event.origin for event in indexed.events}
        return [event for event in events if event.origin not in stopped]

    def _attribute(self, events: Sequence[Event]) -> Attributed:
        """Run stages 2 and 3. Dead letters of stage customer write nothing new."""
        rules, stores = self._rules, self._stores
        users = group_by_user(self._until(ATTRIBUTION, events))
        kept = rules.attribution.touches_kept
        leads = ad_lead.run(users, stores.mongodb, kept=kept, repeat=rules.touch_repeat)
        self._refuse(AD_LEAD, leads.refused)
        days = self._shops.days(event.shop_id for event in events)
        by = settling(rules.attribution, leads.touches, days, lambda _partition, _offset: False)
        events_and_visits = with_visits(self._standing(events), leads.orders)
        found = attribution.run(events_and_visits, by, stores.mongodb, stores.elasticsearch)
        self._refuse(ATTRIBUTION, found.refused)
        return found

    def _count(self, events: Sequence[Event], attributed: Attributed) -> None:
        """Run stages 4 and 5. Stage 5 counts what stage 4 refuses, as in the stream."""
        standing = self._standing(events)
        own = group_by_user(self._until(CUSTOMER, standing))
        refused = customer.replay(own, attributed.users, self._stores.mongodb)
        self._refuse(ORDERS, refused.of_orders)
        self._refuse(CUSTOMER, refused.own)
        counting_now = self._until(ATTRIBUTION, standing)
        days = self._shops.days(event.shop_id for event in counting_now)
        counting = Counting(days.day, days.week, self._rules.attribution.products_per_event)
        product_stats.replay(counting_now, attributed.changes, self._stores.redis, counting)

    def _write_again(self, out: DeadLetters) -> None:
        """Write dead letters with one more try; dead letters refused for the same reason stay unchanged."""
        for origin, (stage, reason) in self._failed.items():
            dead = self._letters[origin]
            if dead.letter.is_refused_as_before(stage, reason):
                continue
            tries, reopened = dead.letter.tries + 1, dead.letter.reopened
            out.send(dead.message, error=reason, stage=stage, tries=tries, reopened=reopened)
        out.flush()

    def _refuse(self, stage: str, refused: Sequence[Refused]) -> None:
        self._failed.update({item.event.origin: (stage, item.reason) for item in refused})

    def _standing(self, events: Sequence[Event]) -> list[Event]:
        """Return the events that have not failed again."""
        return [event for event in events if event.origin not in self._failed]

    def _until(self, stage: str, events: Sequence[Event]) -> list[Event]:
        """Return the events that stopped at a stage or before it."""
        last = REJECTING.index(stage)
        return [event for event in events if REJECTING.index(self._letters[event.origin].stage) <= last]


def _readable(redactions: Redactions, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Return the dead letters with their records after redaction."""
    messages = {message.origin: message for message in redactions.shown(letter.message for letter in letters)}
    found = ((letter, messages.get(letter.letter.origin)) for letter in letters)
    return [msgspec.structs.replace(letter, message=message) for letter, message in found if message]


def _sum(one: Replay, other: Replay) -> Replay:
    return Replay(*(a + b for a, b in zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other))))
