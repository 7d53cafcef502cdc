"""A second reading of the PostgreSQL protocol, for tests only, written from the manual's chapter "Frontend/Backend Protocol".

`messages` splits a stream. `Backend` behaves as the manual says a server does, for a toy language:

    select NAME N    N rows of two columns (n, NAME); the second column of `secret` is worth hiding
    insert, begin, commit, rollback, syntax (cannot be parsed), fail (fails when run), and the empty string

`denied` stands for policy: with it the backend is what a client has to see through the gateway, a server that itself refuses what
policy refuses and itself masks what policy masks. Without it the backend is the target behind the gateway.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

SECRET_OID = 900
PLAIN_OID = 901
TEXT_OID = 25


def messages(stream: bytes) -> list[tuple[str, bytes]]:
    """Every message of a stream that ends with one."""
    found, at = [], 0
    while at < len(stream):
        (length,) = struct.unpack_from("!i", stream, at + 1)
        assert length >= 4
        assert at + 1 + length <= len(stream), "the stream ends inside a message"
        found.append((chr(stream[at]), stream[at + 5 : at + 1 + length]))
        at += 1 + length
    return found


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def string(text: str) -> bytes:
    return text.encode() + b"\0"


def query(sql: str) -> bytes:
    return message("Q", string(sql))


def parse(name: str, sql: str) -> bytes:
    return message("P", string(name) + string(sql) + b"\0\0")


def bind(portal: str, statement: str) -> bytes:
    return message("B", string(portal) + string(statement) + b"\0\0" * 3)


def describe(kind: str, name: str) -> bytes:
    return message("D", kind.encode() + string(name))


def close(kind: str, name: str) -> bytes:
    return message("C", kind.encode() + string(name))


def execute(portal: str, max_rows: int = 0) -> bytes:
    return message("E", string(portal) + struct.pack("!i", max_rows))


SYNC = message("S")
FLUSH = message("H")


def row(values: list[bytes | None]) -> bytes:
    cells = b"".join(struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value for value in values)
    return message("D", struct.pack("!h", len(values)) + cells)


def row_description(fields: list[tuple[str, int, int]], type_oid: int = TEXT_OID) -> bytes:
    body = struct.pack("!h", len(fields))
    for name, table_oid, attnum in fields:
        body += string(name) + struct.pack("!ihihih", table_oid, attnum, type_oid, -1, -1, 0)
    return message("T", body)


def error(code: str) -> bytes:
    return message("E", b"SERROR\0VERROR\0C" + string(code) + b"Mtoy\0\0")


HANDLERS = {
    "Q": "take_query",
    "P": "take_parse",
    "B": "take_bind",
    "D": "take_describe",
    "E": "take_execute",
    "C": "take_close",
    "S": "take_sync",
    "H": "take_flush",
}


class ServerError(Exception):
    """What the server answers with ErrorResponse."""


@dataclass
class Portal:
    sql: str
    position: int = 0


def allow(_phase: str, _sql: str) -> bool:
    return False


@dataclass
class Backend:
    """A server process for one session. `receive` takes what the client sent; `out` is what it has flushed."""

    denied: Callable[[str, str], bool] = allow
    masks: bool = False
    out: bytes = b""
    kept: bytes = b""
    status: str = "I"
    statements: dict[str, str] = field(default_factory=dict)
    portals: dict[str, Portal] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    is_skipping: bool = False
    executes: int = 0
    buffer: bytes = b""

    def receive(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 5:
            (length,) = struct.unpack_from("!i", self.buffer, 1)
            if len(self.buffer) < 1 + length:
                return
            kind, body = chr(self.buffer[0]), self.buffer[5 : 1 + length]
            self.buffer = self.buffer[1 + length :]
            self.handle(kind, body)

    def handle(self, kind: str, body: bytes) -> None:
        if self.is_skipping and kind != "S":
            return
        try:
            getattr(self, HANDLERS[kind])(body)
        except ServerError as failure:
            self.kept += error(str(failure))
            if self.status == "T" and str(failure) != "refused":
                self.status = "E"
            if kind == "Q":
                self.ready()
            else:
                self.is_skipping = True
                # PostgreSQL flushes errors at once; it reads no Flush while it skips.
                self.flush()

    def refuse(self) -> None:
        """A refusal fails a transaction only if the pipeline had already run something in it."""
        if self.executes and self.status == "T":
            self.status = "E"
        raise ServerError("refused")

    def ready(self) -> None:
        if self.status == "I":
            self.portals.clear()
        self.executes = 0
        self.kept += message("Z", self.status.encode())
        self.flush()

    def flush(self) -> None:
        self.out += self.kept
        self.kept = b""

    def take_query(self, body: bytes) -> None:
        sql = body[:-1].decode()
        self.statements.pop("", None)
        self.portals.pop("", None)
        if self.denied("query", sql):
            self.refuse()
        self.check(sql)
        self.describe_rows(sql)
        self.run(Portal(sql), 0)
        self.ready()

    def take_parse(self, body: bytes) -> None:
        name, sql, _ = body.split(b"\0", 2)
        if not name:
            self.statements.pop("", None)
        if self.denied("parse", sql.decode()):
            self.refuse()
        self.check(sql.decode())
        if name.decode() in self.statements:
            raise ServerError("42P05")
        self.statements[name.decode()] = sql.decode()
        self.kept += message("1")

    def check(self, sql: str) -> None:
        if sql.startswith(("syntax", "refused")):
            raise ServerError("42601")
        if self.status == "E" and sql not in {"commit", "rollback"}:
            raise ServerError("25P02")

    def take_bind(self, body: bytes) -> None:
        portal, statement, _ = body.split(b"\0", 2)
        sql = self.statement(statement.decode())
        self.check(sql)
        if portal and portal.decode() in self.portals:
            raise ServerError("42P03")
        self.portals[portal.decode()] = Portal(sql)
        self.kept += message("2")

    def statement(self, name: str) -> str:
        if name not in self.statements:
            raise ServerError("26000")
        return self.statements[name]

    def portal(self, name: str) -> Portal:
        if name not in self.portals:
            raise ServerError("34000")
        return self.portals[name]

    def take_describe(self, body: bytes) -> None:
        name = body[1:-1].decode()
        if body[:1] == b"S":
            sql = self.statement(name)
            self.check(sql)
            self.kept += message("t", b"\0\0")
        else:
            sql = self.portal(name).sql
            self.check(sql)
        if not self.describe_rows(sql):
            self.kept += message("n")

    def describe_rows(self, sql: str) -> bool:
        if not sql.startswith("select"):
            return False
        name = sql.split()[1]
        oid = SECRET_OID if name == "secret" else PLAIN_OID
        self.kept += row_description([("n", oid, 1), (name, oid, 2)])
        return True

    def take_execute(self, body: bytes) -> None:
        portal = self.portal(body[: body.index(b"\0")].decode())
        if self.denied("execute", portal.sql):
            self.refuse()
        self.check(portal.sql)
        (max_rows,) = struct.unpack("!i", body[-4:])
        self.executes += 1
        self.run(portal, max_rows)

    def run(self, portal: Portal, max_rows: int) -> None:
        sql = portal.sql
        self.ran.append(sql)
        if sql == "":
            self.kept += message("I")
        elif sql.startswith("select"):
            self.select(portal, max_rows)
        elif sql.startswith("fail"):
            raise ServerError("22012")
        elif sql == "begin":
            self.status = "T" if self.status == "I" else self.status
            self.kept += message("C", b"BEGIN\0")
        elif sql in {"commit", "rollback"}:
            tag = "COMMIT" if sql == "commit" and self.status != "E" else "ROLLBACK"
            self.status = "I"
            self.portals.clear()
            self.kept += message("C", string(tag))
        else:
            self.kept += message("C", b"INSERT 0 1\0")

    def select(self, portal: Portal, max_rows: int) -> None:
        _, name, count = portal.sql.split()[:3]
        total = int(count)
        stop = min(total, portal.position + max_rows) if max_rows else total
        for number in range(portal.position, stop):
            is_hidden = self.masks and name == "secret"
            value = b"[redacted]" if is_hidden else f"{name}-{number}".encode()
            self.kept += row([str(number).encode(), value])
        sent = stop - portal.position
        portal.position = stop
        # With a row limit the server cannot know that the last row was the last.
        if max_rows and sent == max_rows:
            self.kept += message("s")
        else:
            self.kept += message("C", string(f"SELECT {sent}"))

    def take_close(self, body: bytes) -> None:
        names = self.statements if body[:1] == b"S" else self.portals
        names.pop(body[1:-1].decode(), None)  # type: ignore[attr-defined]
        self.kept += message("3")

    def take_sync(self, _body: bytes) -> None:
        self.is_skipping = False
        self.ready()

    def take_flush(self, _body: bytes) -> None:
        self.flush()
