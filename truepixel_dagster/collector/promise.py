"""The promise that a sender's records are durable, and the reasons for which it fails."""

from __future__ import annotations

import asyncio

FULL = "full"
LATE = "late"
DISK = "disk"
TOO_LARGE = "too large"


class Promise:
    """Wait until all records of a sender are durable, or until the first one fails.

    `answer` is empty if all records are durable.
    """

    __slots__ = ("answer", "left")

    def __init__(self, records: int, answer: asyncio.Future[str]) -> None:
        self.left = records
        self.answer = answer

    def keep(self) -> None:
        """Count one more durable record."""
        self.left -= 1
        if self.left <= 0 and not self.answer.done():
            self.answer.set_result("")

    def break_(self, reason: str) -> None:
        """Fail the promise: one record is not durable."""
        if not self.answer.done():
            self.answer.set_result(reason)
