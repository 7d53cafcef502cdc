"""What the numbers depend on: the machine, its disk, its versions; and what /proc knows of a process tree."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

SYNCS: Final = 200
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def describe_machine(directory: Path) -> dict[str, Any]:
    """Cores, date, versions, load, and how long the disk under `directory` takes for one sync."""
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version() + ("" if optimized else " (built without profile-guided optimization)"),
        "postgresql": _version("postgres", "--version") or _version("psql", "--version"),
        "pgbouncer": _version("pgbouncer", "--version") or _version("/usr/sbin/pgbouncer", "--version"),
        "load_1min": round(os.getloadavg()[0], 1),
        "disk_sync_p50_ms": round(measure_sync_ms(directory), 3),
    }


def measure_sync_ms(directory: Path) -> float:
    """The median time of writing 4 KiB and syncing it, in milliseconds."""
    times = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(SYNCS):
            file.write(b"\0" * 4096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times) * 1000


def list_tree(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for parent in found:
        for task in _list_tasks(parent):
            try:
                found += [int(child) for child in Path(f"/proc/{parent}/task/{task}/children").read_text().split()]
            except OSError:
                continue  # the thread ended meanwhile
    return found


def read_cpu_s(pid: int) -> float:
    """Processor time of a process tree so far, in seconds."""
    return _sum_over(pid, _cpu_s)


def read_memory_mb(pid: int, field: str = "Pss") -> float:
    """Memory of a process tree in MB (10^6 bytes). Pss counts a page that several processes share once, Rss in each."""
    return _sum_over(pid, lambda each: _read_kib(Path(f"/proc/{each}/smaps_rollup"), field) * 1024 / 1e6)


def reset_peak(pid: int) -> None:
    """Begin a new measurement of the peak of each process of a tree."""
    for each in list_tree(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def read_peak_mb(pid: int) -> float:
    """The sum of the peaks of resident memory since `reset_peak`, in MB."""
    return _sum_over(pid, lambda each: _read_kib(Path(f"/proc/{each}/status"), "VmHWM") * 1024 / 1e6)


def _sum_over(pid: int, read: Callable[[int], float]) -> float:
    total = 0.0
    for each in list_tree(pid):
        try:
            total += read(each)
        except OSError:
            continue  # it ended meanwhile
    return total


def _list_tasks(pid: int) -> list[str]:
    try:
        return [path.name for path in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _read_kib(path: Path, field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+)", path.read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def _version(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return None
    return (done.stdout or done.stderr).split("\n")[0].strip() or None
