"""Verification: how many records a second the offline verifier checks, every check included.

The evidence is made through the public interfaces: sessions of decisions with sealed inputs and outcomes, attested by a development
Sigstore. The peer reads the same records and hashes them, which is the least any check of a hash chain has to do.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

from benchmarks.rows import Bound, Row, compare
from evidence.verify import verify_directory
from gateway.testing.evidence import EvidenceBuilder
from gateway.testing.sigstore import DevelopmentSigstore

SESSIONS: Final = 100
ACTIONS_PER_SESSION: Final = 500
ROUNDS: Final = 7


def measure(directory: Path, *, is_quick: bool = False) -> list[Row]:
    """The row of the verifier."""
    sessions = SESSIONS // 5 if is_quick else SESSIONS
    with DevelopmentSigstore(directory / "development-sigstore") as sigstore:
        builder = EvidenceBuilder(directory / "evidence", sigstore).open()
        _write(builder, sessions)
        builder.close()
        trust = builder.trust()
        ours, peer, records = [], [], 0
        for _ in range(1 if is_quick else ROUNDS):
            started = time.perf_counter()
            report = verify_directory(builder.directory, trust)
            elapsed = time.perf_counter() - started
            if report.exit_code != 0:
                raise RuntimeError(f"the evidence does not verify: {report.findings}")
            records = report.counts["records"]
            ours.append(records / elapsed)
            peer.append(records / _time_hashing(builder.path))
    notes = [f"{records:,} records in {sessions} sessions", "offline, with every check, no sealed input opened", "best round"]
    return [
        compare(
            "evidence",
            "verification",
            "records/s",
            ours,
            peer,
            "SHA-256 of the records",
            floor=Bound("value", "min", 100_000),
            aim=Bound("value", "min", 150_000),
            notes=notes,
            pick=max,
        )
    ]


def _write(builder: EvidenceBuilder, sessions: int) -> None:
    for _ in range(sessions):
        session = builder.open_session()
        for _ in range(ACTIONS_PER_SESSION):
            decision_id = builder.decide(session)
            session.submit("outcome", {"decision_id": decision_id, "status": "completed", "rows": 1})
        session.submit_close().result(60)


def _time_hashing(log: Path) -> float:
    """Seconds to read the published records and hash each."""
    started = time.perf_counter()
    for path in sorted((log / "tile" / "entries").rglob("*")):
        if not path.is_file():
            continue
        data, offset = path.read_bytes(), 0
        while offset < len(data):
            length = int.from_bytes(data[offset : offset + 2])
            hashlib.sha256(data[offset + 2 : offset + 2 + length]).digest()
            offset += 2 + length
    return time.perf_counter() - started
