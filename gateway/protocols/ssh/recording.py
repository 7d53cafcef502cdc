r"""The transcript of a shell or command: asciicast version 3 (https://docs.asciinema.org/manual/asciicast/v3/), one JSON line per event.

    {"version":3,"term":{"cols":80,"rows":24},"timestamp":1764162000,"sealgate":{"kind":"exec"}}
    [0.031000,"o","total 4\r\n"]      output;  "e" standard error (ours: players skip codes they do not know)
    [1.200000,"i","ls\r"]             input, masked where it was not echoed
    [0.400000,"r","100x30"]            resize
    [0.002000,"x","0"]                 exit status, or the name of a signal

Intervals are seconds since the event before, as the format wants. Text arrives masked already; here it is only written down.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

HIDDEN_KEYS: Final = "[masked:keys]"
"""What stands in place of a line that was typed while the terminal did not echo."""

MAX_PENDING_KEYS: Final = 1_024
"""Longest typed line that is kept; a longer one is replaced."""

MAX_PENDING_LINES: Final = 64
"""Lines typed ahead whose echo is awaited."""

_ESCAPE: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -/]*[0-~])")
"""Control sequences of a terminal (ECMA-48 5.4, and OSC), which draw nothing themselves."""


class CastWriter:
    """Makes the lines of one recording. Time is given by the caller, in nanoseconds."""

    def __init__(self, *, columns: int, rows: int, started_ns: int, details: dict[str, Any]) -> None:
        self._last_ns = started_ns
        self._decoders = {code: codecs.getincrementaldecoder("utf-8")("replace") for code in "oei"}
        term = {"cols": columns, "rows": rows}
        self._header = {"version": 3, "term": term, "timestamp": started_ns // 1_000_000_000, "sealgate": details}

    def begin(self) -> bytes:
        """The header line."""
        return _line(self._header)

    def write(self, code: str, data: bytes, now_ns: int) -> bytes:
        """The line of an "o", "e" or "i" event; b"" while it holds no whole character."""
        text = self._decoders[code].decode(data)
        return self._event(code, text, now_ns) if text else b""

    def resize(self, columns: int, rows: int, now_ns: int) -> bytes:
        """The line of a new terminal size."""
        return self._event("r", f"{columns}x{rows}", now_ns)

    def exit(self, status: str, now_ns: int) -> bytes:
        """What was left of cut characters, and the line of the end."""
        rest = b"".join(
            self._event(code, text, now_ns)
            for code, decoder in self._decoders.items()
            if (text := decoder.decode(b"", final=True))
        )
        return rest + self._event("x", status, now_ns)

    def _event(self, code: str, text: str, now_ns: int) -> bytes:
        interval = max(0, now_ns - self._last_ns)
        self._last_ns = max(now_ns, self._last_ns)
        return _line([round(interval / 1_000_000_000, 6), code, text])


def _line(value: object) -> bytes:
    # ASCII only, so that a cut between two chunks of the transcript never falls inside a character.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


@dataclass(slots=True)
class _Typed:
    """One typed line: its text, the printable part whose echo is awaited, and how much of that has come."""

    text: str = ""
    expected: str = ""
    matched: int = 0
    has_ended: bool = False

    @property
    def is_echoed(self) -> bool:
        return self.matched == len(self.expected)


class EchoWatch:
    """Tells typed lines the terminal echoed from those it did not, such as passwords.

    A line is settled by the first line end the terminal shows after it was entered: it is given for the record only if its printable
    characters came back before that, one after the other, with nothing but escape sequences between them. Any other line is replaced. A
    program that echoes something else, or nothing, is treated like a password prompt.
    """

    def __init__(self) -> None:
        self._lines: deque[_Typed] = deque()

    def type(self, data: bytes) -> list[str]:
        """Take typed bytes; gives lines that wait for too long."""
        for char in data.decode("utf-8", "replace"):
            if not self._lines or self._lines[-1].has_ended:
                self._lines.append(_Typed())
            line = self._lines[-1]
            if char in "\r\n":
                line.has_ended = True
            elif char.isprintable():
                line.expected += char
            if len(line.text) < MAX_PENDING_KEYS:
                line.text += char
            else:
                line.expected += "\0"  # too long to be kept: never echoed
        return [_settle(self._lines.popleft()) for _ in range(len(self._lines) - MAX_PENDING_LINES)]

    def show(self, data: bytes) -> list[str]:
        """Take output; gives the lines it settles."""
        settled: list[str] = []
        for char in _ESCAPE.sub("", data.decode("utf-8", "replace")):
            if not self._lines:
                break
            line = self._lines[0]
            if char == "\n" and line.has_ended:
                settled.append(_settle(self._lines.popleft()))
            elif char.isprintable() and not line.is_echoed:
                line.matched = line.matched + 1 if char == line.expected[line.matched] else int(char == line.expected[0])
        return settled

    def flush(self) -> list[str]:
        """What is left when the session ends."""
        lines, self._lines = self._lines, deque()
        return [_settle(line) for line in lines]


def _settle(line: _Typed) -> str:
    if line.is_echoed:
        return line.text
    return HIDDEN_KEYS + ("\r" if line.has_ended else "")
