"""Rate limits per shop and per address: each has a token bucket that refills at a constant rate."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
# A household or a company has a network of this size, and can use any number of addresses in it.
_IPV6_PREFIX, _IPV6_REST = 64, 64
_LONGEST_ADDRESS = 45


class Limiter:
    """Hold token buckets by key, and forget the least recently used above a limit. A forgotten bucket is full again.

    Arguments:
        rate: Tokens per second.
        burst: The capacity of a bucket.
        most: The most keys to hold.
        clock: Returns seconds.
    """

    def __init__(self, rate: float, burst: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, tokens: float = 1.0) -> float:
        """Take tokens if the bucket has enough or is full: a request above the capacity empties it.

        Returns:
            0.0 if the tokens were taken, else the seconds until they will be available.
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
    """Return the networks in a comma-separated list, such as `10.0.0.0/8,::1`.

    Raises:
        ValueError: An entry is not a network.
    """
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def sender(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """Return the sender for rate limits: an IPv4 address or an IPv6 address's network. It is never stored or logged.

    Arguments:
        peer: The address that the connection comes from.
        forwarded: The value of `X-Forwarded-For`, read from right to left as long as the proxies are trusted.
        trusted: The trusted proxies.
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
