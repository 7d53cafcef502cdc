"""Asks the server for a preview of a statement that waits for a reviewer, on a connection of its own that is always rolled back."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sealgate_native.postgres import FrameReader, ProtocolViolation, decode_error, encode_message, encode_query

from gateway.errors import TargetError
from gateway.protocols.postgres.events import Parameter
from gateway.protocols.postgres.preview import MAX_PLAN_CHARS, PreviewRequest
from gateway.serve.postgres.upstream import Upstream

MAX_PREVIEW_MESSAGE_BYTES: Final = 1 << 20
"""Longest message of an answer; rows of RETURNING are read and dropped."""

LOCK_TIMEOUT_MS: Final = 500
"""A count must not make others wait behind a lock it waits for itself."""


@dataclass(slots=True)
class _Answer:
    lines: list[str] = field(default_factory=list)
    tag: str = ""
    code: str | None = None


@dataclass(frozen=True, slots=True)
class PreviewQuestions:
    """Runs previews of one connection's server.

    Args:
        connect: opens a connection with the connection's own credential and pins.
        timeout_s: deadline of one preview; each statement of it also has it as its statement_timeout.
    """

    connect: Callable[[], Awaitable[Upstream]]
    timeout_s: float

    async def ask(
        self, request: PreviewRequest, params: Sequence[Parameter], settings: Sequence[str] | None = ()
    ) -> dict[str, object]:
        """The preview as a reviewer sees it: {"plan"?, "rows"?, "notes"}; what could not be learned is said in `notes`.

        Args:
            request: what to ask.
            params: those the statement is bound to.
            settings: statements that set what its session has set; None where that is not known, and a preview would show another
                statement's effect.
        """
        shown: dict[str, object] = {}
        notes = list(request.notes)
        if settings is None:
            return {"notes": [*notes, "no preview: the settings this statement is read under are not known"]}
        try:
            async with asyncio.timeout(self.timeout_s):
                upstream = await self.connect()
                try:
                    for text in settings:
                        await _set(upstream, text)
                    await self._ask(upstream, request, params, shown, notes)
                finally:
                    upstream.close()
        except (TargetError, OSError, TimeoutError, ProtocolViolation, struct.error, UnicodeDecodeError) as error:
            notes.append(f"no preview: the target did not answer it ({type(error).__name__})")
        return {**shown, **({"notes": notes} if notes else {})}

    async def _ask(
        self,
        upstream: Upstream,
        request: PreviewRequest,
        params: Sequence[Parameter],
        shown: dict[str, object],
        notes: list[str],
    ) -> None:
        limit_ms = int(self.timeout_s * 1000)
        settings = f"set local statement_timeout = {limit_ms}; set local lock_timeout = {LOCK_TIMEOUT_MS}"
        if request.explain is not None:
            await _run(upstream, encode_query(f"begin read only; {settings}"))
            answer = await _run(upstream, _encode_extended(request.explain, params))
            await _run(upstream, encode_query("rollback"))
            if answer.code is None:
                shown["plan"] = "\n".join(answer.lines)[:MAX_PLAN_CHARS]
            else:
                notes.append(f"no plan: the server refused it with SQLSTATE {answer.code}")
        if request.counted is not None:
            await _run(upstream, encode_query(f"begin; {settings}"))
            answer = await _run(upstream, _encode_extended(request.counted, params))
            await _run(upstream, encode_query("rollback"))
            count = answer.tag.rsplit(" ", 1)[-1]
            if answer.code is None and count.isdecimal():
                shown["rows"] = int(count)
            else:
                notes.append(f"rows not counted: the statement would fail with SQLSTATE {answer.code}")


async def _set(upstream: Upstream, text: str) -> None:
    answer = await _run(upstream, encode_query(text))
    if answer.code is not None:
        raise TargetError("the target did not take a setting of the session", why=f"SQLSTATE {answer.code}")


def _encode_extended(sql: str, params: Sequence[Parameter]) -> bytes:
    """Parse, Bind, Execute and Sync (53.2.3) of one statement. Parameters go as text where they are known as text, else in binary."""
    types = b"".join(struct.pack("!I", parameter.type_oid) for parameter in params)
    parse = b"\0" + sql.encode() + b"\0" + struct.pack("!H", len(params)) + types
    formats = b"".join(struct.pack("!H", parameter.text is None and not parameter.is_null) for parameter in params)
    values = b"".join(_encode_value(parameter) for parameter in params)
    count = struct.pack("!H", len(params))
    bind = b"\0\0" + count + formats + count + values + b"\0\0"
    messages = (("P", parse), ("B", bind), ("E", b"\0" + struct.pack("!i", 0)), ("S", b""))
    return b"".join(encode_message(kind, body) for kind, body in messages)


def _encode_value(parameter: Parameter) -> bytes:
    if parameter.is_null:
        return struct.pack("!i", -1)
    value = (
        bytes.fromhex(parameter.hex) if parameter.text is None and parameter.hex is not None else (parameter.text or "").encode()
    )
    return struct.pack("!i", len(value)) + value


async def _run(upstream: Upstream, message: bytes) -> _Answer:
    """Send, and read up to ReadyForQuery. Raises TargetError, ProtocolViolation."""
    reader = FrameReader(MAX_PREVIEW_MESSAGE_BYTES)
    upstream.wire.write(message)
    answer = _Answer()
    while True:
        data = await upstream.wire.read()
        if not data:
            raise TargetError("the target broke off a preview", why="it closed the connection")
        reader.receive(data)
        while (frame := reader.next()) is not None:
            kind, body = frame
            if kind == "Z":
                return answer
            if kind == "E":
                answer.code = decode_error(body).get("C", "XX000")
            elif kind == "C":
                answer.tag = body.rstrip(b"\0").decode()
            elif kind == "D" and len(answer.lines) < MAX_PLAN_CHARS:
                answer.lines.append(_first_value(body))


def _first_value(body: bytes) -> str:
    """The first value of a DataRow (53.7), as text."""
    count, length = struct.unpack_from("!Hi", body)
    return body[6 : 6 + length].decode("utf-8", "replace") if count and length > 0 else ""
