"""Buffer counters, and claim them for a flush. Lua scripts make each change atomic."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from truepixel_dagster.events.origin import Origin
from truepixel_dagster.stores.epoch import ADVICE, OLDER_COPY, StateLost
from truepixel_dagster.stores.redis.applied import NEVER_APPLIED, AppliedOffsets
from truepixel_dagster.stores.redis.guarded import Call
from truepixel_dagster.stores.redis.keys import CounterKey, WeekKey, at, joined, parts_of
from truepixel_dagster.stores.redis.visitors import VISITORS_KEPT_SECONDS


class Increments(msgspec.Struct, frozen=True):
    """Hold what a micro-batch adds: counters by key and field, clients by week, and its last offset by partition."""

    counters: dict[CounterKey, dict[str, int]]
    visitors: dict[WeekKey, set[str]]
    upto: dict[int, int]


class Claim(msgspec.Struct, frozen=True):
    """Hold counters that a flush has taken out of the buffer. The claim is open until its token is acknowledged.

    `unreadable` is the reason if its counters cannot be read.
    """

    key: CounterKey
    token: str
    since: int
    counters: dict[str, int]
    unreadable: str = ""


class Counters(AppliedOffsets):
    """Count by shop, product and day: the stream buffers counters, a flush claims and acknowledges them."""

    def apply(self, new: Increments, expected: Mapping[int, int]) -> bool:
        """Add increments and move the applied offsets, if those are still the expected ones.

        Returns:
            Whether the increments were applied. If not, `applied` returns the offsets that were found.

        Raises:
            StateLost: Redis does not hold what was written to it.
            Unavailable: No answer after all tries.
        """
        partitions = sorted(new.upto)
        moves = [(str(partition), expected[partition], new.upto[partition]) for partition in partitions]
        current = self._script("apply", *self._applying(new, "applied", moves))
        if current is not None:
            met = {p: int(offset) for p, offset in zip(partitions, current)}
            # Offsets never fall. Under the same epoch, a replica that was behind has become the server.
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
        calls = [self._applying(own, "recounted", [(at(o), NEVER_APPLIED, 0)]) for o, own in new.items()]
        self._scripts("apply", calls)

    def _applying(self, new: Increments, guard: str, moves: Sequence[tuple[str, int, int]]) -> Call:
        """Return keys and arguments of the script that applies increments and moves the fields that guard them."""
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
            arguments += (joined(week), len(clients), *clients)
        return keys, arguments

    def counter_keys(self, kind: str, batch: int) -> Iterator[list[CounterKey]]:
        """Yield the keys of `buffer` or `claim`, at most `batch` at a time; SCAN may return a key twice.

        Raises:
            Unavailable: No answer after all tries.
        """
        prefix = self._key(kind) + ":"
        self.verify()
        for names in self._scan(self.client.scan, f"{prefix}*", batch):
            yield list(parts_of((name[len(prefix) :] for name in names), 3))

    def counter_page(self, kind: str, cursor: int, count: int) -> tuple[int, list[int]]:
        """Read a page of the keys of `buffer` or `claim`: since when each holds counters, milliseconds since the epoch.

        Arguments:
            kind: `buffer` or `claim`.
            cursor: 0 to begin, else what the last page returned.
            count: About how many keys Redis examines, including all others.

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
        """Claim counters that a document's totals will replace, even if nothing is buffered.

        Returns:
            For each key, the applied offset of every partition at that moment: the buffer's counters until then are of
            records up to these offsets, all later ones of records beyond. None if another flush's claim is open.

        Raises:
            Unavailable: No answer after all tries.
        """
        now, applied = int(time.time() * 1000), self._key("applied")
        pairs: list[Call] = [
            ([self._key("buffer", *key), self._key("claim", *key), applied], [token, now])
            for key, token in zip(keys, tokens)
        ]
        return [_offsets(flat) for flat in self._scripts("stake", pairs, counted=True)]

    def peek(self, keys: Sequence[CounterKey]) -> list[tuple[Claim | None, Claim | None]]:
        """Return the current buffer and claim of each key; a buffer's token is empty.

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
        """Return the tokens of the open claims of these keys; None for an acknowledged claim.

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


def _offsets(flat: Sequence[str] | None) -> dict[int, int] | None:
    return None if flat is None else {int(p): int(offset) for p, offset in zip(flat[::2], flat[1::2])}


def _claim(key: CounterKey, flat: Sequence[str]) -> Claim:
    fields = dict(zip(flat[::2], flat[1::2]))
    token = fields.get("token", "")
    try:
        return _fields(key, fields)
    except ValueError as error:
        why = f"its claim in Redis cannot be read: {error}. Correct the field; the next flush then writes the claim"
        return Claim(key, token, 0, {}, why)


def _held(key: CounterKey, fields: Mapping[str, str]) -> Claim | None:
    return _fields(key, dict(fields)) if fields else None


def _fields(key: CounterKey, fields: dict[str, str]) -> Claim:
    token, since = fields.pop("token", ""), int(fields.pop("since", "0"))
    return Claim(key, token, since, {field: int(value) for field, value in fields.items()})
