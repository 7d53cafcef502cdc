"""Plays recordings of terminals and commands (asciicast version 3), piece by piece as their chunks are opened.

https://docs.asciinema.org/manual/asciicast/v3/: a header line, then lines [interval in seconds, code, text]. What is played is text of
systems nobody vouches for; whoever shows it makes it harmless first (`evidence.sessions.neutralise`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

KINDS: Final = {"o": "output", "e": "stderr", "i": "input", "r": "resize", "x": "exit", "m": "marker"}

JOIN_S: Final = 0.05
"""Output that follows within this time is one step: a screen drawn in many writes is read as one."""

MAX_STEP_CHARS: Final = 4_000


@dataclass(frozen=True, slots=True)
class CastEvent:
    """One step: seconds since the session began, what kind, and the text as it was recorded."""

    at_s: float
    kind: str
    text: str


class CastPlayer:
    """One recording. Lines may be cut between two chunks.

    Args:
        begins_at_s: when it began, in seconds since the session did.
    """

    def __init__(self, begins_at_s: float) -> None:
        self._at_s = begins_at_s
        self._rest = b""
        self._is_begun = False

    def accepts(self, chunk: bytes) -> bool:
        """Whether a chunk is part of a recording: the first one must begin like one."""
        self._is_begun = self._is_begun or chunk.startswith(b'{"version":3,')
        return self._is_begun

    def play(self, chunk: bytes) -> Iterator[CastEvent]:
        """The steps in a chunk, joined where they follow at once."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        waiting: CastEvent | None = None
        for line in lines:
            event = self._read(line)
            if event is None:
                continue
            if waiting is not None and _belongs(waiting, event):
                waiting = CastEvent(waiting.at_s, waiting.kind, waiting.text + event.text)
                continue
            if waiting is not None:
                yield waiting
            waiting = event
        if waiting is not None:
            yield waiting

    def _read(self, line: bytes) -> CastEvent | None:
        try:
            value: Any = json.loads(line)
            if isinstance(value, dict):
                return None
            interval, code, text = value
            self._at_s += float(interval)
            return CastEvent(self._at_s, KINDS.get(code, "other"), str(text))
        except (ValueError, TypeError):
            return CastEvent(self._at_s, "other", line.decode("utf-8", "backslashreplace")) if line else None


def _belongs(waiting: CastEvent, event: CastEvent) -> bool:
    is_same = waiting.kind == event.kind and event.kind in {"output", "stderr", "input"}
    return is_same and event.at_s - waiting.at_s < JOIN_S and len(waiting.text) < MAX_STEP_CHARS
