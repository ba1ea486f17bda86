"""Redact dead letters.

Kafka cannot delete a single record. So if a partition has a dead letter to redact, all of its dead letters are written
again at its end, redacted where necessary, and then everything before them is deleted. The later of two dead letters of
one record counts, so a crash in between changes nothing. Reprocessing uses the origin, so it is not affected either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from truepixel_dagster.chunks import chunks
from truepixel_dagster.dead_letters.topic import ERROR, OWN_HEADERS, parse
from truepixel_dagster.events.event import Message
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.redactions import Redactions
from truepixel_dagster.stream import reading, topics
from truepixel_dagster.stream.producer import EventProducer

_CHUNK = 500
REDACTED = b"redacted"


def forget(settings: Settings, redactions: Redactions) -> int:
    """Rewrite the partitions that hold dead letters to redact; return the number of redacted dead letters.

    Raises:
        KafkaError: Kafka does not answer, or does not permit deleting records.
        Unavailable: MongoDB does not answer.
    """
    _, ends = topics.bounds(settings.kafka(), settings.dead_topic)
    counts = dict.fromkeys(ends, 0)
    for record, remainder in _anonymised(settings, redactions, ends):
        counts[record.origin.partition] += remainder is not record
    concerned = {partition: ends[partition] for partition, count in counts.items() if count}
    if concerned:
        with EventProducer(settings.kafka(), settings.dead_topic) as producer:
            for record, remainder in _anonymised(settings, redactions, {**dict.fromkeys(ends, 0), **concerned}):
                if remainder:
                    producer.send(
                        remainder.key,
                        remainder.value,
                        remainder.headers,
                        partition=record.origin.partition,
                        timestamp=record.timestamp,
                    )
        topics.delete_before(settings.kafka(), settings.dead_topic, concerned)
    return sum(counts.values())


def _anonymised(
    settings: Settings, redactions: Redactions, ends: Mapping[int, int]
) -> Iterator[tuple[Message, Message | None]]:
    """Yield each record of the topic, and what remains of it: the record itself, an anonymised one, or nothing."""
    records = reading.read_all(settings.kafka(), settings.dead_topic, end=ends)
    for chunk in chunks(records, _CHUNK):
        letters = [(record, dead) for record in chunk if (dead := parse(record))]
        views = redactions.views([dead.message for _, dead in letters])
        changed = {
            record.origin: _letter(record, view)
            for (record, dead), view in zip(letters, views)
            if view is not dead.message
        }
        yield from ((record, changed.get(record.origin, record)) for record in chunk)


def _letter(record: Message, view: Message | None) -> Message | None:
    if view is None:
        return None
    # The reason may quote what was wrong with the record.
    own = [(name, REDACTED if name == ERROR else value) for name, value in record.headers if name in OWN_HEADERS]
    return Message(record.origin, view.key, view.value, (*view.headers, *own), record.timestamp)
