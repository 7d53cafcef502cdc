"""A relay that makes a record of each answer durable and does nothing else: what the disk leaves of a pooler's speed.

Its source is `native/kernel/relay/examples/bare_relay.rs`. It writes its records through the code the gateway writes its own with, to
the same disk. TLS passes through it unopened.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.world import ROOT, Way
from gateway.errors import TargetError

_BUILD: Final = ROOT / "tools" / "build-bare-relay"


@contextlib.contextmanager
def run_bare_relay(direct: Way, directory: Path) -> Iterator[tuple[int, Way]]:
    """Its process number, and the way through it to where `direct` leads; its records lie in `directory`.

    Raises:
        TargetError: it does not compile, or ends at once.
    """
    built = subprocess.run([_BUILD], capture_output=True, text=True, check=False)
    if built.returncode:
        raise TargetError("the bare relay does not compile", why=built.stderr[-500:], fix="run `make setup` first")
    command = [built.stdout.strip(), str(direct.port), str(directory / "bare-relay.segment")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise TargetError("the bare relay ended at once", why=f"its exit code is {process.wait()}")
            yield process.pid, replace(direct, name="bare relay", port=int(port))
        finally:
            process.terminate()
