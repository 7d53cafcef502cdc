"""mitmproxy's HTTP layers, made strict: they read one way only, refuse in the gateway's own words, and hold no more than they may.

StrictHttp1Server   looks at the bytes of a head before a lenient parser does
ExchangeStream      refuses early, bounds bodies, cuts streams, tells who left during a hold
ExchangeLayer       opens both, and survives what mitmproxy does not implement (trailers in HTTP/1)
MessageLayer        WebSocket: bounds messages, answers pings itself, ends a conversation that policy refuses
RefusedLayer        what is no HTTP inside a tunnel never reaches a service
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import wsproto.events
from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http, websocket
from mitmproxy.net.http import status_codes
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, context, events, layer
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    HttpLayer,
    HTTPMode,
    HttpStream,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._hooks import HttpErrorHook
from mitmproxy.proxy.layers.http._http1 import Http1Server
from mitmproxy.proxy.layers.websocket import Fragmentizer, WebsocketEndHook, WebsocketLayer, WebsocketMessageHook
from wsproto.connection import ConnectionState as WebsocketState
from wsproto.frame_protocol import CloseReason, Opcode

from addons.http import CUT, EXCHANGE, FINAL, SENT
from gateway.errors import LimitExceededError, ProtocolError
from gateway.messages import HttpResponse
from gateway.protocols.http.enforce import speaks_grpc
from gateway.protocols.http.heads import check_head, find_head_end

MAX_MESSAGE_BYTES: Final = 4 << 20
"""Longest WebSocket message; it is held whole until it was judged or masked."""

FRAGMENT_CHARS: Final = 16_384
"""Characters per WebSocket frame; a message is cut between characters, never inside one."""

MAX_DROPPED_BYTES: Final = 64 << 20
"""Most of a refused body that is read before the connection is closed: a client that sends fast has not read the refusal earlier."""

MAX_PAUSE_S: Final = 10.0
"""Longest pause in the body of a gRPC request: whoever waits for an answer first, in a stream of both directions, is told."""

Commands = layer.CommandGenerator[None]


@dataclass
class Unreadable:
    """Bytes of a client that are no request; the addon sets the response that is sent before the connection is closed."""

    code: str
    error: ProtocolError
    response: HttpResponse | None = None


@dataclass
class UnreadableHook(commands.StartHook):
    """A client sent what is no request."""

    name = "unreadable"
    data: Unreadable = field(default_factory=lambda: Unreadable("", ProtocolError("")))


@dataclass
class BodyTooLargeHook(commands.StartHook):
    """More of a body arrived than may be gathered."""

    name = "body_too_large"
    flow: http.HTTPFlow = field(default_factory=lambda: http.HTTPFlow(None, None))  # type: ignore[arg-type]


@dataclass
class BodyPausedHook(commands.StartHook):
    """A body has not gone on for `MAX_PAUSE_S`."""

    name = "body_paused"
    flow: http.HTTPFlow = field(default_factory=lambda: http.HTTPFlow(None, None))  # type: ignore[arg-type]


def write_plain(response: HttpResponse) -> bytes:
    """A response as the last bytes of an HTTP/1 connection."""
    lines = [f"HTTP/1.1 {response.status} {status_codes.RESPONSES.get(response.status, '')}".rstrip()]
    lines += [f"{name}: {value}" for name, value in response.headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode("utf-8", "surrogateescape") + response.body


class StrictHttp1Server(Http1Server):
    """The client's side of HTTP/1.1, which refuses what two readers could frame differently."""

    def read_headers(self, event: events.ConnectionEvent) -> Commands:
        """A head, once it is complete and has one meaning only."""
        if isinstance(event, events.DataReceived):
            data = bytes(self.buf)
            try:
                end = find_head_end(data.lstrip(b"\r\n") if self.stream_id == 1 else data)
                if end >= 0:
                    start = len(data) - len(data.lstrip(b"\r\n")) if self.stream_id == 1 else 0
                    check_head(data[start : start + end], is_tunnel=self._is_tunnel())
            except ProtocolError as error:
                yield from self._refuse("http.framing", error)
                return
            if end < 0:
                return
        yield from super().read_headers(event)

    def _is_tunnel(self) -> bool:
        layers = [item for item in self.context.layers if isinstance(item, ExchangeLayer)]
        return bool(layers) and layers[-1].mode is HTTPMode.transparent

    def _refuse(self, code: str, error: ProtocolError) -> Commands:
        refused = Unreadable(code, error)
        yield UnreadableHook(refused)
        if refused.response is not None:
            yield commands.SendData(self.conn, write_plain(refused.response))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def send(self, event: Any) -> Commands:
        """As the base class, without its error pages: they repeat texts of the service, and name the library."""
        if isinstance(event, ResponseProtocolError):
            yield commands.CloseConnection(self.conn)
            return
        yield from super().send(event)


class ExchangeStream(HttpStream):
    """One exchange, as its layer sees it."""

    began_at: float | None = None
    dropped_bytes: int = 0
    watched_bytes: int = 0

    def handle_event(self, event: events.Event) -> Commands:
        """Tells the exchange at once that its client left, also while a hook waits for a reviewer."""
        if isinstance(event, RequestProtocolError):
            exchange = self.flow.metadata.get(EXCHANGE) if hasattr(self, "flow") else None
            if exchange is not None:
                exchange.abandoned.set()
        yield from super().handle_event(event)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup):
            yield from self._look_at_pause()
        else:
            yield from super()._handle_event(event)

    def is_waiting(self) -> bool:
        """Whether it waits for the service, and not for a hook."""
        waiting = {self.state_wait_for_response_headers, self.state_consume_response_body, self.state_stream_response_body}
        return self._paused is None and self.client_state == self.state_done and self.server_state in waiting

    # --- request

    def state_wait_for_request_headers(self, event: RequestHeaders) -> Commands:
        """As the base class; a refusal that is known already is sent now, and the body dropped."""
        yield from super().state_wait_for_request_headers(event)
        if self.flow.response is not None and self.client_state == self.state_consume_request_body and not event.end_stream:
            yield from self._refuse_early()
        elif self.client_state == self.state_consume_request_body and not event.end_stream and _speaks_grpc(self.flow.request):
            yield commands.RequestWakeup(MAX_PAUSE_S)

    def _look_at_pause(self) -> Commands:
        """Refuse a request that has not gone on since the last look."""
        if self.client_state != self.state_consume_request_body:
            return
        if len(self.request_body_buf) > self.watched_bytes:
            self.watched_bytes = len(self.request_body_buf)
            yield commands.RequestWakeup(MAX_PAUSE_S)
            return
        yield BodyPausedHook(self.flow)
        if self.flow.response is not None:
            yield from self._refuse_early()

    def state_consume_request_body(self, event: events.Event) -> Commands:
        """As the base class. What was refused is not gathered."""
        yield from super().state_consume_request_body(event)

    def _refuse_early(self) -> Commands:
        if not self.flow.request.is_http2 and self.flow.response is not None:
            self.flow.response.headers["connection"] = "close"
        self.request_body_buf.clear()
        self.client_state = self.state_drop_request_body
        yield from self.send_response()
        if not self.flow.request.is_http2:
            # Not closed yet, not even by half: mitmproxy makes that a whole close inside a tunnel, and bytes that still come would reset it.
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def state_drop_request_body(self, event: events.Event) -> Commands:
        """The rest of a body that was refused: read for a while, so that the client can read the refusal."""
        if isinstance(event, RequestData):
            self.dropped_bytes += len(event.data)
            if self.dropped_bytes > MAX_DROPPED_BYTES:
                yield commands.CloseConnection(self.context.client)
                self.client_state = self.state_errored
        elif isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            if self.flow.request.is_http2:
                yield from self.flow_done()

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        """Refuses more than may be gathered, in the gateway's own words."""
        exchange = self.flow.metadata.get(EXCHANGE)
        if exchange is None:
            return False
        size = len(self.request_body_buf if request else self.response_body_buf)
        limit = exchange.max_request_bytes if request else exchange.max_response_bytes
        if size <= limit or self.flow.metadata.get("sealgate.limit"):
            return False
        self.flow.metadata["sealgate.limit"] = LimitExceededError("the body is too large", why=f"more than {limit} bytes")
        yield BodyTooLargeHook(self.flow)
        if request:
            yield from self._refuse_early()
        else:
            yield from self._finish_now()
        return True

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """As the base class, over the way the exchange may use; a service that is not there is told in the gateway's own words."""
        sent = self.flow.metadata.get(SENT)
        if sent is None:
            raise AssertionError("nothing is sent that was not judged")
        request = self.flow.request
        is_tls = request.scheme == "https"
        error = self._find_layer().claim(request.host, request.port, is_tls, sent)
        connection = None
        if error is None:
            connection, error = yield GetHttpConnection((request.host, request.port), is_tls, None, "tcp")
        if error is None and connection is not None:
            self.context.server = self.flow.server_conn = connection
            return True
        yield from self._tell_unreached(str(error))
        return False

    def _find_layer(self) -> ExchangeLayer:
        return next(item for item in reversed(self.context.layers) if isinstance(item, ExchangeLayer))

    # --- response

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> Commands:
        """As the base class; where the head says all, the rest of the body is not waited for."""
        yield from super().state_wait_for_response_headers(event)
        if FINAL in self.flow.metadata and self.server_state == self.state_consume_response_body and not event.end_stream:
            yield from self._finish_now()

    def _finish_now(self) -> Commands:
        """Send the response at hand, and end the service's."""
        self.response_body_buf.clear()
        yield SendHttp(RequestProtocolError(self.stream_id, "not wanted", ErrorCode.CANCEL), self.context.server)
        if self.flow.response is not None:
            self.flow.response.data.trailers = None
        yield from self.send_response()
        self.server_state = self.state_errored

    def state_stream_response_body(self, event: events.Event) -> Commands:
        """Piece by piece through the masker; a stream that is cut ends without its end, so that nobody takes it for whole."""
        response = self.flow.response
        if response is None or not callable(response.stream):
            raise AssertionError("a stream goes through its masker")
        if isinstance(event, ResponseTrailers):
            response.trailers = event.trailers
            return
        is_end = isinstance(event, ResponseEndOfMessage)
        pieces: list[bytes] = response.stream(event.data if isinstance(event, ResponseData) else b"")  # type: ignore[assignment]
        for piece in pieces:
            yield SendHttp(ResponseData(self.stream_id, piece), self.context.client)
        if self.flow.metadata.get(CUT):
            yield from self._cut()
        elif is_end:
            yield from self.send_response(already_streamed=True)

    def _cut(self) -> Commands:
        self.flow.error = mitmproxy_flow.Error("cut")
        yield HttpErrorHook(self.flow)
        yield SendHttp(RequestProtocolError(self.stream_id, "cut", ErrorCode.CANCEL), self.context.server)
        yield SendHttp(ResponseProtocolError(self.stream_id, "cut", ErrorCode.GENERIC_SERVER_ERROR), self.context.client)
        self.client_state = self.server_state = self.state_errored

    def handle_protocol_error(self, event: Any) -> Commands:
        """As the base class; a service that broke off before it answered is told in the gateway's own words."""
        is_unanswered = isinstance(event, ResponseProtocolError) and self.server_state in {
            self.state_wait_for_response_headers, self.state_consume_response_body,
        } and self.client_state == self.state_done  # fmt: skip
        if not is_unanswered:
            yield from super().handle_protocol_error(event)
            return
        yield from self._tell_unreached(event.message)

    def _tell_unreached(self, why: str) -> Commands:
        """The service gave no response that can be used."""
        self.flow.metadata["sealgate.unreached"] = True
        self.flow.error = mitmproxy_flow.Error(why)
        yield HttpErrorHook(self.flow)
        self.flow.metadata[SENT] = None
        self.flow.metadata[EXCHANGE] = None
        if self.flow.response is not None:
            yield from self.send_response()
        self.server_state = self.state_errored

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """As the base class; a response that two readers could frame differently is told in the gateway's own words."""
        if request or self.flow.response is None:
            return (yield from super().check_invalid(request))
        try:
            validate_headers(self.flow.response)
        except ValueError:
            yield commands.CloseConnection(self.flow.server_conn)
            yield from self._tell_unreached("the framing of the response is ambiguous")
            return True
        return False

    def flow_done(self) -> Commands:
        """As the base class, with the gateway's own WebSocket layer; nothing else follows a 101."""
        response = self.flow.response
        if response is not None and response.status_code == 101 and self.flow.websocket is not None:  # noqa: PLR2004 - Switching Protocols
            self.child_layer = MessageLayer(self.context, self.flow)
            self._handle_event = self.passthrough  # type: ignore[method-assign] # how the base class changes its state
            yield from self.child_layer.handle_event(events.Start())
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
            return
        yield from super().flow_done()


class ExchangeLayer(HttpLayer):
    """HTTP on one client connection, its own streams and strict reader in place of mitmproxy's."""

    def __init__(self, made: context.Context, mode: HTTPMode) -> None:
        super().__init__(made, mode)
        self._routes: dict[tuple[str, int, bool], Any] = {}

    def claim(self, host: str, port: int, is_tls: bool, sent: Any) -> str | None:
        """Note what a way to a service is for; an error where this connection already goes there for another purpose."""
        known = self._routes.setdefault((host, port, is_tls), sent)
        if known.route != sent.route:
            return "one client connection cannot reach the same address under two names"
        self._routes[(host, port, is_tls)] = sent
        return None

    def find_route(self, host: str, port: int, is_tls: bool) -> Any:
        """What a way to a service is for."""
        return self._routes.get((host, port, is_tls))

    def count_held(self, server: Any) -> int:
        """Bytes of this service that the windows of an HTTP/2 client hold back (RFC 9113 5.2)."""
        held = getattr(self.connections.get(self.context.client), "h2_conn", None)
        if held is None or not held.stream_buffers:
            return 0
        mine = {number for number, stream in self.streams.items() if stream.context.server == server}
        return sum(len(part.data) for number in mine for part in held.stream_buffers.get(number, ()))

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start) and self.context.client.alpn != b"h2":
            self.connections[self.context.client] = StrictHttp1Server(self.context.fork())
        try:
            yield from super()._handle_event(event)
        except NotImplementedError:
            yield from self._refuse_trailers(event)
        if isinstance(event, events.ConnectionClosed) and event.connection != self.context.client:
            yield from self._end_waiting(event.connection)

    def _end_waiting(self, closed: Any) -> Commands:
        """Tell streams that still wait for a service that it is gone.

        mitmproxy's TLS layer tells nobody when a service ends with a fatal alert, as one does in TLS 1.3 that wants another certificate.
        """
        for stream in list(self.streams.values()):
            if isinstance(stream, ExchangeStream) and stream.context.server == closed and stream.is_waiting():
                failed = ResponseProtocolError(
                    stream.stream_id, "the service closed the connection", ErrorCode.GENERIC_SERVER_ERROR
                )
                yield from self.event_to_child(stream, failed)

    def make_stream(self, stream_id: int) -> Commands:
        """The gateway's own stream."""
        self.streams[stream_id] = ExchangeStream(self.context.fork(), stream_id)
        yield from self.event_to_child(self.streams[stream_id], events.Start())

    def _refuse_trailers(self, event: events.Event) -> Commands:
        """HTTP/1 trailers, which mitmproxy does not implement: refused from a client, an error from a service."""
        error = ProtocolError("trailers are not accepted", why="fields behind the body would reach nobody who judges them")
        if not isinstance(event, events.ConnectionEvent):
            raise error
        if event.connection == self.context.client:
            refused = Unreadable("http.trailers", error)
            yield UnreadableHook(refused)
            if refused.response is not None:
                yield commands.SendData(self.context.client, write_plain(refused.response))
            yield commands.CloseConnection(self.context.client)
        else:
            yield commands.CloseConnection(event.connection)
            for stream in list(self.streams.values()):
                if stream.context.server == event.connection:
                    failed = ResponseProtocolError(stream.stream_id, "trailers in HTTP/1", ErrorCode.GENERIC_SERVER_ERROR)
                    yield from self.event_to_child(stream, failed)


class MessageLayer(WebsocketLayer):
    """A WebSocket conversation of whole messages."""

    def relay_messages(self, event: events.Event) -> Commands:
        """Messages go through the addon; pings are answered here, because their payloads would pass unseen."""
        if not isinstance(event, events.ConnectionEvent):
            return
        from_client = event.connection == self.context.client
        source = self.client_ws if from_client else self.server_ws
        if isinstance(event, events.DataReceived):
            if sum(map(len, source.frame_buf)) + len(event.data) > MAX_MESSAGE_BYTES:
                yield from self._end(CloseReason.MESSAGE_TOO_BIG, "the message is too large")
                return
            source.receive_data(event.data)
        else:
            source.receive_data(None)
        yield from self._relay(source, from_client)

    def _relay(self, source: Any, from_client: bool) -> Commands:
        sink = self.server_ws if from_client else self.client_ws
        for seen in source.events():
            if isinstance(seen, wsproto.events.Message):
                data = seen.data.encode() if isinstance(seen.data, str) else bytes(seen.data)
                source.frame_buf[-1] += data
                if not seen.message_finished:
                    continue
                content, source.frame_buf = b"".join(source.frame_buf), [b""]
                kind = Opcode.TEXT if isinstance(seen.data, str) else Opcode.BINARY
                message = websocket.WebSocketMessage(kind, from_client, content)
                if self.flow.websocket is not None:
                    self.flow.websocket.messages.append(message)
                yield WebsocketMessageHook(self.flow)
                if not message.dropped:
                    for part in _cut_message(message):
                        yield sink.send2(part)
                if reason := self.flow.metadata.get(CUT):
                    yield from self._end(CloseReason.POLICY_VIOLATION, reason if isinstance(reason, str) else "refused")
                    return
            elif isinstance(seen, wsproto.events.Ping):
                yield source.send2(seen.response())
            elif isinstance(seen, wsproto.events.CloseConnection):
                yield from self._end(seen.code, "")
                return

    def _end(self, code: int, reason: str) -> Commands:
        # A reason of the other side would pass unseen, so only the gateway's own is sent; it has 123 bytes at most (RFC 6455 5.5).
        closing = wsproto.events.CloseConnection(code, reason.encode()[:120].decode("utf-8", "ignore") or None)
        for side in (self.server_ws, self.client_ws):
            if side.state in {WebsocketState.OPEN, WebsocketState.REMOTE_CLOSING}:
                yield side.send2(closing)
            yield commands.CloseConnection(side.conn)
        yield WebsocketEndHook(self.flow)
        self.flow.live = False
        self._handle_event = self.done


def _speaks_grpc(request: http.Request) -> bool:
    return speaks_grpc(request.http_version, request.headers.get("content-type"))


def _cut_message(message: websocket.WebSocketMessage) -> Iterator[Any]:
    if not message.is_text:
        yield from Fragmentizer([], is_text=False)(message.content)
        return
    text = message.content.decode("utf-8", "replace")
    for at in range(0, len(text) or 1, FRAGMENT_CHARS):
        yield wsproto.events.TextMessage(text[at : at + FRAGMENT_CHARS], message_finished=at + FRAGMENT_CHARS >= len(text))


class RefusedLayer(layer.Layer):
    """What is no HTTP: recorded, told where that is possible, closed."""

    def __init__(self, made: context.Context, code: str, error: ProtocolError, *, speaks_http: bool = False) -> None:
        super().__init__(made)
        self._refused = Unreadable(code, error)
        self._speaks_http = speaks_http

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            yield UnreadableHook(self._refused)
            if self._speaks_http and self._refused.response is not None:
                yield commands.SendData(self.context.client, write_plain(self._refused.response))
            yield commands.CloseConnection(self.context.client)
