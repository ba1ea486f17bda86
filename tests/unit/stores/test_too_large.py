"""A request that is too large at any time, and one that has no room at the moment."""

from __future__ import annotations

import pytest

from truepixel_dagster.stores.too_large import never_fits

PRESSURE = (
    "rejected execution of coordinating operation [coordinating_and_primary_bytes={used}, replica_bytes=0,"
    " all_bytes={used}, coordinating_operation_bytes={size}, max_coordinating_bytes=53687091]"
)
BREAKER = (
    "[parent] Data too large, data for [<http_request>] would be [536870913/512mb], which is larger than the limit of"
    " [510027366/486.3mb]"
)
LARGE = "Request contains an operation of size [39] bytes, which exceeds the maximum allowed limit of [26] bytes"


@pytest.mark.parametrize(
    ("status", "reason", "size", "expected"),
    [
        (413, "", 10, True),
        (429, PRESSURE.format(used=0, size=54_215_758), 10, True),
        (429, PRESSURE.format(used=50_000_000, size=14_351_681), 10, False),
        (429, "[replica_bytes=9, replica_operation_bytes=9, max_replica_bytes=8]", 1, True),
        (429, LARGE, 1, True),
        (429, BREAKER, 40_000_000, False),
        (429, BREAKER, 600_000_000, True),
        (429, "[parent] Data too large, data would be [9/9b], which is larger than the limit of [1/1b]", 9, False),
        (429, "", 10**9, False),
        (503, PRESSURE.format(used=0, size=54_215_758), 10, False),
        (400, BREAKER, 10**9, False),
    ],
)  # fmt: skip
def test_only_what_is_larger_than_the_limit_itself_never_fits(
    status: int, reason: str, size: int, expected: bool
) -> None:
    assert never_fits(status, reason, size) is expected
