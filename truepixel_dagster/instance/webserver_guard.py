"""Decide which requests Dagster's webserver answers: those to one of its names, from its own pages or from programs.

The webserver does not authenticate users, so it would obey every browser on this machine. A page of another site can
make that browser send requests here (cross-site request forgery), and can point its own host name at this address to
read the answers (DNS rebinding). Programs send no `Origin` and are allowed: whoever can run a program on this machine
needs no browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_METHODS = frozenset({"GET", "HEAD"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_POLICY_VIOLATION = 1008


class Refusal(NamedTuple):
    """The reason for refusing a request: the HTTP status, and one line for the reader."""

    status: int
    reason: str


FOREIGN_HOST = Refusal(
    403,
    "Request refused: its host name is not one of this webserver's. Use http://localhost, or add the name to"
    " TRUEPIXEL_WEBSERVER_HOSTS.",
)
FOREIGN_PAGE = Refusal(
    403,
    "Request refused: a page of another site sent it. Use Dagster's own UI, or add the host name by which you open it"
    " to TRUEPIXEL_WEBSERVER_HOSTS.",
)
CHANGE_BY_GET = Refusal(405, "Request refused: a GET request may not change anything. Send the mutation by POST.")


class WebserverGuard:
    """Pass requests to another ASGI application, unless `refusal` refuses them.

    Arguments:
        app: Dagster's webserver.
        hosts: The webserver's host names, with a port if only that one is meant, in addition to those of loopback.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or one WebSocket."""
        refused = None if scope["type"] == "lifespan" else refusal(scope, self._hosts)
        if refused is None:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            # Close it before it is accepted: the browser sees a 403.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": "refused"})
        else:
            headers = {"Allow": "POST"} if refused is CHANGE_BY_GET else None
            await PlainTextResponse(refused.reason + "\n", refused.status, headers)(scope, receive, send)


def refusal(scope: Scope, hosts: frozenset[str]) -> Refusal | None:
    """Return the reason for refusing a request; None to answer it.

    Arguments:
        scope: The ASGI scope, of type `http` or `websocket`.
        hosts: The webserver's names in lower case, in addition to those of loopback.
    """
    headers = Headers(scope=scope)
    named = headers.getlist("host")
    if len(named) != 1 or not _goes_by(named[0].lower(), hosts):
        return FOREIGN_HOST
    own = {place for host in (named[0].lower(), *hosts) for place in _places(host, *_DEFAULT_PORTS.values())}
    if not own.issuperset(map(_place, headers.getlist("origin"))) or _from_elsewhere(scope, headers):
        return FOREIGN_PAGE
    if scope["type"] == "http" and scope["method"] in SAFE_METHODS and _asks_for_change(scope):
        return CHANGE_BY_GET
    return None


def _goes_by(host: str, hosts: frozenset[str]) -> bool:
    """Return whether a `Host` is one of the webserver's: by its name, or with its port if that is listed."""
    found = _HOST.fullmatch(host)
    return found is not None and (host in hosts or found["name"] in LOOPBACK | hosts)


def _place(origin: str) -> str:
    """Return host and port of an `Origin`; empty for `null` and for an invalid one."""
    scheme, _, host = origin.lower().partition("://")
    return next(iter(_places(host, _DEFAULT_PORTS[scheme])), "") if scheme in _DEFAULT_PORTS else ""


def _places(host: str, *default_ports: str) -> Iterator[str]:
    """Yield a host with its port; without one, with each default port."""
    if found := _HOST.fullmatch(host):
        yield from (f"{found['name']}:{port}" for port in ([found["port"]] if found["port"] else default_ports))


def _from_elsewhere(scope: Scope, headers: Headers) -> bool:
    """Return whether the browser reports a request of another site's page, except a link that opens this site."""
    if all(site in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
        return False
    link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not (link and scope["type"] == "http" and scope["method"] in SAFE_METHODS)


def _asks_for_change(scope: Scope) -> bool:
    """Return whether the GraphQL in the URL, as Dagster reads it, is or may be more than a query."""
    # Search the whole path: Dagster's routes also match with a line break at the end.
    if "/graphql" not in scope["path"]:
        return False
    return not all(_only_reads(query) for query in QueryParams(scope["query_string"]).getlist("query"))


def _only_reads(text: str) -> bool:
    try:
        definitions = parse(text, no_location=True).definitions
    except GraphQLError:
        # The parser's limit of nesting depends on the stack: a text that fails here may be a mutation for Dagster.
        return False
    operations = (one.operation for one in definitions if isinstance(one, OperationDefinitionNode))
    return all(operation == OperationType.QUERY for operation in operations)


def _unframed(send: Send) -> Send:
    """Forbid other sites to show the page in a frame, where a user could press its buttons unknowingly."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "SAMEORIGIN"
        await send(message)

    return sending
