"""What one client connection has proven and asked for: the token of its tunnel, and where each of its exchanges begins."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import Final, Literal

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, ProtocolError
from gateway.messages import HttpRequest, HttpResponse, Refusal
from gateway.protocols.http import enforce
from gateway.refusal import refuse_unrecorded
from gateway.serve.http.exchange import Exchange
from gateway.serve.http.host import HttpConnection, HttpHost

Mode = Literal["proxy", "reverse"]

MAX_NAME_CHARS: Final = 253
"""Longest host name (RFC 1035 2.3.4)."""


@dataclass(frozen=True, slots=True)
class _Tunnel:
    """What a CONNECT asked for, and the token it came with."""

    host: str
    port: int
    token: str


class HttpClient:
    """One connection of a client.

    Args:
        host: what is shared.
        ip: the client's address.
        mode: "proxy", or "reverse" where the first path segment names the connection.
    """

    def __init__(self, host: HttpHost, ip: str, mode: Mode) -> None:
        self._host = host
        self._ip = ip
        self._mode = mode
        self._tunnel: _Tunnel | None = None
        self.has_proven = False

    @property
    def tunnel_host(self) -> str | None:
        """The host this connection is a tunnel to."""
        return None if self._tunnel is None else self._tunnel.host

    async def connect(self, host: str, port: int, authorization: str | None) -> HttpResponse | None:
        """A CONNECT: None where the tunnel may stand, else the refusal."""
        if self._mode != "proxy" or self._tunnel is not None:
            why, fix = "CONNECT is for the proxy address only", "send requests for /CONNECTION/path"
            return await self._host.refuse_client(self._ip, "http.connect", "this is no proxy", why, fix, status=405)
        token = read_token(authorization)
        subject = await self._host.authenticate(token, self._ip, is_proxy=True)
        if isinstance(subject, HttpResponse):
            return subject
        name = host.lower().rstrip(".")[:MAX_NAME_CHARS]
        if self._find(name, port, subject) is None:
            return await self._host.refuse_host(f"{name}:{port}", subject, self._ip)
        self._tunnel = _Tunnel(name, port, token or "")
        self.has_proven = True
        return None

    async def begin(self, head: HttpRequest) -> HttpResponse | Exchange:
        """A request: its exchange, or the refusal."""
        self._host.totals["requests_total"] += 1
        token = self._read_token(head)
        subject = await self._host.authenticate(token, self._ip, is_proxy=self._mode == "proxy")
        if isinstance(subject, HttpResponse):
            return subject
        self.has_proven = True
        if self._host.is_stopping:
            refusal = Refusal("target", "gateway.shutdown", "the gateway is shutting down", "", "connect again", "none")
            return enforce.refuse(refusal, status=503)
        prefix, found = self._route(head, subject)
        if found is None:
            asked = (
                f"/{head.target.split('/')[1][:63]}"
                if self._mode == "reverse" and "/" in head.target
                else f"{head.host}:{head.port}"
            )
            return await self._host.refuse_host(asked, subject, self._ip)
        connection, routed = found
        exchange = Exchange(self._host, self._ip, prefix=prefix)
        try:
            refused = await exchange.begin(routed, subject, connection, token or "")
        except EvidenceUnavailableError:
            return enforce.refuse(refuse_unrecorded(None, "none"))
        return exchange if refused is None else refused

    async def refuse_bytes(self, code: str, error: ProtocolError) -> HttpResponse:
        """The refusal, with its record, of bytes that are no request."""
        fix = error.fix or "correct the request; what the gateway cannot read never reaches a service"
        return await self._host.refuse_client(self._ip, code, error.what, error.why, fix)

    async def refuse_fault(self) -> HttpResponse:
        """The refusal, with its record, for a fault of the gateway."""
        return await self._host.refuse_fault(self._ip)

    def _read_token(self, head: HttpRequest) -> str | None:
        if self._tunnel is not None:
            return self._tunnel.token
        return read_token(head.find_header("proxy-authorization" if self._mode == "proxy" else "authorization"))

    def _find(self, host: str, port: int, subject: Subject) -> HttpConnection | None:
        connection = self._host.router.find(host, port)
        return connection if connection is not None and connection.admits(subject.groups) else None

    def _route(self, head: HttpRequest, subject: Subject) -> tuple[str, tuple[HttpConnection, HttpRequest] | None]:
        """The connection a request is for, and the request as if it had been sent to the service itself."""
        if self._mode == "proxy":
            connection = self._find(head.host, head.port, subject)
            return "", None if connection is None else (connection, head)
        name, slash, rest = head.target.removeprefix("/").partition("/")
        name, mark, query = name.partition("?")
        connection = self._host.router.find_named(name)
        if connection is None or not connection.admits(subject.groups):
            return "", None
        host = next((item for item in connection.hosts if not item.startswith("*.")), None)
        if host is None:
            return "", None
        headers = tuple((key, host if key == "host" else value) for key, value in head.headers if key != "authorization")
        port = connection.ports[0]
        if port != 443:  # noqa: PLR2004 - the default port of https
            headers = tuple((key, f"{host}:{port}" if key == "host" else value) for key, value in headers)
        target = f"/{rest}" if slash else f"/{mark}{query}"
        return f"/{name}", (connection, replace(head, scheme="https", host=host, port=port, target=target, headers=headers))


def read_token(value: str | None) -> str | None:
    """The token in an Authorization or Proxy-Authorization field: Bearer, or Basic with the token as password. None for none."""
    scheme, _, rest = (value or "").strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        return rest
    if scheme.lower() == "basic" and rest:
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None
