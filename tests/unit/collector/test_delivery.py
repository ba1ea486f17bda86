"""The promise: kept by Kafka or by the journal, and each key's order whatever happens to either."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from tests.unit.collector.clock import Clock
from tests.unit.collector.fake_topic import FakeTopic
from tests.unit.collector.test_journal import record, until
from truepixel_dagster.collector import delivery as module
from truepixel_dagster.collector.delivery import SLOW_SECONDS, Delivery
from truepixel_dagster.collector.journal import Journal
from truepixel_dagster.collector.journal_file import JournalFailed, JournalFile
from truepixel_dagster.collector.kafka import Failure
from truepixel_dagster.collector.promise import DISK, FULL, TOO_LARGE, Promise
from truepixel_dagster.collector.record import Record


class Rig:
    """A delivery on a scripted topic and a journal in a folder."""

    def __init__(self, folder: Path, *, room: int = 10**9, most_bytes: int = 10**7) -> None:
        self.folder = folder
        self.clock = Clock()
        self.topic = FakeTopic(room)
        self.file = JournalFile(folder)
        keys = list(self.file.keys())
        self.journal = Journal(self.file, most_bytes, asyncio.get_running_loop())
        self.delivery = Delivery(self.journal, keys, self.clock)

    def start(self) -> None:
        self.delivery.start(self.topic)

    def offer(self, *records: Record) -> asyncio.Future[str]:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.delivery.offer(records, Promise(len(records), answer))
        return answer

    def values(self, key: str | None = None) -> list[int]:
        return [int(each.value[:10]) for each in self.topic.on_topic if key is None or each.key == key.encode()]

    async def close(self) -> None:
        await self.delivery.close(0)
        self.journal.close()


def run(folder: Path, scenario: Callable[[Rig], Awaitable[None]], **fields: int) -> None:
    async def whole() -> None:
        rig = Rig(folder, **fields)
        await scenario(rig)
        await rig.close()

    asyncio.run(whole())


def test_kafkas_acknowledgement_keeps_the_promise_and_the_journal_is_not_asked(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.start()
        assert await asyncio.wait_for(rig.offer(record(1), record(2)), 5) == ""
        assert rig.values() == [1, 2]
        assert rig.journal.held.records == 0

    run(tmp_path, scenario)


def test_before_kafka_is_there_the_journal_promises_and_sends_by_itself(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        assert await asyncio.wait_for(rig.offer(record(1), record(2)), 5) == ""
        assert (rig.delivery.waiting, rig.journal.held.records) == (2, 2)
        rig.start()
        await until(lambda: rig.journal.held.records == 0)
        assert rig.values() == [1, 2]
        assert rig.delivery.waiting == 0

    run(tmp_path, scenario)


def test_a_slow_kafka_gets_a_copy_in_the_journal_and_the_record_arrives_once(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.topic.acknowledges = False
        rig.start()
        first = rig.offer(record(1))
        await asyncio.sleep(0.05)
        assert not first.done()
        rig.clock.now += SLOW_SECONDS + 0.1
        assert await asyncio.wait_for(first, 5) == ""
        # While it is slow, no sender waits for a second.
        assert await asyncio.wait_for(rig.offer(record(2)), 5) == ""
        assert rig.journal.held.records == 2
        rig.topic.acknowledges = True
        await until(lambda: rig.journal.held.records == 0)
        assert await asyncio.wait_for(rig.offer(record(3)), 5) == ""
        assert rig.values() == [1, 2, 3]

    run(tmp_path, scenario)


def test_newer_records_of_a_key_wait_behind_those_in_the_journal_and_others_do_not(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.topic.acknowledges = False
        rig.start()
        rig.offer(record(1, "s:a"))
        waits = rig.offer(record(2, "s:a"))
        assert await asyncio.wait_for(waits, 5) == ""
        assert rig.delivery.waiting == 1
        rig.topic.acknowledge()
        # The queue has room now, but the record must not overtake the others.
        third, other = rig.offer(record(3, "s:a")), rig.offer(record(4, "s:b"))
        assert await asyncio.wait_for(third, 5) == ""
        rig.topic.acknowledges, rig.topic.room = True, 100
        assert await asyncio.wait_for(other, 5) == ""
        await until(lambda: rig.journal.held.records == 0)
        assert rig.values("s:a") == [1, 2, 3]
        assert rig.values().index(4) < rig.values().index(3)

    run(tmp_path, scenario, room=1)


def test_a_full_queue_and_journal_break_the_promise_at_once(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.topic.acknowledges = False
        rig.start()
        rig.offer(record(1))
        assert await asyncio.wait_for(rig.offer(record(2)), 5) == ""
        full = rig.offer(record(3))
        assert full.done()
        assert full.result() == FULL
        # Kafka accepts records again, and so does the delivery.
        rig.topic.acknowledges = True
        await until(lambda: rig.values() == [1, 2])
        assert await asyncio.wait_for(rig.offer(record(4)), 5) == ""

    run(tmp_path, scenario, room=1, most_bytes=2 * record(0).size + 1)


def test_a_slow_kafka_and_a_full_journal_break_the_promise_at_once(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.topic.acknowledges = False
        rig.start()
        assert not (waits := rig.offer(record(1))).done()
        rig.clock.now += SLOW_SECONDS + 0.1
        assert await asyncio.wait_for(waits, 5) == ""
        assert rig.offer(record(2)).result() == FULL
        assert not rig.delivery.takes
        assert [each.value for each, _ in rig.topic.queue] == [record(1).value]

    run(tmp_path, scenario, most_bytes=record(0).size)


def test_a_disk_that_fails_breaks_the_promise_and_kafka_still_keeps_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(rig: Rig) -> None:
        def failing(*_: object) -> list[int]:
            raise JournalFailed("no space left on device")

        monkeypatch.setattr(rig.file, "append", failing)
        assert await asyncio.wait_for(rig.offer(record(1)), 5) == DISK
        assert rig.delivery.waiting == 0
        rig.start()
        assert await asyncio.wait_for(rig.offer(record(2)), 5) == ""
        assert rig.values() == [2]

    run(tmp_path, scenario)


def test_without_a_journal_only_kafka_counts(tmp_path: Path) -> None:
    async def whole() -> None:
        delivery, topic = Delivery(None), FakeTopic()
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        delivery.offer([record(1)], Promise(1, answer))
        assert answer.result() == FULL
        delivery.start(topic)
        answer = asyncio.get_running_loop().create_future()
        delivery.offer([record(1)], Promise(1, answer))
        assert await asyncio.wait_for(answer, 5) == ""
        await delivery.close(0)

    asyncio.run(whole())


def test_what_kafka_never_accepts_is_refused_and_set_aside_if_it_was_promised(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        never = Failure("message too large", of_the_record=True)
        rig.topic.refusals.append(never)
        rig.start()
        assert await asyncio.wait_for(rig.offer(record(1)), 5) == TOO_LARGE
        rig.topic.acknowledges = False
        promised = rig.offer(record(2))
        rig.clock.now += SLOW_SECONDS + 0.1
        assert await asyncio.wait_for(promised, 5) == ""
        rig.topic.refusals.append(never)
        await until(lambda: rig.journal.held.refused == 1)
        assert (rig.journal.held.records, rig.delivery.refused) == (0, 2)

    run(tmp_path, scenario)


def test_a_refusal_that_may_pass_waits_in_order_and_is_tried_after_a_pause(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.topic.acknowledges = False
        rig.start()
        answers = [rig.offer(record(number)) for number in range(3)]
        rig.topic.refusals = [Failure("topic authorization failed")] * 3
        assert await asyncio.wait_for(asyncio.gather(*answers), 5) == [""] * 3
        assert rig.delivery.waiting == 3
        rig.topic.acknowledges = True
        assert await asyncio.wait_for(rig.offer(record(3)), 5) == ""
        await asyncio.sleep(0.1)
        assert rig.values() == []
        rig.clock.now += module.LONGEST_PAUSE + 1
        await until(lambda: rig.journal.held.records == 0)
        assert rig.values() == [0, 1, 2, 3]

    run(tmp_path, scenario)


def test_a_refused_copy_is_sent_again_from_the_journal(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.topic.acknowledges = False
        rig.start()
        answers = [rig.offer(record(number)) for number in range(3)]
        rig.clock.now += SLOW_SECONDS + 0.1
        assert await asyncio.wait_for(asyncio.gather(*answers), 5) == [""] * 3
        rig.topic.refusals = [Failure("broker: not enough in-sync replicas")] * 3
        await until(lambda: rig.delivery.waiting == 3)
        rig.topic.acknowledges = True
        rig.clock.now += module.LONGEST_PAUSE + 1
        await until(lambda: rig.journal.held.records == 0)
        assert rig.values() == [0, 1, 2]

    run(tmp_path, scenario)


def firsts(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


@examples(40)
@given(st.randoms(use_true_random=False), st.integers(1, 6), st.integers(2, 40))
def test_in_any_scenario_each_promise_is_on_the_topic_and_each_key_in_order(
    chance: random.Random, room: int, most: int
) -> None:
    """Kafka full, slow, refusing; the journal nearly full; a crash at any time: by chance."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_chaos(chance, Path(folder), room, most * record(0).size))


async def _chaos(chance: random.Random, folder: Path, room: int, most_bytes: int) -> None:
    promised: dict[int, str] = {}
    landed: list[Record] = []
    number = 0
    for _ in range(3):
        rig = Rig(folder, room=room, most_bytes=most_bytes)
        rig.topic.acknowledges = chance.random() < 0.5
        if chance.random() < 0.8:
            rig.start()
        waits: dict[asyncio.Future[str], tuple[int, str]] = {}
        for _ in range(chance.randrange(30)):
            act = chance.random()
            if act < 0.6:
                number += 1
                key = f"s:{chance.randrange(3)}"
                waits[rig.offer(record(number, key))] = (number, key)
            elif act < 0.7:
                rig.clock.now += chance.choice([0.5, 2, 40])
            elif act < 0.8 and rig.topic.queue:
                rig.topic.acknowledge()
            elif act < 0.85:
                rig.topic.acknowledges = not rig.topic.acknowledges
            elif act < 0.9:
                # As librdkafka does: an error of the topic concerns every record that waits for it.
                rig.topic.refusals += [Failure("not enough replicas")] * len(rig.topic.queue)
                rig.topic.serve()
            else:
                await asyncio.sleep(0.002)
        await asyncio.sleep(chance.choice([0, 0.005]))
        # A crash: what is in Kafka's queue is lost, and the journal is as it is.
        promised |= {place[0]: place[1] for answer, place in waits.items() if answer.done() and answer.result() == ""}
        await rig.close()
        landed += rig.topic.on_topic
    rig = Rig(folder, most_bytes=most_bytes)
    rig.start()
    await until(lambda: rig.journal.held.records == 0)
    await rig.close()
    landed += rig.topic.on_topic
    for user in {each.key for each in landed}:
        values = [int(each.value[:10]) for each in landed if each.key == user]
        kept = [value for value in firsts(values) if value in promised]
        assert kept == sorted(kept)
    assert set(promised) <= {int(each.value[:10]) for each in landed}
