"""Records as producers in C may send them, which Python's client cannot: headers whose names are any bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import confluent_kafka


def send_with_header_names(bootstrap: str, topic_name: str, key: bytes, value: bytes, names: Iterable[bytes]) -> None:
    """Send a record whose headers have names of any bytes, as producers in C may; Python's client takes text only."""
    library = ctypes.CDLL(str(next(Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*"))))
    for function in ("rd_kafka_conf_new", "rd_kafka_new"):
        getattr(library, function).restype = ctypes.c_void_p
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), None, 0)
    producer = ctypes.c_void_p(library.rd_kafka_new(0, conf, None, 0))
    end, topic, value_type, key_type, flags, header, copy = 0, 1, 4, 5, 7, 9, 2
    size = ctypes.c_size_t
    arguments: list[Any] = [topic, topic_name.encode(), value_type, value, size(len(value)), key_type, key]
    arguments += [size(len(key)), flags, copy]
    for name in names:
        arguments += [header, name, b"v", size(1)]
    assert library.rd_kafka_producev(producer, *arguments, end) == 0
    assert library.rd_kafka_flush(producer, 30_000) == 0
    library.rd_kafka_destroy(producer)
