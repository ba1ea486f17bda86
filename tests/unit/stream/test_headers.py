"""Headers whose names are no text: the client's tuples hold null pointers for them, which crash what touches them."""

from __future__ import annotations

import time
from contextlib import closing

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.header_names import send_with_header_names
from truepixel_dagster.events.event import Message
from truepixel_dagster.stream.reading import to_message

SECONDS = 30.0


def test_a_header_whose_name_is_not_utf_8_is_left_out_and_ours_are_read() -> None:
    # librdkafka's own broker, inside of this process.
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    address = ",".join(f"{each.host}:{each.port}" for each in broker.list_topics(timeout=SECONDS).brokers.values())
    send_with_header_names(address, "t", b"s:c", b"usual", [b"source"])
    send_with_header_names(address, "t", b"s:c", b"odd", [b"\xff\xfe", b"source", b"\xc3\x28", b"<NULL>"])
    found: list[Message] = []
    partitions = broker.list_topics("t", timeout=SECONDS).topics["t"].partitions
    config = {"bootstrap.servers": address, "group.id": "g", "auto.offset.reset": "earliest", "log_level": 0}
    with closing(Consumer(config)) as consumer:
        consumer.assign([TopicPartition("t", partition, 0) for partition in partitions])
        end = time.monotonic() + SECONDS
        while len(found) < 2 and time.monotonic() < end:
            records = [record for record in consumer.consume(1, timeout=0.5) if not record.error()]
            found += map(to_message, records)
            if len(found) == 1:
                # Python specializes what is called often, and then no longer checks the state that a call has left.
                for record in records * 100:
                    to_message(record)
    assert [(message.value, message.headers) for message in found] == [
        (b"usual", (("source", b"v"),)),
        (b"odd", (("source", b"v"), ("<NULL>", b"v"))),
    ]
