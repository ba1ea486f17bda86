"""A collector to which tests send as Shopify and as the pixel do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from truepixel_dagster.local.chaos import collector_process
from truepixel_dagster.local.chaos.collector_process import (
    APP_SECRET,
    DOMAIN,
    SHOP,
    TOKEN,
    Answered,
    CollectorProcess,
    connect,
    variables,
    with_app_secret,
)
from truepixel_dagster.local.chaos.promises import Broken, Found, Senders, broken, on_topic, signed
from truepixel_dagster.settings import Settings

__all__ = [
    "APP_SECRET",
    "DOMAIN",
    "SHOP",
    "TOKEN",
    "Answered",
    "Found",
    "Running",
    "Senders",
    "connect",
    "judge",
    "on_topic",
    "running",
    "signed",
    "variables",
    "with_app_secret",
]


class Running(CollectorProcess):
    """A running collector."""

    def webhook(
        self, topic: str, payload: Any, *, secret: bytes = APP_SECRET, domain: str = DOMAIN, **headers: str
    ) -> Answered:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        return self.ask("POST", "/v1/webhooks", body, signed(topic, body, secret=secret, domain=domain) | headers)

    def pixel(self, payload: Any, *, token: str = TOKEN, **headers: str) -> Answered:
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        usual = {"Content-Type": "text/plain", "Origin": "null"}
        return self.ask("POST", f"/v1/pixel?token={token}", body, usual | headers)


@contextmanager
def running(settings: Settings, *arguments: str, ready: bool = True) -> Iterator[Running]:
    with collector_process.running(settings, *arguments, ready=ready) as found:
        yield Running(found.process, found.port, found.lines)


def judge(senders: Senders, records: list[Found]) -> None:
    """Assert that every promised record is on the topic as sent, under its key, and in its key's order."""
    assert senders.promised
    assert broken(senders.promised, records) == Broken([], [], [])
