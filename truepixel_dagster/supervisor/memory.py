"""What one tick of the sensor remembers for the next, and how it is kept in the sensor's cursor.

>>> from truepixel_dagster.supervisor.memory import Memory
>>> Memory.from_cursor(Memory(observed_at=12.5).to_cursor()).observed_at
12.5
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from truepixel_dagster.supervisor.lanes import Runs, pause

# A run that is just ending has given its lease back, too. One whose lease ran out needs no grace.
END_GRACE = 8.0
# The pause has long stopped growing by then.
_MOST_DENIALS = 1000


class Memory(NamedTuple):
    """What a tick tells the next one.

    When the lag was last observed; which live runs have been seen to hold a lease, and since when some are silent; of
    each partition the committed offset, and when a tick first saw it (0 for the offset that the first tick saw).
    """

    observed_at: float = 0.0
    held: frozenset[str] = frozenset()
    silent_since: Mapping[str, float] = {}
    committed: Mapping[int, tuple[int, float]] = {}
    #: How often in a row a server did not let us in, why, and when it last did not.
    denials: int = 0
    denial: str = ""
    denied_at: float = 0.0
    #: Since when the sensor has not been able to look; 0 while it can.
    held_up_since: float = 0.0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Memory:
        """Read it back; nothing is remembered at the first tick.

        Of a cursor that another version has written, what is understood is remembered, and the rest begins afresh.
        """
        return cls._of(cursor)[0]

    @classmethod
    def recalled(cls, cursor: str | None, say: Callable[[str], None]) -> Memory:
        """The same, with a line about what was not understood."""
        memory, lost = cls._of(cursor)
        if lost:
            say(f"the cursor is of another version; these begin afresh: {', '.join(lost)}")
        return memory

    @classmethod
    def _of(cls, cursor: str | None) -> tuple[Memory, list[str]]:
        if not cursor:
            return cls(), []
        try:
            found = msgspec.json.decode(cursor, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return cls(), list(cls._fields)
        known: dict[str, Any] = {}
        lost = [name for name in found if name not in cls._fields]
        for name, kind in _FIELDS.items():
            try:
                if name in found:
                    known[name] = msgspec.json.decode(found[name], type=kind)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                lost.append(name)
        return cls(**known), lost

    def to_cursor(self) -> str:
        """As Dagster keeps it."""
        return json.dumps(self._asdict() | {"held": sorted(self.held)})

    def denied(self, why: str, now: float) -> Memory:
        """What is remembered when a server did not let us in."""
        return self._replace(denials=min(self.denials + 1, _MOST_DENIALS), denial=why, denied_at=now)

    def held_up(self, now: float) -> Memory:
        """What is remembered when the sensor cannot look."""
        return self._replace(held_up_since=min(self.held_up_since or now, now))

    def let_in(self) -> Memory:
        """What is remembered when all of them do."""
        return self._replace(denials=0, denial="", denied_at=0.0, held_up_since=0.0)

    def denied_for(self, now: float) -> float:
        """The seconds for which no server is asked: each wrong password brings an account nearer to being locked."""
        # A clock that was ahead has been set back: that is no reason to wait for it.
        return 0.0 if self.denied_at > now else self.denied_at + pause(self.denials) - now

    def seen(self, offsets: Mapping[int, int], now: float) -> Memory:
        """What is remembered after a look at the committed offsets, by partition."""

        def when(partition: int, offset: int) -> float:
            before, at = self.committed.get(partition, (offset, 0.0))
            return min(at, now) if before == offset else now

        return self._replace(committed={p: (offset, when(p, offset)) for p, offset in offsets.items()})

    def heard(self, runs: Runs, now: float) -> Memory:
        """What is remembered after a look at the leases."""
        silent = {run: min(self.silent_since.get(run, now), now) for run in runs.silent(now, self.held)}
        return self._replace(held=(self.held | runs.at_work) & runs.live.keys(), silent_since=silent)

    def gone(self, now: float) -> frozenset[str]:
        """The runs whose worker has been silent for longer than an ending one is."""
        return frozenset(run for run, since in self.silent_since.items() if now - since > END_GRACE)

    def advanced_at(self, partitions: Sequence[int]) -> float:
        """When one of these partitions was last seen to have got on; 0 if none was."""
        return max((self.committed[partition][1] for partition in partitions if partition in self.committed), default=0)


#: What a cursor holds, and of which type. A time is in seconds and finite.
_SECONDS = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_FIELDS: Mapping[str, Any] = {
    "observed_at": _SECONDS,
    "held": frozenset[str],
    "silent_since": dict[str, _SECONDS],
    "committed": dict[int, tuple[int, _SECONDS]],
    "denials": Annotated[int, msgspec.Meta(ge=0, le=_MOST_DENIALS)],
    "denial": str,
    "denied_at": _SECONDS,
    "held_up_since": _SECONDS,
}
