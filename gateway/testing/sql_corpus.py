"""The SQL corpus: one text file per case, the bytes a client received, and what in them must not be there.

    verdict: block
    rule: postgres.regulated.predicate
    why: a comparison tells the value without showing it
    --------
    select id from customers where ssn like 'p%'

The header ends at the first dashed line; further dashed lines split the rest into messages of one session. Members of the header:

    verdict   block (refused by `rule`), approve (held by `rule`), mask (delivered, nothing sensitive in it), allow (delivered)
    rule      id of the rule that refuses, holds or masks
    why       what the case is about
    mode      how it is sent: simple (default), extended, binary, blind, blind-binary, pipeline, psql; named prepares the first
              message under the name p and sends the others as simple queries
    params    JSON list of parameters, for every mode but simple and psql
    shows     texts that must be in the rows, separated by " | "; for what must not be masked along with the rest
    changes   yes when the database is another one afterwards, as an ordinary write must make it
    site      as the gateway is set up: shipped (default), or open, where agents may define anything outside production and every
              expression over sensitive columns is masked, not refused; the case runs under the shipped site as well, which must
              refuse or hold something, and then shows and changes nothing either
    owner     name of a script in `owner/` that the owner of the database runs before, past the gateway; the database is restored after
    differs   why the bytes may depend on sensitive values, in the words of LIMITATIONS.md; without it they must not
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

MEMBERS: Final = frozenset({"verdict", "rule", "why", "mode", "params", "shows", "changes", "differs", "owner", "site"})
SITES: Final = ("shipped", "open")
VERDICTS: Final = frozenset({"block", "approve", "mask", "allow"})
MODES: Final = frozenset({"simple", "extended", "binary", "blind", "blind-binary", "pipeline", "psql", "named"})

_DASHES: Final = re.compile(r"^-{8,}[ \t]*\n", re.MULTILINE)
_RULE: Final = re.compile(r"^Rule (\S+?)[:.](?:\s|$)")
_NAMELESS: Final = re.compile(rb"(Decision |approve |ticket )[0-9A-Za-z_-]+")
"""Identifiers of one decision, which differ from run to run."""


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the corpus; the module's text says what each member means."""

    name: str
    verdict: str
    rule: str
    why: str
    messages: tuple[str, ...]
    mode: str = "simple"
    params: tuple[str | None, ...] = ()
    shows: tuple[str, ...] = ()
    changes: bool = False
    differs: str = ""
    owner: str = ""
    site: str = "shipped"


def read_case(path: Path) -> Case:
    """The case in a file. Raises ValueError for a header that is not understood."""
    head, *messages = _DASHES.split(path.read_text(encoding="utf-8"))
    members = dict(line.split(": ", 1) for line in head.strip().splitlines())
    if not members.keys() <= MEMBERS or not {"verdict", "why"} <= members.keys() or not messages:
        raise ValueError(f"{path.name}: the header is not understood")
    verdict, mode = members["verdict"], members.get("mode", "simple")
    if verdict not in VERDICTS or mode not in MODES or (verdict in {"block", "approve"} and "rule" not in members):
        raise ValueError(f"{path.name}: the verdict or the mode is not understood")
    site = members.get("site", SITES[0])
    if site not in SITES:
        raise ValueError(f"{path.name}: the site is not understood")
    return Case(
        name=path.stem,
        verdict=verdict,
        rule=members.get("rule", ""),
        why=members["why"],
        messages=tuple(message.rstrip("\n") for message in messages),
        mode=mode,
        params=tuple(json.loads(members.get("params", "[]"))),
        shows=tuple(members["shows"].split(" | ")) if "shows" in members else (),
        changes=members.get("changes") == "yes",
        differs=members.get("differs", ""),
        owner=members.get("owner", ""),
        site=site,
    )


def split_messages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(type, body) of each whole backend message (53.7), read without the gateway's own codec."""
    offset = 0
    while offset + 5 <= len(data):
        (length,) = struct.unpack_from("!I", data, offset + 1)
        yield chr(data[offset]), data[offset + 5 : offset + 1 + length]
        offset += 1 + length


@dataclass(slots=True)
class Reply:
    """What a client was told.

    Attributes:
        cells: per row the values as received, None for null; lines of COPY are rows of one cell.
        errors: fields of every ErrorResponse, by their letter.
    """

    cells: list[tuple[bytes | None, ...]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    notices: list[dict[str, str]] = field(default_factory=list)
    data: bytes = b""

    @property
    def refusals(self) -> list[str]:
        """Rules that refused or held something."""
        found = (_RULE.match(fields.get("D", "")) for fields in self.errors)
        return [match.group(1) for match in found if match]

    @property
    def failures(self) -> list[str]:
        """Errors that are the server's own."""
        return [fields.get("M", "") for fields in self.errors if not _RULE.match(fields.get("D", ""))]

    def comparable(self) -> bytes:
        """The bytes without what differs from run to run."""
        return _NAMELESS.sub(rb"\1#", self.data)


def read_reply(data: bytes) -> Reply:
    """The reply in the bytes of one or more sessions after their login."""
    reply = Reply(data=data)
    for kind, body in split_messages(data):
        if kind == "D":
            reply.cells.append(tuple(_read_row(body)))
        elif kind == "d":
            reply.cells.append((body,))
        elif kind == "E":
            reply.errors.append(_read_fields(body))
        elif kind == "N":
            reply.notices.append(_read_fields(body))
    return reply


def _read_row(body: bytes) -> Iterator[bytes | None]:
    (count,) = struct.unpack_from("!H", body)
    offset = 2
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, offset)
        offset += 4
        yield None if length < 0 else body[offset : offset + length]
        offset += max(length, 0)


def _read_fields(body: bytes) -> dict[str, str]:
    return {chr(part[0]): part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}


def spell(value: str) -> set[bytes]:
    """How a text looks in the forms an attacker would have it delivered in."""
    raw = value.encode()
    forms = {raw, raw.upper(), raw[::-1], raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw)[:-4]}
    forms |= {hashlib.md5(raw, usedforsecurity=False).hexdigest().encode(), hashlib.sha256(raw).hexdigest().encode()}
    forms |= {hashlib.md5(raw, usedforsecurity=False).digest(), hashlib.sha256(raw).digest(), raw[:6], raw[-6:]}
    forms |= {",".join(str(byte) for byte in raw[:6]).encode(), "".join(chr(byte + 1) for byte in raw).encode()}
    return forms


def find_planted(reply: Reply, planted: Sequence[bytes]) -> list[bytes]:
    """Which of these are in what was received: in the bytes, or spread over the cells of a row or a column."""
    rows = b"".join(b"".join(cell or b"" for cell in row) for row in reply.cells)
    width = max((len(row) for row in reply.cells), default=0)
    columns = b"".join(
        b"".join((row[index] or b"") if index < len(row) else b"" for row in reply.cells) for index in range(width)
    )
    return [value for value in planted if value in reply.data or value in rows or value in columns]


class Tap:
    """A relay on a loopback port that keeps every byte its clients receive.

    Args:
        port: where the gateway listens.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._received: dict[int, bytearray] = {}
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        """Start to accept."""
        threading.Thread(target=self._accept, name="tap", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to accept; open connections end with their clients."""
        self._listener.close()

    def take(self, client_port: int | None = None) -> bytes:
        """What one client, or all of them, received since this was last asked."""
        with self._lock:
            chosen = list(self._received) if client_port is None else [client_port]
            data = b"".join(bytes(self._received[number]) for number in chosen if number in self._received)
            for number in chosen:
                self._received.get(number, bytearray()).clear()
            return data

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, address = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._received[address[1]] = bytearray()
                threading.Thread(target=self._pump, args=(client, server, None), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, address[1]), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, kept: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if kept is not None:
                    with self._lock:
                        self._received[kept] += data
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class RawClient:
    """A client that sends what drivers send seldom or never: no Describe, several statements before one Sync."""

    def __init__(self, port: int, database: str, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.settimeout(30)
        self._file = self._socket.makefile("rb")
        start = f"user\0agent\0database\0{database}\0\0".encode()
        self._socket.sendall(struct.pack("!ii", 8 + len(start), 196608) + start)
        self._read()
        self._send("p", token.encode() + b"\0")
        self.wait_until_ready()

    @property
    def local_port(self) -> int:
        """What tells this client's bytes from others'."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Say good-bye."""
        with contextlib.suppress(OSError):
            self._send("X", b"")
        self._socket.close()

    def query(self, sql: str) -> None:
        """One simple query."""
        self._send("Q", sql.encode() + b"\0")
        self.wait_until_ready()

    def run(self, statements: Sequence[str], params: Sequence[str | None], *, describe: bool, binary: bool) -> None:
        """Parse, Bind, perhaps Describe, and Execute of each statement, then one Sync."""
        values = b"".join(
            struct.pack("!i", -1) if value is None else struct.pack("!i", len(value.encode())) + value.encode()
            for value in params
        )
        for sql in statements:
            self._send("P", b"\0" + sql.encode() + b"\0\0\0")
            formats = struct.pack("!hh", 1, 1) if binary else struct.pack("!h", 0)
            self._send("B", b"\0\0" + struct.pack("!hh", 0, len(params)) + values + formats)
            if describe:
                self._send("D", b"P\0")
            self._send("E", b"\0" + struct.pack("!i", 0))
        self._send("S", b"")
        self.wait_until_ready()

    def prepare(self, name: str, sql: str) -> None:
        """Parse under a name, and Sync."""
        self._send("P", name.encode() + b"\0" + sql.encode() + b"\0\0\0")
        self._send("S", b"")
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Read up to ReadyForQuery; answer COPY IN with nothing. Raises ConnectionError when the connection ends."""
        while (message := self._read())[0] != "Z":
            if message[0] == "G":
                self._send("f", b"nothing to copy\0")

    def _send(self, kind: str, body: bytes) -> None:
        self._socket.sendall(kind.encode() + struct.pack("!I", 4 + len(body)) + body)

    def _read(self) -> tuple[str, bytes]:
        head = self._file.read(5)
        if len(head) < 5:  # noqa: PLR2004 - type and length
            raise ConnectionError("the gateway closed the connection")
        (length,) = struct.unpack("!I", head[1:])
        return chr(head[0]), self._file.read(length - 4)


def number_forms(values: Sequence[Any]) -> set[bytes]:
    """Numbers as text, and as the bytes of their binary formats: integers big-endian, floats IEEE 754."""
    forms: set[bytes] = set()
    for value in values:
        forms.add(str(value).encode())
        forms.add(struct.pack("!d", float(value)))
        if float(value).is_integer():
            forms.add(struct.pack("!i", int(value)))
    return forms
