"""Dagster's webserver is read-only unless it is started otherwise, and never obeys the pages of other sites."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from truepixel_dagster.instance.process import environment
from truepixel_dagster.local.demo import dagster_dev, free_port
from truepixel_dagster.local.graphql import GraphQL, GraphQLError
from truepixel_dagster.local.programs import end_tree
from truepixel_dagster.settings import Settings

_FLUSH = """
mutation { launchRun(executionParams: {
  mode: "default", selector: {
    jobName: "flush", repositoryName: "__repository__", repositoryLocationName: "truepixel"
  } }) { __typename } }
"""
_RUNS = "{ runsOrError { ... on Runs { count } } }"
_MATERIALIZED = '{ assetOrError(assetKey: {path: ["customers"]}) { ... on Asset { assetMaterializations { runId } } } }'
_REPORTS = (
    "report_asset_materialization/customers?partition=2026-01-05",
    "report_asset_observation/kafka_topic?data_version=1",
    "report_asset_check/health?check_name=audit&passed=true",
)
_EVIL = "https://evil.example"


def test_it_is_read_only_by_default(settings: Settings) -> None:
    port = free_port(0)
    with dagster_dev(settings, port):
        api = GraphQL(f"http://127.0.0.1:{port}")
        api.wait()
        assert api.ask(_FLUSH)["__typename"] == "UnauthorizedError"
        with pytest.raises(GraphQLError, match="refused"):
            api.launch_backfill(["customers"], ["2026-01-05"])
        assert requests.post(f"http://127.0.0.1:{port}/{_REPORTS[0]}", timeout=60).status_code == 401
        refuses_what_is_foreign(port)


def test_a_writable_webserver_obeys_its_own_pages_alone(settings: Settings) -> None:
    port = free_port(0)
    with dagster_dev(settings, port, writable=True):
        api = GraphQL(f"http://127.0.0.1:{port}")
        api.wait()
        before = api.ask(_RUNS)["count"]
        refuses_what_is_foreign(port)
        assert api.ask(_MATERIALIZED)["assetMaterializations"] == []
        assert api.ask(_FLUSH)["__typename"] == "LaunchRunSuccess"
        # The sensor and the schedules start no run of this job in between, except at the full minute.
        assert api.ask(_RUNS)["count"] > before
        for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
            obeys_its_own_pages(port, host)


def test_the_webserver_of_a_deployment_answers_to_its_names(settings: Settings) -> None:
    named = settings.model_copy(update={"webserver_hosts": "dagster.example"})
    with started(named) as port:
        refuses_what_is_foreign(port)
        obeys_its_own_pages(port, f"127.0.0.1:{port}")
        obeys_its_own_pages(port, "dagster.example", origin="https://dagster.example")


def refuses_what_is_foreign(port: int) -> None:
    """Assert that no request that a page of another site can have a browser send is executed, or shown."""
    mutation = {"query": _FLUSH}
    # Types of content that a browser sends without a preflight request.
    text = {"data": '{"query": "{ version }"}', "headers": {"Content-Type": "text/plain; application/json"}}
    form = {"params": mutation, "data": {"a": "1"}}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "graphql", {"params": mutation}),
        ("HEAD", "graphql", {"params": mutation}),
    ]
    others = [
        *(("POST", "graphql", body) for body in ({"json": mutation}, form, text)),
        *(("POST", path, {}) for path in _REPORTS),
        ("OPTIONS", "graphql", {}),
        ("GET", "", {}),
    ]
    for origin in (_EVIL, f"http://127.0.0.1:{port + 1}", f"http://localhost:{port}", "null"):
        asked += [(method, path, with_headers(more, Origin=origin)) for method, path, more in others]
    for host in ("evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}", ""):
        asked += [
            (method, path, with_headers(more, Host=host, Origin=f"http://{host}"))
            for method, path, more in (*others, ("GET", "server_info", {}))
        ]
    for method, path, more in asked:
        answer = requests.request(method, f"http://127.0.0.1:{port}/{path}", timeout=60, **more)
        assert answer.status_code in (400, 403, 405), (method, path, more, answer.status_code, answer.text[:200])
        assert "Access-Control-Allow-Origin" not in answer.headers
    for origin in (_EVIL, "null", f"http://127.0.0.1:{port + 1}"):
        assert b" 403 " in subscribed(port, origin)
    assert b" 403 " in subscribed(port, "http://evil.example", "evil.example")


def with_headers(request: dict[str, Any], **headers: str) -> dict[str, Any]:
    return {**request, "headers": {**request.get("headers", {}), **headers}}


def obeys_its_own_pages(port: int, host: str, origin: str | None = None) -> None:
    """Assert that the requests of Dagster's UI, opened by this name, are executed."""
    own = {"Host": host, "Origin": origin or f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    address = f"http://127.0.0.1:{port}"
    page = requests.get(address, headers={"Host": host, "Sec-Fetch-Site": "none"}, timeout=60)
    assert "<html" in page.text
    assert page.headers["X-Frame-Options"] == "SAMEORIGIN"
    answer = requests.post(f"{address}/graphql", json={"query": _RUNS}, headers=own, timeout=60).json()
    assert answer["data"]["runsOrError"]["count"] >= 0
    assert b" 101 " in subscribed(port, own["Origin"], host)
    assert requests.get(f"{address}/graphql", {"query": _RUNS}, headers={"Host": host}, timeout=60).ok


def subscribed(port: int, origin: str, host: str | None = None) -> bytes:
    """Return the first line of the answer to a page that opens a WebSocket."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        lines = (
            "GET /graphql HTTP/1.1",
            f"Host: {host or f'127.0.0.1:{port}'}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: graphql-ws",
            f"Origin: {origin}",
            "\r\n",
        )
        connection.sendall("\r\n".join(lines).encode())
        return connection.recv(1024).split(b"\r\n")[0]


@contextmanager
def started(settings: Settings) -> Iterator[int]:
    """The webserver alone, as the chart and the compose file start it."""
    port = free_port(0)
    program = ["dagster-webserver", "--host", "127.0.0.1", "--port", str(port), "--empty-workspace"]
    process = subprocess.Popen(
        [sys.executable, "-m", "truepixel_dagster.cli", "start", *program],
        env={**os.environ, **environment(settings)},
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 180
        while time.monotonic() < end and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield port
    finally:
        end_tree(process)
