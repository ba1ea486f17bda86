"""When dead letters are an outage or a bad deploy, and the lane had better stop: by clients, never by messages.

One client may send any number of messages, so that a share of a batch's messages says nothing. Most clients failing at
once is no client's doing, unless somebody makes clients up. So where there are customers already, only those count whom
the pipeline knows: whoever wants to stop a lane has to be as many known clients as all others in a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from truepixel_dagster.events.event import Message
from truepixel_dagster.events.identifiers import shop_and_client

# Fewer clients than this say nothing about an outage: a few that send junk alone at night must not stop a lane.
FLOOR = 16
#: From clients to those of them that have a profile; None where nobody has one yet.
Known = Callable[[AbstractSet[str]], "AbstractSet[str] | None"]


def failing(received: Iterable[Message], refused: Iterable[Message]) -> tuple[frozenset[str], frozenset[str]]:
    """The clients of a batch, and those of them of whom more than half of the messages are refused."""
    every = Counter(map(client_of, received))
    bad = Counter(map(client_of, refused))
    return frozenset(every), frozenset(client for client, count in bad.items() if 2 * count > every[client])


def is_outage(clients: AbstractSet[str], refused: AbstractSet[str], share: float, known: Known) -> bool:
    """Whether so many clients fail at once that it is not their doing.

    Arguments:
        clients: All clients of a batch.
        refused: Those of them who fail.
        share: Of the clients, above which it is an outage.
        known: Asked only when there is a suspicion.
    """
    if not _too_many(len(refused), len(clients), share):
        return False
    profiles = known(clients)
    return profiles is None or _too_many(len(profiles & refused), len(profiles), share)


def client_of(message: Message) -> str:
    """`shop:client`; where the key is none, what stands for it."""
    shop, client = shop_and_client(message)
    return f"{shop}:{client}" if shop else repr(message.key)


def _too_many(refused: int, all_: int, share: float) -> bool:
    return refused > FLOOR and refused > all_ * share
