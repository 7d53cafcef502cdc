"""A long mixed load, and whether memory and descriptors stay where they are.

    python -m benchmarks.soak [--minutes 30] [--plain] [--dir DIR] [--json]

Every connection is TLS, unless told otherwise. Two pgbench clients read and write at a fixed rate, a third connects anew for each statement, and every half minute a table leaves as
COPY and a statement is refused. Exit code 1 where memory or descriptors of the last third are above those of the second by more than
the bounds below: the first third fills caches.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.machine import list_tree, read_cpu_s, read_memory_mb
from benchmarks.world import Way, open_world

SAMPLE_S: Final = 10.0
BURST_S: Final = 30.0
RATE: Final = 60
"""Transactions a second of the two steady clients: a tenth of what the gateway carries."""

MAX_GROWTH_MB: Final = 12.0
"""What the second and the last third may differ by: allocators give memory back in steps of that size."""

MAX_MORE_FILES: Final = 8
"""A session or two more or less at the moment of a sample, with two descriptors each, and a log file."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What /proc said at one moment: seconds since the start, megabytes and descriptors of the process tree, processor seconds."""

    at_s: float
    rss_mb: float
    files: int
    cpu_s: float


def main() -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load lasts")
    parser.add_argument("--plain", action="store_true", help="encrypt nothing")
    parser.add_argument("--dir", type=Path, help="where everything is kept meanwhile")
    parser.add_argument("--json", action="store_true", help="every sample as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealgate-soak-", dir=options.dir, ignore_cleanup_errors=True) as made:
        samples = soak(Path(made), options.minutes * 60, is_encrypted=not options.plain)
    report = judge(samples)
    print(
        json.dumps({"samples": [asdict(sample) for sample in samples], **report}, indent=1) if options.json else _format(report)
    )
    return 0 if report["is_flat"] else 1


def soak(directory: Path, seconds: float, *, is_encrypted: bool) -> list[Sample]:
    """The samples of a load of that length."""
    samples: list[Sample] = []
    opened = open_world(directory, with_bulk=False, switched_off=("postgres.export.bulk",), is_encrypted=is_encrypted)
    with opened as world, ExitStack() as stack:
        steady = ["-c", "2", "-R", str(RATE), "-b", "select-only@3", "-b", "simple-update@1", "-M", "prepared"]
        stack.enter_context(_load(world.gateway, [*steady, "-T", str(int(seconds))]))
        stack.enter_context(_load(world.gateway, ["-c", "1", "-C", "-R", "3", "-S", "-T", str(int(seconds))]))
        started, burst_at = time.monotonic(), 0.0
        while (at_s := time.monotonic() - started) < seconds:
            if at_s >= burst_at:
                burst_at += BURST_S
                _burst(world.gateway)
            pid = world.gateway_pid
            samples.append(
                Sample(round(at_s, 1), round(read_memory_mb(pid, "Rss"), 1), _count_files(pid), round(read_cpu_s(pid), 1))
            )
            time.sleep(SAMPLE_S)
    return samples


def judge(samples: list[Sample]) -> dict[str, object]:
    """Medians of each third, and whether the last is no more than the second."""
    size = max(len(samples) // 3, 1)
    thirds = [samples[:size], samples[size : 2 * size], samples[2 * size :]]
    memory = [round(median(sample.rss_mb for sample in third), 1) if third else 0.0 for third in thirds]
    files = [int(median(sample.files for sample in third)) if third else 0 for third in thirds]
    is_flat = memory[2] - memory[1] <= MAX_GROWTH_MB and files[2] - files[1] <= MAX_MORE_FILES
    first, last = samples[0], samples[-1]
    return {"first": asdict(first), "last": asdict(last), "rss_mb_by_third": memory, "files_by_third": files, "is_flat": is_flat}


def _burst(way: Way) -> None:
    for sql, is_refused in (
        ("copy (select * from pgbench_accounts where aid <= 20000) to stdout", False),
        ("drop table pgbench_branches", True),
    ):
        done = subprocess.run(["psql", "-XAtq", "-c", sql], env=way.environment(), capture_output=True, check=False, timeout=60)
        if bool(done.returncode) is not is_refused:
            raise RuntimeError(f"{sql}: {done.stderr.decode(errors='replace')[-300:]}")


@contextmanager
def _load(way: Way, arguments: list[str]) -> Iterator[None]:
    process = subprocess.Popen(
        ["pgbench", "-n", *arguments], env=way.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield
        _, error = process.communicate(timeout=60)
        if process.returncode:
            raise RuntimeError(f"pgbench failed: {error.decode(errors='replace')[-500:]}")
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate()


def _count_files(pid: int) -> int:
    total = 0
    for each in list_tree(pid):
        try:
            total += len(list(Path(f"/proc/{each}/fd").iterdir()))
        except OSError:
            continue  # it ended meanwhile
    return total


def _format(report: dict[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
