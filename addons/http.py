"""The addon for HTTP: mitmproxy's hooks of one client connection, each handed to the exchange it belongs to.

Every hook is called through `call`, the one wrapper that fails closed: whatever a hook raises refuses the request, or cuts what is
already under way, and leaves a record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from mitmproxy import http

from gateway.errors import EvidenceUnavailableError, ProtocolError
from gateway.messages import HttpRequest, HttpResponse, Refusal

logger = logging.getLogger(__name__)

EXCHANGE = "sealgate.exchange"
"""Key of a flow's metadata under which its exchange lies."""

CUT = "sealgate.cut"
"""Key under which the carrier reads that a stream must end now."""

FINAL = "sealgate.final"
"""Key of a response that needs no more of the service's: the carrier ends that and sends this."""

SWITCHING = 101

SENT = "sealgate.sent"
"""Key under which the carrier reads where an allowed request goes."""


class Exchange(Protocol):
    """One request and its response (`gateway.serve.http.exchange.Exchange`)."""

    abandoned: asyncio.Event
    is_cut: bool

    @property
    def is_streaming(self) -> bool:
        """Whether the body is delivered while it arrives."""

    async def judge(self, body: bytes) -> Any:
        """Decide about the whole request; a response refuses it."""

    async def answer(self, response: HttpResponse) -> HttpResponse | None:
        """The head to deliver now, None to gather the body first."""

    async def deliver(self, body: bytes) -> HttpResponse:
        """The masked response."""

    async def refuse_unreadable(self, error: ProtocolError) -> HttpResponse:
        """The recorded refusal of what the carrier could not read."""

    async def refuse_pause(self) -> HttpResponse:
        """The recorded refusal of a request that does not end."""

    async def pass_message(self, content: bytes, *, is_text: bool, from_client: bool) -> bytes | Refusal:
        """One WebSocket message."""

    def feed(self, data: bytes) -> bytes:
        """The next bytes of a stream, masked."""

    def finish(self) -> bytes:
        """The rest of a stream."""

    def mask_trailers(self, trailers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Fields behind a body, masked."""

    def refuse_target(self, why: str) -> HttpResponse:
        """The refusal where the service cannot be reached."""

    def end(self) -> None:
        """The response was delivered."""

    def break_off(self, code: str) -> None:
        """Client or service broke off."""

    def close(self) -> None:
        """Release what is held."""


class Client(Protocol):
    """What one client connection has proven and asked for (`gateway.serve.http.client.HttpClient`)."""

    async def connect(self, host: str, port: int, authorization: str | None) -> HttpResponse | None:
        """A CONNECT."""

    async def begin(self, head: HttpRequest) -> HttpResponse | Exchange:
        """A request: its exchange, or the refusal."""

    async def refuse_bytes(self, code: str, error: ProtocolError) -> HttpResponse:
        """The recorded refusal of bytes that are no request."""

    async def refuse_fault(self) -> HttpResponse:
        """The recorded refusal for a fault of the gateway."""


class HttpAddon:
    """The hooks of one client connection.

    Args:
        client: what the connection has proven, and where exchanges begin.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, name: str, data: Any) -> None:
        """Run the hook of this name. The one wrapper: nothing a hook raises lets anything pass."""
        hook: Callable[[Any], Awaitable[None]] | None = getattr(self, f"on_{name}", None)
        if hook is None:
            return
        try:
            await hook(data)
        except asyncio.CancelledError:
            raise
        except EvidenceUnavailableError as error:
            logger.error("an exchange is refused: %s", error)  # noqa: TRY400 - the cause is in the message
            await self._fail(data)
        except BaseException:
            logger.exception("hook %s fails, and what it was about is refused", name)
            await self._fail(data)

    async def _fail(self, data: Any) -> None:
        flow = data if isinstance(data, http.HTTPFlow) else None
        if flow is None:
            return
        exchange = flow.metadata.get(EXCHANGE)
        is_answered = flow.metadata.pop(SENT, None) is not None and flow.response is not None
        if exchange is not None:
            exchange.break_off("fault")
        if flow.websocket is not None:
            flow.metadata[CUT] = True
            return
        if flow.response is not None and flow.response.stream:
            flow.metadata[CUT] = True
        refused = await self._client.refuse_fault()
        if is_answered:
            flow.metadata[FINAL] = refused
        flow.response = make_response(refused)
        flow.metadata[EXCHANGE] = None

    # --- request

    async def on_http_connect(self, flow: http.HTTPFlow) -> None:
        """CONNECT: who asks, and for which host. Nothing is dialled yet."""
        request = flow.request
        refused = await self._client.connect(request.host, request.port, request.headers.get("proxy-authorization"))
        if refused is not None:
            flow.response = make_response(refused)

    async def on_requestheaders(self, flow: http.HTTPFlow) -> None:
        """The head of a request. A refusal is set at once; the carrier then drops the body."""
        begun = await self._client.begin(read_request(flow.request))
        if isinstance(begun, HttpResponse):
            flow.request.headers.pop("expect", None)  # or the client would be told to go on
            flow.response = make_response(begun)
        else:
            flow.metadata[EXCHANGE] = begun

    async def on_request(self, flow: http.HTTPFlow) -> None:
        """The whole request: decide, and put what may be sent in its place."""
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        if flow.response is not None:
            return
        if exchange is None:
            flow.response = make_response(await self._client.refuse_fault())
            return
        if flow.request.trailers:
            error = ProtocolError("trailers are not accepted", why="fields behind the body would reach nobody who judges them")
            flow.response = make_response(await exchange.refuse_unreadable(error))
            return
        judged = await exchange.judge(flow.request.raw_content or b"")
        if isinstance(judged, HttpResponse):
            flow.response = make_response(judged)
            return
        flow.metadata[SENT] = judged
        # A copy: the reader of the client's connection still needs the request as it came, to know when to close.
        flow.request = flow.request.copy()
        write_request(flow.request, judged.request)

    # --- response

    async def on_responseheaders(self, flow: http.HTTPFlow) -> None:
        """The head of the service's response: delivered at once for streams."""
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        if flow.metadata.get(SENT) is None or flow.response is None:
            return  # a refusal of our own
        if exchange is None:
            raise ProtocolError("a response without an exchange")
        head = await exchange.answer(read_response(flow.response))
        if head is None:
            return
        if exchange.is_streaming:
            flow.response = make_head(head, flow.request)
            flow.response.stream = _make_stream(exchange, flow)
            return
        # Nothing follows, or a refusal: whatever the service still sends is dropped.
        flow.metadata[FINAL] = head

    async def on_response(self, flow: http.HTTPFlow) -> None:
        """The whole response, or the end of a stream."""
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        final: HttpResponse | None = flow.metadata.pop(FINAL, None)
        if flow.metadata.get(SENT) is None or flow.response is None or exchange is None:
            if final is not None:
                flow.response = make_response(final)
            return
        if exchange.is_streaming:
            if flow.response.trailers:
                shown = exchange.mask_trailers(
                    [(name.lower(), value) for name, value in flow.response.trailers.items(multi=True)]
                )
                flow.response.trailers = http.Headers(
                    [(name.encode(), value.encode("utf-8", "replace")) for name, value in shown]
                )
            exchange.end()
            return
        if final is None:
            final = await exchange.deliver(flow.response.raw_content or b"")
        trailers = flow.response.trailers
        if flow.websocket is not None and final.status == SWITCHING:
            flow.response = make_head(final, flow.request)
            return  # its messages follow
        flow.response = make_response(final)
        if trailers:
            shown = exchange.mask_trailers([(name.lower(), value) for name, value in trailers.items(multi=True)])
            flow.response.trailers = http.Headers([(name.encode(), value.encode("utf-8", "replace")) for name, value in shown])
        exchange.end()

    async def on_error(self, flow: http.HTTPFlow) -> None:
        """Client or service broke off."""
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        if exchange is None:
            return
        message = flow.error.msg if flow.error else ""
        if flow.metadata.get("sealgate.unreached"):
            flow.response = make_response(exchange.refuse_target(message))
        elif flow.metadata.get(SENT) is None or flow.metadata.get("sealgate.unsent"):
            exchange.break_off("unsent")
        else:
            exchange.break_off("client" if "lient" in message or "killed" in message.lower() else "target")

    async def on_body_too_large(self, flow: http.HTTPFlow) -> None:
        """More arrived than may be gathered; the carrier sends what is set here and reads no further."""
        exchange: Any = flow.metadata.get(EXCHANGE)
        if exchange is None:
            return
        if flow.metadata.get(SENT) is None:
            error = flow.metadata["sealgate.limit"]
            flow.response = make_response(await exchange.refuse_unreadable(error))
        else:
            flow.metadata[FINAL] = exchange.refuse_large_response()

    async def on_body_paused(self, flow: http.HTTPFlow) -> None:
        """The client waits for an answer before it ends its request; the carrier sends what is set here and reads no further."""
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        if exchange is not None:
            flow.response = make_response(await exchange.refuse_pause())

    # --- WebSocket

    async def on_websocket_message(self, flow: http.HTTPFlow) -> None:
        """One message, in either direction."""
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        if flow.websocket is None or exchange is None:
            raise ProtocolError("a message without an exchange")
        message = flow.websocket.messages[-1]
        flow.websocket.messages.clear()  # kept by the exchange; a long conversation must not fill memory
        try:
            shown = await exchange.pass_message(message.content, is_text=message.is_text, from_client=message.from_client)
        except BaseException:
            message.drop()
            raise
        if isinstance(shown, Refusal):
            message.drop()
            flow.metadata[CUT] = f"{shown.what}. Rule {shown.rule}. Decision {shown.decision_id}"
            return
        message.content = shown

    async def on_websocket_end(self, flow: http.HTTPFlow) -> None:
        """The conversation is over."""
        exchange: Exchange | None = flow.metadata.get(EXCHANGE)
        if exchange is not None:
            exchange.end()

    # --- what is no request

    async def on_unreadable(self, data: Any) -> None:
        """Bytes of a client that are no request, or no protocol that is passed; `data.response` is then sent and the client closed."""
        data.response = await self._client.refuse_bytes(data.code, data.error)


def _make_stream(exchange: Exchange, flow: http.HTTPFlow) -> Callable[[bytes], list[bytes]]:
    """What mitmproxy calls for each piece. Nothing to give is an empty list: an empty piece would end a chunked body."""

    def pass_on(data: bytes) -> list[bytes]:
        shown = exchange.feed(data) if data else exchange.finish()
        if exchange.is_cut:
            flow.metadata[CUT] = True
        return [shown] if shown and not exchange.is_cut else []

    return pass_on


def read_fields(headers: http.Headers) -> tuple[tuple[str, str], ...]:
    """Fields as the gateway's own code reads them."""
    return tuple((name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape")) for name, value in headers.fields)


def read_request(request: http.Request) -> HttpRequest:
    """The head of a request, of either version."""
    fields = [(name, value) for name, value in read_fields(request.headers) if not name.startswith(":")]
    named = [value for name, value in fields if name == "host"]
    if request.authority and named != [request.authority]:
        fields.insert(0, ("host", request.authority))  # a second name is refused where fields are checked
    return HttpRequest(
        method=request.method,
        scheme=request.scheme,
        host=request.host.lower().rstrip("."),
        port=request.port,
        target=request.data.path.decode("utf-8", "surrogateescape"),
        headers=tuple(fields),
        http_version=request.http_version,
    )


def write_request(request: http.Request, sent: HttpRequest) -> None:
    """Put what may be sent in place of what was received; nothing of the received form is left."""
    host = next(value for name, value in sent.headers if name == "host")
    is_http2 = request.is_http2
    fields = [(name, value) for name, value in sent.headers if name != "host" or not is_http2]
    request.data.headers = http.Headers(
        [(_spell(name, is_http2=is_http2), value.encode("utf-8", "surrogateescape")) for name, value in fields]
    )
    request.data.method = sent.method.encode()
    request.data.scheme = sent.scheme.encode()
    request.data.host = sent.host
    request.data.port = sent.port
    request.data.path = sent.target.encode()
    request.data.authority = host.encode() if is_http2 else b""
    request.data.content = sent.body
    request.data.trailers = None


def _spell(name: str, *, is_http2: bool) -> bytes:
    """Field names as each version writes them."""
    return name.encode() if is_http2 else "-".join(part.capitalize() for part in name.split("-")).encode()


def read_response(response: http.Response) -> HttpResponse:
    """The head of a response."""
    return HttpResponse(response.status_code, read_fields(response.headers))


def make_head(head: HttpResponse, request: http.Request) -> http.Response:
    """The head the agent may have, in the agent's own version; a stream of unknown length follows in HTTP/1.1 as chunks."""
    fields = [(_spell(name, is_http2=request.is_http2), value.encode("utf-8", "surrogateescape")) for name, value in head.headers]
    made = http.Response.make(head.status, b"", http.Headers(fields))
    made.http_version = request.http_version
    made.headers.pop("content-length", None)
    if request.http_version == "HTTP/1.1" and head.status != SWITCHING:
        made.headers["Transfer-Encoding"] = "chunked"
    return made


def make_response(response: HttpResponse) -> http.Response:
    """A whole response for the agent."""
    fields = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in response.headers]
    made = http.Response.make(response.status, response.body, http.Headers(fields))
    if "content-length" not in made.headers and response.status not in {204, 304}:
        made.headers["content-length"] = str(len(response.body))
    return made
