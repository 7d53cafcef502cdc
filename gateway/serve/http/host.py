"""What all HTTP exchanges of a worker share: connections by host, who a token speaks for, sessions, masking."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, IdentityError
from gateway.masking.values import CellMasker
from gateway.messages import HttpResponse, Refusal
from gateway.pipeline import Pipeline, SessionSettings
from gateway.protocols.http import enforce
from gateway.protocols.http.actions import HttpSettings
from gateway.serve.cell_masking import CellMasking
from gateway.serve.http.credentials import CredentialSource
from gateway.serve.http.sessions import HttpSessions

Verify = Callable[[str], Awaitable[Subject]]

PROXY_ADVICE: Final = 'set HTTPS_PROXY=http://agent:TOKEN@gateway:port, for instance with `eval "$(sealgate env)"`'


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Where a service really is.

    Attributes:
        host: None for the host the client asked for; `port` alike.
        server_name: what its certificate must name, None for the host the client asked for.
    """

    scheme: str = "https"
    host: str | None = None
    port: int | None = None
    server_name: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class HttpConnection:
    """One registered connection, ready to use.

    Attributes:
        hosts: exact names, or `*.example.com` for every name below.
        max_request_bytes: largest request body; `max_parsed_bytes` of one that policy reads.
        max_response_bytes: largest response body that is held; larger ones are refused or streamed, as policy says.
        record_limit_bytes: masked bytes kept per exchange for the transcript.
    """

    name: str
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    target: HttpTarget
    credential: CredentialSource
    admits: Callable[[tuple[str, ...]], bool]
    session: SessionSettings
    http: HttpSettings
    max_request_bytes: int
    max_parsed_bytes: int
    max_response_bytes: int
    record_limit_bytes: int = 1 << 20


class Router:
    """Finds the connection of a host: exact names first, then the longest pattern."""

    def __init__(self, connections: Sequence[HttpConnection]) -> None:
        self.connections = tuple(connections)
        self._exact = {host: item for item in connections for host in item.hosts if not host.startswith("*.")}
        patterns = [(host[1:], item) for item in connections for host in item.hosts if host.startswith("*.")]
        self._patterns = sorted(patterns, key=lambda pair: len(pair[0]), reverse=True)
        self._names = {item.name: item for item in connections}

    def find(self, host: str, port: int) -> HttpConnection | None:
        """The connection for a host and port a client asks for."""
        name = host.lower().rstrip(".")
        found = self._exact.get(name) or next((item for suffix, item in self._patterns if name.endswith(suffix)), None)
        return found if found is not None and port in found.ports else None

    def find_named(self, name: str) -> HttpConnection | None:
        """The connection of this name, for the reverse listener."""
        return self._names.get(name)


@dataclass(slots=True)
class HttpHost:
    """The shared parts.

    Attributes:
        totals: what happened since the start, for the metrics page.
        under_way: set to end the wait of each exchange for a reviewer.
    """

    pipeline: Pipeline
    verify: Verify
    router: Router
    sessions: HttpSessions
    masking: CellMasking
    cells: CellMasker
    totals: Counter[str] = field(default_factory=Counter)
    under_way: set[asyncio.Event] = field(default_factory=set)
    is_stopping: bool = False

    def count(self) -> Mapping[str, float]:
        """Sessions now, and what happened since the start."""
        return {"sessions": self.sessions.count, **self.sessions.totals(), **self.totals}

    def stop(self) -> None:
        """Begin nothing more, and end every wait for a reviewer; its request stays open."""
        self.is_stopping = True
        for abandoned in self.under_way:
            abandoned.set()

    async def authenticate(self, token: str | None, client_ip: str, *, is_proxy: bool) -> Subject | HttpResponse:
        """The subject of a token, or the challenge that asks for one. A client that sends none is only asked, which is how HTTP begins."""
        if token is None:
            what, why = "a token is needed", "nobody passes without a proof of identity"
            return enforce.challenge(what, why, PROXY_ADVICE, "none", is_proxy=is_proxy)
        try:
            return await self.verify(token)
        except IdentityError as error:
            decision_id = await self.record_refused(client_ip, error.code, error.why or error.what)
            what = f"not let in: {error.what}"
            fix = error.fix or "get a new access token from the identity provider"
            return enforce.challenge(what, error.why, fix, decision_id, is_proxy=is_proxy)

    async def refuse_host(self, host: str, subject: Subject, client_ip: str) -> HttpResponse:
        """The refusal for a host that is no connection, or none of this subject: the same words for both."""
        usable = sorted({name for item in self.router.connections if item.admits(subject.groups) for name in item.hosts})
        fix = f"use one of: {', '.join(usable[:20])}" if usable else "ask the gateway's operators for access to a connection"
        why = "only registered hosts and ports are reached through the gateway"
        decision_id = await self.record_refused(client_ip, "http.host", why, connection=host, subject=subject)
        what = f"no connection to {host[:100]} is open to you"
        return enforce.refuse(Refusal("denied", "http.host", what, why, fix, decision_id))

    async def refuse_client(self, client_ip: str, code: str, what: str, why: str, fix: str, status: int = 400) -> HttpResponse:
        """The refusal for bytes that are no request, from a client that has not proven anything."""
        decision_id = await self.record_refused(client_ip, code, f"{what}: {why}" if why else what)
        return enforce.refuse(Refusal("protocol", code, what, why, fix, decision_id), status=status)

    async def record_refused(
        self, client_ip: str, code: str, why: str, *, connection: str | None = None, subject: Subject | None = None
    ) -> str:
        """Record an attempt that never became an exchange; gives the decision id, "none" where it cannot be recorded."""
        self.totals["logins_refused_total"] += 1
        try:
            return await self.pipeline.record_refused_login(
                protocol="http", client_ip=client_ip, code=code, why=why, connection=connection, subject=subject
            )
        except EvidenceUnavailableError:
            return "none"  # it is refused all the same

    async def refuse_fault(self, client_ip: str) -> HttpResponse:
        """The refusal, with its record, for a fault of the gateway."""
        self.totals["faults_total"] += 1
        why = "the gateway met a case it does not handle, and refuses what it does not understand"
        fix = "tell the gateway's operators the decision id"
        decision_id = await self.record_refused(client_ip, "gateway.fault", why)
        return enforce.refuse(Refusal("denied", "gateway.fault", "the request is refused", why, fix, decision_id))
