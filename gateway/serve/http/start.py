"""Builds the HTTP host of a worker from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from OpenSSL import SSL

from gateway.action import Resource, Subject
from gateway.config import HttpConnectionConfig, HttpListenerConfig, TlsConfig
from gateway.errors import ConfigError
from gateway.masking import build_detectors
from gateway.masking.values import CellMasker
from gateway.pipeline import SessionSettings
from gateway.protocols.http.actions import HttpSettings
from gateway.protocols.http.paths import make_operation
from gateway.serve.hosts import Parts
from gateway.serve.http.client import HttpClient, Mode
from gateway.serve.http.credentials import OAuth2Tokens, make_credential
from gateway.serve.http.host import HttpConnection, HttpHost, HttpTarget, Router
from gateway.serve.http.proxy import ProxyLimits, ProxyListener, ProxyTls
from gateway.serve.http.sessions import HttpSessions
from gateway.serve.http.tls import HostCertificates, make_server_context

DEFAULT_HOLD_S: Final = 4.0
"""How long a request waits for a reviewer: below the 5 s after which httpx gives up."""

MAX_FULL_TRANSCRIPT_BYTES: Final = 15 << 20
"""Transcript mode full keeps this much of one exchange: what one sealed chunk of evidence holds, with its first and last line."""

MAX_PENDING_CLIENTS: Final = 512
"""Connections beside the sessions: tunnels that stand open, and clients that have not proven anything yet."""


class RunningHttp:
    """The HTTP host with its listeners: a `gateway.serve.hosts.Host`."""

    def __init__(
        self,
        host: HttpHost,
        proxy: ProxyListener,
        reverse: ProxyListener | None,
        certificates: HostCertificates,
        *,
        has_tls: bool,
    ) -> None:
        self._host = host
        self._proxy = proxy
        self._reverse = reverse
        self._certificates = certificates
        self._has_tls = has_tls

    @property
    def address(self) -> tuple[str, int]:
        """Where the proxy accepts."""
        return self._proxy.address

    @property
    def reverse_address(self) -> tuple[str, int] | None:
        """Where clients that know no proxy are accepted."""
        return None if self._reverse is None else self._reverse.address

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return self._host.sessions.count

    def count(self) -> Mapping[str, float]:
        """Sessions, connections, and the totals since the start."""
        connections = self._proxy.connection_count + (0 if self._reverse is None else self._reverse.connection_count)
        return {"connections": connections, **self._host.count()}

    def for_clients(self, subject: Subject) -> Mapping[str, Any]:
        """Ports, the authority to trust, and the hosts by connection."""
        told: dict[str, Any] = {
            "port": self.address[1],
            "tls": self._has_tls,
            "ca_pem": self._certificates.trusted_pem(),
            "hosts": {item.name: list(item.hosts) for item in self._host.router.connections if item.admits(subject.groups)},
        }
        if self._reverse is not None:
            told["reverse_port"] = self._reverse.address[1]
        return told

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let exchanges under way finish, end the sessions, close what is left."""
        self._host.stop()
        listeners = [self._proxy] if self._reverse is None else [self._proxy, self._reverse]
        for listener in listeners:
            listener.stop_accepting()
        await self._host.sessions.stop(grace_s)
        for listener in listeners:
            await listener.stop()
        for connection in self._host.router.connections:
            if isinstance(connection.credential, OAuth2Tokens):
                await connection.credential.aclose()


async def start_http_host(parts: Parts, listener: HttpListenerConfig) -> RunningHttp:
    """The host, accepting. Raises ConfigError when a certificate cannot be used or an address is taken."""
    limits = parts.config.limits
    certificates = HostCertificates(
        listener.ca.cert_file, partial(parts.secrets.resolve, listener.ca.key), tuple(listener.ca.trust_files)
    )
    configured = [item for item in parts.config.connections if isinstance(item, HttpConnectionConfig)]
    sessions = HttpSessions(
        parts.pipeline,
        idle_s=limits.idle_timeout_s,
        max_s=limits.max_session_s,
        max_sessions=limits.max_sessions,
        max_per_subject=limits.max_sessions_per_subject,
    )
    host = HttpHost(
        pipeline=parts.pipeline,
        verify=parts.verifier.verify,
        router=Router([_make_connection(parts, item) for item in configured]),
        sessions=sessions,
        masking=parts.masking,
        cells=CellMasker(parts.masking.key),
    )
    bounds = ProxyLimits(
        login_timeout_s=limits.login_timeout_s,
        idle_timeout_s=limits.idle_timeout_s,
        max_connections=limits.max_sessions + MAX_PENDING_CLIENTS,
    )
    proxy = _make_listener(host, "proxy", certificates, listener.tls, bounds)
    reverse = None
    if listener.reverse is not None:
        reverse = _make_listener(host, "reverse", certificates, listener.reverse.tls, bounds)
    running = RunningHttp(host, proxy, reverse, certificates, has_tls=listener.tls is not None)
    sessions.start()
    try:
        await proxy.start(listener.bind, listener.port)
        if reverse is not None and listener.reverse is not None:
            await reverse.start(listener.reverse.bind, listener.reverse.port)
    except OSError as error:
        await running.stop(0)
        why, fix = f"{listener.bind}:{listener.port}: {error}", "choose a free port, and an address of this machine"
        raise ConfigError("the http listener cannot start", why=why, fix=fix) from error
    return running


def _make_listener(
    host: HttpHost, mode: Mode, certificates: HostCertificates, tls: TlsConfig | None, bounds: ProxyLimits
) -> ProxyListener:
    def make_client(ip: str) -> HttpClient:
        return HttpClient(host, ip, mode)

    context = None if tls is None else _RenewedContext(tls, http2=mode == "reverse").get
    return ProxyListener(make_client, ProxyTls(certificates, context), bounds)


class _RenewedContext:
    """The listener's own certificate; renewed files are used by the next connection."""

    def __init__(self, tls: TlsConfig, *, http2: bool) -> None:
        self._tls = tls
        self._http2 = http2
        self._stamp: tuple[int, int] | None = None
        self._context: SSL.Context | None = None
        self.get()

    def get(self) -> SSL.Context:
        """The context for the next connection. Raises ConfigError when there never was a usable certificate."""
        try:
            stamp = (self._tls.cert_file.stat().st_mtime_ns, self._tls.key_file.stat().st_mtime_ns)
            if self._context is None or stamp != self._stamp:
                self._context = make_server_context(self._tls.cert_file, self._tls.key_file, http2=self._http2)
                self._stamp = stamp
        except (OSError, SSL.Error) as error:
            if self._context is None:
                fix = "give a PEM chain and its unencrypted PEM key, readable by the gateway"
                raise ConfigError("the http listener's certificate cannot be used", why=str(error), fix=fix) from error
        if self._context is None:
            raise AssertionError("a context is kept once it was made")
        return self._context


def _make_connection(parts: Parts, item: HttpConnectionConfig) -> HttpConnection:
    transcript = item.transcript or "head"
    kept = {"none": 0, "summary": 0, "head": parts.config.limits.transcript_head_bytes, "full": MAX_FULL_TRANSCRIPT_BYTES}
    masking = parts.config.masking
    return HttpConnection(
        name=item.name,
        hosts=item.match.hosts,
        ports=item.match.ports,
        target=HttpTarget(
            item.target.scheme, item.target.host, item.target.port, item.target.tls.server_name, item.target.tls.ca_file
        ),
        credential=make_credential(item.credential, parts.secrets),
        admits=item.admits,
        session=SessionSettings(
            Resource(item.name, item.type, item.environment, item.risk, dict(item.labels)),
            transcript,
            min(parts.config.approval.hold_s, DEFAULT_HOLD_S) if item.hold_s is None else item.hold_s,
        ),
        http=HttpSettings(
            connection=item.name,
            operations=tuple(make_operation(op.id, op.methods, op.path, op.effects, op.labels) for op in item.operations),
            sensitive=tuple(item.sensitive),
            scanner=build_detectors(masking.detectors, tuple((pattern.name, pattern.pattern) for pattern in masking.patterns)),
        ),
        max_request_bytes=item.max_request_bytes,
        max_parsed_bytes=item.max_parsed_bytes,
        max_response_bytes=item.max_response_bytes,
        record_limit_bytes=kept[transcript],
    )
