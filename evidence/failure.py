"""What the log says when it fails: to its callers, and in its last records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from evidence.chain import Chain
from evidence.errors import EvidenceWriteError
from evidence.wal import Entry, count_records

_DETAIL_CHARACTERS: Final = 512
"""How much of the error text the last record keeps: enough for a path and an errno, little enough for a full disk."""


def describe_failure(error: BaseException) -> EvidenceWriteError:
    """The error every append raises from now on."""
    return EvidenceWriteError(
        "evidence cannot be written, so nothing may happen",
        why=f"{type(error).__name__}: {error}",
        fix="refuse every action; free or replace the disk, then restart the gateway, which recovers what was acknowledged",
    )


def describe_loss(error: BaseException | None, unwritten: Sequence[Entry]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The last records of a failed log: why it stopped, and how much was refused after it had been handed over."""
    yield "evidence.degraded", {"reason": type(error).__name__, "detail": str(error)[:_DETAIL_CHARACTERS]}
    yield "gap", {"reason": "unwritten", "records": count_records(unwritten), "bytes": sum(entry.size for entry in unwritten)}


def chain_before(chain: Chain, unwritten: Sequence[Entry]) -> Chain:
    """The chain as of what is durable: the first of its records that was not written says where that is."""
    for entry in unwritten:
        if entry.leaf is None:
            continue
        fields = orjson.loads(entry.leaf)
        if fields["sid"] == chain.sid:
            return Chain(chain.sid, fields["sseq"], fields.get("sprev", ""))
    return chain
