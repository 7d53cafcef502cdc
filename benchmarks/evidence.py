"""Durable evidence records a second, beside a plain loop that writes and syncs one record at a time, in the same run.

    python -m benchmarks.evidence [--seconds 3] [--dir DIR]

Prints JSON: {"rows": [{"name", "ours", "peer", "peer_name", "ratio", "floor", "floor_met", "aim", ...}], "disk": {...}}. Rates are
records per second, measured from coroutines that each await their record before they append the next. The decision row stores an
encrypted input document with every record. Checkpoints every second and tiles are part of what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import pyrage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sealgate_native.record import Sealer, SegmentFile, Writer

from evidence.log import Log, LogSettings
from evidence.segment import NativeWriter
from evidence.session import SessionLog

PEER_NAME = "write + fdatasync per record"
FLOOR_WORKERS = 100
FLOOR_AT_100 = 20_000
AIM_AT_100 = 80_000
INPUT = orjson.dumps(
    {"schema": "sealgate.input/1", "postgres": {"payload": {"text": "select owner, balance from accounts where id = $1"}}}
)
INPUT_BYTES = 1500

OUTCOME: dict[str, Any] = {
    "decision_id": "01JD0000000000000000000000",
    "status": "completed",
    "tag": "SELECT 3",
    "rows": 3,
    "bytes": 1234,
    "masked": {"postgres.columns.mask": 3},
}
DECISION: dict[str, Any] = {
    "decision_id": "01JD0000000000000000000000",
    "phase": "request",
    "action": {"protocol": "postgres", "name": "postgres.query", "effects": ["read"]},
    "subject": "bank/agent-7",
    "on_behalf_of": "bank/alice",
    "connection": "ledger",
    "digest": "a" * 64,
    "facts": {
        "database": "ledger",
        "statements": [
            {
                "verb": "select",
                "effects": ["read"],
                "tables": [{"schema": "public", "name": "accounts", "access": "read", "sensitive": True}],
                "columns": [
                    {"schema": "public", "table": "accounts", "name": name, "use": "output", "sensitive": False}
                    for name in ("id", "owner", "balance")
                ],
                "has_where": True,
                "fingerprint": "ab" * 8,
            }
        ],
        "statement_count": 1,
        "catalog_digest": "b" * 64,
    },
    "input": {"n": 0, "sha256": "c" * 64, "bytes": 0},
    "decision": {
        "schema": "sealgate.decision/1",
        "effect": "mask",
        "reasons": [{"rule": "postgres.tables.allow", "effect": "allow", "severity": "low", "message": "", "controls": []}],
        "masks": [{"rule": "postgres.columns.mask", "selector": {"index": 3}, "strategy": "redact", "apply": "both"}],
        "obligations": [],
    },
    "bundle": "d" * 64,
    "engine": "regorus 0.4",
    "duration_ns": 412_345,
    "cached": False,
    "release": "b",
    "replay": "exact",
}


def measure_peer(directory: Path, record: bytes, seconds: float) -> tuple[float, float]:
    """Records per second of the plain loop, and the median time of one sync in milliseconds."""
    times = []
    with (directory / "peer.jsonl").open("ab", buffering=0) as file:
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            file.write(record)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    times.sort()
    return len(times) / sum(times), times[len(times) // 2] * 1000


async def append_for(
    session: SessionLog, kind: str, fields: dict[str, Any], blob: bytes, workers: int, seconds: float
) -> list[float]:
    """The latency of every append of `workers` coroutines over some seconds."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        while (started := time.perf_counter()) < end:
            document = {**fields, "input": session.put_blob("input", blob)} if blob else fields
            await session.append(kind, document)
            latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(work() for _ in range(workers)))
    return latencies


def measure_log(
    directory: Path, kind: str, fields: dict[str, Any], blob: bytes, workers: int, seconds: float
) -> dict[str, float]:
    """Records per second of the log, latency percentiles in milliseconds, records per sync."""
    log = Log.open(
        directory,
        origin="bench/2026h2/w0",
        log_key=Ed25519PrivateKey.generate(),
        recipients=[str(pyrage.x25519.Identity.generate().to_public())],
        settings=LogSettings(),
        make_sealer=Sealer,
        native=NativeWriter(SegmentFile, Writer),
    )
    session = log.open_session({}, "none")
    log.checkpoint()
    before = log.metrics()
    started = time.perf_counter()
    latencies = sorted(asyncio.run(append_for(session, kind, fields, blob, workers, seconds)))
    elapsed = time.perf_counter() - started
    after = log.metrics()
    log.close()
    return {
        "rate": len(latencies) / elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
        "per_sync": len(latencies) / max(1, after["syncs"] - before["syncs"]),
    }


def run(directory: Path, seconds: float) -> dict[str, Any]:
    """All rows, the peer measured beside each of ours."""
    rows = []
    sync_ms = 0.0
    blob = (INPUT * (INPUT_BYTES // len(INPUT) + 1))[:INPUT_BYTES]
    for name, kind, fields, data, workers in (
        ("durable records, 1 at a time", "outcome", OUTCOME, b"", 1),
        ("durable records, 10 concurrent", "outcome", OUTCOME, b"", 10),
        ("durable records, 100 concurrent", "outcome", OUTCOME, b"", 100),
        ("durable decisions with encrypted input, 100 concurrent", "decision", DECISION, blob, 100),
    ):
        folder = Path(tempfile.mkdtemp(dir=directory))
        try:
            peer, sync_ms = measure_peer(folder, orjson.dumps(fields) + b"\n", seconds / 3)
            ours = measure_log(folder, kind, fields, data, workers, seconds)
        finally:
            shutil.rmtree(folder)
        has_floor = (workers, data) == (FLOOR_WORKERS, b"")
        rows.append(
            {
                "name": name,
                "ours": round(ours["rate"]),
                "peer": round(peer),
                "peer_name": PEER_NAME,
                "ratio": round(ours["rate"] / peer, 2),
                "floor": FLOOR_AT_100 if has_floor else None,
                "floor_met": ours["rate"] >= FLOOR_AT_100 if has_floor else None,
                "aim": AIM_AT_100 if has_floor else None,
                "p50_ms": round(ours["p50_ms"], 3),
                "p99_ms": round(ours["p99_ms"], 3),
                "records_per_sync": round(ours["per_sync"], 1),
                "sync_p50_ms": round(sync_ms, 3),
                "transcript": "none",
                "release": "a",
            }
        )
    return {"rows": rows, "disk": {"sync_p50_ms": round(sync_ms, 3)}}


def main() -> int:
    """Run and print; exit 1 when a floor is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each row is measured")
    parser.add_argument("--dir", type=Path, default=Path.cwd(), help="where the logs are written: the disk to measure")
    options = parser.parse_args()
    report = run(options.dir, options.seconds)
    print(json.dumps(report, indent=2))
    return 1 if any(row["floor_met"] is False for row in report["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
