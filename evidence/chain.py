"""A session's chain of records: where the next one goes, and what the session still owes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evidence.drafts import LentChain, Prepared
from evidence.record import FINAL_STATUSES, VERSION, expects_outcome


@dataclass(slots=True)
class Chain:
    """The state of one session's chain of records: where the next record goes, and what it still owes.

    Attributes:
        sseq: number of the next record in the session.
        tip: the last one: its leaf hash, hex, empty before the first; or what it was prepared as, whose bytes may not be made yet.
        pending: decisions that released an action and have no final outcome yet.
        transcript: transcript mode of the session; empty for the log's own chain.
        last_chunk: number of the last transcript chunk that a record names; -1 before the first.
        lent: who has the chain at the moment and appends to it in place of the log.
    """

    sid: str
    sseq: int = 0
    tip: str | Prepared = ""
    pending: dict[str, None] = field(default_factory=dict)
    transcript: str = ""
    last_chunk: int = -1
    closed: bool = False
    lent: LentChain | None = None

    @property
    def sprev(self) -> str:
        """Leaf hash of the last record, hex; empty before the first. Raises ValueError where a prepared one cannot be made."""
        if not isinstance(self.tip, str):
            self.tip = self.tip.last_hash()
        return self.tip

    def envelop(self, kind: str, fields: Mapping[str, Any], seq: int, ts: str, mono_us: int) -> dict[str, Any]:
        """The whole record that goes next; `follow` takes it into account once it is queued."""
        document = {
            **fields,
            "v": VERSION,
            "type": kind,
            "seq": seq,
            "sid": self.sid,
            "sseq": self.sseq,
            "ts": ts,
            "mono_us": mono_us,
        }
        if previous := self.sprev:
            document["sprev"] = previous
        if kind == "session.close":
            document["records"] = self.sseq + 1
        return document

    def follow(self, kind: str, fields: Mapping[str, Any], leaf_hash: str) -> None:
        """Take one record into account. Never fails on fields that passed `record.check`: the record is queued by then."""
        self.sseq += 1
        self.tip = leaf_hash
        if kind == "decision":
            if expects_outcome(fields):
                self.pending[fields["decision_id"]] = None
        elif kind == "outcome":
            if fields["status"] in FINAL_STATUSES:
                self.pending.pop(fields["decision_id"], None)
        elif kind == "session.open":
            self.transcript = fields["transcript"]
        elif kind == "transcript.chunk":
            self.last_chunk = fields["chunk"].get("n", -1)
        elif kind == "session.close":
            self.closed = True

    def follow_prepared(self, prepared: Prepared) -> None:
        """Take prepared records into account."""
        self.sseq += prepared.records
        self.tip = prepared
        for decision_id in prepared.opened:
            self.pending[decision_id] = None
        for decision_id in prepared.closed:
            self.pending.pop(decision_id, None)

    def follow_lent(self) -> int:
        """Take into account what was appended while the chain was lent, so far; returns the number of the session's next chunk."""
        if self.lent is None:
            raise AssertionError("the chain was not lent")
        self.sseq, self.tip, chunk, pending = self.lent.progress()
        self.pending = dict.fromkeys(pending)
        return chunk

    def as_state(self) -> dict[str, Any]:
        """The chain as a segment's STATE item holds it."""
        if self.lent is not None:
            self.follow_lent()
        return {
            "sid": self.sid,
            "sseq": self.sseq,
            "sprev": self.sprev,
            "pending": list(self.pending),
            "transcript": self.transcript,
            "last_chunk": self.last_chunk,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Chain:
        """The chain a STATE item describes."""
        pending = dict.fromkeys(state["pending"])
        return cls(state["sid"], state["sseq"], state["sprev"], pending, state["transcript"], state["last_chunk"])
