"""A scripted topic: accepts, acknowledges in order, refuses, is full, loses its queue."""

from __future__ import annotations

from collections import deque

from truepixel_dagster.collector.kafka import Delivered, Failure
from truepixel_dagster.collector.record import Record


class FakeTopic:
    def __init__(self, room: int = 10**9) -> None:
        self.queue: deque[tuple[Record, Delivered]] = deque()
        self.on_topic: list[Record] = []
        self.room = room
        self.acknowledges = True
        self.refusals: list[Failure] = []
        self.is_broken = False
        self.trouble: str | None = None

    def send(self, record: Record, delivered: Delivered) -> bool:
        if len(self.queue) >= self.room:
            return False
        self.queue.append((record, delivered))
        return True

    def serve(self) -> None:
        while self.refusals and self.queue:
            self.queue.popleft()[1](self.refusals.pop(0))
        while self.acknowledges and self.queue:
            self.acknowledge()

    def acknowledge(self) -> None:
        record, delivered = self.queue.popleft()
        self.on_topic.append(record)
        delivered(None)

    def close(self, seconds: float) -> None:
        return
