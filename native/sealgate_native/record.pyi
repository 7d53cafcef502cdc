"""Records of evidence made from templates, and what seals their chunks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, final

@final
class Sealer:
    """Seals the chunks of one session, as `evidence.keys.ChunkSealer` does: zstd, then AES-256-GCM with the chunk's number as nonce."""

    def __new__(cls, data_key: bytes, origin: str, sid: str, /) -> Sealer: ...
    def seal(self, number: int, plain: bytes, /) -> bytes:
        """The ciphertext of chunk `number`, which must not be used twice. Raises ValueError for more than 16 MiB."""

@final
class Counters:
    """What a session amounts to so far; the pipeline and the session's kernel count on it together."""

    def __new__(cls) -> Counters: ...
    def add(self, *, actions: int = 0, refused: int = 0, rows: int = 0, bytes: int = 0) -> None: ...
    def read(self) -> dict[str, int]:
        """actions, refused, rows, bytes."""

@final
class Drafts:
    """Records of one session that lack only their place in the log (`evidence.drafts.Drafts`)."""

    @property
    def has_effects(self) -> bool:
        """Whether one of them lets another effect than reading through, so that it must be durable before the server sees it."""

    @property
    def has_decisions(self) -> bool:
        """Whether a decision is among them."""

    @property
    def has_data(self) -> bool:
        """Whether one of them says what was delivered."""

    def place(
        self, sealer: Sealer, sid: str, seq: int, sseq: int, previous: str | Prepared, chunk: int, ts: str, mono_us: int, /
    ) -> Prepared:
        """Gives the records their place, once. Raises ValueError where one of them could turn out too large; nothing has changed then."""

@final
class Prepared:
    """Records of one session at their place, whose bytes are made when they are first needed (`evidence.drafts.Prepared`)."""

    @property
    def records(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def opened(self) -> list[str]: ...
    @property
    def closed(self) -> list[str]: ...
    def last_hash(self) -> str: ...
    def cancel(self) -> None: ...
    def items(self) -> bytes: ...
    def take(self) -> tuple[list[bytes], list[bytes], list[tuple[int, bytes]]]: ...

@final
class SegmentFile:
    """One segment of the write-ahead log, appended to without the interpreter (`evidence.wal.SegmentFile`)."""

    def __new__(cls, path: Path, /) -> SegmentFile: ...
    def append(self, parts: Sequence[bytes | Prepared], number: int, first_index: int, records: int, offset: int, /) -> int:
        """Writes one batch and makes it durable; the bytes it takes. Raises OSError, and ValueError where a record cannot be made."""

@final
class Writer:
    """The queue in front of the write-ahead log's writer thread, and that thread's loop (`evidence.segment.Writer`).

    A batch holds at most `max_entries` entries and `max_batch` bytes; one entry alone may have more. At most `max_queue` bytes wait.
    While it is entered as a context manager, nobody else numbers records.
    """

    def __new__(
        cls, max_entries: int, max_batch: int, max_queue: int, first_segment: int, segment: int, next_index: int, /
    ) -> Writer: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_error: object) -> None: ...
    @property
    def next_index(self) -> int:
        """Index of the next record."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait."""

    @property
    def durable(self) -> int:
        """Durable records, those included that nobody was told of."""

    def has_room(self, size: int, /) -> bool:
        """Whether an entry of so many bytes may wait too."""

    def needs_segment(self, size: int, /) -> bool:
        """Whether an entry of so many bytes has to start a segment."""

    def plan_segment(self) -> None:
        """Has the next entry start a segment."""

    def count_foreign(self) -> tuple[int, int]:
        """Records and bytes that a `Chain` queued and that are not durable."""

    def fileno(self) -> int:
        """Readable once something is durable that `notice` was not asked about."""

    def notice(self) -> list[int | Written]:
        """What has become durable since the last time, in order: entries that were pushed, or records that the chain of a session queued."""

    def push(
        self, parts: Sequence[bytes | Prepared], records: int, size: int, starts_segment: bool, has_thread: bool, rings: bool, /
    ) -> None:
        """Queues an entry; it is written with the next one that rings. Nothing once closed."""

    def ring(self) -> None: ...
    def stop(self) -> None:
        """Has `run` come back once everything is written."""

    def close(self) -> None:
        """Drops what is queued and whatever comes after it."""

    def totals(self) -> tuple[int, int, int]:
        """Syncs, nanoseconds spent writing and syncing, bytes."""

    def run(
        self, file: SegmentFile | None, number: int, first_index: int, offset: int, mark: int, /
    ) -> tuple[Literal["segment", "acknowledge", "mark", "stopped", "failed"], int, int, Exception | None]:
        """Writes batches until something is the host's to do: why, the next batch's number and offset, what went wrong.

        segment: the next entry starts one. acknowledge: somebody waits in a thread. mark: the segment is used as far as that.
        """

@final
class Written:
    """Records that a `Chain` queued and that follow one another in the log, once they are durable (`evidence.drafts.Written`)."""

    @property
    def records(self) -> int: ...
    @property
    def size(self) -> int: ...
    def take(self) -> tuple[list[bytes], list[bytes], list[tuple[str, int, bytes]]]:
        """Records, their leaf hashes, and by session the number of the first chunk and the frames of all; once. Raises ValueError."""

@final
class Chain:
    """A session's chain of records while native code appends to it (`evidence.drafts.LentChain`)."""

    def __new__(
        cls, sid: str, sealer: Sealer, sseq: int, tip: str | Prepared, chunk: int, pending: list[str], /
    ) -> Chain: ...
    def progress(self) -> tuple[int, str | Prepared, int, list[str]]:
        """Number of the next record in the session, the record before it, number of the next chunk, decisions without an outcome."""
