"""mitmproxy as a library: the listener of the HTTPS proxy, and the handler of each client connection.

Only what reads and writes HTTP is used: layers and the connection handler. There is no master, no options file and no chain of addons;
each client connection has one addon of its own (`addons.http`), called through one wrapper that fails closed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mitmproxy import options as mitmproxy_options
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, layer, mode_specs, server
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.tls import ClientTLSLayer
from OpenSSL import SSL

from addons.http import HttpAddon
from addons.layers import ExchangeLayer, ExchangeStream, RefusedLayer
from gateway.errors import ProtocolError, TargetError
from gateway.serve.http.client import HttpClient
from gateway.serve.http.door import Sent
from gateway.serve.http.tls import HTTP1, HTTP2, HostCertificates, make_target_context, open_target_tls

logger = logging.getLogger(__name__)

SWEEP_EVERY_S: Final = 2.0
"""How often connections that prove nothing, or never end a body, are looked for."""

BACKLOG: Final = 256

MAX_HELD_BYTES: Final = 4 << 20
"""Most that waits for an HTTP/2 client to open its window; the service is not read on until it does."""

_LOOKS_LIKE_HTTP: Final = re.compile(rb"[A-Za-z]{3,32} [/*h]")
_MIN_BYTES: Final = 16
"""Enough of a client's first bytes to tell what it speaks."""

_OPTIONS: Final[tuple[tuple[str, type, Any], ...]] = (
    ("connection_strategy", str, "lazy"),
    ("store_streamed_bodies", bool, False),
    ("stream_large_bodies", str, ""),
    ("body_size_limit", str, ""),
    ("keep_host_header", bool, True),
    ("proxy_debug", bool, False),
    ("normalize_outbound_headers", bool, True),
    ("validate_inbound_headers", bool, True),
)
"""Options of mitmproxy's own addons that its layers read."""

logging.getLogger("mitmproxy").setLevel(logging.ERROR)  # its information lines quote bytes of clients and services


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Bounds of the listener.

    Attributes:
        login_timeout_s: from connecting to a proven identity.
        body_timeout_s: for the whole of a request.
        idle_timeout_s: without a byte in either direction.
    """

    login_timeout_s: float = 10.0
    body_timeout_s: float = 120.0
    idle_timeout_s: float = 900.0
    max_connections: int = 1_024


def make_options(idle_timeout_s: float) -> mitmproxy_options.Options:
    """Mitmproxy's options: nothing is dialled before it was allowed, nothing passes that is no HTTP, sizes are the gateway's affair."""
    made = mitmproxy_options.Options()
    for name, kind, default in _OPTIONS:
        made.add_option(name, kind, default, "")
    made.update(rawtcp=False, upstream_cert=False, http3=False, tcp_timeout=max(int(idle_timeout_s), 1))
    return made


@dataclass(frozen=True, slots=True)
class ProxyTls:
    """TLS of one listener: certificates for hosts inside tunnels, and the context for the listener itself, None for plain HTTP."""

    hosts: HostCertificates
    listener: Callable[[], SSL.Context] | None = None


class ProxyConnection(server.LiveConnectionHandler):
    """One client connection. Its hooks go to its own addon."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        options: mitmproxy_options.Options,
        client: HttpClient,
        tls: ProxyTls,
    ) -> None:
        super().__init__(reader, writer, options, mode_specs.ProxyMode.parse("regular"))
        self.layer = modes.HttpProxy(self.layer.context)
        self.writer = writer
        self.accepted_at = time.monotonic()
        self.http_client = client
        self.layers: list[ExchangeLayer] = []
        self._has_moved = asyncio.Event()
        self._tls = tls
        self._addon = HttpAddon(client)

    async def handle_hook(self, hook: commands.StartHook) -> None:
        """Every hook of mitmproxy passes here, and nothing but this decides."""
        with self.timeout_watchdog.disarm():
            (data,) = hook.args()
            handler = getattr(self, f"_on_{hook.name}", None)
            if handler is None:
                await self._addon.call(hook.name, data)
                return
            try:
                handler(data)
            except (TargetError, SSL.Error, ValueError, OSError) as error:
                logger.warning("TLS cannot be set up: %s", error)
            except Exception:
                logger.exception("hook %s fails; the connection is closed", hook.name)
                self.writer.close()

    async def drain_writers(self) -> None:
        """As the base class, for HTTP/2 too: a client that leaves an answer unread must not fill memory with it."""
        await super().drain_writers()
        task = asyncio.current_task()
        reading = next((connection for connection, io in self.transports.items() if io.handler is task), self.client)
        if reading is self.client:
            self._has_moved.set()
            return
        while sum(opened.count_held(reading) for opened in self.layers) > MAX_HELD_BYTES:
            self._has_moved.clear()
            await self._has_moved.wait()

    def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
        """Only what is an error: the library's other lines quote clients and services."""
        if level >= logging.ERROR:
            logger.log(level, "%s", message, exc_info=exc_info)

    def is_overdue(self, limits: ProxyLimits, now: float) -> bool:
        """Whether the client proves nothing, or sends a request that never ends."""
        if not self.http_client.has_proven:
            return now - self.accepted_at > limits.login_timeout_s
        streams = [stream for item in self.layers for stream in item.streams.values() if isinstance(stream, ExchangeStream)]
        for stream in streams:
            is_reading = stream.client_state in {stream.state_consume_request_body, stream.state_drop_request_body}
            if not is_reading:
                stream.began_at = None
            elif stream.began_at is None:
                stream.began_at = now
            elif now - stream.began_at > limits.body_timeout_s:
                return True
        return False

    # --- which layer, which certificate

    def _on_next_layer(self, data: layer.NextLayer) -> None:
        made = data.context
        seen = data.data_client()
        is_inside = any(isinstance(item, ExchangeLayer) for item in made.layers)
        is_encrypted = isinstance(made.layers[-1], ClientTLSLayer)
        if is_encrypted:
            data.layer = self._open_http(made, HTTPMode.transparent if is_inside else HTTPMode.regular)
        elif not is_inside and self._tls.listener is None:
            data.layer = self._open_http(made, HTTPMode.regular)
        elif starts_like_tls_record(seen):
            if is_inside:
                made.server.tls = True
            data.layer = ClientTLSLayer(made)
        elif not is_inside:
            error = ProtocolError("this address speaks TLS only", why="the token would cross the network in clear")
            data.layer = RefusedLayer(made, "http.no_tls", error, speaks_http=True)
        elif _LOOKS_LIKE_HTTP.match(seen):
            data.layer = self._open_http(made, HTTPMode.transparent)
        elif len(seen) >= _MIN_BYTES or not seen[:1].isalpha():
            error = ProtocolError("the tunnel carries no HTTP", why="bytes that cannot be judged never reach a service")
            data.layer = RefusedLayer(made, "http.opaque", error)

    def _open_http(self, made: Any, mode: HTTPMode) -> ExchangeLayer:
        opened = ExchangeLayer(made, mode)
        self.layers.append(opened)
        return opened

    def _on_server_connected(self, data: Any) -> None:
        """Names that clients choose must not lead to this machine or its link: no byte is sent where they do."""
        host, port, *_ = data.server.address
        sent = next((item for layer in self.layers if (item := layer.find_route(host, port, data.server.tls)) is not None), None)
        address = ipaddress.ip_address(data.server.peername[0])
        is_near = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
        if sent is None or (sent.connection.target.host is None and is_near):
            logger.warning("a service is not spoken to: its name leads to %s", address)
            writer = self.transports[data.server].writer
            if isinstance(writer, asyncio.StreamWriter):
                writer.transport.abort()

    def _on_tls_start_client(self, data: Any) -> None:
        host = self.http_client.tunnel_host
        is_inside = any(isinstance(item, ExchangeLayer) for item in data.context.layers)
        if not is_inside or host is None:
            context = self._tls.listener() if self._tls.listener is not None else None
        else:
            named = (data.conn.sni or host).lower().rstrip(".")
            if named != host:
                raise ValueError("the name in the TLS handshake is not the host of the tunnel")
            context = self._tls.hosts.context(host)
        if context is not None:
            data.ssl_conn = SSL.Connection(context)
            data.ssl_conn.set_accept_state()

    def _on_tls_start_server(self, data: Any) -> None:
        found = next(item for item in reversed(data.context.layers) if isinstance(item, ExchangeLayer))
        host, port, *_ = data.conn.address
        sent: Sent | None = found.find_route(host, port, True)
        if sent is None:
            raise TargetError("a service is reached that no request was allowed for")
        context = make_target_context(sent.connection.target.ca_file, sent.proof.certificate)
        offered = [HTTP2, HTTP1] if self.client.alpn == HTTP2 else [HTTP1]
        data.conn.sni = sent.server_name
        data.ssl_conn = open_target_tls(context, sent.server_name, offered)


class ProxyListener:
    """One address of the HTTPS proxy.

    Args:
        make_client: gives the state of a new client connection, by its IP address.
        tls: certificates.
    """

    def __init__(self, make_client: Callable[[str], HttpClient], tls: ProxyTls, limits: ProxyLimits) -> None:
        self._make_client = make_client
        self._tls = tls
        self._limits = limits
        self._options = make_options(limits.idle_timeout_s)
        self._server: asyncio.Server | None = None
        self._connections: dict[ProxyConnection, asyncio.Task[Any]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self.address: tuple[str, int] = ("", 0)

    @property
    def connection_count(self) -> int:
        """Client connections open now."""
        return len(self._connections)

    async def start(self, bind: str, port: int) -> None:
        """Bind and accept; port 0 lets the kernel choose. Raises OSError when the address is taken."""
        listening = socket.create_server((bind, port), family=socket.AF_INET6 if ":" in bind else socket.AF_INET, backlog=BACKLOG)
        name = listening.getsockname()
        self.address = (str(name[0]), int(name[1]))
        self._server = await asyncio.start_server(self._accept, sock=listening)
        self._sweeper = asyncio.create_task(self._sweep())

    def stop_accepting(self) -> None:
        """Let nobody in any more."""
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def stop(self) -> None:
        """End what is still connected."""
        self.stop_accepting()
        for connection in list(self._connections):
            connection.writer.transport.abort()
        tasks = list(self._connections.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=5)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limits.max_connections:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a connection is accepted in a task of its own")
        accepted = writer.get_extra_info("socket")
        if accepted is not None:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = writer.get_extra_info("peername")
        connection = ProxyConnection(
            reader, writer, self._options, self._make_client(str(peer[0]) if peer else "local"), self._tls
        )
        self._connections[connection] = task
        try:
            await connection.handle_client()
        finally:
            self._connections.pop(connection, None)
            writer.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = time.monotonic()
            for connection in list(self._connections):
                if connection.is_overdue(self._limits, now):
                    connection.writer.transport.abort()
