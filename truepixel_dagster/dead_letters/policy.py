"""Decide when dead letters mean an outage or a bad deploy, which stops the lane: the rule counts clients, not messages.

    >>> from truepixel_dagster.dead_letters.policy import is_outage
    >>> batch = {f"shop:client-{number}" for number in range(100)}
    >>> a_few, most = {"shop:client-1", "shop:client-2"}, set(sorted(batch)[:60])
    >>> [is_outage(batch, refused, 0.5, known=lambda clients: clients) for refused in (a_few, most)]
    [False, True]

One client may send any number of messages, so the share of a batch's messages means nothing. If most clients fail at
once, no single client is the cause, unless a sender invents clients. So where customers exist, only clients with a
profile count: to stop a lane, an attacker must be as many known clients as all others in a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.identifiers import shop_and_client

# Fewer clients are no evidence of an outage: a few clients that send junk at night must not stop a lane.
FLOOR = 16
#: Returns which of the clients have a profile; None if there are no profiles yet.
Known = Callable[[AbstractSet[str]], "AbstractSet[str] | None"]


def failing(received: Iterable[Message], refused: Iterable[Message]) -> tuple[frozenset[str], frozenset[str]]:
    """Return a batch's clients, and the clients with more than half of their messages refused."""
    every = Counter(map(client_of, received))
    bad = Counter(map(client_of, refused))
    return frozenset(every), frozenset(client for client, count in bad.items() if 2 * count > every[client])


def is_outage(clients: AbstractSet[str], refused: AbstractSet[str], share: float, known: Known) -> bool:
    """Return whether so many clients fail at once that they are not the cause.

    Arguments:
        clients: All clients of a batch.
        refused: The clients that fail.
        share: The share of failing clients above which it is an outage.
        known: Called only on suspicion.
    """
    if not _too_many(len(refused), len(clients), share):
        return False
    profiles = known(clients)
    return profiles is None or _too_many(len(profiles & refused), len(profiles), share)


def client_of(message: Message) -> str:
    """Return `shop:client`; for an invalid key, a substitute."""
    shop, client = shop_and_client(message)
    return f"{shop}:{client}" if shop else repr(message.key)


def _too_many(refused: int, all_: int, share: float) -> bool:
    return refused > FLOOR and refused > all_ * share
