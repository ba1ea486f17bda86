"""Rate limits, within a bound of keys, and whose address counts behind proxies."""

from __future__ import annotations

import pytest

from tests.unit.collector.clock import Clock
from truepixel_dagster.collector.limits import Limiter, networks, sender


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock(0.0)
    limiter = Limiter(2, 4, 10, clock)
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, 0]
    assert limiter.take("a") == 0.5
    assert limiter.take("b") == 0
    clock.now += 0.5
    assert limiter.take("a") == 0
    assert limiter.take("a", 3) == 1.5
    clock.now += 100
    assert limiter.take("a", 4) == 0
    assert limiter.take("a") > 0


def test_a_request_larger_than_the_bucket_passes_when_it_is_full() -> None:
    clock = Clock(0.0)
    limiter = Limiter(1, 4, 10, clock)
    assert limiter.take("a", 100) == 0
    assert limiter.take("a", 100) == 4


def test_it_keeps_no_more_keys_than_its_bound() -> None:
    limiter = Limiter(1, 1, 3, Clock(0.0))
    for number in range(100):
        limiter.take(str(number))
    assert len(limiter) == 3


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("203.0.113.9", "", "", "203.0.113.9"),
        # The header of an untrusted peer is ignored.
        ("203.0.113.9", "198.51.100.1", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "10.0.0.0/8", "203.0.113.9"),
        ("10.1.2.3", "198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        # The sender's own entries are at the left, and are ignored.
        ("10.1.2.3", "1.1.1.1, 198.51.100.1", "10.0.0.0/8", "198.51.100.1"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.1, 10.9.9.9", "10.0.0.0/8", "198.51.100.1"),
        ("10.1.2.3", "what is this", "10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3", "1.1.1.1,", "10.0.0.0/8", "10.1.2.3"),
        # All addresses of an IPv6 network are one sender.
        ("2001:db8:1:2:aaaa::1", "", "", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "", "", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "", "", "203.0.113.9"),
        ("", "", "10.0.0.0/8", "None"),
    ],
)
def test_the_senders_address_behind_proxies(peer: str, forwarded: str, trusted: str, expected: str) -> None:
    assert sender(peer, forwarded, networks(trusted)) == expected


def test_an_invalid_network_is_rejected() -> None:
    assert [str(each) for each in networks(" 10.0.0.1/8 , ::1,")] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(ValueError, match="x"):
        networks("x")
