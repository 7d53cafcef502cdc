r"""The scp protocol as OpenSSH's scp.c writes it (`scp -O`): lines that announce files and folders, the bytes of files, one-byte answers.

    source                        sink
      │◀─────────────────────────── \0            ready
      ├─ C0644 1024 name\n ───────▶               a file; also D0755 0 name, E, T<mtime> 0 <atime> 0
      │◀─────────────────────────── \0            go on; \1 and \2 carry a message instead
      ├─ 1024 bytes, \0 ──────────▶

`ScpSource` reads what the source sends: every announcement stops the stream until `proceed` is called, so that nothing of a file
passes before it was judged. The direction is the carrier's business: the same reader serves both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from gateway.errors import LimitExceededError, ProtocolError

MAX_LINE_BYTES: Final = 4_096 + 64
"""Longest announcement: a file name and three numbers."""

MAX_DEPTH: Final = 128
"""Deepest nesting of folders."""

_ANNOUNCEMENT: Final = re.compile(r"([CD])([0-7]{4,5}) ([0-9]{1,18}) ([^/\0\n]+)")
_TIMES: Final = re.compile(r"T[0-9]+ [0-9]+ [0-9]+ [0-9]+")


@dataclass(frozen=True, slots=True)
class Announcement:
    """A file or folder the source is about to send.

    Attributes:
        line: the announcement as it goes on, with its line end.
        path: folders entered so far and the name, relative to the operand of scp.
    """

    kind: Literal["file", "folder"]
    line: bytes
    path: str
    mode: int
    size: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of the file announced last; `is_last` once it is complete."""

    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class Control:
    """Anything else: times, the end of a folder, the status byte after a file, a message. Passes without a decision."""

    data: bytes


Part = Announcement | Chunk | Control


class ScpSource:
    """Reads the source's half of one transfer: `receive` bytes, take `next` until it gives None. Stays in error."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        self._needs_status = False
        self._folders: list[str] = []
        self._failure: ProtocolError | None = None

    def receive(self, data: bytes) -> None:
        """Add bytes as they came."""
        if self._failure is not None:
            raise self._failure
        self._buffer += data

    def next(self) -> Part | None:
        """The next part, None until more has come. Raises ProtocolError, and again ever after."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._next()
        except ProtocolError as error:
            self._failure = error
            raise

    @property
    def is_between_files(self) -> bool:
        """Whether no file is under way."""
        return not self._left and not self._needs_status

    def _next(self) -> Part | None:
        if not self._buffer:
            return None
        if self._left:
            data = bytes(self._buffer[: self._left])
            del self._buffer[: len(data)]
            self._left -= len(data)
            return Chunk(data, not self._left)
        if self._needs_status or self._buffer[0] == 0:
            self._needs_status = False
            status = bytes(self._buffer[:1])
            if status in {b"\1", b"\2"}:
                return self._message()
            if status != b"\0":
                raise ProtocolError("the scp stream cannot be read", why="no status after a file", fix="use scp without -O")
            del self._buffer[:1]
            return Control(status)
        if self._buffer[0] in {1, 2}:
            return self._message()
        return self._line()

    def _message(self) -> Control | None:
        line = self._take_line()
        return None if line is None else Control(line)

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", 0, MAX_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_LINE_BYTES:
                raise LimitExceededError("a line of the scp stream is too long", why=f"more than {MAX_LINE_BYTES} bytes")
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _line(self) -> Part | None:
        line = self._take_line()
        if line is None:
            return None
        try:
            text = line[:-1].decode()
        except UnicodeDecodeError:
            raise ProtocolError("a file name is not UTF-8", why="policy could not read it", fix="rename the file") from None
        if _TIMES.fullmatch(text):
            return Control(line)
        if text == "E":
            if not self._folders:
                raise ProtocolError("the scp stream cannot be read", why="a folder ends that never began")
            self._folders.pop()
            return Control(line)
        match = _ANNOUNCEMENT.fullmatch(text)
        if match is None or match[4] in {".", ".."}:
            raise ProtocolError("the scp stream cannot be read", why="an unknown announcement", fix="use scp without -O")
        return self._announce(match, line)

    def _announce(self, match: re.Match[str], line: bytes) -> Announcement:
        path = "/".join([*self._folders, match[4]])
        size = int(match[3])
        if match[1] == "D":
            self._folders.append(match[4])
            if len(self._folders) > MAX_DEPTH:
                raise LimitExceededError("folders of the scp stream are nested too deep", why=f"more than {MAX_DEPTH}")
            return Announcement("folder", line, path, int(match[2], 8), 0)
        self._left, self._needs_status = size, True
        return Announcement("file", line, path, int(match[2], 8), size)
