"""A service that sends or takes as many bytes as it is asked for, at little cost and without holding them, for tests and benchmarks of size.

GET /bulk/KIND?bytes=N     N bytes of that kind; `lines`, `ndjson` and `document` hold a sensitive value in every line
POST /bulk/upload          counts and digests the body, and answers {"bytes": N, "sha256": "…"}

Plain HTTP/1.1 on 127.0.0.1. A body comes as one length, so that who reads it knows whether it is whole.
"""

from __future__ import annotations

import hashlib
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

SENSITIVE_VALUE: Final = b"123-45-6789"
"""Stands in every line of the kinds that have lines; what passed a mask has none of it."""

BLOCK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of body: `first`, then `line` over and over, cut or filled so that the length is exact, then `last`."""

    media_type: str
    line: bytes
    first: bytes = b""
    last: bytes = b""
    filler: bytes = b"\n"


KINDS: Final = {
    "binary": Kind("application/zip", bytes(range(256)) * 16, filler=b"\0"),
    "plain": Kind("text/plain", b"account 7 moved 12.50 to account 9, all in order\n"),
    "lines": Kind("text/plain", b"account 7 of " + SENSITIVE_VALUE + b" moved 12.50 to account 9, all in order\n"),
    "ndjson": Kind(
        "application/x-ndjson", b'{"owner":"Ann Archer","ssn":"' + SENSITIVE_VALUE + b'","balance":1200.5,"open":true}\n'
    ),
    "document": Kind(
        "application/json",
        b'{"owner":"Ann Archer","ssn":"' + SENSITIVE_VALUE + b'","balance":1200.5,"open":true},\n',
        first=b'{"accounts":[\n',
        last=b"null]}\n",
        filler=b" ",
    ),
}
"""`binary` is opaque to the gateway, `plain` holds nothing to be masked, the others have a value to mask in every line."""


def make_body(kind: Kind, size: int) -> Iterator[bytes]:
    """A body of exactly `size` bytes, in pieces."""
    repeat = max(BLOCK_BYTES // len(kind.line), 1)
    block, left = kind.line * repeat, size - len(kind.first) - len(kind.last)
    yield kind.first
    while left >= len(block):
        yield block
        left -= len(block)
    whole, rest = divmod(left, len(kind.line))
    yield kind.line * whole + kind.filler * rest + kind.last


class BulkService:
    """The service; use as a context manager."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="bulk service", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def sent_bytes(self) -> int:
        """Bytes of bodies that the network took so far."""
        return self._server.sent_bytes


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    sent_bytes = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: peers that leave in the middle of a body are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        kind = KINDS.get(address.path.removeprefix("/bulk/"))
        size = int(parse_qs(address.query).get("bytes", ["0"])[0])
        if kind is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind.media_type)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for piece in make_body(kind, size):
            self.wfile.write(piece)
            if isinstance(self.server, _Server):
                self.server.sent_bytes += len(piece)

    def do_POST(self) -> None:
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left > 0:
            piece = self.rfile.read(min(left, BLOCK_BYTES))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        answer = json.dumps({"bytes": int(self.headers["Content-Length"]), "sha256": digest.hexdigest()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name the base class gives it
        """Silent."""
