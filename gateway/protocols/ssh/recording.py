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
from collections import deque
from typing import Any, Final

HIDDEN_KEYS: Final = "[masked:keys]"
"""What stands in place of a line that was typed while the terminal did not echo."""

MAX_PENDING_KEYS: Final = 1_024
"""Typed characters remembered until their echo comes; the rest of a longer line is not recorded."""


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


class EchoWatch:
    """Tells typed lines the terminal echoed from those it did not, such as passwords.

    What is typed is held until its line ends. It is given for the record only if every printable character of it came back in the
    output, in order; any other line is replaced. A program that echoes something else, or nothing, is treated like a password prompt.
    """

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._line: list[str] = []
        self._ended: deque[tuple[str, int]] = deque()
        self._is_overlong = False

    def type(self, data: bytes) -> list[str]:
        """Take typed bytes; gives the lines before them whose echo is decided by now."""
        settled: list[str] = []
        for char in data.decode("utf-8", "replace"):
            if char in "\r\n":
                self._ended.append(("".join(self._line) + char, len(self._waiting)))
                settled += self._settle()
            elif char.isprintable():
                self._line.append(char)
                if len(self._waiting) < MAX_PENDING_KEYS:
                    self._waiting.append(char)
                else:
                    self._is_overlong = True
            else:
                self._line.append(char)
        return settled

    def show(self, data: bytes) -> None:
        """Take output: what of the waiting characters it echoes is struck off."""
        for char in data.decode("utf-8", "replace"):
            if self._waiting and char == self._waiting[0]:
                self._waiting.popleft()

    def flush(self) -> list[str]:
        """What is left when the session ends."""
        if self._line:
            self._ended.append(("".join(self._line), len(self._waiting)))
        return self._settle()

    def _settle(self) -> list[str]:
        given = []
        while self._ended:
            line, _ = self._ended.popleft()
            is_echoed = not self._waiting and not self._is_overlong
            given.append(line if is_echoed else f"{HIDDEN_KEYS}{line[-1] if line[-1:] in {chr(13), chr(10)} else ''}")
            self._waiting.clear()
            self._line.clear()
            self._is_overlong = False
        return given
