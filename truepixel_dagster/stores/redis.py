"""The Redis adapter: buffered counters, their claims, weekly visitors, applied offsets; what must be atomic is in Lua.

Parts of a key are percent-encoded, so that no shop, product or client id can reach another's key, whatever is in it.
Visitors are counted by HyperLogLogs, with a standard error of 0.81 %.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib import resources
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote

import msgspec
import redis
from redis.exceptions import BusyLoadingError, ClusterDownError, NoScriptError, ReadOnlyError, TryAgainError

from truepixel_dagster.chunks import chunks
from truepixel_dagster.events.origin import Origin
from truepixel_dagster.settings import Settings
from truepixel_dagster.stores.epoch import (
    ADVICE,
    OLDER_COPY,
    Epoch,
    Epochs,
    StateLost,
    differs,
    identity_key,
    lost,
    script,
)
from truepixel_dagster.stores.errors import AccessDenied, Unavailable, untrusted
from truepixel_dagster.stores.store import Store, given
from truepixel_dagster.text import with_advice

T = TypeVar("T")

CounterKey = tuple[str, str, str]  # shop, product, day
WeekKey = tuple[str, str]  # shop, ISO week

Place = tuple[int, int]  # partition, offset
Call = tuple[Sequence[str], Sequence[str | int]]  # keys and arguments of a script

# A script that only takes a written week off a set: in a Redis that lost its data there is none.
_UNCHECKED = frozenset({"counted"})
VISITORS_KEPT_SECONDS = 60 * 86_400
NEVER_APPLIED = -1
_PLACE = re.compile(r"([0-9]{1,10})/([0-9]{1,19})")
_TRANSIENT = (
    redis.ConnectionError,
    redis.TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
)
# KEYS: applied offsets. ARGV: partitions.
_APPLIED = script("return redis.call('HMGET', KEYS[1], unpack(ARGV))")
# KEYS: applied offsets.
_ALL_APPLIED = script("return {redis.call('HKEYS', KEYS[1]), redis.call('HVALS', KEYS[1])}")
# The second is what it says to a client that wants to agree on a protocol first.
_ASKS = ("Authentication required", "HELLO must be called with the client already authenticated")
_TRANSIENT_WORDS = ("BUSY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY")
#: What Redis says when it takes no writes, what that means, and what to do about it.
_NO_WRITES = {
    "command not allowed when used memory": (
        "it has no memory left and takes no writes (its maxmemory is reached)",
        "Raise it with `CONFIG SET maxmemory` and in its configuration",
    ),
    "MISCONF": (
        "it cannot write to its disk and takes no writes",
        "Make room on the disk of its data, and look into its log",
    ),
    "NOREPLICAS": (
        "it has too few replicas and takes no writes (its min-replicas-to-write)",
        "Start its replicas",
    ),
}


# Kept by the collector, for webhooks that name no client.
OWNERS = "client"


def client_key(prefix: str, shop: str, token: str) -> str:
    """The key under which the client of a cart's or checkout's token is kept."""
    return f"{prefix}:{OWNERS}:{_join((shop, token))}"


class Increments(msgspec.Struct, frozen=True):
    """What a micro-batch adds: counters by key and field, clients by week, and up to which offset of each partition."""

    counters: dict[CounterKey, dict[str, int]]
    visitors: dict[WeekKey, set[str]]
    upto: dict[int, int]


class Claim(msgspec.Struct, frozen=True):
    """Counters taken out of the buffer to be written: open until it is acknowledged under its token.

    `unreadable` says why its counters cannot be read, if that is so.
    """

    key: CounterKey
    token: str
    since: int
    counters: dict[str, int]
    unreadable: str = ""


class RedisStore(Store):
    """Redis, or a server that speaks its protocol, at the settings' address. Connects at the first call."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.retries, transient=_is_transient, denial=denial, words=no_writes)
        self._prefix = settings.namespace
        self._shas: dict[str, str] = {}
        self._applied: dict[int, int] = {}
        self._epoch: Epoch | None = None
        #: Who knows what Redis must hold; nothing is compared where nobody does.
        self.epochs: Epochs | None = None
        self.client: redis.Redis = redis.Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.redis_timeout,
            decode_responses=True,
            retry=None,
            # These go before what the URL says.
            **given(
                username=settings.redis_username,
                password=settings.redis_password,
                ssl_ca_certs=settings.redis_ca_certs,
            ),
        )

    def ping(self) -> None:
        """Ask for an answer once.

        Raises:
            AccessDenied: Redis denies access.
            Unavailable: No answer.
        """
        try:
            self.client.ping()
        except redis.RedisError as error:
            raise self._no_answer(error, "TRUEPIXEL_REDIS_URL") from error

    def identity(self) -> str | None:
        """Its availability zone, which nothing but its command line sets.

        Raises:
            Unavailable: No answer after all tries.
        """
        found: Any = self._call(lambda: self.client.info("server"))
        return str(found.get("availability_zone") or "") or None

    def persistence(self) -> dict[str, str] | None:
        """The settings that decide whether data survive: `appendonly`, `maxmemory-policy`; None where it may not tell.

        Raises:
            Unavailable: No answer after all tries.
        """
        try:
            found: Any = self._call(lambda: self.client.config_get("appendonly", "maxmemory-policy"))
        except (redis.ResponseError, AccessDenied):
            return None
        return dict(found)

    def expected_epoch(self) -> Epoch:
        """What Redis must hold to be trusted, as this process knows it; asked for once.

        Raises:
            Unavailable: MongoDB, which keeps it, does not answer.
        """
        if self._epoch is None:
            self._epoch = self.epochs.expected() if self.epochs else Epoch()
        return self._epoch

    def trust(self, epoch: Epoch) -> None:
        """From now on Redis must hold this epoch."""
        self._epoch = epoch
        self._applied.clear()

    def verify(self) -> None:
        """Make sure that Redis holds what was written to it.

        Raises:
            StateLost: It does not.
            Unavailable: No answer after all tries.
        """
        self._read(lambda _: None)

    def begin_epoch(self, value: str) -> str:
        """Give Redis an epoch unless it has one; returns the one that it has.

        Raises:
            Unavailable: No answer after all tries.
        """
        identity = identity_key(self._prefix)
        self._call(lambda: self.client.hsetnx(identity, "epoch", value))
        return str(self._call(lambda: self.client.hget(identity, "epoch")))

    def replace_epoch(self, epoch: Epoch) -> None:
        """Give Redis another epoch, and have it count its writes from there.

        Raises:
            Unavailable: No answer after all tries.
        """
        fields: Any = {"epoch": epoch.value, "writes": epoch.writes}
        self._call(lambda: self.client.hset(identity_key(self._prefix), mapping=fields))

    def held_epoch(self) -> str | None:
        """The epoch that Redis holds, whatever it should be; None where it has none.

        Raises:
            Unavailable: No answer after all tries.
        """
        held: Any = self._call(lambda: self.client.hget(identity_key(self._prefix), "epoch"))
        return None if held is None else str(held)

    def start_over(self, applied: Mapping[int, int], replayed: AbstractSet[Place], buried: Mapping[Place, str]) -> None:
        """Put what is given in the place of all that Redis holds of the stream; leases stay.

        Arguments:
            applied: The last applied offset of each partition.
            replayed: The records whose dead letters have come back, and count.
            buried: What `bury` is to have kept.

        Raises:
            StateLost: Another restore has begun.
            Unavailable: No answer after all tries; do it again.
        """
        self.verify()
        for kind in ("buffer", "claim", "visitors", "visitors-aside", "buried"):
            for names in self._scan(self.client.scan, f"{self._key(kind)}:*", 1000):
                if names:
                    self._call(lambda: self.client.delete(*names))  # noqa: B023 (called at once)
        gone = [self._key(kind) for kind in ("visitors-dirty", "recounted", "replayed", "applied")]
        self._call(lambda: self.client.delete(*gone))
        self.bury({Origin("", *place): text for place, text in buried.items()})
        for places in chunks(sorted(replayed), 1000):
            marks = {_at(Origin("", *place)): 0 for place in places}
            self._call(lambda: self.client.hset(self._key("recounted"), mapping=marks))  # type: ignore[arg-type]  # noqa: B023
            self._call(lambda: self.client.sadd(self._key("replayed"), *marks))  # noqa: B023 (called at once)
        if applied:
            offsets: Any = {str(partition): offset for partition, offset in applied.items()}
            self._call(lambda: self.client.hset(self._key("applied"), mapping=offsets))
        self._applied.clear()

    def applied(self, partitions: Sequence[int]) -> dict[int, int]:
        """The last applied offset of each partition, as this process knows it; read once for each partition.

        Raises:
            StateLost: Redis does not hold what was written to it.
            Unavailable: No answer after all tries.
        """
        unknown = [partition for partition in partitions if partition not in self._applied]
        self._applied.update(self.last_applied(unknown))
        return {partition: self._applied[partition] for partition in partitions}

    def known_applied(self) -> dict[int, int]:
        """The last applied offset of each partition that this process has read or moved: they only ever rise."""
        return dict(self._applied)

    def apply(self, new: Increments, expected: Mapping[int, int]) -> bool:
        """Add increments and move the applied offsets, if those are still the expected ones.

        Returns:
            Whether it applied. If not, `applied` tells the offsets that it met.

        Raises:
            StateLost: Redis does not hold what was written to it.
            Unavailable: No answer after all tries.
        """
        partitions = sorted(new.upto)
        moves = [(str(partition), expected[partition], new.upto[partition]) for partition in partitions]
        current = self._script("apply", *self._applying(new, "applied", moves))
        if current is not None:
            met = {p: int(offset) for p, offset in zip(partitions, current)}
            # They only ever rise. Under the same epoch: a replica that was behind has become the server.
            if any(met[p] < expected[p] for p in partitions):
                raise StateLost(f"{self._server}: {OLDER_COPY}. {ADVICE}")
            self._applied.update(met)
            return False
        self._applied.update(new.upto)
        return True

    def apply_once(self, new: Mapping[Origin, Increments]) -> None:
        """Add each record's increments, unless they were added under its origin before; applied offsets stay.

        Raises:
            Unavailable: No answer after all tries.
        """
        # The same script, guarded by a mark of the record instead of the partition's offset: absent, then 0.
        calls = [self._applying(own, "recounted", [(_at(o), NEVER_APPLIED, 0)]) for o, own in new.items()]
        self._scripts("apply", calls)

    def _applying(self, new: Increments, guard: str, moves: Sequence[tuple[str, int, int]]) -> Call:
        """Keys and arguments of the script that applies increments and moves fields of the hash that guards them."""
        keys = [self._key(guard), self._key("visitors-dirty")]
        arguments: list[str | int] = [int(time.time() * 1000), VISITORS_KEPT_SECONDS, len(moves)]
        for move in moves:
            arguments += move
        arguments.append(len(new.counters))
        for counter, fields in new.counters.items():
            keys.append(self._key("buffer", *counter))
            arguments.append(len(fields))
            for field, increment in fields.items():
                arguments += (field, increment)
        arguments.append(len(new.visitors))
        for week, clients in new.visitors.items():
            keys.append(self._key("visitors", *week))
            arguments += (_join(week), len(clients), *clients)
        return keys, arguments

    def buried(self, partitions: Sequence[int]) -> dict[int, dict[int, str]]:
        """What `bury` kept and `forget` has not removed, by partition and offset.

        Raises:
            Unavailable: No answer after all tries.
        """

        def queue(pipeline: Any) -> None:
            for partition in partitions:
                pipeline.hgetall(self._key("buried", str(partition)))

        found: list[dict[str, str]] = self._read(queue)
        return {
            p: {int(offset): text for offset, text in marks.items() if offset.isdecimal()}
            for p, marks in zip(partitions, found)
        }

    def bury(self, marks: Mapping[Origin, str]) -> None:
        """Keep a text for each record that is about to become a dead letter.

        Raises:
            Unavailable: No answer after all tries.
        """

        def write() -> None:
            pipeline = self.client.pipeline(transaction=False)
            for origin, text in marks.items():
                pipeline.hset(self._key("buried", str(origin.partition)), str(origin.offset), text)
            pipeline.execute()

        self._call(write)

    def forget(self, origins: Sequence[Origin]) -> None:
        """Remove what `bury` kept of records.

        Raises:
            Unavailable: No answer after all tries.
        """

        def remove() -> None:
            pipeline = self.client.pipeline(transaction=False)
            for origin in origins:
                pipeline.hdel(self._key("buried", str(origin.partition)), str(origin.offset))
            pipeline.execute()

        self._call(remove)

    def forget_reasons(self, personal: Callable[[str], bool]) -> None:
        """Have the texts that `bury` kept say nothing where they are personal; the marks stay.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, self._key("buried") + ":*", 1000):
            for name in names:
                marks: Any = self._call(lambda: self.client.hgetall(name))  # noqa: B023 (called at once)
                for offset, text in marks.items():
                    if personal(text):
                        mark = msgspec.json.encode({**msgspec.json.decode(text), "reason": "redacted"}).decode()
                        self._call(lambda: self.client.hset(name, offset, mark))  # noqa: B023 (called at once)

    def mark_replayed(self, origins: Sequence[Origin]) -> None:
        """Dead letters of these records have come back: they are not replayed again.

        Raises:
            Unavailable: No answer after all tries.
        """
        if not origins:
            return
        identity = identity_key(self._prefix)

        def write() -> int:
            pipeline = self.client.pipeline(transaction=False)
            pipeline.sadd(self._key("replayed"), *(_at(origin) for origin in origins))
            pipeline.hincrby(identity, "writes", 1)
            return int(pipeline.execute()[-1])

        self._wrote(self._call(write))

    def replayed(self) -> set[tuple[int, int]]:
        """Partition and offset of every record whose dead letter has come back.

        Raises:
            Unavailable: No answer after all tries.
        """
        key = self._key("replayed")
        self.verify()

        def scan(cursor: int, match: str, count: int) -> Any:
            return self.client.sscan(key, cursor, match=match, count=count)

        members = (member for page in self._scan(scan, "*", 1000) for member in page)
        return {(int(found[1]), int(found[2])) for member in members if (found := _PLACE.fullmatch(member))}

    def counter_keys(self, kind: str, batch: int) -> Iterator[list[CounterKey]]:
        """The keys of `buffer` or `claim`, at most `batch` at a time; a key may come twice, as SCAN says.

        Raises:
            Unavailable: No answer after all tries.
        """
        prefix = self._key(kind) + ":"
        self.verify()
        for names in self._scan(self.client.scan, f"{prefix}*", batch):
            yield list(_parts((name[len(prefix) :] for name in names), 3))

    def counter_page(self, kind: str, cursor: int, count: int) -> tuple[int, list[int]]:
        """A page of the keys of `buffer` or `claim`: since when each holds counters, milliseconds since the epoch.

        Arguments:
            kind: Which of both.
            cursor: 0 to begin, else what the last page returned.
            count: About how many keys Redis looks at, its others included.

        Returns:
            The cursor of the next page, 0 after the last one.

        Raises:
            Unavailable: No answer after all tries.
        """

        def read() -> tuple[int, list[int]]:
            after, names = cast("Any", self.client.scan(cursor, match=f"{self._key(kind)}:*", count=count))
            pipeline = self.client.pipeline(transaction=False)
            for name in names:
                pipeline.hget(name, "since")
            found = pipeline.execute(raise_on_error=False)
            return int(after), [int(since) for since in found if isinstance(since, str) and since.isdecimal()]

        return self._call(read)

    def claim(self, keys: Sequence[CounterKey], tokens: Sequence[str]) -> list[Claim]:
        """Claim counters under fresh tokens, or take over the claims that interrupted flushes left.

        Raises:
            Unavailable: No answer after all tries.
        """
        pairs = [([self._key("buffer", *key), self._key("claim", *key)], [token]) for key, token in zip(keys, tokens)]
        found = zip(keys, self._scripts("claim", pairs, counted=True))
        return [_claim(key, fields) for key, fields in found if fields]

    def stake(self, keys: Sequence[CounterKey], tokens: Sequence[str]) -> list[dict[int, int] | None]:
        """Claim counters to put a document's totals in their place, also where nothing is buffered.

        Returns:
            For each key the applied offset of every partition at that moment: what the buffer held until then is up to
            there, and what it will hold is beyond. None where another flush's claim is open.

        Raises:
            Unavailable: No answer after all tries.
        """
        now, applied = int(time.time() * 1000), self._key("applied")
        pairs: list[Call] = [
            ([self._key("buffer", *key), self._key("claim", *key), applied], [token, now])
            for key, token in zip(keys, tokens)
        ]
        return [_offsets(flat) for flat in self._scripts("stake", pairs, counted=True)]

    def last_applied(self, partitions: Sequence[int]) -> dict[int, int]:
        """The last applied offset of each partition, read from Redis and not remembered.

        Raises:
            StateLost: Redis does not hold what was written to it.
            Unavailable: No answer after all tries.
        """
        if not partitions:
            return {}
        keys, expected = (self._key("applied"), identity_key(self._prefix)), self.expected_epoch()
        values: Any = self._call(lambda: self.client.eval(_APPLIED, 2, *keys, *map(str, partitions), *expected))
        return {partition: self._offset(str(partition), value) for partition, value in zip(partitions, values)}

    def applied_now(self) -> dict[int, int]:
        """The last applied offset of every partition, read from Redis.

        Raises:
            Unavailable: No answer after all tries.
        """
        keys, expected = (self._key("applied"), identity_key(self._prefix)), self.expected_epoch()
        partitions, offsets = self._call(lambda: cast("Any", self.client.eval(_ALL_APPLIED, 2, *keys, *expected)))
        return {
            int(partition): self._offset(partition, offset)
            for partition, offset in zip(partitions, offsets)
            if str(partition).isdecimal()
        }

    def peek(self, keys: Sequence[CounterKey]) -> list[tuple[Claim | None, Claim | None]]:
        """What is buffered of each key, and what is claimed, as they are now; a buffer's token is empty.

        Raises:
            Unavailable: No answer after all tries.
        """

        def read() -> list[dict[str, str]]:
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.hgetall(self._key("buffer", *key))
                pipeline.hgetall(self._key("claim", *key))
            found: list[dict[str, str]] = pipeline.execute()
            return found

        found = iter(self._call(read))
        return [(_held(key, next(found)), _held(key, next(found))) for key in keys]

    def open_tokens(self, keys: Sequence[CounterKey]) -> list[str | None]:
        """The tokens under which these keys are claimed now; None where a claim has been acknowledged.

        Raises:
            Unavailable: No answer after all tries.
        """

        def read() -> list[str | None]:
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.hget(self._key("claim", *key), "token")
            found: list[str | None] = pipeline.execute()
            return found

        return self._call(read)

    def acknowledge(self, tokens: Mapping[CounterKey, str]) -> None:
        """Delete claims that have been written under these tokens.

        Raises:
            Unavailable: No answer after all tries.
        """
        self._scripts("acknowledge", [([self._key("claim", *key)], [token]) for key, token in tokens.items()])

    def dirty_weeks(self, batch: int) -> Iterator[list[WeekKey]]:
        """The weeks whose visitors have changed since they were written, at most `batch` at a time.

        Raises:
            Unavailable: No answer after all tries.
        """
        key = self._key("visitors-dirty")
        self.verify()

        def scan(cursor: int, match: str, count: int) -> Any:
            return self.client.sscan(key, cursor, match=match, count=count)

        for members in self._scan(scan, "*", batch):
            yield list(_parts(members, 2))

    def add_visitors(self, week: WeekKey, clients: Sequence[str]) -> None:
        """Add clients to a week's estimate, as far as it does not have them.

        Raises:
            Unavailable: No answer after all tries.
        """
        key = self._key("visitors", *week)

        def add() -> None:
            pipeline = self.client.pipeline(transaction=False)
            pipeline.pfadd(key, *clients)
            pipeline.expire(key, VISITORS_KEPT_SECONDS)
            pipeline.execute()

        if clients:
            self._call(add)

    def set_visitors_aside(self, week: str) -> None:
        """Begin the estimates of a week anew, for all shops. Those that there were count until they are dropped.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, f"{self._key('visitors')}:*:{quote(week, safe='')}", 1000):
            self._call(lambda: self._set_aside(names))  # noqa: B023 (called at once)

    def _set_aside(self, names: Sequence[str]) -> None:
        pipeline = self.client.pipeline(transaction=True)
        for name in names:
            aside = self._key("visitors-aside") + name.removeprefix(self._key("visitors"))
            # What a rebuild that died had set aside is among it.
            pipeline.pfmerge(aside, name)
            pipeline.delete(name)
            pipeline.expire(aside, VISITORS_KEPT_SECONDS)
        if names:
            pipeline.execute()

    def drop_visitors_aside(self, week: str) -> None:
        """Drop the estimates of a week that were set aside: the new ones have everybody who counts.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, f"{self._key('visitors-aside')}:*:{quote(week, safe='')}", 1000):
            if names:
                self._call(lambda: self.client.delete(*names))  # noqa: B023 (called at once)

    def visitors(self, weeks: Sequence[WeekKey]) -> list[int]:
        """The estimated number of visitors of each week.

        Raises:
            Unavailable: No answer after all tries.
        """

        def read() -> list[int]:
            pipeline = self.client.pipeline(transaction=False)
            for week in weeks:
                pipeline.pfcount(self._key("visitors", *week), self._key("visitors-aside", *week))
            found: list[int] = pipeline.execute()
            return found

        return self._call(read)

    def visitors_written(self, weeks: Sequence[WeekKey], counts: Sequence[int]) -> None:
        """Weeks have been written; those that have grown since stay dirty.

        Raises:
            Unavailable: No answer after all tries.
        """
        dirty = self._key("visitors-dirty")
        pairs: list[Call] = [
            ([self._key("visitors", *week), self._key("visitors-aside", *week), dirty], [_join(week), count])
            for week, count in zip(weeks, counts)
        ]
        self._scripts("counted", pairs)

    def forget_shop(self, shop: str) -> int:
        """Delete a shop's counters, claims, visitors and clients of tokens; says how many there were.

        Raises:
            Unavailable: No answer after all tries.
        """
        count = 0
        for kind in ("buffer", "claim", "visitors", "visitors-aside", OWNERS):
            for names in self._scan(self.client.scan, self._key(kind, shop) + ":*", 1000):
                count += int(self._call(lambda: self.client.delete(*names)) if names else 0)  # noqa: B023 (at once)
        dirty = self._key("visitors-dirty")
        weeks = [_join(week) for page in self.dirty_weeks(1000) for week in page if week[0] == shop]
        if weeks:
            self._call(lambda: self.client.srem(dirty, *weeks))
        return count

    def forget_tokens(self, shop: str, tokens: Sequence[str]) -> int:
        """Delete to which client tokens of carts and checkouts belong; says of how many it was known.

        Raises:
            Unavailable: No answer after all tries.
        """
        names = [client_key(self._prefix, shop, token) for token in tokens]
        count = 0
        for page in chunks(names, 1000):
            count += int(self._call(lambda: self.client.delete(*page)))  # noqa: B023 (called at once)
        return count

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every key with all the text that it holds. What visitors there were nothing tells: it is counts alone.

        Raises:
            Unavailable: No answer after all tries.
        """
        for names in self._scan(self.client.scan, f"{self._prefix}:*", 1000):
            for name in names:
                yield name, self._call(lambda: self._text(name))  # noqa: B023 (called at once)

    def _text(self, name: str) -> str:
        if name.startswith((self._key("visitors") + ":", self._key("visitors-aside") + ":")):
            return ""
        kind: Any = self.client.type(name)
        if kind == "hash":
            fields: Any = self.client.hgetall(name)
            return " ".join(f"{field} {value}" for field, value in fields.items())
        members: Any = self.client.smembers(name) if kind == "set" else [self.client.get(name) or ""]
        return " ".join(members)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _offset(self, partition: str, value: str | None) -> int:
        try:
            return int(value or NEVER_APPLIED)
        except ValueError:
            key = self._key("applied")
            raise Unavailable(
                f"{self._server}: field {partition} of {key} is no offset but {str(value)[:40]!r}: the lane cannot tell"
                " what was counted. Set it to the last offset whose counters are applied"
            ) from None

    def _key(self, kind: str, *parts: str) -> str:
        return ":".join([self._prefix, kind, *(quote(part, safe="") for part in parts)])

    def _scan(self, scan: Callable[..., Any], match: str, batch: int) -> Iterator[list[str]]:
        cursor = 0
        while True:
            cursor, names = self._call(lambda: scan(cursor, match=match, count=batch))  # noqa: B023 (called at once)
            for start in range(0, len(names), batch):
                yield names[start : start + batch]
            if cursor == 0:
                return

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return super()._call(call)
        except redis.ResponseError as error:
            if gone := lost(self._server, error, self._epoch or Epoch()):
                raise gone from None
            raise

    def _read(self, queue: Callable[[Any], object]) -> list[Any]:
        """Make some reads in one round trip, and make sure that Redis still held what was written to it behind them."""
        expected = self.expected_epoch()

        def read() -> list[Any]:
            pipeline = self.client.pipeline(transaction=False)
            queue(pipeline)
            pipeline.hmget(identity_key(self._prefix), "epoch", "writes")
            found: list[Any] = pipeline.execute()
            return found

        *found, (held, writes) = self._call(read)
        if expected.value and (gone := differs(self._server, expected, held, writes)):
            raise gone
        return found

    def _wrote(self, writes: int) -> None:
        """Keep outside of Redis how many writes it has counted: an older copy has counted fewer."""
        if self.epochs:
            self.epochs.wrote(writes)
            self._epoch = self.expected_epoch()._replace(writes=writes)

    def _script(self, name: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        return self._scripts(name, [(keys, arguments)])[0]

    def _scripts(self, name: str, calls: Sequence[Call], *, counted: bool = False) -> list[Any]:
        """Run a script several times in one round trip; it is loaded once, and again only where a server lost it.

        Arguments:
            name: Of the script.
            calls: Keys and arguments of each run.
            counted: Have Redis count a write behind them.
        """
        identity = identity_key(self._prefix)
        expected = Epoch() if name in _UNCHECKED else self.expected_epoch()

        def run() -> list[Any]:
            sha = self._shas.get(name) or self._load(name)
            pipeline = self.client.pipeline(transaction=False)
            for keys, arguments in calls:
                pipeline.evalsha(sha, len(keys) + 1, *keys, identity, *arguments, *expected)
            if counted:
                pipeline.hincrby(identity, "writes", 1)
            try:
                found: list[Any] = pipeline.execute()
            except NoScriptError:
                self._load(name)
                return run()
            return found

        if not calls:
            return []
        found = self._call(run)
        if counted:
            self._wrote(found.pop())
        return found

    def _load(self, name: str) -> str:
        text = resources.files("truepixel_dagster.stores").joinpath(f"lua/{name}.lua").read_text()
        self._shas[name] = str(self.client.script_load(script(text)))
        return self._shas[name]

    @property
    def _server(self) -> str:
        return server_of(self.client)


def server_of(client: redis.Redis) -> str:
    """What to name in messages: the address, without what the URL may hold beside it."""
    where = client.connection_pool.connection_kwargs
    return f"Redis at {where.get('host', where.get('path'))}:{where.get('port', '')}"


def denial(error: Exception) -> str | None:
    """Return why Redis denies access, and the setting to check; None for any other error."""
    if not isinstance(error, redis.RedisError):
        return None
    if reason := untrusted(error):
        return f"{reason}. Check TRUEPIXEL_REDIS_CA_CERTS, and that TRUEPIXEL_REDIS_URL names the right server"
    words = _words(error)
    if isinstance(error, redis.exceptions.NoPermissionError) or "ACL failure in script" in words:
        return with_advice("permission denied", words[:300], "Check the ACL of TRUEPIXEL_REDIS_USERNAME")
    if words.startswith(_ASKS):
        return with_advice("it requires credentials", words[:300], "Set TRUEPIXEL_REDIS_USERNAME and _PASSWORD")
    if isinstance(error, redis.AuthenticationError) or words.startswith("WRONGPASS"):
        step = "Check TRUEPIXEL_REDIS_USERNAME and _PASSWORD, or those in TRUEPIXEL_REDIS_URL"
        return with_advice("authentication failed", words[:300], step)
    return None


def _words(error: Exception) -> str:
    """The server's words: a pipeline puts the command and a colon in front of them."""
    return str(error).rpartition("caused error: ")[2]


def no_writes(error: Exception) -> str | None:
    """Why Redis answers and takes no writes, and what to do about it, in one line; None for any other error."""
    if not isinstance(error, redis.RedisError):
        return None
    said = _words(error)
    for sign, (why, advice) in _NO_WRITES.items():
        if sign in said:
            return f"{why}. {advice}; nothing is lost, and what waits for it continues by itself"
    return None


def _is_transient(error: Exception) -> bool:
    return (
        isinstance(error, _TRANSIENT)
        or bool(no_writes(error))
        or (isinstance(error, redis.ResponseError) and _words(error).startswith(_TRANSIENT_WORDS))
    )


def _at(origin: Origin) -> str:
    return f"{origin.partition}/{origin.offset}"


def _join(parts: Sequence[str]) -> str:
    return ":".join(quote(part, safe="") for part in parts)


def _parts(texts: Iterable[str], count: int) -> Iterator[Any]:
    """The parts of keys or members; those of another shape are nobody's of ours, and are skipped."""
    for text in texts:
        parts = tuple(unquote(part) for part in text.split(":"))
        if len(parts) == count:
            yield parts


def _offsets(flat: Sequence[str] | None) -> dict[int, int] | None:
    return None if flat is None else {int(p): int(offset) for p, offset in zip(flat[::2], flat[1::2])}


def _claim(key: CounterKey, flat: Sequence[str]) -> Claim:
    fields = dict(zip(flat[::2], flat[1::2]))
    token = fields.get("token", "")
    try:
        return _fields(key, fields)
    except ValueError as error:
        why = f"its claim in Redis cannot be read: {error}; correct the field, and the next flush writes it"
        return Claim(key, token, 0, {}, why)


def _held(key: CounterKey, fields: Mapping[str, str]) -> Claim | None:
    return _fields(key, dict(fields)) if fields else None


def _fields(key: CounterKey, fields: dict[str, str]) -> Claim:
    token, since = fields.pop("token", ""), int(fields.pop("since", "0"))
    return Claim(key, token, since, {field: int(value) for field, value in fields.items()})
