"""Undoes content codings (RFC 9110 8.4) piece by piece, within bounds: gzip, deflate, br, zstd."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import brotli
import zstandard

from gateway.errors import LimitExceededError, ProtocolError

CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})

PIECE_BYTES: Final = 65_536
"""Most that comes out at once, so that a small input cannot fill memory."""

MAX_RATIO: Final = 250
"""Largest growth beyond `FREE_BYTES`; logs and JSON reach a hundred, a bomb a thousand."""

FREE_BYTES: Final = 1 << 20

_ZSTD_SLICE_BYTES: Final = 256
"""zstd takes no bound on its output; this much input gives at most a few megabytes."""

_ZSTD_WINDOW_BYTES: Final = 8 << 20
"""Largest window, the bound of RFC 8878 3.1.1.1.2 for decoders."""


class Decoder(Protocol):
    """Undoes one coding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes, in pieces. Raises ProtocolError for broken data, LimitExceededError for a bomb."""

    def finish(self) -> None:
        """Raises ProtocolError where the data broke off."""


def read_coding(value: str | None) -> str | None:
    """The one coding of a Content-Encoding field; None for none. Raises ProtocolError for what cannot be undone."""
    names = [part.strip().lower() for part in (value or "").split(",") if part.strip()]
    names = [name for name in names if name != "identity"]
    if not names:
        return None
    if len(names) > 1 or names[0] not in CODINGS:
        raise ProtocolError("the body's content coding cannot be undone", why="gzip, deflate, br or zstd, and only one of them")
    return names[0]


def make_decoder(coding: str) -> Decoder:
    """The decoder of a coding that `read_coding` gave."""
    if coding == "br":
        return _Brotli()
    return _Zstd() if coding == "zstd" else _Zlib(is_gzip=coding != "deflate")


def decode_body(data: bytes, coding: str | None, *, max_bytes: int) -> bytes:
    """A whole body without its coding. Raises ProtocolError, LimitExceededError."""
    if coding is None:
        return data
    decoder, parts, size = make_decoder(coding), [], 0
    for piece in decoder.feed(data):
        size += len(piece)
        if size > max_bytes:
            raise LimitExceededError("the body is too large", why=f"more than {max_bytes} bytes once decoded")
        parts.append(piece)
    decoder.finish()
    return b"".join(parts)


class _Growth:
    """Notices a bomb."""

    def __init__(self) -> None:
        self._taken = 0
        self._given = 0

    def take(self, size: int) -> None:
        self._taken += size

    def give(self, piece: bytes) -> bytes:
        self._given += len(piece)
        if self._given > FREE_BYTES + MAX_RATIO * self._taken:
            raise LimitExceededError("the body grows too much when decoded", why=f"more than {MAX_RATIO} times")
        return piece


def _broken(error: Exception | None = None) -> ProtocolError:
    return ProtocolError("the body's content coding is broken", why="" if error is None else str(error))


class _Zlib:
    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._growth = _Growth()
        self._object = zlib.decompressobj(zlib.MAX_WBITS | 16) if is_gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._growth.take(len(data))
        if self._object is None and data:
            # "deflate" is the zlib format (RFC 9110 8.4.1.2); some services send it without its two header bytes.
            self._object = zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)  # noqa: PLR2004 - RFC 1950
        while data and self._object is not None:
            try:
                piece = self._object.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise _broken(error) from None
            if piece:
                yield self._growth.give(piece)
            data = self._object.unconsumed_tail
            if self._object.eof and self._object.unused_data:
                if not self._is_gzip:
                    raise _broken()
                data = self._object.unused_data  # another member (RFC 1952 2.2)
                self._object = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def finish(self) -> None:
        if self._object is not None and not self._object.eof:
            raise _broken()


class _Brotli:
    def __init__(self) -> None:
        self._growth = _Growth()
        self._object = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._growth.take(len(data))
        while True:
            try:
                piece = self._object.process(data, output_buffer_limit=PIECE_BYTES)
            except brotli.error as error:
                raise _broken(error) from None
            if piece:
                yield self._growth.give(piece)
            data = b""
            if self._object.can_accept_more_data() or self._object.is_finished() or not piece:
                return

    def finish(self) -> None:
        if not self._object.is_finished():
            raise _broken()


class _Zstd:
    def __init__(self) -> None:
        self._growth = _Growth()
        self._object = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
        self._is_begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _ZSTD_SLICE_BYTES):
            part = data[at : at + _ZSTD_SLICE_BYTES]
            self._growth.take(len(part))
            self._is_begun = True
            try:
                piece = self._object.decompress(part)
            except zstandard.ZstdError as error:
                raise _broken(error) from None
            if piece:
                yield self._growth.give(piece)

    def finish(self) -> None:
        if self._is_begun and not self._object.eof:
            raise _broken()
