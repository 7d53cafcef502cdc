"""The PostgreSQL protocol by hand, for what stock clients never send and for every byte of what they would not show."""

import contextlib
import socket
import struct

from sealgate_native.postgres import FrameReader, decode_error, encode_message, encode_query

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
PASSWORD_WANTED = ("R", struct.pack("!i", 3))


def startup(database="shop", version=196608, **settings):
    names = {"user": "agent", "database": database, **settings}
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
    return struct.pack("!ii", 8 + len(body), version) + body


class Client:
    """A connection by hand, message by message."""

    def __init__(self, gateway):
        self.raw = socket.create_connection(("127.0.0.1", gateway.port))
        self.raw.settimeout(30)
        self.reader = FrameReader(1 << 20)

    def login(self, token, **settings):
        self.raw.sendall(startup(**settings))
        assert self.next() == PASSWORD_WANTED
        self.send("p", token.encode() + b"\0")
        return self.read()

    def send(self, kind, body=b""):
        self.raw.sendall(encode_message(kind, body))

    def query(self, sql):
        """The messages up to ReadyForQuery; none when the gateway has ended the session before and was heard."""
        with contextlib.suppress(ConnectionError):
            self.raw.sendall(encode_query(sql))
        return self.read()

    def next(self):
        """The next message; None once the gateway has closed."""
        while (frame := self.reader.next()) is None:
            try:
                data = self.raw.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.reader.receive(data)
        return frame

    def read(self):
        """Messages up to ReadyForQuery or the end."""
        messages = []
        while (frame := self.next()) is not None:
            messages.append(frame)
            if frame[0] == "Z":
                break
        return messages

    def close(self):
        self.raw.close()

    def is_closed(self):
        return self.next() is None


def error_of(messages):
    return decode_error(next(body for kind, body in messages if kind == "E"))


def kinds(messages):
    return "".join(kind for kind, _ in messages)
