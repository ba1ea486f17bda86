"""The application: it routes each path to its endpoint. No request ends in an unhandled 500."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from starlette.applications import Starlette
from starlette.routing import Route

from truepixel_dagster.collector.bridge import Bridge, eventbridge, pubsub
from truepixel_dagster.collector.http import TEXT, Answer, Gone, Receive, Scope, Send, json_answer
from truepixel_dagster.collector.pixels import AWAY, Pixels
from truepixel_dagster.collector.services import Services
from truepixel_dagster.collector.webhooks import Webhooks

LOG = logging.getLogger(__name__)
_ALIVE = Answer(200, b"ok\n", (TEXT,))


class Answering(Protocol):
    """Describe an endpoint that answers requests."""

    name: str

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Answer a request."""


class Endpoint:
    """Wrap an endpoint for ASGI: count and time its requests, and catch every exception."""

    def __init__(self, answering: Answering, services: Services) -> None:
        self._answering = answering
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answer = await self._answering.answer(scope, receive)
        except Gone:
            return
        except Exception:
            # The sender retries later. The log never contains what it sent.
            LOG.exception("a request to %s failed because of a defect", self._answering.name)
            answer = AWAY
        self._services.metrics.answered(self._answering.name, answer.status, loop.time() - began)
        await answer.send(send)


class Alive:
    """Serve `GET /healthz`: the process answers."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Handle a request."""
        await _ALIVE.send(send)


class Ready:
    """Serve `GET /readyz`: the collector can accept records, or the reason why it cannot."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Handle a request."""
        why = self._services.unready
        await json_answer(503 if why else 200, {"ready": not why, "reason": why}).send(send)


class Scraped:
    """Serve `GET /metrics`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Handle a request."""
        await Answer(200, self._services.metrics.text(), (TEXT,)).send(send)


class Front:
    """Route the hot paths straight to their endpoints, and everything else to Starlette, whose router is slower.

    Arguments:
        direct: Endpoints by the path on which they accept POST.
        others: The application.
    """

    def __init__(self, direct: Mapping[str, Endpoint], others: Starlette) -> None:
        self._direct = direct
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        endpoint = self._direct.get(scope.get("path", ""))
        if endpoint is not None and scope["type"] == "http" and scope["method"] == "POST":
            await endpoint(scope, receive, send)
        else:
            await self._others(scope, receive, send)


def application(services: Services) -> Front:
    """Build the application on the given services."""
    webhooks, pixels = Endpoint(Webhooks(services), services), Endpoint(Pixels(services), services)
    bridges: list[Bridge] = []
    if services.google is not None:
        bridges.append(pubsub(services, services.google))
    if services.eventbridge_keys is not None:
        bridges.append(eventbridge(services, services.eventbridge_keys))
    others = Starlette(
        routes=[
            Route("/v1/webhooks", webhooks, methods=["POST"]),
            Route("/v1/pixel", pixels, methods=["POST", "OPTIONS"]),
            *(Route(f"/v1/{bridge.name}", Endpoint(bridge, services), methods=["POST"]) for bridge in bridges),
            Route("/healthz", Alive(), methods=["GET"]),
            Route("/readyz", Ready(services), methods=["GET"]),
            Route("/metrics", Scraped(services), methods=["GET"]),
        ]
    )
    return Front({"/v1/webhooks": webhooks, "/v1/pixel": pixels}, others)
