"""What the log says when it fails: to its callers, and in its last records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from evidence.canonical import encode_leaf
from evidence.chain import Chain
from evidence.entries import Entry, count_records, make_record_entry
from evidence.errors import EvidenceWriteError
from evidence.merkle import hash_leaf

LAST_WORDS_BYTES: Final = 64 << 10
"""Size of the segment that takes the records written after a failure."""

_DETAIL_CHARACTERS: Final = 512
"""How much of the error text the last record keeps: enough for a path and an errno, little enough for a full disk."""


def describe_failure(error: BaseException) -> EvidenceWriteError:
    """The error every append raises from now on."""
    return EvidenceWriteError(
        "evidence cannot be written, so nothing may happen",
        why=f"{type(error).__name__}: {error}",
        fix="refuse every action; free or replace the disk, then restart the gateway, which recovers what was acknowledged",
    )


def describe_loss(
    error: BaseException | None, unwritten: Sequence[Entry], foreign: tuple[int, int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The last records of a failed log: why it stopped, and how much was refused after it had been handed over.

    Args:
        error: why.
        unwritten: what was handed over here.
        foreign: records and bytes that native code had queued for sessions that were lent.
    """
    yield "evidence.degraded", {"reason": type(error).__name__, "detail": str(error)[:_DETAIL_CHARACTERS]}
    records, size = count_records(unwritten) + foreign[0], sum(entry.size for entry in unwritten) + foreign[1]
    yield "gap", {"reason": "unwritten", "records": records, "bytes": size}


def chain_before(chain: Chain, unwritten: Sequence[Entry]) -> Chain:
    """The chain as of what is durable: the first of its records that was not written says where that is."""
    for entry in unwritten:
        if entry.leaf is None:
            continue
        fields = orjson.loads(entry.leaf)
        if fields["sid"] == chain.sid:
            return Chain(chain.sid, fields["sseq"], fields.get("sprev", ""))
    return chain


def make_last_word(chain: Chain, kind: str, fields: Mapping[str, Any], document: dict[str, Any]) -> Entry:
    """The entry of one last record, which the chain then follows; nobody waits for it."""
    leaf = encode_leaf(document)
    digest = hash_leaf(leaf)
    chain.follow(kind, fields, digest.hex())
    return make_record_entry(leaf, digest, receipt=None, waiter=None, loop=None)
