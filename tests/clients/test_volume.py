"""What passes through as COPY does not stay in memory; the large version is `python -m benchmarks --only volume`."""

import os
import subprocess
from pathlib import Path

import pytest

ROWS = 150_000
"""Of a kilobyte each: more than twice what memory may grow by."""

MAX_GROWTH_MB = 60

COPIES = {
    "out": "copy (select n, repeat('some words ', 100) from generate_series(1, {rows}) n) to stdout",
    "in": "copy notes from stdin where id < 0",
}


def read_status_mb(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("way", ["out", "in"])
def test_memory_stays_flat_while_a_table_is_copied(connect, gateway, authority, mint, way):
    connect().execute("create table if not exists notes (id int, note text)")
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": "localhost",
        "PGPORT": str(gateway.port),
        "PGUSER": "agent",
        "PGPASSWORD": mint(),
        "PGDATABASE": "shop",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(authority.ca_file),
    }

    def copy(rows):
        line = b"1\t" + b"some words " * 100 + b"\n"
        command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", COPIES[way].format(rows=rows)]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            for _ in range(rows // 100 if way == "in" else 0):
                process.stdin.write(line * 100)
            process.stdin.close()
        assert process.returncode == 0

    copy(1000)
    Path("/proc/self/clear_refs").write_text("5")
    before = read_status_mb("VmRSS")
    copy(ROWS)
    assert read_status_mb("VmHWM") - before < MAX_GROWTH_MB
