"""Masks the other kinds of bodies while they pass: text, server-sent events, NDJSON, forms, gRPC messages.

Each masker takes bytes with `feed` and gives what is settled; the output never depends on how the input is cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from sealgate_native.mask import Detectors, StreamMasker

from gateway.errors import LimitExceededError, ProtocolError
from gateway.masking.scrub import Scrubber
from gateway.masking.values import ValueMasker

MAX_LINE_BYTES: Final = 65_536
"""Longest line whose encoded spellings are read as one; a longer one is cut at this length."""

MAX_EVENT_BYTES: Final = 1 << 20
"""Longest event or NDJSON line; it is held whole before any of it leaves."""

MAX_GRPC_BYTES: Final = 4 << 20
"""Longest gRPC message, the default limit of gRPC's own libraries."""

GRPC_PREFIX_BYTES: Final = 5
"""A flag and the length before each message (gRPC over HTTP/2, "Length-Prefixed-Message")."""


class BodyMasker(Protocol):
    """Masks one body."""

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives what is settled."""

    def finish(self) -> bytes:
        """Ends the body; gives the rest."""


class TextMasker:
    """Text without structure. Raw findings across the whole stream, spelled ones within a line."""

    def __init__(self, values: ValueMasker, detectors: Detectors | None) -> None:
        self._values = values
        self._stream = None if detectors is None else StreamMasker(detectors)
        self._held = b""
        self._is_counted = False

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives what is settled."""
        if self._stream is None:
            return data
        buffer = self._held + data
        out, at = [], 0
        while True:
            end = buffer.find(b"\n", at) + 1
            if end == 0 or end - at > MAX_LINE_BYTES:
                if len(buffer) - at < MAX_LINE_BYTES:
                    break
                end = at + MAX_LINE_BYTES
            else:
                # All whole lines at once, where none of them is too long.
                last = buffer.rfind(b"\n") + 1
                if last - at <= MAX_LINE_BYTES:
                    end = last
            out.append(self._mask(buffer[at:end]))
            at = end
        self._held = buffer[at:]
        return b"".join(out)

    def finish(self) -> bytes:
        """Ends the text; gives the rest."""
        if self._stream is None:
            return b""
        rest = self._mask(self._held) + self._stream.finish()
        self._held = b""
        self._values.detected.update(self._stream.counts)
        return rest

    def _mask(self, data: bytes) -> bytes:
        if self._stream is None or not data:
            return data
        text = data.decode("utf-8", "surrogateescape")
        shown = self._values.mask_spellings(text)
        return self._stream.feed(data if shown == text else shown.encode("utf-8", "surrogateescape"))


class LineMasker:
    """NDJSON: each line masked on its own, as soon as it is complete."""

    def __init__(self, make: Callable[[bytes], BodyMasker], scrubber: Scrubber) -> None:
        self._make = make
        self._scrubber = scrubber
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives the lines that are complete."""
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > MAX_EVENT_BYTES:
            raise LimitExceededError("a line of the body is too long to be masked", why=f"more than {MAX_EVENT_BYTES} bytes")
        return b"".join(self._mask(line) + b"\n" for line in lines)

    def finish(self) -> bytes:
        """Ends the body; gives the last line."""
        rest, self._held = self._held, b""
        return self._mask(rest) if rest else b""

    def _mask(self, line: bytes) -> bytes:
        line = self._scrubber.scrub(line)
        masker = self._make(line)
        return masker.feed(line) + masker.finish()


_LINE_END: Final = re.compile(rb"\r\n|\r(?!$)|\n")


class EventMasker:
    """Server-sent events: each event masked as soon as its empty line has come (HTML standard, 9.2.6)."""

    def __init__(self, make: Callable[[bytes], BodyMasker], values: ValueMasker, scrubber: Scrubber) -> None:
        self._make = make
        self._values = values
        self._scrubber = scrubber
        self._held = b""
        self._lines: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives the events that are complete."""
        *lines, self._held = _LINE_END.split(self._held + data)
        out = [event for line in lines if (event := self._take(line))]
        if self._size + len(self._held) > MAX_EVENT_BYTES:
            raise LimitExceededError("an event is too long to be masked", why=f"more than {MAX_EVENT_BYTES} bytes")
        return b"".join(out)

    def finish(self) -> bytes:
        """Ends the stream. What is left is given too: some services leave out the last empty line."""
        rest, self._held = self._held.removesuffix(b"\r"), b""
        out = self._take(rest) if rest else b""
        return out + self._give(is_ended=False)

    def _take(self, line: bytes) -> bytes:
        if line:
            self._lines.append(line)
            self._size += len(line)
            return b""
        return self._give(is_ended=True)

    def _give(self, *, is_ended: bool) -> bytes:
        lines, self._lines, self._size = self._lines, [], 0
        if not lines:
            return b"\n" if is_ended else b""
        out: list[bytes] = []
        data = [line.partition(b":")[2].removeprefix(b" ") for line in lines if line.partition(b":")[0] == b"data"]
        place = next((number for number, line in enumerate(lines) if line.partition(b":")[0] == b"data"), -1)
        for number, line in enumerate(lines):
            if number == place:
                joined = self._scrubber.scrub(b"\n".join(data))
                masker = self._make(joined)
                shown = masker.feed(joined) + masker.finish()
                out += [b"data: " + part for part in shown.split(b"\n")]
            elif line.partition(b":")[0] != b"data":
                text = line.decode("utf-8", "surrogateescape")
                out.append(self._values.mask_text("", text).encode("utf-8", "surrogateescape"))
        return b"\n".join(out) + (b"\n\n" if is_ended else b"\n")


class GrpcMasker:
    """gRPC messages: findings are overwritten in place, so that lengths inside a message stay true."""

    def __init__(self, values: ValueMasker, scrubber: Scrubber | None) -> None:
        self._values = values
        self._scrubber = scrubber
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes; gives the messages that are complete. Raises ProtocolError for a compressed one."""
        self._held += data
        out = []
        while len(self._held) >= GRPC_PREFIX_BYTES:
            size = int.from_bytes(self._held[1:GRPC_PREFIX_BYTES], "big")
            if self._held[0] & 1:
                raise ProtocolError(
                    "a gRPC message is compressed", why="the gateway asked for plain ones, to be able to mask them"
                )
            if size > MAX_GRPC_BYTES:
                raise LimitExceededError("a gRPC message is too large to be masked", why=f"more than {MAX_GRPC_BYTES} bytes")
            if len(self._held) < GRPC_PREFIX_BYTES + size:
                break
            message = self._held[GRPC_PREFIX_BYTES : GRPC_PREFIX_BYTES + size]
            if self._scrubber is not None:
                message = self._scrubber.scrub(message)
            out.append(self._held[:GRPC_PREFIX_BYTES] + self._values.overwrite(message))
            self._held = self._held[GRPC_PREFIX_BYTES + size :]
        return b"".join(out)

    def finish(self) -> bytes:
        """Ends the body. A message that breaks off is not given: no detector saw it whole."""
        self._held = b""
        return b""


class PlainMasker:
    """Bytes that hold no text: passed as they are."""

    def feed(self, data: bytes) -> bytes:
        """The same bytes."""
        return data

    def finish(self) -> bytes:
        """Nothing is held."""
        return b""
