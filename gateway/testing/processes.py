"""Taking the processor from a process, as a busy machine does, and giving it back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from gateway.testing.waiting import wait_until


def pause_process(pid: int) -> None:
    """Stop a process and return once none of its threads runs: the signal only begins that."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(_read_state(task) == "T" for task in Path(f"/proc/{pid}/task").iterdir()))


def resume_process(pid: int) -> None:
    """Let it run on."""
    os.kill(pid, signal.SIGCONT)


def _read_state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]
