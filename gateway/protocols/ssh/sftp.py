"""sftp version 3 (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL 4): packets cut from a stream, requests read, replies made.

Bytes in, packets out: nothing here waits or knows a socket. A reader that has failed stays failed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.errors import LimitExceededError, ProtocolError
from gateway.protocols.ssh.events import FileOperation, FileRequest

MAX_PACKET_BYTES: Final = 262_144 + 4_096
"""Longest packet; OpenSSH's own bound is 256 KiB, and a write may fill it."""

MAX_PATH_BYTES: Final = 4_096
"""PATH_MAX of the systems sshd runs on."""

READ_AHEAD_BYTES: Final = 1_024
"""Read behind what the client asked for, so that a finding across the border of two reads is seen whole."""

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH = (
    range(1, 17)
)
STAT, RENAME, READLINK, SYMLINK = 17, 18, 19, 20
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED, EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201

STATUS_OK, STATUS_EOF = 0, 1

EXTENSIONS: Final = frozenset({
    b"posix-rename@openssh.com", b"statvfs@openssh.com", b"fstatvfs@openssh.com", b"hardlink@openssh.com", b"fsync@openssh.com",
    b"lsetstat@openssh.com", b"limits@openssh.com",
})  # fmt: skip
"""Extensions that are understood and so may be announced to the client; any other is left out of the target's greeting."""

_FLAGS: Final = ((0x01, "read"), (0x02, "write"), (0x04, "append"), (0x08, "create"), (0x10, "truncate"), (0x20, "exclusive"))
_ATTRIBUTES: Final = ((0x01, "size", 8), (0x02, "owner", 8), (0x04, "permissions", 4), (0x08, "times", 8))
_EXTENDED_ATTRIBUTES: Final = 0x80000000


class SftpReader:
    """Cuts one direction of the stream into packets: `receive` bytes, then take `next` until it gives None."""

    def __init__(self, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._buffer = bytearray()
        self._max_packet_bytes = max_packet_bytes
        self._failure: ProtocolError | None = None

    def receive(self, data: bytes) -> None:
        """Add bytes as they came. Raises what an earlier packet raised."""
        if self._failure is not None:
            raise self._failure
        self._buffer += data

    def next(self) -> bytes | None:
        """The next packet without its length, None while it is not complete. Raises ProtocolError, and again ever after."""
        if self._failure is not None:
            raise self._failure
        if len(self._buffer) < 4:  # noqa: PLR2004 - the length
            return None
        length = int.from_bytes(self._buffer[:4])
        if length == 0:
            self._failure = ProtocolError("an sftp packet is empty", why="its length is zero", fix="use another sftp client")
            raise self._failure
        if length > self._max_packet_bytes:
            why = f"{length} bytes; at most {self._max_packet_bytes} are read"
            self._failure = LimitExceededError("an sftp packet is too long", why=why, fix="use smaller requests (sftp -B)")
            raise self._failure
        if len(self._buffer) < 4 + length:
            return None
        packet = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return packet

    @property
    def held_bytes(self) -> int:
        """Bytes of an incomplete packet."""
        return len(self._buffer)


class _Fields:
    """The fields of one packet, read from the front."""

    def __init__(self, packet: bytes, at: int) -> None:
        self._packet = packet
        self._at = at

    def number(self) -> int:
        return self._unpack(">I", 4)

    def long(self) -> int:
        return self._unpack(">Q", 8)

    def _unpack(self, form: str, size: int) -> int:
        if self._at + size > len(self._packet):
            raise ProtocolError("an sftp packet is too short", why="a number is missing", fix="use another sftp client")
        (value,) = struct.unpack_from(form, self._packet, self._at)
        self._at += size
        return int(value)

    def string(self, max_bytes: int = MAX_PACKET_BYTES) -> bytes:
        length = self.number()
        if length > max_bytes:
            raise LimitExceededError("a name in an sftp packet is too long", why=f"{length} bytes; at most {max_bytes} are read")
        if self._at + length > len(self._packet):
            raise ProtocolError("an sftp packet is too short", why="a string is cut off", fix="use another sftp client")
        value = self._packet[self._at : self._at + length]
        self._at += length
        return value

    def path(self) -> str:
        data = self.string(MAX_PATH_BYTES)
        try:
            path = data.decode()
        except UnicodeDecodeError:
            raise ProtocolError("a file name is not UTF-8", why="policy could not read it", fix="rename the file") from None
        if "\0" in path:
            raise ProtocolError("a file name holds a NUL", why="the server could stop reading at it", fix="rename the file")
        return path

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._packet)


@dataclass(frozen=True, slots=True)
class Request:
    """One packet of the client.

    Attributes:
        kind: its type byte.
        id: the request id; None for the greeting.
        event: the operation to judge; None where it works on an open handle, or says nothing about any file.
        handle: what it works on.
        offset, length: of reads and writes.
        extension: name of an extended request.
    """

    kind: int
    id: int | None
    event: FileRequest | None = None
    handle: bytes | None = None
    offset: int = 0
    length: int = 0
    extension: bytes = b""


def parse_request(packet: bytes) -> Request:
    """One packet of the client. Raises ProtocolError when it does not follow its type."""
    kind = packet[0]
    fields = _Fields(packet, 1)
    if kind == INIT:
        return Request(kind, None)
    number = fields.number()
    if kind in _BY_KIND:
        return _BY_KIND[kind](kind, number, fields)
    return Request(kind, number, FileRequest("sftp", "unknown", f"type {kind}"))


def _read_attributes(fields: _Fields) -> tuple[tuple[str, ...], int | None, int | None]:
    """Names of the attributes that are set, the mode, the size (5 of the draft)."""
    if fields.is_at_end:
        return (), None, None
    flags, names, mode, size = fields.number(), [], None, None
    for bit, name, width in _ATTRIBUTES:
        if flags & bit:
            names.append(name)
            value = fields.long() if width == 8 else fields.number()  # noqa: PLR2004 - bytes
            size, mode = (value if name == "size" else size), (value if name == "permissions" else mode)
    if flags & _EXTENDED_ATTRIBUTES:
        names.append("extended")
    known = _EXTENDED_ATTRIBUTES | 0x0F
    if flags & ~known:
        raise ProtocolError("attributes of a file cannot be read", why=f"flags {flags:#x}", fix="use another sftp client")
    return tuple(names), mode, size


def _open(kind: int, number: int, fields: _Fields) -> Request:
    path, bits = fields.path(), fields.number()
    flags = tuple(name for bit, name in _FLAGS if bits & bit)
    if bits & ~0x3F or not {"read", "write", "append"} & set(flags):
        raise ProtocolError("a file is opened in a way that is not known", why=f"flags {bits:#x}", fix="use another sftp client")
    attributes, mode, _ = _read_attributes(fields)
    return Request(kind, number, FileRequest("sftp", "open", path, flags=flags, attributes=attributes, mode=mode))


def _on_path(operation: FileOperation) -> Callable[[int, int, _Fields], Request]:
    def read(kind: int, number: int, fields: _Fields) -> Request:
        return Request(kind, number, FileRequest("sftp", operation, fields.path()))

    return read


def _on_path_with_attributes(operation: FileOperation) -> Callable[[int, int, _Fields], Request]:
    def read(kind: int, number: int, fields: _Fields) -> Request:
        path = fields.path()
        attributes, mode, size = _read_attributes(fields)
        return Request(kind, number, FileRequest("sftp", operation, path, attributes=attributes, mode=mode, size=size))

    return read


def _on_two_paths(operation: FileOperation) -> Callable[[int, int, _Fields], Request]:
    def read(kind: int, number: int, fields: _Fields) -> Request:
        first = fields.path()
        return Request(kind, number, FileRequest("sftp", operation, first, other_path=fields.path()))

    return read


def _on_handle(kind: int, number: int, fields: _Fields) -> Request:
    return Request(kind, number, handle=fields.string(256))


def _on_span(kind: int, number: int, fields: _Fields) -> Request:
    handle, offset = fields.string(256), fields.long()
    length = fields.number()  # of what to read, or of the data that follows
    return Request(kind, number, handle=handle, offset=offset, length=length)


def _set_on_handle(kind: int, number: int, fields: _Fields) -> Request:
    handle = fields.string(256)
    attributes, mode, size = _read_attributes(fields)
    return Request(kind, number, FileRequest("sftp", "setstat", "", attributes=attributes, mode=mode, size=size), handle=handle)


def _extended(kind: int, number: int, fields: _Fields) -> Request:
    name = fields.string(256)
    match name:
        case b"posix-rename@openssh.com" | b"hardlink@openssh.com":
            operation: FileOperation = "rename" if name.startswith(b"posix") else "link"
            event = FileRequest("sftp", operation, fields.path(), other_path=fields.path())
            return Request(kind, number, event, extension=name)
        case b"statvfs@openssh.com":
            return Request(kind, number, FileRequest("sftp", "statvfs", fields.path()), extension=name)
        case b"lsetstat@openssh.com":
            path = fields.path()
            attributes, mode, size = _read_attributes(fields)
            event = FileRequest("sftp", "setstat", path, attributes=attributes, mode=mode, size=size)
            return Request(kind, number, event, extension=name)
        case b"fsync@openssh.com" | b"fstatvfs@openssh.com":
            return Request(kind, number, handle=fields.string(256), extension=name)
        case b"limits@openssh.com":
            return Request(kind, number, extension=name)
    shown = name.decode("ascii", "backslashreplace")[:64]
    return Request(kind, number, FileRequest("sftp", "unknown", shown), extension=name)


_BY_KIND: Final[dict[int, Callable[[int, int, _Fields], Request]]] = {
    OPEN: _open,
    CLOSE: _on_handle,
    READ: _on_span,
    WRITE: _on_span,
    LSTAT: _on_path("stat"),
    FSTAT: _on_handle,
    SETSTAT: _on_path_with_attributes("setstat"),
    FSETSTAT: _set_on_handle,
    OPENDIR: _on_path("list"),
    READDIR: _on_handle,
    REMOVE: _on_path("remove"),
    MKDIR: _on_path_with_attributes("mkdir"),
    RMDIR: _on_path("rmdir"),
    REALPATH: _on_path("realpath"),
    STAT: _on_path("stat"),
    RENAME: _on_two_paths("rename"),
    READLINK: _on_path("readlink"),
    SYMLINK: _on_two_paths("symlink"),
    EXTENDED: _extended,
}


def read_written(packet: bytes) -> bytes:
    """The data of a WRITE packet."""
    fields = _Fields(packet, 5)
    fields.string(256)
    fields.long()
    return fields.string()


def read_reply(packet: bytes) -> tuple[int, int | None]:
    """Type and request id of a packet of the server; no id for its greeting. Raises ProtocolError."""
    return packet[0], None if packet[0] == VERSION else _Fields(packet, 1).number()


def read_status(packet: bytes) -> int:
    """The code of a STATUS packet."""
    return _Fields(packet, 5).number()


def read_handle(packet: bytes) -> bytes:
    """The handle of a HANDLE packet, or the data of a DATA packet."""
    return _Fields(packet, 5).string()


def keep_extensions(packet: bytes) -> bytes:
    """The server's greeting with only the extensions that are understood. Raises ProtocolError for any version but 3."""
    fields = _Fields(packet, 1)
    version = fields.number()
    if version != 3:  # noqa: PLR2004 - the only version OpenSSH speaks
        raise ProtocolError("the target speaks another version of sftp", why=f"version {version}", fix="use version 3")
    kept = b""
    while not fields.is_at_end:
        name, value = fields.string(), fields.string()
        if name in EXTENSIONS:
            kept += pack_string(name) + pack_string(value)
    return struct.pack(">BI", VERSION, version) + kept


def shrink_read_limit(packet: bytes) -> bytes:
    """A limits@openssh.com reply that leaves room for what is read ahead."""
    fields = _Fields(packet, 5)
    packet_bytes, read_bytes, write_bytes, handles = fields.long(), fields.long(), fields.long(), fields.long()
    if read_bytes > 2 * READ_AHEAD_BYTES:
        read_bytes -= READ_AHEAD_BYTES
    return packet[:5] + struct.pack(">QQQQ", packet_bytes, read_bytes, write_bytes, handles)


def pack_string(data: bytes) -> bytes:
    """A string field."""
    return struct.pack(">I", len(data)) + data


def frame(packet: bytes) -> bytes:
    """A packet with its length, as it goes onto the wire."""
    return struct.pack(">I", len(packet)) + packet


def make_status(number: int, code: int, message: str) -> bytes:
    """A STATUS packet."""
    return struct.pack(">BII", STATUS, number, code) + pack_string(message.encode()) + pack_string(b"en")


def make_data(number: int, data: bytes) -> bytes:
    """A DATA packet."""
    return struct.pack(">BI", DATA, number) + pack_string(data)


def make_read(number: int, handle: bytes, offset: int, length: int) -> bytes:
    """A READ packet."""
    return struct.pack(">BI", READ, number) + pack_string(handle) + struct.pack(">QI", offset, length)


def iterate(reader: SftpReader) -> Iterator[bytes]:
    """Every complete packet."""
    while (packet := reader.next()) is not None:
        yield packet
