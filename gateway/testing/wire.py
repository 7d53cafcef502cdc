"""The PostgreSQL protocol by hand, for what stock clients never send and for every byte of what they would not show."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import Final

from sealgate_native.postgres import FrameReader, decode_error, encode_message, encode_query

SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
PASSWORD_WANTED: Final = ("R", struct.pack("!i", 3))
SYNC: Final = encode_message("S", b"")

Message = tuple[str, bytes]
"""(type, body)."""


def startup(database: str = "shop", version: int = 196608, **settings: str) -> bytes:
    """A StartupMessage; protocol 3.0 unless told otherwise."""
    names = {"user": "agent", "database": database, **settings}
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
    return struct.pack("!ii", 8 + len(body), version) + body


def parse(sql: str, name: str = "", types: Sequence[int] = ()) -> bytes:
    """A Parse that leaves the types of parameters to the server unless their numbers are given."""
    declared = struct.pack(f"!H{len(types)}I", len(types), *types)
    return encode_message("P", name.encode() + b"\0" + sql.encode() + b"\0" + declared)


def bind(statement: str = "", portal: str = "", values: Sequence[bytes] = (), *, is_binary: bool = False) -> bytes:
    """A Bind with parameters in text unless told otherwise, for results in text."""
    formats = struct.pack("!hh", 1, 1) if is_binary else struct.pack("!h", 0)
    fields = b"".join(struct.pack("!i", len(value)) + value for value in values)
    names = portal.encode() + b"\0" + statement.encode() + b"\0"
    return encode_message("B", names + formats + struct.pack("!h", len(values)) + fields + b"\0\0")


def bind_texts(statement: str, *values: str) -> bytes:
    """A Bind of the unnamed portal with parameters in text format."""
    return bind(statement, values=[value.encode() for value in values])


def execute(portal: str = "", rows: int = 0) -> bytes:
    """An Execute without a row limit unless one is given."""
    return encode_message("E", portal.encode() + b"\0" + struct.pack("!i", rows))


def describe(kind: bytes, name: str = "") -> bytes:
    """A Describe of a statement (`S`) or a portal (`P`)."""
    return encode_message("D", kind + name.encode() + b"\0")


def close(kind: bytes, name: str) -> bytes:
    """A Close of a statement (`S`) or a portal (`P`)."""
    return encode_message("C", kind + name.encode() + b"\0")


class Client:
    """A connection to a gateway without TLS, message by message. With a token it is logged in at once."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.raw = socket.create_connection(("127.0.0.1", port))
        self.raw.settimeout(30)
        self._reader = FrameReader(1 << 20)
        if token is not None:
            self.login(token)

    def login(self, token: str, version: int = 196608, **settings: str) -> list[Message]:
        """Start up with a token as password; the messages up to ReadyForQuery or the end."""
        self.raw.sendall(startup(version=version, **settings))
        if (answer := self.next()) != PASSWORD_WANTED:
            raise ConnectionError(f"no password was asked for: {answer}")
        self.send("p", token.encode() + b"\0")
        return self.read()

    def send(self, kind: str, body: bytes = b"") -> None:
        """Send one message."""
        self.raw.sendall(encode_message(kind, body))

    def query(self, sql: str) -> list[Message]:
        """The messages up to ReadyForQuery; none when the gateway has ended the session before and was heard."""
        with contextlib.suppress(ConnectionError):
            self.raw.sendall(encode_query(sql))
        return self.read()

    def next(self) -> Message | None:
        """The next message; None once the gateway has closed."""
        while (frame := self._reader.next()) is None:
            try:
                data = self.raw.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._reader.receive(data)
        return frame

    def read(self) -> list[Message]:
        """Messages up to ReadyForQuery or the end."""
        messages: list[Message] = []
        while (frame := self.next()) is not None:
            messages.append(frame)
            if frame[0] == "Z":
                break
        return messages

    def converse(self, *batches: bytes) -> list[Message]:
        """Every message that comes of some batches, each of which asks for one ReadyForQuery."""
        messages: list[Message] = []
        for batch in batches:
            self.raw.sendall(batch)
            messages += self.read()
        return messages

    def close(self) -> None:
        """Leave without a word."""
        self.raw.close()

    def is_closed(self) -> bool:
        """Whether the gateway has closed the connection; waits for a message or that."""
        return self.next() is None


def error_of(messages: Sequence[Message]) -> dict[str, str]:
    """The fields of the first ErrorResponse, by their letters."""
    return decode_error(next(body for kind, body in messages if kind == "E"))


def kinds(messages: Sequence[Message]) -> str:
    """The types of some messages, such as `TDCZ`."""
    return "".join(kind for kind, _ in messages)
