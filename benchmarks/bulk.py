"""Large bodies through the gateway over HTTP: how fast each kind passes, and what a gigabyte does to the memory of the process tree.

Plain HTTP on both ways, as in `benchmarks.http`. The service runs in the benchmark's process, curl is the client.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.http import HOST, start, write_gateway
from benchmarks.machine import read_memory_mb, read_peak_mb, reset_peak
from benchmarks.rows import Bound, Row, compare
from gateway.errors import TargetError
from gateway.testing.bulk_service import BulkService
from gateway.testing.oidc import DevelopmentIssuer

GB: Final = 1_000_000_000
ROUNDS: Final = 3
WARM_UP_BYTES: Final = 2_000_000
KINDS: Final = (
    ("binary", "opaque", GB),
    ("lines", "text, a masked value per line", 100_000_000),
    ("ndjson", "NDJSON", 20_000_000),
)
"""Kind of the service, how the row calls it, and bytes: each takes seconds."""

OPERATIONS: Final = [{"id": "bulk.get", "methods": ["GET"], "path": "/bulk/{kind}", "labels": ["bulk"]}]


@dataclass(frozen=True, slots=True)
class World:
    """The service, and the gateway in front of it."""

    port: int
    gateway_port: int
    gateway_pid: int
    token: str

    def fetch(self, kind: str, size: int, *, direct: bool) -> float:
        """Seconds one body took. Raises TargetError where it did not come whole."""
        way = [f"http://127.0.0.1:{self.port}"] if direct else ["--proxy", f"http://127.0.0.1:{self.gateway_port}"]
        way += [] if direct else ["--proxy-user", f"agent:{self.token}", f"http://{HOST}"]
        *options, address = way
        command = [
            "curl",
            "-sS",
            "-f",
            "-o",
            "/dev/null",
            "-w",
            "%{size_download}",
            *options,
            f"{address}/bulk/{kind}?bytes={size}",
        ]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        elapsed_s = time.perf_counter() - started
        # A mask changes the length of what it replaces.
        if done.returncode or (kind == "binary" and int(done.stdout) != size):
            raise TargetError("a large body did not come whole", why=done.stderr.strip() or f"{done.stdout} of {size} bytes")
        return elapsed_s


def measure(directory: Path, *, is_quick: bool) -> list[Row]:
    """One row of speed per kind, and the memory a gigabyte costs."""
    rows, growth_mb = [], 0.0
    rounds = 1 if is_quick else ROUNDS
    with _open_world(directory) as world:
        for kind, name, size in KINDS:
            ours, peer = [], []
            for direct in (True, False):
                world.fetch(kind, WARM_UP_BYTES, direct=direct)
            for _ in range(rounds):
                peer.append(size / 1e6 / world.fetch(kind, size, direct=True))
                reset_peak(world.gateway_pid)
                before_mb = read_memory_mb(world.gateway_pid, "Rss")
                ours.append(size / 1e6 / world.fetch(kind, size, direct=False))
                growth_mb = max(growth_mb, read_peak_mb(world.gateway_pid) - before_mb)
            notes = [f"{size // 1_000_000:,} MB", "one client", "plain HTTP", "transcript head", f"{rounds} rounds"]
            rows.append(compare("http", f"large answers: {name}", "MB/s", ours, peer, "direct", notes=notes))
    notes = ["peak above the memory before, largest of every kind and round"]
    floor, aim = Bound("value", "max", 64), Bound("value", "max", 32)
    rows.append(Row("memory", "growth while 1 GB passes over HTTP", growth_mb, "MB", floor=floor, aim=aim, notes=notes))
    return rows


@contextlib.contextmanager
def _open_world(directory: Path) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(BulkService())
        issuer = stack.enter_context(DevelopmentIssuer())
        config = write_gateway(directory, issuer, service.port, OPERATIONS)
        process = start(stack, [sys.executable, "-m", "gateway.cli", "serve", "--json", "-c", str(config)])
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise TargetError("the gateway did not start")
        port = int(json.loads(line)["ready"]["http"].rsplit(":", 1)[1])
        yield World(service.port, port, process.pid, issuer.mint("agent-7", groups=["agents"]))
