"""What the HTTP host brings to the pipeline for one exchange, and the request it sends once the pipeline lets it through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.action import Action, Lookup
from gateway.decision import Enforceable
from gateway.errors import ProtocolError
from gateway.messages import HttpRequest
from gateway.protocols.http import actions, enforce
from gateway.protocols.http.events import Event, Request
from gateway.serve.http.credentials import Proof
from gateway.serve.http.host import HttpConnection

BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose length is always told, also where there is no body (RFC 9110 8.6)."""


class HttpDoor:
    """The `gateway.pipeline.Door` of one exchange."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection

    @property
    def enforceable(self) -> Enforceable:
        """What HTTP responses can be made to carry."""
        return enforce.ENFORCEABLE

    def lookups(self, event: Event) -> Sequence[Lookup]:
        """Requests are judged by what they say."""
        del event
        return ()

    async def look_up(self, lookup: Lookup) -> object:
        """There is nothing to look up."""
        raise ProtocolError("the gateway cannot look this up", why=lookup.kind)

    def describe(self, event: Event, facts: object) -> Action:
        """The action an event attempts."""
        del facts
        return actions.describe(event, self._connection.http)

    def may_hold(self) -> bool:
        """A request can always wait: nothing of it has reached the service."""
        return True


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes to the service.

    Attributes:
        route: names the way; a pooled connection belongs to one.
        server_name: what the service's certificate must name.
    """

    request: HttpRequest
    connection: HttpConnection
    server_name: str
    proof: Proof
    route: str


def make_sent(request: Request, body: bytes, connection: HttpConnection, proof: Proof) -> Sent:
    """The canonical request: what policy saw, with the gateway's own proof in place of whatever the agent sent for one."""
    target = connection.target
    replaced = {name for name, _ in proof.headers} | {"host", "accept-encoding", "grpc-accept-encoding"}
    if proof.headers or proof.query or proof.certificate:
        replaced.add("authorization")
    default_port = 443 if request.scheme == "https" else 80
    authority = request.host if request.port == default_port else f"{request.host}:{request.port}"
    kept = [(name, value) for name, value in request.headers if name not in replaced]
    headers = [("host", authority), *kept, ("accept-encoding", "identity"), *proof.headers]
    if body or request.method in BODY_METHODS:
        headers.append(("content-length", str(len(body))))
    query = "&".join(part for part in (request.query, proof.query) if part)
    sent = HttpRequest(
        method=request.method,
        scheme=target.scheme,
        host=target.host or request.host,
        port=target.port or request.port,
        target=request.path + (f"?{query}" if query else ""),
        headers=tuple(headers),
        body=body,
        http_version=request.http_version,
    )
    return Sent(sent, connection, target.server_name or request.host, proof, f"{connection.name} {request.host}")
