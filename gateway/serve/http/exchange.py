"""One HTTP exchange from its head to its outcome: the six steps of the pipeline, in the order HTTP gives them. Knows no carrier.

    begin(head)      who asks, for which connection; what the head alone forbids
    judge(body)      parse, describe, decide, record; gives what is sent to the service, with the gateway's own proof in it
    answer(head)     decide how the response may be delivered; at once for streams, with the body for others
    deliver(body)    the masked body
    feed / finish    the same for streams, piece by piece
    end / break_off  the outcome

Every method gives an `HttpResponse` where the client must be refused. None lets a fault pass: the addon that calls them refuses then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, LimitExceededError, ProtocolError, TargetError
from gateway.masking.codings import Decoder, decode_body, make_decoder, read_coding
from gateway.messages import HttpRequest, HttpResponse, Outcome, OutcomeStatus, Refusal, RefusalKind
from gateway.pipeline import Ruling
from gateway.protocols.http import actions, enforce
from gateway.protocols.http.bodies import find_kind, read_media_type
from gateway.protocols.http.events import Request, Unreadable
from gateway.protocols.http.parse import check_request_head, make_unreadable, parse_message, parse_request
from gateway.refusal import new_decision_id
from gateway.serve.http.delivery import Delivery, describe_head, select_delivered
from gateway.serve.http.door import HttpDoor, Sent, make_sent
from gateway.serve.http.host import HttpConnection, HttpHost
from gateway.serve.http.sessions import HttpSession

logger = logging.getLogger(__name__)

NO_BODY_STATUSES: Final = frozenset({204, 205, 304})
STREAMED_KINDS: Final = frozenset({"events", "ndjson", "grpc"})
"""Bodies that are read while they arrive."""

SERVER_REFUSES: Final = 401

PIECE_BYTES: Final = 1 << 16
"""How much of a whole body is masked at a time."""

UNENDED: Final = ProtocolError(
    "the request does not end",
    why="its sender pauses as if for an answer, and a request is judged whole before any of it is sent: "
    "streams in both directions at once are not carried",
    fix="send the whole request before reading the answer, or split the call into several",
)


class Exchange:
    """One request and its response.

    Args:
        host: what is shared.
        client_ip: where the request came from.
        prefix: path prefix of the connection at the reverse listener, empty at the proxy.
    """

    def __init__(self, host: HttpHost, client_ip: str, *, prefix: str = "") -> None:
        self._host = host
        self._client_ip = client_ip
        self._prefix = prefix
        self._began_at = time.monotonic()
        self.abandoned = asyncio.Event()
        self.subject: Subject | None = None
        self.connection: HttpConnection | None = None
        self.session: HttpSession | None = None
        self._head: HttpRequest | None = None
        self._coding: str | None = None
        self._door: HttpDoor | None = None
        self.request: Request | None = None
        self._ruling: Ruling | None = None
        self._plain = b""
        self._secrets: tuple[bytes, ...] = ()
        self._delivery: Delivery | None = None
        self._decoder: Decoder | None = None
        self._response: HttpResponse | None = None
        self._is_over = False
        self.is_cut = False

    # --- request

    async def begin(self, head: HttpRequest, subject: Subject, connection: HttpConnection, token: str) -> HttpResponse | None:
        """Find the session, and refuse what the head alone forbids. Raises EvidenceUnavailableError."""
        self.subject, self.connection, self._head = subject, connection, head
        self._door = HttpDoor(connection)
        try:
            self.session = await self._host.sessions.find(subject, connection.session, self._client_ip)
        except LimitExceededError as error:
            decision_id = await self._host.record_refused(self._client_ip, error.code, error.why, subject=subject)
            refusal = Refusal("limit", error.code, error.what, error.why, error.fix, decision_id)
            return self._tell(refusal, status=429)
        self.session.begin()
        self._host.under_way.add(self.abandoned)
        try:
            check_request_head(head)
            self._check_leak(head, token)
            self._coding = read_coding(head.find_header("content-encoding"))
            self._check_length(head, connection)
        except ProtocolError as error:
            return await self._refuse_event(make_unreadable(error))
        return None

    @property
    def max_request_bytes(self) -> int:
        """How much of the body the carrier may gather."""
        return self.connection.max_request_bytes if self.connection is not None else 0

    async def refuse_unreadable(self, error: ProtocolError) -> HttpResponse:
        """The refusal, with its record, of what the carrier could not read."""
        return await self._refuse_event(make_unreadable(error))

    async def refuse_pause(self) -> HttpResponse:
        """The refusal, with its record, of a request whose sender waits for an answer before it ends."""
        return await self._refuse_event(make_unreadable(UNENDED, "http.duplex"), grpc_status=enforce.UNIMPLEMENTED)

    async def judge(self, body: bytes) -> HttpResponse | Sent:
        """Decide about the whole request. What is given may be sent: it is recorded."""
        session, connection, head = self._opened()
        event = self._parse(body, head, connection)
        if isinstance(event, Unreadable):
            return await self._refuse_event(event)
        self.request = event
        ruling = self._ruling = await session.pipeline.handle(event, self._doorway(), abandoned=self.abandoned)
        if ruling.refusal is not None:
            # The token may have ended since the head came. Nothing was sent yet: the client is asked for a new one.
            return self._challenge(ruling.refusal) if ruling.refusal.kind == "identity" else self._refuse(ruling.refusal)
        try:
            self._check_session_bytes(ruling)
            proof = await connection.credential.read()
        except (TargetError, LimitExceededError, enforce.UnenforceableError) as error:
            kind: RefusalKind = "target" if isinstance(error, TargetError) else "limit"
            self._finish("refused", error_code=kind)
            what = error.what if isinstance(error, TargetError | LimitExceededError) else "the request cannot be let through"
            why = error.why if isinstance(error, TargetError | LimitExceededError) else str(error)
            fix = "try again later, or tell the operators the decision id"
            return self._refuse(Refusal(kind, f"http.{kind}", what, why, fix, ruling.decision_id))
        self._secrets = proof.secrets
        return make_sent(event, self._plain, connection, proof)

    def _parse(self, body: bytes, head: HttpRequest, connection: HttpConnection) -> Request | Unreadable:
        try:
            plain = decode_body(body, self._coding, max_bytes=connection.max_request_bytes)
        except ProtocolError as error:
            return make_unreadable(error)
        self._plain = plain
        return parse_request(replace(head, body=plain), max_parsed_bytes=connection.max_parsed_bytes)

    # --- response

    async def answer(self, response: HttpResponse) -> HttpResponse | None:
        """The head of the service's response. None where the body is to be gathered first; else the head to deliver now.

        A stream follows where the returned head is that of `response`; a refusal has its own body.
        """
        _, connection, _ = self._opened()
        if response.status == SERVER_REFUSES:
            await connection.credential.renew()
        if response.status == 407 or (response.status == 101 and not self._is_upgrade()):  # noqa: PLR2004 - statuses by number
            why = "a service asks for a proof only proxies ask for, or changes the protocol unasked"
            return self._withhold("target", "http.response", "the answer cannot be passed on", why, status=502)
        try:
            coding = read_coding(response.find_header("content-encoding"))
            kind = find_kind(read_media_type(response.find_header("content-type"))[0])
        except ProtocolError as error:
            return self._withhold("target", "http.response", f"the answer cannot be read: {error.what}", error.why, status=502)
        self._decoder = None if coding is None else make_decoder(coding)
        self._response = response
        length = _read_length(response) if coding is None else None
        if self._has_no_body(response.status):
            return await self._decide(response, b"", is_streamed=False, has_body=False)
        if kind in STREAMED_KINDS or self._must_stream(length, connection):
            return await self._decide(response, b"", is_streamed=True)
        if length is not None and length > connection.max_response_bytes:
            return self._withhold_large(connection)
        return None

    @property
    def is_streaming(self) -> bool:
        """Whether the body is delivered while it arrives."""
        return self._delivery is not None and self._delivery.is_streamed

    @property
    def max_response_bytes(self) -> int:
        """How much of the body the carrier may gather."""
        return self.connection.max_response_bytes if self.connection is not None else 0

    def refuse_large_response(self) -> HttpResponse:
        """The refusal where more arrived than may be gathered."""
        _, connection, _ = self._opened()
        return self._withhold_large(connection)

    async def deliver(self, body: bytes) -> HttpResponse:
        """The whole response as the agent may have it, or the refusal that stands in its place."""
        _, connection, _ = self._opened()
        response = self._response
        if response is None or self._delivery is not None:
            raise AssertionError("a response is delivered once, after its head")
        try:
            plain = self._undo_coding(body, connection.max_response_bytes)
        except ProtocolError as error:
            return self._withhold("target", "http.response", f"the answer cannot be read: {error.what}", error.why, status=502)
        head = await self._decide(response, plain, is_streamed=False)
        if self._delivery is None:
            return head
        try:
            shown = await self._mask_whole(self._delivery, plain)
        except (ProtocolError, enforce.UnenforceableError) as error:
            return self._withhold("denied", "policy.mask", "the answer is withheld", str(error))
        fields = [(name, value) for name, value in head.headers if name != "content-length"]
        return HttpResponse(head.status, (*fields, ("content-length", str(len(shown)))), shown)

    async def _mask_whole(self, delivery: Delivery, plain: bytes) -> bytes:
        """In pieces: reading every value of a large body takes seconds and many small objects, and other exchanges go on meanwhile."""
        parts = []
        for at in range(0, len(plain), PIECE_BYTES):
            parts.append(delivery.feed(plain[at : at + PIECE_BYTES]))
            if at + PIECE_BYTES < len(plain):
                await asyncio.sleep(0)
        return b"".join([*parts, delivery.finish()])

    def feed(self, data: bytes) -> bytes:
        """The next bytes of a stream, masked. Never raises: what goes wrong cuts the stream (`is_cut`)."""
        return self._pass(data, is_last=False)

    def finish(self) -> bytes:
        """The rest of a stream."""
        return self._pass(b"", is_last=True)

    def mask_trailers(self, trailers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Fields behind an HTTP/2 body, masked as headers are."""
        return () if self._delivery is None else self._delivery.mask_headers(trailers)

    def _pass(self, data: bytes, *, is_last: bool) -> bytes:
        delivery = self._delivery
        if delivery is None or self.is_cut:
            self.is_cut = True
            return b""
        try:
            self._check_expiry()
            pieces = [data] if self._decoder is None else self._decoder.feed(data)
            shown = b"".join(delivery.feed(piece) for piece in pieces if piece)
            if is_last:
                if self._decoder is not None:
                    self._decoder.finish()
                shown += delivery.finish()
        except Exception as error:  # noqa: BLE001 - fail closed: whatever goes wrong ends the stream
            logger.warning("a stream of connection %s is cut: %s", self.connection and self.connection.name, error)
            self.is_cut = True
            return b""
        return shown

    def _check_expiry(self) -> None:
        if self.subject is not None and self.subject.expires_ns and self._host.pipeline.clock_ns() >= self.subject.expires_ns:
            raise ProtocolError("the token has expired while the answer was streamed")

    async def _decide(self, response: HttpResponse, plain: bytes, *, is_streamed: bool, has_body: bool = True) -> HttpResponse:
        """Decide about the response, and open its delivery. Gives the head to deliver, or a refusal."""
        session, connection, _ = self._opened()
        ruling = self._ruled()
        if ruling.action is None:
            raise AssertionError("a ruling that let a request through has an action")
        head = describe_head(response, plain, connection.http.sensitive, is_streamed=is_streamed, has_body=has_body)
        action = actions.describe_response(ruling.action, head)
        answer = await session.pipeline.handle_response(ruling, action, self._doorway())
        await session.pipeline.release_replies()
        if answer.refusal is not None:
            return self._withhold(answer.refusal.kind, answer.refusal.rule, "the answer is withheld", answer.refusal.why)
        try:
            self._delivery = Delivery(
                kind=head.kind if has_body else "none",
                decisions=[ruling.decision, answer.decision],
                masking=self._host.masking,
                cells=self._host.cells,
                secrets=self._secrets,
                record_limit_bytes=connection.record_limit_bytes,
                is_streamed=is_streamed,
                spent_bytes=session.pipeline.counters["bytes"],
            )
        except (enforce.UnenforceableError, ProtocolError, ValueError) as error:
            return self._withhold("denied", "policy.mask", "the answer is withheld", str(error))
        except Exception as error:  # noqa: BLE001 - UnenforceableMaskError and whatever else: nothing is delivered
            return self._withhold("denied", "policy.mask", "the answer is withheld", str(error))
        fields = self._delivery.mask_headers(select_delivered(response.headers, prefix=self._prefix, request=self.request))
        if not is_streamed and not has_body and (size := response.find_header("content-length")) is not None:
            fields = (*fields, ("content-length", size))
        return HttpResponse(response.status, fields)

    # --- WebSocket

    async def pass_message(self, content: bytes, *, is_text: bool, from_client: bool) -> bytes | Refusal:
        """One WebSocket message, judged and recorded where the client sends it, masked where the service does."""
        session, connection, _ = self._opened()
        if self.request is None or self._delivery is None:
            raise AssertionError("a WebSocket message follows an upgrade")
        if from_client:
            event = parse_message(self.request, content, is_text=is_text, max_parsed_bytes=connection.max_parsed_bytes)
            ruling = await session.pipeline.handle(event, self._doorway(), abandoned=self.abandoned)
            if ruling.refusal is not None:
                return ruling.refusal
            self._delivery.keep_message(content, is_text=is_text, from_client=True)
            session.pipeline.finish(ruling, Outcome("completed", tag="message"))
            return content
        self._check_expiry()
        await session.pipeline.release_replies()
        return self._delivery.mask_message(content, is_text=is_text)

    # --- outcome

    def end(self) -> None:
        """The response was delivered whole."""
        if self._ruling is not None and self._ruling.refusal is None:
            self._finish("failed" if self.is_cut else "completed")
        self.close()

    def break_off(self, code: str) -> None:
        """Client or service ended the exchange before its end."""
        ruling = self._ruling
        if ruling is not None and ruling.refusal is None:
            effects = frozenset[str]() if ruling.action is None else ruling.action.effects
            status: OutcomeStatus = "cancelled" if code == "client" else "failed"
            # Only for pure reads, or before anything was sent, is it certain that nothing happened.
            self._finish(status if effects == {"read"} or code == "unsent" else "unknown", error_code=code)
        self.close()

    def close(self) -> None:
        """Release the session; safe to call twice."""
        self._host.under_way.discard(self.abandoned)
        session, self.session = self.session, None
        if session is not None:
            session.end()

    def refuse_target(self, why: str) -> HttpResponse:
        """The refusal where the service cannot be reached."""
        ruling = self._ruling
        decision_id = ruling.decision_id if ruling is not None else new_decision_id()
        if ruling is not None and ruling.refusal is None:
            self._finish("failed", error_code="target.unavailable")
        self.close()
        logger.warning("connection %s: %s (decision %s)", self.connection and self.connection.name, why, decision_id)
        fix = "try again later, or tell the operators the decision id"
        return self._tell(
            Refusal("target", "target.unavailable", "the service is not available", "it cannot be reached", fix, decision_id)
        )

    # --- helpers

    def _opened(self) -> tuple[HttpSession, HttpConnection, HttpRequest]:
        if self.session is None or self.connection is None or self._head is None:
            raise AssertionError("an exchange is used before it began, or after its end")
        return self.session, self.connection, self._head

    def _doorway(self) -> HttpDoor:
        if self._door is None:
            raise AssertionError("an exchange is used before it began")
        return self._door

    def _ruled(self) -> Ruling:
        if self._ruling is None:
            raise AssertionError("a response comes after a ruling")
        return self._ruling

    async def _refuse_event(self, event: Unreadable, *, grpc_status: int | None = None) -> HttpResponse:
        session, _, _ = self._opened()
        ruling = await session.pipeline.handle(event, self._doorway())
        if ruling.refusal is None:
            raise AssertionError("what cannot be read was let through")
        return self._refuse(ruling.refusal, grpc_status=grpc_status)

    def _refuse(self, refusal: Refusal, *, status: int | None = None, grpc_status: int | None = None) -> HttpResponse:
        self.close()
        return self._tell(refusal, status=status, grpc_status=grpc_status)

    def _challenge(self, refusal: Refusal) -> HttpResponse:
        if self._speaks_grpc():
            return self._refuse(refusal)
        self.close()
        is_proxy = not self._prefix
        return enforce.challenge(refusal.what, refusal.why, refusal.fix, refusal.decision_id, is_proxy=is_proxy)

    def _tell(self, refusal: Refusal, *, status: int | None = None, grpc_status: int | None = None) -> HttpResponse:
        """A refusal in the words of whoever asked: gRPC's clients know none of HTTP's statuses, and show no body."""
        if self._speaks_grpc():
            return enforce.refuse_grpc(refusal, status=grpc_status)
        return enforce.refuse(refusal, status=status)

    def _speaks_grpc(self) -> bool:
        head = self._head
        return head is not None and enforce.speaks_grpc(head.http_version, head.find_header("content-type"))

    def _withhold(self, kind: RefusalKind, rule: str, what: str, why: str, *, status: int | None = None) -> HttpResponse:
        """The refusal of a response whose request was carried out."""
        ruling = self._ruled()
        self._delivery = None
        self._finish("withheld", error_code=rule)
        effects = frozenset[str]() if ruling.action is None else ruling.action.effects
        note = "" if effects == {"read"} else "; the request was carried out, do not repeat it unchecked"
        fix = "ask for a policy change, naming the rule and the decision id"
        return self._refuse(Refusal(kind, rule, what, f"{why}{note}", fix, ruling.decision_id), status=status)

    def _withhold_large(self, connection: HttpConnection) -> HttpResponse:
        why = f"its body has more than {connection.max_response_bytes} bytes, and policy does not let it be streamed"
        return self._withhold("denied", "http.response_size", "the answer is too large", why)

    def _finish(self, status: OutcomeStatus, error_code: str | None = None) -> None:
        if self._is_over or self.session is None or self._ruling is None:
            return
        self._is_over = True
        elapsed_ms = int((time.monotonic() - self._began_at) * 1000)
        if self._delivery is None:
            outcome = Outcome(status, error_code=error_code)
        else:
            outcome = self._delivery.make_outcome(status, error_code, self.request, self._response, elapsed_ms)
        try:
            self.session.pipeline.finish(self._ruling, outcome)
        except EvidenceUnavailableError as error:
            logger.error("an outcome cannot be recorded: %s", error)  # noqa: TRY400 - the cause is in the message

    def _check_leak(self, head: HttpRequest, token: str) -> None:
        """The agent's own token must not reach a service, wherever a client put it."""
        if token in head.target or any(token in value for _, value in head.headers):
            why = "the token for the gateway stands in a header or the address, and would reach the service"
            raise ProtocolError("the request carries the gateway's token", why=why, fix="send the token to the proxy only")

    def _check_length(self, head: HttpRequest, connection: HttpConnection) -> None:
        length = head.find_header("content-length")
        if length is not None and length.isdecimal() and int(length) > connection.max_request_bytes:
            why = f"it declares {length} bytes; at most {connection.max_request_bytes} are accepted"
            raise LimitExceededError("the body is too large", why=why, fix="send it in smaller parts")

    def _check_session_bytes(self, ruling: Ruling) -> None:
        session, _, _ = self._opened()
        limit = enforce.read_byte_limit(ruling.decision.obligations, "session_bytes")
        if limit is not None and session.pipeline.counters["bytes"] >= limit:
            why = f"this session has received {session.pipeline.counters['bytes']} bytes, and policy allows {limit}"
            raise LimitExceededError("the session has exported enough", why=why, fix="ask for an approved bulk export")

    def _must_stream(self, length: int | None, connection: HttpConnection) -> bool:
        return enforce.may_stream(self._ruled().decision.obligations) and (
            length is None or length > connection.max_response_bytes
        )

    def _has_no_body(self, status: int) -> bool:
        return status < 200 or status in NO_BODY_STATUSES or (self.request is not None and self.request.method == "HEAD")  # noqa: PLR2004 - informational statuses

    def _is_upgrade(self) -> bool:
        return self.request is not None and self.request.upgrade is not None

    def _undo_coding(self, body: bytes, max_bytes: int) -> bytes:
        if self._decoder is None:
            return body
        parts, size = [], 0
        for piece in self._decoder.feed(body):
            size += len(piece)
            if size > max_bytes:
                raise LimitExceededError("it is too large", why=f"more than {max_bytes} bytes once decoded")
            parts.append(piece)
        self._decoder.finish()
        return b"".join(parts)


def _read_length(response: HttpResponse) -> int | None:
    value = response.find_header("content-length")
    return int(value) if value is not None and value.isdecimal() else None
