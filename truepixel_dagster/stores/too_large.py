"""Recognize rejections, by Elasticsearch or a proxy before it, of a request whose size is never accepted.

A server without room at the moment answers 429, too. Waiting does not help only if the request exceeds the limit
itself: then it is sent in halves, and a document that is too large alone becomes a dead letter.
"""

from __future__ import annotations

import re

CONTENT_TOO_LARGE, TOO_MANY_REQUESTS = 413, 429
# The size of one operation and the limit of all operations together (indexing_pressure.memory.*).
_OPERATION = re.compile(r"_operation_bytes=(\d+), max_\w+=(\d+)")
# The limit of one document (indexing_pressure.memory.max_operation_size).
_DOCUMENT = re.compile(r"an operation of size \[\d+\] bytes, which exceeds the maximum allowed limit of \[\d+\] bytes")
_BREAKER = re.compile(r"larger than the limit of \[(\d+)")
# A smaller circuit breaker means a server in trouble: it would reject every document, so no document is the cause.
_LEAST_BREAKER = 1024 * 1024


def never_fits(status: int, reason: str, size: int) -> bool:
    """Return whether a request, or an item of it, was refused for a size that is always too large.

    Arguments:
        status: The HTTP status of the request or the item.
        reason: The server's message.
        size: The size of the request or document in bytes.
    """
    if status == CONTENT_TOO_LARGE:
        return True
    if status != TOO_MANY_REQUESTS:
        return False
    if found := _OPERATION.search(reason):
        return int(found[1]) > int(found[2])
    breaker = _BREAKER.search(reason)
    return bool(_DOCUMENT.search(reason)) or (breaker is not None and size > int(breaker[1]) >= _LEAST_BREAKER)
