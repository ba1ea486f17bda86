"""A minimal collector to compare ours with: Starlette with an HMAC and `acks=all`.

TRUEPIXEL_… python -m benchmarks.plain_collector PORT SECRET
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from confluent_kafka import Producer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from truepixel_dagster.settings import load_settings
from truepixel_dagster.stream.client_config import client_config


class Plain:
    """Send by a producer that is polled for acknowledgements every millisecond."""

    def __init__(self, secret: bytes) -> None:
        settings = load_settings()
        self._topic = settings.topic
        self._secret = secret
        self._producer = Producer(
            {
                **client_config(settings.kafka()),
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 2,
            }
        )

    @asynccontextmanager
    async def asking(self, _app: Starlette) -> AsyncIterator[None]:
        """Poll as long as the application runs."""
        task = asyncio.create_task(self._ask())
        yield
        task.cancel()

    async def _ask(self) -> None:
        while True:
            self._producer.poll(0)
            await asyncio.sleep(0.001)

    async def webhook(self, request: Request) -> Response:
        """Answer when Kafka has acknowledged."""
        body = await request.body()
        expected = base64.b64encode(hmac.digest(self._secret, body, "sha256"))
        if not hmac.compare_digest(expected, request.headers.get("x-shopify-hmac-sha256", "").encode()):
            return Response(status_code=401)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._producer.produce(
            self._topic,
            body,
            b"shop:client",
            headers=[("source", b"webhook"), ("topic", request.headers["x-shopify-topic"].encode())],
            on_delivery=lambda error, _message: done.set_result(error),
        )
        return Response(status_code=503 if await done else 200)


def main(port: int, secret: str) -> None:
    """Serve until SIGTERM."""
    plain = Plain(secret.encode())
    app = Starlette(routes=[Route("/v1/webhooks", plain.webhook, methods=["POST"])], lifespan=plain.asking)
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
