"""Who may write to a partition: a lease in Redis with a fencing token, kept alive by a heartbeat.

A lease is held per partition, not per lane, so that changing the number of lanes cannot give a partition two owners.

The run that will go on with a lane waits for it at a **place**, a lease of another kind: one run at a time, alive.
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
# A predecessor's lease is looked at this often: what a hand-over waits for at most.
LOOK_SECONDS = 0.05
Kind = Literal["partition", "next"]

# KEYS: the partitions' leases, who took each, applied offsets. ARGV: token, milliseconds, then partitions and the
# offsets that must have been applied. Takes all or none; returns who is in the way.
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
# KEYS: the partitions' leases, who took each. ARGV: token. Gives back those that are still ours.
_RELEASE = """
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return 0
"""


class LaneBusy(Exception):
    """Another worker holds the lane."""


class LaneLost(Exception):
    """This worker's lease ran out or was taken over: it must not write any more."""


class Lease:
    """The right to write to some partitions, for as long as the heartbeat goes on.

    Arguments:
        client: A connection to Redis.
        namespace: The prefix of keys.
        partitions: The partitions to own.
        owner: Who asks, for messages: a run id.
        seconds: How long the lease outlives the last heartbeat.
        kind: The right itself ("partition"), or a place from which to wait for it ("next").
        epoch: What Redis must hold: who holds a lease in a Redis that lost its data holds nothing.
        applied: The offset of each partition up to which it must have counted.
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
        #: Who asks.
        self.owner = owner
        self._seconds = seconds
        self._token = ""
        self._deadline = 0.0
        self._stop = threading.Event()
        self._heartbeat: threading.Thread | None = None

    def acquire(self, after: str | None = None) -> None:
        """Take all partitions and start the heartbeat.

        Arguments:
            after: The run whose work goes on here: for as long as it holds a partition, this waits.

        Raises:
            LaneBusy: Another worker holds one of them; the message names it.
            StateLost: Redis does not hold what was written to it.
            Unavailable: Redis does not answer.
        """
        fence = _asking(self._client, lambda: self._client.incr(f"{self._namespace}:lease:fence"))
        self._token = f"{fence}:{self.owner}"
        while (holder := _asking(self._client, self._take)) is not None:
            run = holder.partition(":")[2]
            if run != after:
                raise LaneBusy(f"the lane is held by run {run}")
            time.sleep(LOOK_SECONDS)
        self._heartbeat = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)
        self._heartbeat.start()

    def check(self) -> None:
        """Make sure that the lease is still ours, without asking Redis: a worker that slept past it finds out here.

        Raises:
            LaneLost: It is not.
            StateLost: The heartbeat found that Redis lost its data.
        """
        if self._lost is not None:
            raise self._lost
        if time.monotonic() >= self._deadline:
            raise LaneLost(f"the lease of run {self.owner} ran out; another worker may have the lane")

    def confirm(self) -> None:
        """Make sure of it by asking Redis.

        Raises:
            LaneLost: Somebody else holds a partition.
            StateLost: Redis does not hold what was written to it.
            Unavailable: Redis does not answer.
        """
        self.check()
        holder = _asking(self._client, self._take)
        if holder is not None:
            self._deadline = 0.0
            raise LaneLost(f"the lane of run {self.owner} was taken over by run {holder.partition(':')[2]}")

    def release(self) -> None:
        """Stop the heartbeat and give back what is still ours; a Redis that is away lets the lease run out instead."""
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
        # Counted from before the call: Redis may have answered late, but it never started the lease earlier.
        self._deadline = asked_at + self._seconds
        return None

    def _beat(self) -> None:
        due = time.monotonic() + self._seconds / 4
        # A beat that hung until its timeout is made up for at once: there may not be time for another pause.
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._seconds / 4, time.monotonic() + LOOK_SECONDS)
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
    """The key under which Redis keeps who took a lease until it is given back; the lease itself runs out."""
    return f"{namespace}:lease:taken:{kind}:{partition}"


def lapsed(client: redis.Redis, namespace: str, partitions: Sequence[int]) -> frozenset[str]:
    """The run ids whose lease, or place, ran out without being given back: their workers are gone or frozen.

    Raises:
        Unavailable: Redis does not answer.
    """
    kinds: tuple[Kind, ...] = ("partition", "next")
    taken = [_taken_key(namespace, partition, kind) for kind in kinds for partition in partitions]
    held = [lease_key(namespace, partition, kind) for kind in kinds for partition in partitions]
    # As of one moment: a lease that is given back in between has not run out.
    values: Any = _asking(client, lambda: client.mget([*taken, *held])) if taken else []
    tokens = (took for took, holds in zip(values[: len(taken)], values[len(taken) :]) if took and took != holds)
    return frozenset((token.decode() if isinstance(token, bytes) else token).partition(":")[2] for token in tokens)


def lease_key(namespace: str, partition: int, kind: Kind = "partition") -> str:
    """The key under which a partition's owner stands, or who is next."""
    return f"{namespace}:lease:{kind}:{partition}"


def holders(client: redis.Redis, namespace: str, partitions: Sequence[int], kind: Kind = "partition") -> dict[int, str]:
    """The run ids that hold partitions now, or that wait for them.

    Raises:
        Unavailable: Redis does not answer.
    """
    keys = [lease_key(namespace, partition, kind) for partition in partitions]
    values: Any = _asking(client, lambda: client.mget(keys)) if keys else []
    texts = [value.decode() if isinstance(value, bytes) else value for value in values]
    pairs = zip(partitions, texts)
    return {partition: text.partition(":")[2] for partition, text in pairs if text}
