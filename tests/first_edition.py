"""An installation as the first edition of the data contract left it: dumped from its servers, and put into others.

These commands made tests/samples/first_edition:

    git worktree add ../first f7379d6       # the last commit that knows the first edition alone
    RECORDS=$PWD/tests/samples/first_edition/records.jsonl
    cd ../first && ./run stack up && ./run setup
    head -55 $RECORDS | ./run produce - && ./run drain && ./run flush
    tail +56 $RECORDS | ./run produce - && ./run drain      # their counts wait in Redis
    (cd - && python -m tests.first_edition tests/samples/first_edition)
    ./run audit                                             # no difference

The records are parts of inputs in tests/cases, two `shop/update` webhooks, a record that no version decodes, and one
that only the first edition decodes: the order of `710003:odd`. `more.jsonl` has the records after the upgrade. Only
records.jsonl has payloads; documents of events get theirs from it. Kafka's identity, Redis' epoch and leases are left
out, because they belong to those servers.
"""

from __future__ import annotations

import base64
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import redis

from truepixel_dagster.local.samples import read_lines
from truepixel_dagster.resources import Stores, open_stores
from truepixel_dagster.settings import Settings, load_settings
from truepixel_dagster.stores.index_templates import TEMPLATES
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.reading import read_all
from truepixel_dagster.stream.topics import create_topics, reset_offsets

FOLDER = Path(__file__).parent / "samples" / "first_edition"
MORE = FOLDER / "more.jsonl"
NAMESPACE = "truepixel"
COLLECTIONS = ("ad_leads", "customers", "order_status")
_OF_THOSE_SERVERS = ("lease", "identity")
_OF_THAT_INDEX = ("creation_date", "uuid", "version", "provided_name", "routing")
Doc = dict[str, Any]


# --- Dumping ---


def dump(settings: Settings, folder: Path) -> None:
    """Write everything that servers hold of the namespace `truepixel`, unchanged."""
    with open_stores(settings) as stores:
        _write(folder / "records.jsonl", _records(settings, settings.topic))
        _write(folder / "letters.jsonl", _records(settings, settings.dead_topic))
        _write(folder / "indices.jsonl", _indices(stores))
        _write(folder / "elasticsearch.jsonl", _documents(stores))
        _write(folder / "mongodb.jsonl", _collections(stores))
        _write(folder / "redis.jsonl", _keys(settings))


def _write(path: Path, lines: Iterator[Doc]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def _records(settings: Settings, topic: str) -> Iterator[Doc]:
    # As they were sent.
    for message in sorted(read_all(settings.kafka(), topic), key=lambda each: (each.timestamp, each.origin)):
        headers = {name: (text or b"").decode() for name, text in message.headers}
        key, value = (message.key or b"").decode(), message.value or b""
        yield {"partition": message.origin.partition, "key": key, "headers": headers, "value": _raw(value)}


def _raw(value: bytes) -> msgspec.Raw:
    """JSON as it is; anything else as text."""
    with suppress(msgspec.DecodeError):
        msgspec.json.decode(value)
        return msgspec.Raw(value)
    return msgspec.Raw(msgspec.json.encode(value.decode()))


def _indices(stores: Stores) -> Iterator[Doc]:
    client = stores.elasticsearch.client
    for name in TEMPLATES:
        (found,) = client.indices.get_index_template(name=f"{NAMESPACE}-{name}")["index_templates"]
        body = {key: value for key, value in found["index_template"].items() if "_date" not in key}
        yield {"template": found["name"], "body": body}
    for name, found in sorted(client.indices.get(index=f"{NAMESPACE}-*").body.items()):
        settings = {key: value for key, value in found["settings"]["index"].items() if key not in _OF_THAT_INDEX}
        yield {"index": name, "body": {"mappings": found["mappings"], "settings": {"index": settings}}}


def _documents(stores: Stores) -> Iterator[Doc]:
    client = stores.elasticsearch.client
    client.indices.refresh(index=f"{NAMESPACE}-*")
    hits = client.search(index=f"{NAMESPACE}-*", size=10_000)["hits"]["hits"]
    for hit in sorted(hits, key=lambda each: (each["_index"], each["_id"])):
        source = {name: value for name, value in hit["_source"].items() if name != "payload"}
        yield {"index": hit["_index"], "id": hit["_id"], "source": source}


def _collections(stores: Stores) -> Iterator[Doc]:
    for name in COLLECTIONS:
        for document in stores.mongodb.find(name, {}):
            yield {"collection": name, "document": document}


def _keys(settings: Settings) -> Iterator[Doc]:
    # Sets of visitors are no text.
    client: Any = redis.Redis.from_url(settings.redis_url.get_secret_value())
    for key in sorted(client.scan_iter(f"{NAMESPACE}:*")):
        name = key.decode().removeprefix(f"{NAMESPACE}:")
        if name.partition(":")[0] in _OF_THOSE_SERVERS:
            continue
        kind = client.type(key).decode()
        if kind == "hash":
            yield {"key": name, "hash": {k.decode(): v.decode() for k, v in sorted(client.hgetall(key).items())}}
        elif kind == "set":
            yield {"key": name, "set": sorted(member.decode() for member in client.smembers(key))}
        elif kind == "string":
            yield {"key": name, "string": base64.b64encode(client.get(key)).decode()}
        else:
            raise ValueError(f"{name} is a {kind}, which is not dumped yet")


# --- Loading ---


def load(settings: Settings) -> None:
    """Put the installation into an empty namespace."""
    create_topics(settings.kafka())
    committed = _send(settings, settings.topic, "records.jsonl")
    _send(settings, settings.dead_topic, "letters.jsonl")
    reset_offsets(settings.kafka(), committed)
    with open_stores(settings) as stores:
        load_indices(settings, stores)
        _load_documents(settings, stores)
        for line in _read(settings, "mongodb.jsonl"):
            stores.mongodb.collection(line["collection"]).insert_one(line["document"])
        client: Any = stores.redis.client
        for line in _read(settings, "redis.jsonl"):
            key = f"{settings.namespace}:{line['key']}"
            if "hash" in line:
                client.hset(key, mapping=line["hash"])
            elif "set" in line:
                client.sadd(key, *line["set"])
            else:
                client.set(key, base64.b64decode(line["string"]))


def load_indices(settings: Settings, stores: Stores) -> None:
    """Create its index templates and its indices, without documents."""
    indices = stores.elasticsearch.client.indices
    for line in _read(settings, "indices.jsonl"):
        if "template" in line:
            indices.put_index_template(name=line["template"], body=line["body"])
        else:
            indices.create(index=line["index"], body=line["body"])


def _load_documents(settings: Settings, stores: Stores) -> None:
    payloads: dict[tuple[int, int], Any] = {}
    count: Counter[int] = Counter()
    for line in _read(settings, "records.jsonl"):
        payloads[line["partition"], count[line["partition"]]] = line["value"]
        count[line["partition"]] += 1
    for line in _read(settings, "elasticsearch.jsonl"):
        source = line["source"]
        if "kafka" in source:
            source["payload"] = payloads[source["kafka"]["partition"], source["kafka"]["offset"]]
        stores.elasticsearch.client.index(index=line["index"], id=line["id"], document=source)
    stores.elasticsearch.refresh()


def _send(settings: Settings, topic: str, name: str) -> dict[int, int]:
    """Send the records of a file to their former partitions; return the new end of each partition."""
    lines = list(_lines(settings, name))
    end = Counter(int(msgspec.json.decode(line)["partition"]) for line in lines)
    with EventProducer(settings.kafka(), topic) as producer:
        for line, (key, value, headers) in zip(lines, read_lines(lines)):
            producer.send(key, value, headers, partition=msgspec.json.decode(line)["partition"])
    return dict(end)


def _read(settings: Settings, name: str) -> Iterator[Any]:
    return map(msgspec.json.decode, _lines(settings, name))


def _lines(settings: Settings, name: str) -> Iterator[bytes]:
    """The lines of a file, in the names of a namespace."""
    for line in (FOLDER / name).read_bytes().splitlines():
        of_topic = line.replace(b'"truepixel.events', f'"{settings.topic}'.encode())
        yield of_topic.replace(b'"truepixel-', f'"{settings.namespace}-'.encode())


if __name__ == "__main__":
    dump(load_settings(), Path(sys.argv[1]))
