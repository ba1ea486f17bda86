"""Random choices, and ids in Shopify's forms."""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from random import Random
from typing import TypeVar

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

_T = TypeVar("_T")


def happens(rng: Random, share: float) -> bool:
    """Return True in this share of cases. A share of 0 draws no random number."""
    return share > 0 and rng.random() < share


def geometric(rng: Random, mean: float) -> int:
    """Return an integer of a geometric distribution that begins at 0 and has this mean."""
    return int(math.log(1 - rng.random()) / math.log(mean / (1 + mean)))


def remember(rng: Random, memory: MutableSequence[_T], item: _T, limit: int) -> None:
    """Store an item; in a full memory it replaces a random one."""
    if len(memory) < limit:
        memory.append(item)
    else:
        memory[int(rng.random() * limit)] = item


def shopify_id(rng: Random) -> int:
    """Return an integer of about 13 digits."""
    return 5_000_000_000_000 + rng.getrandbits(42)


def token(rng: Random) -> str:
    """Return 32 hexadecimal digits."""
    return f"{rng.getrandbits(128):032x}"


def uuid(rng: Random) -> str:
    """Return a version 4 UUID."""
    text = token(rng)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
