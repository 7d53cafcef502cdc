"""Entries of the write-ahead log: one request to the log on its way to disk, and the items it is made of.

`docs/evidence-format.md`, section 7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from evidence.drafts import Prepared, Written
from evidence.segment import Part

LEAF: Final = 1
CHUNK: Final = 2
FILE: Final = 3
STATE: Final = 4
FRAMES: Final = 5
"""Not an item of the log: chunks that follow one another, as a chunk file holds them; see `Entry.publish`."""

ITEM_HEADER: Final = struct.Struct(">BI")


def encode_item(kind: int, data: bytes) -> tuple[bytes, bytes]:
    """One item of a batch, as the parts to write: kind and length, then the bytes themselves, uncopied."""
    return ITEM_HEADER.pack(kind, len(data)), data


def encode_named(kind: int, name: str, number: int, data: bytes) -> tuple[bytes, bytes]:
    """A CHUNK (session id, chunk number, ciphertext) or FILE (path, 0, content) item, as the parts to write."""
    encoded = name.encode()
    head = len(encoded).to_bytes(2) + encoded + number.to_bytes(8)
    return ITEM_HEADER.pack(kind, len(head) + len(data)) + head, data


def decode_named(body: bytes) -> tuple[str, int, bytes]:
    """The name, number and bytes of a CHUNK or FILE item."""
    end = 2 + int.from_bytes(body[:2])
    return body[2:end].decode(), int.from_bytes(body[end : end + 8]), body[end + 8 :]


Attachment = tuple[int, str, int, bytes]
"""A CHUNK or FILE item, or FRAMES, for whoever publishes it: kind, name, number, data."""


class Entry:
    """One request to the log on its way to disk: items, and who waits for them.

    Attributes:
        parts: items as they go to disk, or what makes them. Parts share their bytes with `leaf` and `attachments`: an entry
            is held until it is published, and at full speed copies would cost more than encoding.
        size: bytes of all parts, at most.
        leaf: the record's bytes, or None for an entry that only carries chunks, files or state, or whose records are `prepared`.
        prepared: records of the session `name` whose bytes are made when they are written; `receipt` is the last one's.
        written: records that native code queued and wrote.
        records: how many there are.
        waiter: a future to complete with `receipt`; `loop` is its event loop, or None for a `concurrent.futures.Future`.
        attachments: what travels with the record.
        starts_segment: this entry must be the first of a new segment.
        may_wait: nobody waits for it yet, so it need not wake the writer; see `Wal.ring`.
    """

    __slots__ = (
        "attachments",
        "leaf",
        "leaf_hash",
        "loop",
        "may_wait",
        "name",
        "parts",
        "prepared",
        "receipt",
        "records",
        "size",
        "starts_segment",
        "waiter",
        "written",
    )

    def __init__(
        self,
        parts: tuple[Part, ...],
        size: int,
        leaf: bytes | None = None,
        leaf_hash: bytes = b"",
        receipt: Any = None,
        waiter: Any = None,
        loop: Any = None,
        attachments: tuple[Attachment, ...] = (),
        *,
        starts_segment: bool = False,
    ) -> None:
        self.parts = parts
        self.size = size
        self.leaf = leaf
        self.leaf_hash = leaf_hash
        self.receipt = receipt
        self.waiter = waiter
        self.loop = loop
        self.attachments = attachments
        self.prepared: Prepared | None = None
        self.written: Written | None = None
        self.name = ""
        self.records = 0 if leaf is None else 1
        self.may_wait = False
        self.starts_segment = starts_segment

    def publish(self) -> tuple[Sequence[bytes], Sequence[bytes], Iterable[Attachment]]:
        """The records, their leaf hashes and the attachments, for whoever publishes them; once. Raises ValueError."""
        if self.written is not None:
            leaves, hashes, frames = self.written.take()
            return leaves, hashes, [(FRAMES, *session) for session in frames]
        if self.prepared is None:
            return ((), (), self.attachments) if self.leaf is None else ((self.leaf,), (self.leaf_hash,), self.attachments)
        leaves, hashes, chunks = self.prepared.take()
        return leaves, hashes, [(CHUNK, self.name, number, data) for number, data in chunks]


def make_chunk_entry(kind: int, name: str, number: int, data: bytes) -> Entry:
    """One entry that only carries a chunk or a file."""
    parts = encode_named(kind, name, number, data)
    return Entry(parts, len(parts[0]) + len(data), attachments=((kind, name, number, data),))


def make_record_entry(
    leaf: bytes, leaf_hash: bytes, receipt: Any, waiter: Any, loop: Any, attachments: tuple[Attachment, ...] = ()
) -> Entry:
    """One entry for a record and what travels with it."""
    parts: tuple[bytes, ...] = encode_item(LEAF, leaf)
    size = len(parts[0]) + len(leaf)
    for attachment in attachments:
        parts = encode_named(*attachment) + parts
        size += len(parts[0]) + len(parts[1])
    return Entry(parts, size, leaf, leaf_hash, receipt, waiter, loop, attachments)


def make_prepared_entry(sid: str, prepared: Prepared, receipt: Any, waiter: Any, loop: Any) -> Entry:
    """One entry for prepared records of a session; `receipt` is the last record's."""
    entry = Entry((prepared,), prepared.size, receipt=receipt, waiter=waiter, loop=loop)
    entry.prepared, entry.name, entry.records = prepared, sid, prepared.records
    return entry


def make_written_entry(written: Written) -> Entry:
    """One entry for records that are written already."""
    entry = Entry((), written.size)
    entry.written, entry.records = written, written.records
    return entry


def count_records(entries: Iterable[Entry]) -> int:
    """How many records some entries hold."""
    return sum([entry.records for entry in entries])
