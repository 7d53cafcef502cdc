"""pkt-lines (gitprotocol-common(5)) and the command list of a push (gitprotocol-pack(5), "Reference Update Request And Packfile Transfer").

Bytes in, values out; nothing waits. A reader that has failed stays failed.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from gateway.errors import LimitExceededError, ProtocolError
from gateway.protocols.git.events import Push, RefUpdate

MAX_PKT_BYTES: Final = 65_520
"""Longest pkt-line, its length included."""

MAX_COMMANDS_BYTES: Final = 4 << 20
"""Longest command list: about 30,000 refs."""

FLUSH: Final = b"0000"

_LENGTH: Final = re.compile(rb"[0-9a-fA-F]{4}")
_COMMAND: Final = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) (\S.*)")
_BAD_REF: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/$|^/|\.lock$|\.$")
"""What git-check-ref-format(1) refuses."""


class Mark(enum.Enum):
    """What is no line."""

    FLUSH = "flush"
    MORE = "more must come"


class PktReader:
    """Cuts a stream into pkt-lines: `receive` bytes, take `next`."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._failure: ProtocolError | None = None

    def receive(self, data: bytes) -> None:
        """Add bytes as they came. Raises what an earlier line raised."""
        if self._failure is not None:
            raise self._failure
        self._buffer += data

    def next(self) -> bytes | Mark:
        """The content of the next line, a flush-pkt, or that more must come. Raises ProtocolError, and again ever after."""
        if self._failure is not None:
            raise self._failure
        if len(self._buffer) < 4:  # noqa: PLR2004 - the length
            return Mark.MORE
        head = bytes(self._buffer[:4])
        if not _LENGTH.fullmatch(head):
            self._failure = ProtocolError(
                "the git stream cannot be read", why="a line without a length", fix="use another git client"
            )
            raise self._failure
        length = int(head, 16)
        if length == 0:
            del self._buffer[:4]
            return Mark.FLUSH
        if length < 4 or length > MAX_PKT_BYTES:  # noqa: PLR2004 - delimiters belong to protocol 2, which pushes do not use
            self._failure = ProtocolError(
                "the git stream cannot be read", why=f"a line of {length} bytes", fix="use another git client"
            )
            raise self._failure
        if len(self._buffer) < length:
            return Mark.MORE
        content = bytes(self._buffer[4:length])
        del self._buffer[:length]
        return content

    def take_rest(self) -> bytes:
        """What came after the last line."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


class PushReader:
    """Reads the client's half of a push up to its pack.

    `receive` bytes until it gives the Push; `head` is then exactly what came of it, to be sent on, and `rest` what came after it.
    """

    def __init__(self, repository: str) -> None:
        self._repository = repository
        self._reader = PktReader()
        self._head = bytearray()
        self._updates: list[RefUpdate] = []
        self._options: list[str] = []
        self._capabilities: tuple[str, ...] = ()
        self._in_options = False
        self.rest = b""

    @property
    def head(self) -> bytes:
        """The commands and options, byte for byte."""
        return bytes(self._head)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the client asked for so far."""
        return self._capabilities

    def receive(self, data: bytes) -> Push | None:
        """The push once its commands are complete, None until then. Raises ProtocolError."""
        self._reader.receive(data)
        while True:
            line = self._reader.next()
            if line is Mark.MORE:
                if len(self._head) + len(data) > MAX_COMMANDS_BYTES:
                    raise LimitExceededError(
                        "the push names too many refs", why=f"more than {MAX_COMMANDS_BYTES} bytes of commands"
                    )
                return None
            if isinstance(line, Mark):
                self._head += FLUSH
                if not self._in_options and "push-options" in self._capabilities and self._updates:
                    self._in_options = True
                    continue
                self.rest = self._reader.take_rest()
                return Push(self._repository, tuple(self._updates), self._capabilities, tuple(self._options))
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        self._head += encode_line(line)
        if len(self._head) > MAX_COMMANDS_BYTES:
            raise LimitExceededError("the push names too many refs", why=f"more than {MAX_COMMANDS_BYTES} bytes of commands")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise ProtocolError("a ref of the push is not UTF-8", why="policy could not read it", fix="rename the ref") from None
        if self._in_options:
            self._options.append(text.removesuffix("\n"))
            return
        text, separator, capabilities = text.partition("\0")
        if separator and not self._updates:
            self._capabilities = tuple(word.partition("=")[0] for word in capabilities.split())
        if text.startswith("push-cert"):
            raise ProtocolError("signed pushes are not carried", why="their certificate is not read", fix="push without --signed")
        if text.startswith("shallow "):
            return
        match = _COMMAND.fullmatch(text.removesuffix("\n"))
        if match is None or _BAD_REF.search(match[3]) or len(match[1]) != len(match[2]):
            raise ProtocolError(
                "the command list of the push cannot be read", why="a line is no update of a ref", fix="use another git client"
            )
        self._updates.append(RefUpdate(match[3], match[1], match[2]))


def encode_line(content: bytes) -> bytes:
    """One pkt-line."""
    return f"{len(content) + 4:04x}".encode() + content
