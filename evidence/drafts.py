"""Records made ready elsewhere, that lack only their place in the log.

Whoever writes the same record many times over may prepare it in a faster way than a dictionary for each: the log then asks for the
finished bytes once it knows the place. What the log stores is the same either way, and so is what it promises: the record and every
chunk it names are durable together. `docs/evidence-format.md`, sections 3, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from evidence.record import VERSION

PLACE: Final[Mapping[str, Any]] = {"seq": 0, "sseq": 0, "sprev": "", "ts": "", "mono_us": 0}
"""The members of a record that its place decides; the rest of the envelope is the same for each record of a type and session."""


class Sealer(Protocol):
    """Seals the chunks of one session; `evidence.keys.ChunkSealer` says what comes out."""

    def seal(self, number: int, plain: bytes, /) -> bytes:
        """The ciphertext of chunk `number`."""


SealerFactory = Callable[[bytes, str, str], Sealer]
"""(data key, origin, session id) -> what seals that session's chunks."""

Finished = tuple[bytes, list[bytes], list[bytes], list[tuple[int, bytes]], list[str], list[str]]
"""Items for the write-ahead log, records, their leaf hashes, chunks by number, decisions that released an action, and decisions
whose outcome is among the records."""


class Drafts(Protocol):
    """Records of one session in their order; at least one."""

    @property
    def has_effects(self) -> bool:
        """Whether one of them lets another effect than reading through."""

    def finish(self, sealer: Any, sid: str, seq: int, sseq: int, previous: str, chunk: int, ts: str, mono_us: int, /) -> Finished:
        """The records at their place.

        Args:
            sealer: what the session's chunks are sealed with.
            sid: the session.
            seq: index of the first record in the log.
            sseq: its number in the session.
            previous: leaf hash of the session's record before, hexadecimal.
            chunk: number of the session's next chunk.
            ts: time of the records.
            mono_us: microseconds since the log was opened.

        Raises:
            ValueError: a record cannot be made; none of them may be used.
        """


def envelop(kind: str, fields: Mapping[str, Any], sid: str) -> dict[str, Any]:
    """A whole record of a session whose place is still open (`PLACE`), to make drafts from."""
    return {**fields, "v": VERSION, "type": kind, "sid": sid, **PLACE}
