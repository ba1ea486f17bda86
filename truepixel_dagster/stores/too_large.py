"""Which refusals of Elasticsearch, or of a proxy before it, say that a request is too large and always will be.

A server that has no room right now says 429 too. Only where what was asked for is larger than the limit itself does
waiting not help: then a request goes in halves, and a document that is too large alone is a dead letter.
"""

from __future__ import annotations

import re

CONTENT_TOO_LARGE, TOO_MANY_REQUESTS = 413, 429
# Of one operation against what all of them together may take (indexing_pressure.memory.*).
_OPERATION = re.compile(r"_operation_bytes=(\d+), max_\w+=(\d+)")
# Of one document (indexing_pressure.memory.max_operation_size).
_DOCUMENT = re.compile(r"an operation of size \[\d+\] bytes, which exceeds the maximum allowed limit of \[\d+\] bytes")
_BREAKER = re.compile(r"larger than the limit of \[(\d+)")
# A circuit breaker of less is a server in trouble: it would refuse every document, so that none is to blame.
_LEAST_BREAKER = 1024 * 1024


def never_fits(status: int, reason: str, size: int) -> bool:
    """Return whether a request, or an item of it, was refused for a size that is always too large.

    Arguments:
        status: HTTP's, of the request or the item.
        reason: In the server's words.
        size: Bytes of what was sent.
    """
    if status == CONTENT_TOO_LARGE:
        return True
    if status != TOO_MANY_REQUESTS:
        return False
    if found := _OPERATION.search(reason):
        return int(found[1]) > int(found[2])
    breaker = _BREAKER.search(reason)
    return bool(_DOCUMENT.search(reason)) or (breaker is not None and size > int(breaker[1]) >= _LEAST_BREAKER)
