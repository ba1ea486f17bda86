"""The right to write to a partition: a lease in Redis with a fencing token, renewed by a heartbeat.

    >>> from truepixel_dagster.stores.redis.leases import Lease, holders
    >>> redis = stores.redis.client
    >>> lease = Lease(redis, settings.namespace, partitions=[0, 1], owner="run-1", seconds=8)
    >>> lease.acquire()
    >>> lease.check()  # without asking Redis
    >>> holders(redis, settings.namespace, [0, 1, 2])
    {0: 'run-1', 1: 'run-1'}
    >>> lease.release()

There is a lease for each partition, not for each lane, so that changing the number of lanes never gives a partition two
owners.

A standby run holds a lease of another kind while it waits for its lane, which shows that it is alive; a lane has one
standby run at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import redis

from truepixel_dagster.stores.epoch import Epoch, StateLost, identity_key, lost, not_checked, script
from truepixel_dagster.stores.errors import calling
from truepixel_dagster.stores.redis import denial, no_writes, server_of

T = TypeVar("T")
TRIES = 3
# How often a standby run tries to take the lane: the longest delay that it adds to a handover.
POLL_SECONDS = 0.05
Kind = Literal["partition", "next"]

# KEYS: the partitions' leases, their last owners, applied offsets. ARGV: token, milliseconds, then partitions and the
# offsets that must have been applied. Takes all or none; returns another owner's token if it takes none.
_ACQUIRE = """
local applied = table.remove(KEYS)
local count = #KEYS / 2
for i = 3, #ARGV, 2 do
  local now = redis.call('HGET', applied, ARGV[i]) or '-1'
  if tonumber(now) < tonumber(ARGV[i + 1]) then return redis.error_reply('STATELOST applied') end
end
for i = 1, count do
  local holder = redis.call('GET', KEYS[i])
  if holder and holder ~= ARGV[1] then return holder end
end
for i = 1, count do
  redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[count + i], ARGV[1])
end
return false
"""
# KEYS: the partitions' leases, their last owners. ARGV: token. Deletes the keys that still hold this token.
_RELEASE = """
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return 0
"""


class LaneBusy(Exception):
    """Another worker holds the lane."""


class LaneLost(Exception):
    """This worker's lease expired or was taken over: it must not write any more."""


class Lease:
    """Hold the right to write to some partitions, for as long as the heartbeat renews it.

    Arguments:
        client: A connection to Redis.
        namespace: The prefix of keys.
        partitions: The partitions to own.
        owner: The id of the run, for messages.
        seconds: How long the lease outlives the last heartbeat.
        kind: The right to write ("partition"), or to wait for it as the standby run ("next").
        epoch: The epoch that Redis must hold: a lease in a Redis that lost its data protects nothing.
        applied: The offset of each partition up to which Redis must have counted.
    """

    def __init__(
        self,
        client: redis.Redis,
        namespace: str,
        partitions: Sequence[int],
        owner: str,
        seconds: float,
        kind: Kind = "partition",
        epoch: Callable[[], Epoch] = not_checked,
        applied: Callable[[], Mapping[int, int]] = dict,
    ) -> None:
        self._client = client
        self._epoch = epoch
        self._applied = applied
        self._lost: StateLost | None = None
        self._namespace = namespace
        self._keys = [lease_key(namespace, partition, kind) for partition in partitions]
        self._taken = [_taken_key(namespace, partition, kind) for partition in partitions]
        #: The id of the run.
        self.owner = owner
        self._seconds = seconds
        self._token = ""
        self._deadline = 0.0
        self._stop = threading.Event()
        self._heartbeat: threading.Thread | None = None

    def acquire(self, after: str | None = None) -> None:
        """Take all partitions and start the heartbeat.

        Arguments:
            after: The run that hands over its lane: wait for as long as it holds a partition.

        Raises:
            LaneBusy: Another worker holds one of them; the message names it.
            StateLost: Redis lost its data.
            Unavailable: Redis does not answer.
        """
        fence = _asking(self._client, lambda: self._client.incr(f"{self._namespace}:lease:fence"))
        self._token = f"{fence}:{self.owner}"
        while (holder := _asking(self._client, self._take)) is not None:
            run = holder.partition(":")[2]
            if run != after:
                raise LaneBusy(f"the lane is held by run {run}")
            time.sleep(POLL_SECONDS)
        self._heartbeat = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)
        self._heartbeat.start()

    def check(self) -> None:
        """Check the lease's deadline without asking Redis: a worker that was paused past it stops here.

        Raises:
            LaneLost: The lease expired or was taken over.
            StateLost: The heartbeat found that Redis lost its data.
        """
        if self._lost is not None:
            raise self._lost
        if time.monotonic() >= self._deadline:
            raise LaneLost(f"the lease of run {self.owner} expired; another worker may have the lane")

    def confirm(self) -> None:
        """Confirm the lease with Redis.

        Raises:
            LaneLost: Another run holds a partition.
            StateLost: Redis lost its data.
            Unavailable: Redis does not answer.
        """
        self.check()
        holder = _asking(self._client, self._take)
        if holder is not None:
            self._deadline = 0.0
            raise LaneLost(f"the lane of run {self.owner} was taken over by run {holder.partition(':')[2]}")

    def release(self) -> None:
        """Stop the heartbeat and give back the partitions; if Redis is unreachable, the lease expires instead."""
        self._stop.set()
        if self._heartbeat:
            self._heartbeat.join(timeout=self._seconds)
        self._deadline = 0.0
        try:
            keys = [*self._keys, *self._taken]
            self._client.eval(_RELEASE, len(keys), *keys, self._token)
        except redis.RedisError:
            return

    def _take(self) -> str | None:
        epoch = self._epoch()
        keys = [*self._keys, *self._taken, f"{self._namespace}:applied", identity_key(self._namespace)]
        least = [number for pair in self._applied().items() for number in pair]
        milliseconds = int(self._seconds * 1000)
        asked_at = time.monotonic()
        try:
            reply: Any = self._client.eval(
                script(_ACQUIRE), len(keys), *keys, self._token, milliseconds, *least, *epoch
            )
        except redis.ResponseError as error:
            self._lost = lost(server_of(self._client), error, epoch)
            if self._lost is None:
                raise
            raise self._lost from None
        if reply is not None:
            return reply.decode() if isinstance(reply, bytes) else str(reply)
        # Count from before the call: Redis may have answered late, but it did not start the lease earlier.
        self._deadline = asked_at + self._seconds
        return None

    def _beat(self) -> None:
        due = time.monotonic() + self._seconds / 4
        # After a renewal that hung until its timeout, try again at once: another pause may last beyond the deadline.
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._seconds / 4, time.monotonic() + POLL_SECONDS)
            if time.monotonic() >= self._deadline:
                return
            try:
                if self._take() is not None:
                    self._deadline = 0.0
                    return
            except StateLost:
                return
            except redis.RedisError:
                continue


def _asking(client: redis.Redis, call: Callable[[], T]) -> T:
    return calling(
        f"{server_of(client)} (TRUEPIXEL_REDIS_URL)",
        call,
        transient=lambda error: isinstance(error, redis.RedisError),
        denial=denial,
        attempts=TRIES,
        words=no_writes,
    )


def _taken_key(namespace: str, partition: int, kind: Kind) -> str:
    """Return the key of a lease's last owner. Unlike the lease it does not expire; giving the lease back deletes it."""
    return f"{namespace}:lease:taken:{kind}:{partition}"


def lapsed(client: redis.Redis, namespace: str, partitions: Sequence[int]) -> frozenset[str]:
    """Return the ids of runs whose lease expired without being given back: their workers are dead or frozen.

    Raises:
        Unavailable: Redis does not answer.
    """
    kinds: tuple[Kind, ...] = ("partition", "next")
    taken = [_taken_key(namespace, partition, kind) for kind in kinds for partition in partitions]
    held = [lease_key(namespace, partition, kind) for kind in kinds for partition in partitions]
    # One call reads both as of one moment: otherwise a lease that is given back in between would look expired.
    values: Any = _asking(client, lambda: client.mget([*taken, *held])) if taken else []
    tokens = (last for last, now in zip(values[: len(taken)], values[len(taken) :]) if last and last != now)
    return frozenset((token.decode() if isinstance(token, bytes) else token).partition(":")[2] for token in tokens)


def lease_key(namespace: str, partition: int, kind: Kind = "partition") -> str:
    """Return the key of a partition's lease: it holds the token of the owner, or of the standby run."""
    return f"{namespace}:lease:{kind}:{partition}"


def holders(client: redis.Redis, namespace: str, partitions: Sequence[int], kind: Kind = "partition") -> dict[int, str]:
    """Return the ids of the runs that hold partitions now, or that stand by for them.

    Raises:
        Unavailable: Redis does not answer.
    """
    keys = [lease_key(namespace, partition, kind) for partition in partitions]
    values: Any = _asking(client, lambda: client.mget(keys)) if keys else []
    texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    pairs = zip(partitions, texts)
    return {partition: text.partition(":")[2] for partition, text in pairs if text}
