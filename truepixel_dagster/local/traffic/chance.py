"""Chances, and ids as Shopify gives them."""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from random import Random
from typing import TypeVar

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

_T = TypeVar("_T")


def happens(rng: Random, share: float) -> bool:
    """Whether something happens that does so in this share of cases. A share of 0 draws no random number."""
    return share > 0 and rng.random() < share


def geometric(rng: Random, mean: float) -> int:
    """A whole number from 0 up, smaller ones more often."""
    return int(math.log(1 - rng.random()) / math.log(mean / (1 + mean)))


def remember(rng: Random, memory: MutableSequence[_T], item: _T, limit: int) -> None:
    """Keep the item; in a full memory it takes a random one's place."""
    if len(memory) < limit:
        memory.append(item)
    else:
        memory[int(rng.random() * limit)] = item


def shopify_id(rng: Random) -> int:
    """An integer of 13 digits or so."""
    return 5_000_000_000_000 + rng.getrandbits(42)


def token(rng: Random) -> str:
    """32 hexadecimal digits."""
    return f"{rng.getrandbits(128):032x}"


def uuid(rng: Random) -> str:
    """A version 4 UUID."""
    text = token(rng)
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
