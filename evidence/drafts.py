"""Records made ready elsewhere, that lack only their place in the log.

Whoever writes the same record many times over may prepare it in a faster way than a dictionary for each: the log gives it its place, and
has the bytes made when it writes them. What the log stores is the same either way, and so is what it promises: the record and every
chunk it names are durable together. `docs/evidence-format.md`, sections 3, 4 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


class Prepared(Protocol):
    """Records of one session at their place, and the chunks they name.

    Their bytes are made when they are first needed: mostly by whoever writes them, so that nobody waits for that. Records of a
    session are made in its order, whoever asks first.
    """

    @property
    def records(self) -> int:
        """How many; at least one."""

    @property
    def chunks(self) -> int:
        """Chunks they name, numbered one after the other."""

    @property
    def size(self) -> int:
        """Bytes of their items, at most."""

    @property
    def opened(self) -> Sequence[str]:
        """Decisions that released an action."""

    @property
    def closed(self) -> Sequence[str]:
        """Decisions whose outcome is among the records."""

    def last_hash(self) -> str:
        """Leaf hash of the last record, hexadecimal. Raises ValueError where it cannot be made: then the log cannot go on."""

    def cancel(self) -> None:
        """Give the place up again: they will not be written, and nothing was put behind them."""

    def items(self) -> bytes:
        """Items for the write-ahead log, each chunk before the record that names it. Raises ValueError."""

    def take(self) -> tuple[Sequence[bytes], Sequence[bytes], Sequence[tuple[int, bytes]]]:
        """Records, their leaf hashes, and chunks by number; once, when they are written. Raises ValueError."""


class Written(Protocol):
    """Records of sessions that were lent which follow one another in the log, once they are durable."""

    @property
    def records(self) -> int:
        """How many."""

    @property
    def size(self) -> int:
        """Bytes of their items, at most."""

    def take(self) -> tuple[Sequence[bytes], Sequence[bytes], Sequence[tuple[str, int, bytes]]]:
        """Records, their leaf hashes, and by session the number of the first chunk and the frames of all; once. Raises ValueError."""


class LentChain(Protocol):
    """A session's chain of records while native code appends to it."""

    def progress(self) -> tuple[int, Any, int, Sequence[str]]:
        """Number of the next record in the session, the record before it, number of the next chunk, decisions without an outcome."""


class Drafts(Protocol):
    """Records of one session in their order; at least one."""

    @property
    def has_effects(self) -> bool:
        """Whether one of them lets another effect than reading through."""

    @property
    def has_decisions(self) -> bool:
        """Whether a decision is among them."""

    @property
    def has_data(self) -> bool:
        """Whether one of them says what was delivered."""

    def place(self, sealer: Any, sid: str, seq: int, sseq: int, previous: Any, chunk: int, ts: str, mono_us: int, /) -> Prepared:
        """Give the records their place, once.

        Args:
            sealer: what the session's chunks are sealed with.
            sid: the session.
            seq: index of the first record in the log.
            sseq: its number in the session.
            previous: the session's record before: its leaf hash, hexadecimal, or what it was prepared as.
            chunk: number of the session's next chunk.
            ts: time of the records.
            mono_us: microseconds since the log was opened.

        Raises:
            ValueError: a record could turn out too large; none of them has a place then.
        """


def envelop(kind: str, fields: Mapping[str, Any], sid: str) -> dict[str, Any]:
    """A whole record of a session whose place is still open (`PLACE`), to make drafts from."""
    return {**fields, "v": VERSION, "type": kind, "sid": sid, **PLACE}
