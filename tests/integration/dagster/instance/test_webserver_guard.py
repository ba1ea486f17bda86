"""Which requests the guard accepts: headers alone decide, so each case is a literal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truepixel_dagster.instance.webserver import host_names
from truepixel_dagster.instance.webserver_guard import CHANGE_BY_GET, FOREIGN_HOST, FOREIGN_PAGE, refusal
from truepixel_dagster.settings import Settings

HOSTS = frozenset({"dagster.example", "pipeline.example:8443"})
MUTATION = "query=mutation%7Ba%7D"


def scope(
    host: str | None = "127.0.0.1:3000",
    *,
    kind: str = "http",
    method: str = "POST",
    query: str = "",
    **headers: str,
) -> dict[str, Any]:
    named = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in named.items() if value is not None]
    return {"type": kind, "method": method, "headers": pairs, "query_string": query.encode(), "path": "/graphql"}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:3000", "127.0.0.1:8080", "[::1]:3000", "[::1]", "LocalHost:3000"]
)
def test_loopback_is_answered_on_any_forwarded_port(host: str) -> None:
    assert refusal(scope(host), HOSTS) is None


@pytest.mark.parametrize("host", ["dagster.example", "dagster.example:444", "pipeline.example:8443"])
def test_listed_names_are_answered(host: str) -> None:
    assert refusal(scope(host), HOSTS) is None


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example:3000",
        "localhost.:3000",
        "evil.example@localhost:3000",
        "127.0.0.1.nip.example",
        "127.0.0.1:3000, evil.example",
        "127.0.0.1:3000:3000",
        "127.0.0.1:x",
        "2130706433:3000",
        "[::2]:3000",
        "::1",
        "10.0.0.7:3000",
        "pipeline.example",
        "pipeline.example:443",
        "*",
        "löcalhost:3000",
    ],
)
def test_other_names_are_refused_whatever_is_asked(host: str | None) -> None:
    for method in ("GET", "POST"):
        assert refusal(scope(host, method=method), HOSTS) is FOREIGN_HOST
    assert refusal(scope(host, kind="websocket"), HOSTS) is FOREIGN_HOST


def test_a_request_with_two_host_names_is_refused() -> None:
    twice = scope("127.0.0.1:3000")
    twice["headers"].append((b"host", b"127.0.0.1:3000"))
    assert refusal(twice, HOSTS) is FOREIGN_HOST


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("localhost:3000", "http://localhost:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("dagster.example", "https://dagster.example"),
        # A proxy that forwards under another name than it was called by.
        ("localhost:3000", "https://dagster.example"),
        ("localhost:3000", "https://pipeline.example:8443"),
    ],
)
def test_its_own_pages_are_answered(host: str, origin: str) -> None:
    for kind in ("http", "websocket"):
        assert refusal(scope(host, kind=kind, origin=origin, sec_fetch_site="same-origin"), HOSTS) is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://127.0.0.1:3001",
        "http://localhost:3000",
        "http://127.0.0.1",
        "http://127.0.0.1:3000.evil.example",
        "http://127.0.0.1:3000/",
        "http://u@127.0.0.1:3000",
        "http://evil.example/127.0.0.1:3000",
        "ftp://127.0.0.1:3000",
        "file://",
        "null",
        "",
        "https://dagster.example:8443",
        "https://pipeline.example",
        "http://[::1",
    ],
)
def test_pages_of_others_are_refused(origin: str) -> None:
    for kind, method in (("http", "POST"), ("http", "GET"), ("http", "OPTIONS"), ("websocket", "GET")):
        assert refusal(scope(kind=kind, method=method, origin=origin), HOSTS) is FOREIGN_PAGE


def test_neither_of_two_origins_may_be_foreign() -> None:
    both = scope(origin="http://127.0.0.1:3000")
    both["headers"].append((b"origin", b"https://evil.example"))
    assert refusal(both, HOSTS) is FOREIGN_PAGE


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_from_another_sites_page_only_links_are_allowed(site: str) -> None:
    link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert refusal(scope(method="GET", **link), HOSTS) is None
    assert refusal(scope(method="POST", **link), HOSTS) is FOREIGN_PAGE
    assert refusal(scope(kind="websocket", **link), HOSTS) is FOREIGN_PAGE
    for other in ({"sec_fetch_dest": "iframe"}, {"sec_fetch_mode": "no-cors"}, {"sec_fetch_mode": "cors"}):
        assert refusal(scope(method="GET", **link | other), HOSTS) is FOREIGN_PAGE


@pytest.mark.parametrize(
    "query",
    [
        MUTATION,
        "query=" + "query%20a%7Bversion%7D%20mutation%20b%7Ba%7D",
        "query=%7Bversion%7D&query=mutation%7Ba%7D",
        "query=mutation%7Ba%7D&query=%7Bversion%7D",
        "query=subscription%7Ba%7D",
        "query=%23comment%0A%2C%2C%EF%BB%BFmutation%7Ba%7D",
        "query=mutation" + "%7Ba" * 3000 + "%7D" * 3000,
        "query=no%20graphql",
    ],
)
def test_a_get_changes_nothing(query: str) -> None:
    for method in ("GET", "HEAD"):
        assert refusal(scope(method=method, query=query), HOSTS) is CHANGE_BY_GET
    assert refusal(scope(method="POST", query=query), HOSTS) is None


def test_a_path_that_dagster_reads_as_graphql_is_guarded_as_graphql() -> None:
    for path in ("/graphql", "/graphql\n", "/prefix/graphql", "/graphql/"):
        assert refusal(scope(method="GET", query=MUTATION) | {"path": path}, HOSTS) is CHANGE_BY_GET
    assert refusal(scope(method="GET", query="query=a%20word") | {"path": "/assets"}, HOSTS) is None


@pytest.mark.parametrize("query", ["", "query=%7Bversion%7D", "q=mutation%7Ba%7D"])
def test_a_get_that_only_reads_is_answered(query: str) -> None:
    assert refusal(scope(method="GET", query=query), HOSTS) is None


@given(host=st.text(max_size=40), origin=st.text(max_size=60))
def test_no_foreign_text_is_accepted(host: str, origin: str) -> None:
    asked = scope("x")
    asked["headers"] = [(b"host", host.encode("utf-8", "replace")), (b"origin", origin.encode("utf-8", "replace"))]
    if refusal(asked, HOSTS) is None:
        names = {"localhost", "127.0.0.1", "[::1]", "dagster.example", "pipeline.example"}
        assert any(host.lower().startswith(name) for name in names)
        assert any(name in origin.lower() for name in names)


def test_the_guard_uses_the_host_names_of_the_settings() -> None:
    settings = Settings(webserver_hosts="a.example,b.example:8443", dagster_url="https://me@dagster.example:444/ui")
    assert host_names(settings) == ["a.example", "b.example:8443", "dagster.example:444"]
    assert host_names(Settings()) == []


@pytest.mark.parametrize("hosts", ["*", "a.example, b.example", "https://a.example", "a/b", ","])
def test_invalid_host_names_are_refused(hosts: str) -> None:
    with pytest.raises(ValueError, match="webserver_hosts"):
        Settings(webserver_hosts=hosts)
