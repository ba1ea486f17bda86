"""Process the same events by other frameworks: `./run bench peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.outcome import Outcome


def run(quick: bool, say: Callable[[str], None]) -> Outcome:
    """Measure ours and the peers in turns."""
    # Import it here: the peers' processes import this package, too, and have no Dagster.
    from benchmarks.peers import turns

    return turns.run(quick, say)
