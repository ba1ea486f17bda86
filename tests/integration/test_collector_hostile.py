"""Senders that are broken, slow or hostile: no 500, no growth, and nothing unsigned is written."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.integration.collectors import TOKEN, Running, connect, on_topic, running, signed, with_app_secret
from tests.waiting import until
from truepixel_dagster.settings import Settings

MIB = 2**20
HEAD = b"POST /v1/webhooks HTTP/1.1\r\nHost: x\r\n"
# How much a process may grow until its allocator's and its caches' first blocks are full.
GROWTH = 16 * MIB


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Settings:
    connect(settings)
    return with_app_secret(settings, tmp_path, collector_address_rate=1e6)


@pytest.fixture
def collector(served: Settings) -> Iterator[Running]:
    """A collector that has answered a request and is as small at the end of the test as at its beginning."""
    with running(served) as found:
        assert found.webhook("orders/create", b"first").status == 200
        process = psutil.Process(found.process.pid)
        files, resident = process.num_fds(), process.memory_info().rss
        yield found
        until(lambda: process.num_fds() <= files)
        assert found.metrics()["body_bytes"] == 0
        assert process.memory_info().rss < resident + GROWTH


def _answer(connection: socket.socket) -> bytes:
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            found += part
    return found


def _raw(collector: Running, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", collector.port), timeout=10) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
        return _answer(connection)


def test_huge_headers_and_slow_senders_are_refused(collector: Running) -> None:
    assert _raw(collector, HEAD + b"X-A: " + b"a" * 400_000).startswith(b"HTTP/1.1 431")
    assert _raw(collector, HEAD + b"X-A: a\r\n" * 300 + b"\r\n").startswith(b"HTTP/1.1 400")
    began = time.monotonic()
    slow = _raw(collector, HEAD + b"Content-Length: 100\r\n\r\nxx")
    assert slow.startswith(b"HTTP/1.1 408")
    assert 3.5 < time.monotonic() - began < 6
    assert collector.webhook("orders/create", {"id": 1}).status == 200


def test_many_slow_senders_block_no_others_and_leave_nothing(served: Settings, collector: Running) -> None:
    beginnings = (b"", HEAD, HEAD + b"X-A: ", HEAD + b"Content-Length: 10000000\r\n\r\n" + b"x" * 20_000)
    with ExitStack() as stack:
        slow = []
        for number in range(400):
            connection = socket.create_connection(("127.0.0.1", collector.port), timeout=30)
            slow.append(stack.enter_context(connection))
            connection.sendall(beginnings[number % len(beginnings)])
        assert {collector.webhook("orders/create", b"%d" % number).status for number in range(20)} == {200}
        answers = {_answer(connection)[:12] for connection in slow}
    # A body larger than the room is refused at once; a slow sender is disconnected, with an answer or without.
    assert answers <= {b"", b"HTTP/1.1 408", b"HTTP/1.1 503"}
    assert len(on_topic(served)) == 21


def test_a_delivery_that_is_replayed_has_its_id_each_time(served: Settings, collector: Running) -> None:
    headers = signed("orders/create", b'{"id": 1}')
    assert [collector.ask("POST", "/v1/webhooks", b'{"id": 1}', headers).status for _ in range(3)] == [200] * 3
    # The signature is invalid for another body and for another shop.
    assert collector.ask("POST", "/v1/webhooks", b'{"id": 2}', headers).status == 401
    other = headers | {"X-Shopify-Shop-Domain": "who.myshopify.com"}
    assert collector.ask("POST", "/v1/webhooks", b'{"id": 1}', other).status == 404
    first, *copies = on_topic(served)
    assert first.value == b"first"
    assert {record.headers["event_id"].decode() for record in copies} == {headers["X-Shopify-Webhook-Id"]}
    assert len(copies) == 3


SHOPIFYS = ("X-Shopify-Topic", "Shopify-Topic", "X-Shopify-Shop-Domain", "X-Shopify-Webhook-Id")
NAMES = st.sampled_from([*SHOPIFYS, "Content-Type", "X-Forwarded-For", "User-Agent", "Content-Encoding"])
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
PATHS = ("/v1/webhooks", "/v1/pixel", f"/v1/pixel?token={TOKEN}", "/v1/pixel?token=%ff&&=", "/readyz", "/%00", "//")
BODIES = (b"[]", b"{}", b"[{}]", b'{"events":7}', b'[{"id": "a"}]')
ANSWERS = {200, 204, 400, 401, 403, 404, 405, 413, 415, 429}


def test_every_request_is_answered_and_only_signed_ones_are_written(served: Settings, collector: Running) -> None:
    promised: list[bytes] = []

    @hypothesis_settings(max_examples=1000)
    @given(
        st.sampled_from(["POST", "GET", "PUT", "OPTIONS", "HEAD", "DELETE"]),
        st.sampled_from(PATHS),
        st.binary(max_size=300) | st.sampled_from(BODIES),
        st.dictionaries(NAMES, TEXTS, max_size=4),
        st.booleans(),
    )
    def send(method: str, path: str, body: bytes, headers: dict[str, str], is_signed: bool) -> None:
        sent = {name: value.encode("latin-1") for name, value in headers.items()}
        if is_signed:
            sent = {name: value.encode() for name, value in signed("orders/create", body).items()} | sent
        connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=10)
        connection.request(method, path, body, sent)
        status = connection.getresponse().status
        connection.close()
        assert status in ANSWERS
        if status == 200 and path != "/readyz":
            assert (is_signed, method, path) == (True, "POST", "/v1/webhooks")
            promised.append(body)

    send()
    assert promised
    assert sorted(record.value for record in on_topic(served)) == sorted([b"first", *promised])
