"""Fetching and committing on a real Kafka."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.driving import send
from truepixel_dagster.dead_letters import topic as dead_letters
from truepixel_dagster.dead_letters.topic import DeadLetters
from truepixel_dagster.events.event import Message
from truepixel_dagster.settings import MIB, Settings
from truepixel_dagster.stream import topics
from truepixel_dagster.stream.client_config import client_config
from truepixel_dagster.stream.consumer import EventConsumer
from truepixel_dagster.stream.errors import KafkaUnavailable, NoTopic

ALL = (0, 1, 2)


def numbered(count: int, size: int = 10) -> list[tuple[bytes, bytes, tuple[()]]]:
    return [(b"s:%d" % number, b"%d " % number + b"x" * size, ()) for number in range(count)]


def fetch_all(consumer: EventConsumer) -> list[list[Message]]:
    batches = []
    while batch := consumer.fetch():
        batches.append(list(batch.messages))
    return batches


def values(batches: list[list[Message]]) -> list[int]:
    return sorted(int((message.value or b"").split()[0]) for batch in batches for message in batch)


def test_a_new_group_starts_at_the_beginning_and_resumes_after_what_it_committed(settings: Settings) -> None:
    send(settings, numbered(30))
    consumer = EventConsumer(settings.kafka(), settings.fetch_limits(), ALL)
    assert sum(consumer.lag().values()) == 30
    batches = fetch_all(consumer)
    assert values(batches) == list(range(30))
    ends = {m.origin.partition: m.origin.offset + 1 for batch in batches for m in batch}
    consumer.commit(ends)
    consumer.commit(dict.fromkeys(ends, 1))
    consumer.close()
    assert {entry.partition: entry.committed for entry in topics.lag(settings.kafka())} == ends
    send(settings, [(b"s:1", b"99", ())])
    again = EventConsumer(settings.kafka(), settings.fetch_limits(), ALL)
    assert values(fetch_all(again)) == [99]
    again.close()


def test_what_was_not_committed_is_redelivered(settings: Settings) -> None:
    send(settings, numbered(5))
    for _ in range(2):
        consumer = EventConsumer(settings.kafka(), settings.fetch_limits(), ALL)
        assert values(fetch_all(consumer)) == list(range(5))
        consumer.close()


def test_batches_are_cut_by_count_and_by_bytes(settings: Settings) -> None:
    send(settings, numbered(25))
    consumer = EventConsumer(settings.kafka(), settings.fetch_limits()._replace(messages=10), ALL)
    assert max(len(batch) for batch in fetch_all(consumer)) == 10
    consumer.close()
    send(settings, numbered(8, size=30_000))
    small = settings.model_copy(update={"batch_bytes": 64 * 1024})
    consumer = EventConsumer(small.kafka(), small.fetch_limits(), ALL)
    batches = fetch_all(consumer)
    assert sum(len(batch) for batch in batches) == 33
    assert all(sum(message.size for message in batch) <= 64 * 1024 for batch in batches)
    consumer.close()


def test_a_message_larger_than_every_budget_still_gets_through_alone(settings: Settings) -> None:
    send(settings, [(b"s:c", b"1 " + b"x" * 3 * MIB, ()), (b"s:c", b"2", ())])
    tight = settings.model_copy(update={"batch_bytes": MIB, "prefetch_bytes": MIB})
    consumer = EventConsumer(tight.kafka(), tight.fetch_limits(), ALL)
    assert [len(batch) for batch in fetch_all(consumer)] == [1, 1]
    consumer.close()


def test_records_that_retention_removed_are_reported_and_the_rest_is_read(settings: Settings) -> None:
    send(settings, [(b"s:c", b"%d" % number, ()) for number in range(10)])
    consumer = EventConsumer(settings.kafka(), settings.fetch_limits(), ALL)
    (partition,) = {m.origin.partition for batch in fetch_all(consumer) for m in batch}
    consumer.commit({partition: 2})
    consumer.close()
    admin = AdminClient(client_config(settings.kafka()))
    (future,) = admin.delete_records([TopicPartition(settings.topic, partition, 5)]).values()
    future.result()
    again = EventConsumer(settings.kafka(), settings.fetch_limits(), ALL)
    assert again.taken_by_retention == {partition: 3}
    assert values(fetch_all(again)) == [5, 6, 7, 8, 9]
    again.close()


def test_keys_headers_and_tombstones_arrive_as_sent(settings: Settings) -> None:
    send(settings, [(None, b"v", (("a", b"1"), ("b", None))), (b"", None, ())])
    consumer = EventConsumer(settings.kafka(), settings.fetch_limits(), ALL)
    found = {(m.key, m.value, m.headers) for batch in fetch_all(consumer) for m in batch}
    assert found == {(None, b"v", (("a", b"1"), ("b", None))), (b"", None, ())}
    consumer.close()


def test_a_missing_topic_says_what_to_do(bare_settings: Settings) -> None:
    with pytest.raises(NoTopic, match="truepixel setup"):
        topics.lag(bare_settings.kafka())
    with pytest.raises(NoTopic, match="truepixel setup"):
        topics.partition_count(bare_settings.kafka())


def test_an_unreachable_broker_is_named_with_its_setting(settings: Settings) -> None:
    away = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1", "kafka_timeout": 1.0, "retries": 1})
    with pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:1.*TRUEPIXEL_KAFKA_BOOTSTRAP"):
        topics.lag(away.kafka(), timeout=1)
    with pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:1"):
        EventConsumer(away.kafka(), away.fetch_limits(), ALL)


def test_a_dead_letter_keeps_the_record_as_it_was_and_says_why(settings: Settings) -> None:
    send(settings, [(b"\xffkey", b"\x00raw", (("source", b"pixel"), ("error", b"an older one")))])
    consumer = EventConsumer(settings.kafka(), settings.fetch_limits(), ALL)
    ((message,),) = fetch_all(consumer)
    letters = DeadLetters(settings.kafka(), settings.dead_letter_bytes)
    letters.send(message, error="no such thing", stage="decode")
    letters.flush()
    (letter,) = dead_letters.read(settings.kafka())
    assert (letter.error, letter.stage, letter.message.origin) == ("no such thing", "decode", message.origin)
    assert (letter.message.key, letter.message.value) == (b"\xffkey", b"\x00raw")
    assert letter.message.headers == (("source", b"pixel"),)
    consumer.close()
