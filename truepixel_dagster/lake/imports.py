"""Store spend and rates as they were imported: a file for each import, which never changes.

    <lake>/imports/spend/2026-01-01_2026-01-31_1769990400000_3f2a….json

An import is one file, so it is complete or absent, and simultaneous imports lose nothing. The tables `ad_spend` and
`rates` are computed from all imports; the newest import of a row counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from truepixel_dagster.answers.rates import Rate
from truepixel_dagster.answers.spend import File, Spend
from truepixel_dagster.lake.files import Lake

Kind = Literal["spend", "rates"]


class Import(NamedTuple):
    """Hold the first and last day of an import, its time in milliseconds since the epoch, and the name of its file."""

    first: str
    last: str
    at: int
    name: str

    def covers(self, day: str) -> bool:
        """Return whether it may have rows of a day."""
        return self.first <= day <= self.last


class Imports:
    """Add and read the imports of a lake."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def add(self, file: File, now: int | None = None) -> list[str]:
        """Store the rows of a file; return their days, in order.

        Arguments:
            file: A file with at least one row.
            now: Milliseconds since the epoch; the clock's by default.

        Raises:
            OSError, LakeError: The disk or bucket rejects the write; nothing is imported.
        """
        kind: Kind = "rates" if file.rates else "spend"
        rows: Sequence[Spend | Rate] = file.rates or file.spend
        days = sorted({row.day.isoformat() for row in rows})
        content = msgspec.json.encode(rows)
        at = int(time.time() * 1000) if now is None else now
        name = f"{days[0]}_{days[-1]}_{at:013d}_{hashlib.sha256(content).hexdigest()[:16]}.json"
        self._lake.put(f"{self._folder(kind)}/{name}", content)
        return days

    def all(self, kind: Kind) -> list[Import]:
        """Return all imports of a kind, the oldest first."""
        names = self._lake.names(self._folder(kind))
        parts = (name.removesuffix(".json").split("_") for name in names if name.endswith(".json"))
        made = (Import(first, last, int(at), f"{first}_{last}_{at}_{rest}.json") for first, last, at, rest in parts)
        return sorted(made, key=lambda each: (each.at, each.name))

    def spend(self, imports: Iterable[Import]) -> list[tuple[Spend, ...]]:
        """Return the rows of some imports of spend."""
        return [msgspec.json.decode(self._content("spend", each), type=tuple[Spend, ...]) for each in imports]

    def rates(self, imports: Iterable[Import]) -> list[tuple[Rate, ...]]:
        """Return the rows of some imports of rates."""
        return [msgspec.json.decode(self._content("rates", each), type=tuple[Rate, ...]) for each in imports]

    def _content(self, kind: Kind, each: Import) -> bytes:
        return self._lake.content(f"{self._folder(kind)}/{each.name}")

    def _folder(self, kind: Kind) -> str:
        return self._lake.path(f"imports/{kind}")


def fingerprint(imports: Iterable[Import], day: str) -> str:
    """Return a digest of the imports that may have rows of a day; empty if there are none."""
    names = [each.name for each in imports if each.covers(day)]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] if names else ""
