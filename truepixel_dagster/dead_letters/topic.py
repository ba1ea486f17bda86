"""The topic of dead letters: the raw record with the reason, the stage and its origin.

    >>> from truepixel_dagster.dead_letters.topic import DeadLetters, read
    >>> from truepixel_dagster.events.event import Message
    >>> from truepixel_dagster.events.origin import Origin
    >>> dead_letters = DeadLetters(settings.kafka(), settings.dead_letter_bytes)
    >>> record = Message(Origin(settings.topic, 0, 7), b"shop:client", b"<html>")
    >>> dead_letters.send(record, error="not JSON", stage="decode")
    >>> dead_letters.flush()
    >>> [(dead.stage, dead.error, dead.letter.origin == record.origin) for dead in read(settings.kafka())]
    [('decode', 'not JSON', True)]

A record may have several dead letters: a crash between a dead letter and the commit of its offset, a try with a new
reason, and reopening each write another one. The newest counts.

A try counts only if the outcome changes: the dead letter reached another stage, or was rejected for another reason. The
comparison of reasons ignores numbers.

A record that is too large has a dead letter **by reference**, with its origin, size and digest, but without value and
headers. The record itself is read from the topic of events, as long as the topic holds it.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from truepixel_dagster.access import KafkaAccess
from truepixel_dagster.events.event import Message
from truepixel_dagster.events.origin import Origin, base_of, kafka_offset
from truepixel_dagster.stages.stage import CUSTOMER, ORDERS, REJECTING
from truepixel_dagster.stream.producer import EventProducer
from truepixel_dagster.stream.reading import read_all, read_at

# The product statistics already count dead letters of these stages.
COUNTED_AFTER = (CUSTOMER, ORDERS)
MAX_TRIES = 2

ERROR, STAGE, ORIGIN, TRIES, RECORDED = "error", "stage", "origin", "tries", "origin_timestamp"
REOPENED = "reopened"
SIZE, SHA256 = "value_size", "value_sha256"
# A dead letter by reference keeps its key, which names the owner, unless the key itself is too large.
_MAX_KEY_BYTES = 1024
# The size that any topic accepts.
_FITS_BYTES = 64 * 1024
# A record's timestamp may be negative, like any value that a client sets.
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_NUMBERS = re.compile(r"\d+")
_ORIGIN_TEXT = re.compile(r"(?:([^/]+)/)?([0-9]{1,10})/([0-9]{1,19})(?:@([0-9]{1,4}))?")
OWN_HEADERS = frozenset({ERROR, STAGE, ORIGIN, TRIES, RECORDED, REOPENED, SIZE, SHA256})


class Letter(msgspec.Struct, frozen=True):
    """Hold a dead letter without its record.

    `tries` counts the tries, `written_at` is in milliseconds since the epoch, `place` is the dead letter's own
    position, `size` is the record's size in bytes, `shop` is the shop in its key, `reopened` counts how often it got
    its tries back. `sha256` is the digest of the record's value if the dead letter is by reference.
    """

    origin: Origin
    stage: str
    error: str
    tries: int
    written_at: int
    place: Origin
    size: int
    sha256: str | None = None
    shop: str = ""
    reopened: int = 0

    @property
    def given_up(self) -> bool:
        """Return whether the dead letter has no try left until it is reopened."""
        return self.tries >= MAX_TRIES

    def is_refused_as_before(self, stage: str, error: str) -> bool:
        """Return whether a refusal repeats the last one: the same stage, the same reason."""
        return stage == self.stage and _NUMBERS.sub("0", error) == _NUMBERS.sub("0", self.error)


class DeadLetter(msgspec.Struct, frozen=True):
    """Hold a dead letter as read: the original record and origin, the reason and the stage."""

    message: Message
    error: str
    stage: str
    letter: Letter


class DeadLetters:
    """Write to the topic of dead letters. Safe to use from several threads.

    Arguments:
        kafka: Access to Kafka.
        max_bytes: The size of a record above which its dead letter is by reference.
    """

    def __init__(self, kafka: KafkaAccess, max_bytes: int) -> None:
        self._kafka = kafka
        self._max_bytes = max_bytes
        self._producer: EventProducer | None = None
        self._lock = threading.Lock()

    def send(self, message: Message, *, error: str, stage: str, tries: int = 0, reopened: int = 0) -> None:
        """Queue a dead letter: raw value, original key and headers, and headers with the reason.

        The dead letter is by reference if the record is larger than the limit, or than Kafka accepts.

        Arguments:
            message: The record, with its original origin and timestamp.
            error: The reason in one line.
            stage: The stage of `REJECTING` that refused it.
            tries: How many tries have counted.
            reopened: How often the dead letter got its tries back.
        """
        # If two threads each created a producer, one producer and its queue would be lost.
        with self._lock:
            producer = self._producer = self._producer or EventProducer(self._kafka, self._kafka.dead_topic)
        kept = tuple(header for header in message.headers if header[0] not in OWN_HEADERS)
        own = {ERROR: error, STAGE: stage, ORIGIN: message.origin, TRIES: tries, RECORDED: message.timestamp}
        own |= {REOPENED: reopened} if reopened else {}
        headers = tuple((name, str(value).encode(errors="replace")) for name, value in own.items())

        def by_reference() -> None:
            digest = hashlib.sha256(message.value or b"").hexdigest()
            size = len(message.value or b"")
            key = message.key if message.key and len(message.key) <= _MAX_KEY_BYTES else None
            producer.send(key, None, (*headers, (SIZE, str(size).encode()), (SHA256, digest.encode())))

        if message.size > self._max_bytes:
            by_reference()
        elif message.size > _FITS_BYTES:
            producer.send(message.key, message.value, kept + headers, too_large=by_reference)
        else:
            producer.send(message.key, message.value, kept + headers)

    def flush(self) -> None:
        """Wait until all dead letters are acknowledged; call this before their offsets are committed.

        Raises:
            KafkaError: A dead letter was not delivered.
        """
        if self._producer is not None:
            self._producer.flush()

    def close(self) -> None:
        """Release the producer; call `flush` first."""
        self._producer = None


def read(kafka: KafkaAccess) -> Iterator[DeadLetter]:
    """Yield every dead letter, each partition in the order written; skip records that are not dead letters.

    Raises:
        KafkaError: Kafka does not answer, or the topic does not exist.
    """
    return (letter for letter in map(parse, read_all(kafka, kafka.dead_topic)) if letter)


def reread(kafka: KafkaAccess, letters: Iterable[Letter]) -> list[DeadLetter]:
    """Return dead letters with their records, in the given order; leave out those that retention has removed.

    It also leaves out dead letters by reference whose record is no longer in the topic of events.

    Raises:
        KafkaUnavailable: Kafka does not answer.
    """
    wanted = list(letters)
    offsets: dict[int, list[int]] = {}
    for letter in wanted:
        offsets.setdefault(letter.place.partition, []).append(letter.place.offset)
    records = {record.origin: record for record in read_at(kafka, kafka.dead_topic, offsets)}
    found = [parse(records[letter.place]) for letter in wanted if letter.place in records]
    originals = _originals(kafka, [dead.letter for dead in found if dead and dead.letter.sha256])
    return [
        msgspec.structs.replace(dead, message=originals[dead.letter.origin]) if dead.letter.sha256 else dead
        for dead in found
        if dead and (dead.letter.sha256 is None or dead.letter.origin in originals)
    ]


def _originals(kafka: KafkaAccess, letters: Sequence[Letter]) -> dict[Origin, Message]:
    """Return the records of dead letters by reference, if the topic of events still has them."""
    own = [letter for letter in letters if letter.origin.topic == kafka.topic]
    offsets: dict[int, list[int]] = {}
    for letter in own:
        offsets.setdefault(letter.origin.partition, []).append(kafka_offset(letter.origin.offset))
    records = read_at(kafka, kafka.topic, offsets) if offsets else ()
    there = {(record.origin.partition, record.origin.offset): record for record in records}
    found = ((each.origin, there.get((each.origin.partition, kafka_offset(each.origin.offset)))) for each in own)
    digests = {letter.origin: letter.sha256 for letter in own}
    # A recreated topic has other records at the same offsets.
    return {
        origin: msgspec.structs.replace(record, origin=origin)
        for origin, record in found
        if record and hashlib.sha256(record.value or b"").hexdigest() == digests[origin]
    }


def newest(letters: Iterable[DeadLetter]) -> dict[Origin, Letter]:
    """Return the current dead letter of each record, by its origin: the one reopened most often, then the one with most
    tries, then the last one.

    Arguments:
        letters: As `read` yields them. Dead letters of one record have one key, so they are on one partition.
    """
    found: dict[Origin, Letter] = {}
    for dead in letters:
        known = found.get(dead.letter.origin)
        if known is None or _age(dead.letter) >= _age(known):
            found[dead.letter.origin] = dead.letter
    return found


def _age(letter: Letter) -> tuple[int, int]:
    return letter.reopened, letter.tries


def parse(record: Message) -> DeadLetter | None:
    """Parse a record of the topic of dead letters; None if it is not a dead letter."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    origin = parse_origin(headers.get(ORIGIN, ""))
    if origin is None or headers.get(STAGE) not in REJECTING:
        return None
    kept = tuple(header for header in record.headers if header[0] not in OWN_HEADERS)
    message = Message(origin, record.key, record.value, kept, _number(headers.get(RECORDED), record.timestamp))
    letter = Letter(
        origin=origin,
        stage=headers[STAGE],
        error=headers.get(ERROR, ""),
        tries=_number(headers.get(TRIES), 0),
        written_at=record.timestamp,
        place=record.origin,
        size=_number(headers.get(SIZE), record.size),
        sha256=headers.get(SHA256),
        shop=(record.key or b"").decode(errors="replace").partition(":")[0],
        reopened=_number(headers.get(REOPENED), 0),
    )
    return DeadLetter(message, letter.error, letter.stage, letter)


def parse_origin(text: str, topic: str = "") -> Origin | None:
    """Parse `topic/partition/offset`, or `partition/offset` of a given topic, into an origin; None for anything else.

    An offset of a log later than the first is followed by `@` and the log's number.
    """
    found = _ORIGIN_TEXT.fullmatch(text)
    name = (found and found[1]) or topic
    return Origin(name, int(found[2]), base_of(int(found[4] or 0)) + int(found[3])) if found and name else None


def _number(text: str | None, default: int) -> int:
    return int(text) if text and _NUMBER.fullmatch(text) else default


def batches(letters: Sequence[Letter], max_messages: int, max_bytes: int) -> Iterator[list[Letter]]:
    """Yield dead letters in the order of their origins, split by count, by bytes and at the end of a partition."""
    batch: list[Letter] = []
    size = 0
    for letter in sorted(letters, key=lambda letter: letter.origin):
        full = len(batch) == max_messages or size + letter.size > max_bytes
        if batch and (full or batch[-1].origin.partition != letter.origin.partition):
            yield batch
            batch, size = [], 0
        batch.append(letter)
        size += letter.size
    if batch:
        yield batch
