"""How much one shop or one address may send: a bucket of tokens for each, refilled at a rate."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
# A household or a company has a network of this size, and any number of addresses in it.
_IPV6_PREFIX, _IPV6_REST = 64, 64
_LONGEST_ADDRESS = 45


class Limiter:
    """Buckets by key, the ones used last within a bound of keys. One that is forgotten is full again.

    Arguments:
        rate: Tokens a second.
        burst: Tokens that a bucket holds.
        most: Keys that are kept.
        clock: Seconds.
    """

    def __init__(self, rate: float, burst: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, tokens: float = 1.0) -> float:
        """Take tokens if there are as many, or if the bucket is full: what is larger than a bucket empties it.

        Returns:
            0.0 if they were taken, else the seconds until they could be.
        """
        now = self._clock()
        held, since = self._buckets.pop(key, (self._burst, now))
        held = min(self._burst, held + (now - since) * self._rate)
        wanted = min(tokens, self._burst)
        taken = held >= wanted
        self._buckets[key] = (held - wanted if taken else held, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (wanted - held) / self._rate

    def __len__(self) -> int:
        return len(self._buckets)


def networks(text: str) -> tuple[Network, ...]:
    """The networks in a comma-separated list, such as `10.0.0.0/8,::1`.

    Raises:
        ValueError: One is none.
    """
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def sender(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """Who sent a request, as rate limits count: an IPv4 address or the network of an IPv6 one. Never written anywhere.

    Arguments:
        peer: The address that the connection comes from.
        forwarded: The value of `X-Forwarded-For`. It is believed from right to left, as far as proxies are trusted.
        trusted: The proxies that are.
    """
    last = _address(peer)
    for hop in reversed(forwarded.split(",")) if forwarded and trusted else ():
        found = _address(hop.strip()[:_LONGEST_ADDRESS])
        if found is None or not _is_in(last, trusted):
            break
        last = found
    if isinstance(last, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(last) >> _IPV6_REST << _IPV6_REST, _IPV6_PREFIX)))
    return str(last)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(address: Address | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)
