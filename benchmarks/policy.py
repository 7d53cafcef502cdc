"""Decisions: without the cache through an evaluator process, and from the cache, beside a stock OPA server asked over HTTP.

All three decide the same document with the same modules and data. OPA's client keeps its connection, sends a body that was encoded
beforehand, and reads the answer without parsing it: only the server and the way there count.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

from benchmarks.rows import Bound, Row, compare
from benchmarks.world import ROOT, make_bundle
from gateway.policy.bundle import RULES_ROOT, Bundle, load_bundle
from gateway.policy.cache import DecisionCache
from gateway.policy.decide import DecisionPoint, label
from gateway.policy.regorus import Regorus
from gateway.protocols.postgres.enforce import ENFORCEABLE
from gateway.testing.policy import OpaServer

ROUNDS: Final = 5
UNCACHED_PER_ROUND: Final = 600
CACHED_PER_ROUND: Final = 5_000
ENTRYPOINT_PATH: Final = "/v1/data/sealgate/main/decision"

DOCUMENT: Final[dict[str, Any]] = {
    "schema": "sealgate.input/1",
    "phase": "request",
    "protocol": "postgres",
    "subject": {"id": "bank/agent-7@bank.example", "kind": "agent", "groups": ["agents"]},
    "resource": {"connection": "core", "type": "postgres", "environment": "production", "risk": "critical"},
    "action": {"name": "postgres.query", "effects": ["read"]},
    "context": {
        "now": "2026-11-21T04:00:00.000000Z",
        "now_ns": 1_795_000_000_000_000_000,
        "session": {"id": "5f0c", "started_at": "2026-11-21T03:59:00.000000Z", "counters": {"actions": 12, "refused": 0}},
        "client": {"ip": "127.0.0.1"},
        "parse": {"status": "ok"},
    },
    "postgres": {
        "facts": {
            "database": "bank",
            "mode": "simple",
            "statements": [
                {
                    "verb": "select",
                    "effects": ["read"],
                    "tables": [
                        {"schema": "public", "name": "clients", "access": "read", "sensitive": True},
                        {"schema": "public", "name": "pgbench_accounts", "access": "read", "sensitive": False},
                    ],
                    "columns": [
                        {"schema": "public", "table": "clients", "name": name, "use": use, "sensitive": name == "ssn"}
                        for name, use in (("id", "predicate"), ("name", "output"), ("city", "output"), ("ssn", "output"))
                    ]
                    + [
                        {"schema": "public", "table": "pgbench_accounts", "name": name, "use": use, "sensitive": False}
                        for name, use in (("aid", "predicate"), ("abalance", "output"))
                    ],
                    "assigned": [],
                    "functions": [{"schema": "pg_catalog", "name": "lower", "args": 1, "harmless": True}],
                    "has_where": True,
                    "has_limit": False,
                    "is_explain_analyze": False,
                    "fingerprint": "2e1a5b0c8d774f10",
                    "set_vars": [],
                    "flags": [],
                    "may_yield_sensitive": True,
                }
            ],
            "statement_count": 1,
            "catalog_digest": "b" * 64,
        },
        "payload": {
            "text": "select c.id, c.name, lower(c.city), c.ssn, a.abalance from clients c "
            "join pgbench_accounts a on a.aid = c.id where c.id = 17"
        },
    },
}
"""A join of two tables with a sensitive column in its result, as the gateway describes it."""


def measure(directory: Path, *, is_quick: bool = False) -> list[Row]:
    """Both rows. Raises FileNotFoundError where there is no OPA and it cannot be built."""
    bundle_folder = make_bundle(directory / "policy")
    bundle = load_bundle(bundle_folder)
    server = OpaServer(_find_opa(), str(_make_opa_folder(bundle_folder, bundle, directory / "opa")))
    server.start()
    try:
        return uvloop.run(_measure(bundle, server.url, 2 if is_quick else ROUNDS))  # the loop the gateway runs on
    finally:
        server.stop()


async def _measure(bundle: Bundle, url: str, rounds: int) -> list[Row]:
    engine = Regorus(bundle, evaluators=1)
    cached_point = DecisionPoint(engine, bundle, cache=DecisionCache(bundle, label(engine)))
    uncached_point = DecisionPoint(engine, bundle)
    await engine.start()
    peer = _OpaClient(url)
    ours_ms, cached_us, peer_ms = [], [], []
    try:
        decision = await uncached_point.decide(DOCUMENT, ENFORCEABLE)
        if decision.effect != "allow" or peer.ask()["result"]["effect"] != "allow":
            raise RuntimeError(f"the document is not allowed: {decision.reasons}")
        for _ in range(rounds):
            ours_ms.append(await _median_s(lambda: uncached_point.decide(DOCUMENT, ENFORCEABLE), UNCACHED_PER_ROUND) * 1e3)
            peer_ms.append(peer.median_s(UNCACHED_PER_ROUND) * 1e3)
            cached_us.append(await _median_s(lambda: cached_point.decide(DOCUMENT, ENFORCEABLE), CACHED_PER_ROUND) * 1e6)
    finally:
        peer.close()
        await engine.aclose()
    name = "OPA over HTTP"
    uncached = compare(
        "policy",
        "decision, uncached, in an evaluator process (p50)",
        "ms",
        ours_ms,
        peer_ms,
        name,
        floor=Bound("value", "max", 0.8),
        aim=Bound("value", "max", 0.45),
        notes=["includes the way to the process and back", f"{rounds} rounds of {UNCACHED_PER_ROUND}"],
    )
    cached = compare(
        "policy",
        "decision, cached (p50)",
        "us",
        cached_us,
        [value * 1e3 for value in peer_ms],
        name,
        floor=Bound("value", "max", 40),
        aim=Bound("value", "max", 15),
        notes=["the peer has no cache of decisions", f"{rounds} rounds of {CACHED_PER_ROUND}"],
    )
    return [uncached, cached]


async def _median_s(ask: Callable[[], Awaitable[object]], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - started)
    return median(times)


class _OpaClient:
    """One kept connection to OPA's data API."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._body = json.dumps({"input": DOCUMENT}).encode()

    def ask(self) -> dict[str, Any]:
        return json.loads(self._ask())

    def median_s(self, count: int) -> float:
        times = []
        for _ in range(count):
            started = time.perf_counter()
            self._ask()
            times.append(time.perf_counter() - started)
        return median(times)

    def _ask(self) -> bytes:
        self._connection.request("POST", ENTRYPOINT_PATH, self._body, {"Content-Type": "application/json"})
        return self._connection.getresponse().read()

    def close(self) -> None:
        self._connection.close()


def _make_opa_folder(bundle_folder: Path, bundle: Bundle, target: Path) -> Path:
    """The bundle with the data the gateway adds to it, as files OPA loads."""
    shutil.copytree(bundle_folder, target, ignore=shutil.ignore_patterns("sealgate.manifest"))
    generated = target / RULES_ROOT / "data.json"
    generated.parent.mkdir()
    generated.write_text(json.dumps(bundle.data[RULES_ROOT]))
    return target


def _find_opa() -> str:
    """The pinned OPA, built once."""
    return subprocess.run([ROOT / "tools/build", "opa"], capture_output=True, text=True, check=True).stdout.strip()
