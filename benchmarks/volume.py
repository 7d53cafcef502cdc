"""How much fits: thousands of idle sessions, and tables that pass through as COPY while memory stays where it is.

    python -m benchmarks --only volume                 600 sessions, 1 GB each way
    SEALGATE_BENCH_SESSIONS=5000 SEALGATE_BENCH_COPY_GB=10 python -m benchmarks --only volume

Every session has a connection of its own to a real server, opened at the login, so the server's processes bound the number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sealgate_native.postgres import FrameReader, encode_message, encode_query, encode_startup

from benchmarks.machine import read_memory_mb, read_peak_mb, reset_peak
from benchmarks.rows import Bound, Row
from benchmarks.world import ROLE, Way, World, open_world
from gateway.errors import TargetError
from gateway.policy.cache import MAX_AGE_S
from gateway.serve.postgres.upstream import SSL_REQUEST

SESSIONS: Final = 600
COPY_GB: Final = 1.0
WARM_UP_SESSIONS: Final = 50
AT_ONCE: Final = 16
"""Logins under way together: each makes the server start a process."""

SETTLE_S: Final = 3.0
"""After the last login or statement, before memory is read."""

FORGET_S: Final = MAX_AGE_S + 15.0
"""After this much silence a session has given up what it learned."""

AIM_KB: Final = 40.0
STATEMENT: Final = "SELECT abalance FROM pgbench_accounts WHERE aid = 7"
SPARE_FILES: Final = 500
COPY_ROW: Final = "card 4111111111111111, some words about Ada Lovelace of Oslo, and then more of them; " * 12
"""About a kilobyte, with one value a detector finds and masks."""

SINK: Final = f"create table sink (id bigint, note text); grant insert, select on sink to {ROLE}"
SAMPLE_S: Final = 1.0


def measure(directory: Path, *, is_quick: bool, make_directory: Callable[[Path, str], Path]) -> list[Row]:
    """Idle sessions, plain and encrypted, then COPY out and in."""
    sessions = int(os.environ.get("SEALGATE_BENCH_SESSIONS", "100" if is_quick else str(SESSIONS)))
    gigabytes = float(os.environ.get("SEALGATE_BENCH_COPY_GB", "0.1" if is_quick else str(COPY_GB)))
    rows = []
    for name, is_encrypted in (("sessions", False), ("sessions-tls", True)):
        with open_world(
            make_directory(directory, name), with_bulk=False, sessions=sessions + WARM_UP_SESSIONS, is_encrypted=is_encrypted
        ) as world:
            rows += asyncio.run(_measure_sessions(world, sessions))
    with open_world(make_directory(directory, "copies"), with_bulk=False, switched_off=("postgres.export.bulk",)) as world:
        world.postgres.run(SINK, database="bank")
        return rows + _measure_copies(world, gigabytes)


# --- sessions


class _Client:
    """One raw client: a login, and simple queries of which it reads the end only."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Log in. Raises TargetError."""
        self._reader, self._writer = await asyncio.open_connection(self._way.host, self._way.port, limit=1 << 12)
        if self._way.ca_file is not None:
            self._writer.write(SSL_REQUEST)
            await self._reader.readexactly(1)
            context = ssl.create_default_context(cafile=str(self._way.ca_file))
            await self._writer.start_tls(context, server_hostname=self._way.host)
        self._writer.write(encode_startup({"user": self._way.user, "database": self._way.database}))
        await self._reader.readexactly(9)  # AuthenticationCleartextPassword
        self._writer.write(encode_message("p", self._way.password.encode() + b"\0"))
        await self._read_to_ready()

    async def run(self, sql: str) -> None:
        """Run a statement. Raises TargetError."""
        if self._writer is not None:
            self._writer.write(encode_query(sql))
            await self._read_to_ready()

    async def close(self) -> None:
        """Say good-bye and wait until the other side has gone."""
        if self._writer is not None and self._reader is not None:
            self._writer.write(encode_message("X", b""))
            with contextlib.suppress(OSError):
                await self._reader.read()
            self._writer.close()

    async def _read_to_ready(self) -> None:
        frames = FrameReader(1 << 16)
        while self._reader is not None:
            data = await self._reader.read(1 << 12)
            frames.receive(data)
            while (frame := frames.next()) is not None:
                if frame[0] == "E":
                    raise TargetError("a client was refused", why=frame[1].decode(errors="replace"))
                if frame[0] == "Z":
                    return
            if not data:
                raise TargetError("a client was sent away")


async def _measure_sessions(world: World, count: int) -> list[Row]:
    _allow_files(count + SPARE_FILES)
    await _with_sessions(world, WARM_UP_SESSIONS, _nothing)
    await _with_sessions(world, WARM_UP_SESSIONS, _nothing)
    before = read_memory_mb(world.gateway_pid, "Rss")
    found: dict[str, float] = {}

    async def look(clients: list[_Client]) -> None:
        await asyncio.sleep(SETTLE_S)
        found["bare"] = read_memory_mb(world.gateway_pid, "Rss")
        await clients[0].run(STATEMENT)  # the decision is made once, and kept for all
        await _each(clients, lambda client: client.run(STATEMENT))
        await asyncio.sleep(SETTLE_S)
        found["used"] = read_memory_mb(world.gateway_pid, "Rss")
        await asyncio.sleep(FORGET_S)
        found["silent"] = read_memory_mb(world.gateway_pid, "Rss")

    started = time.monotonic()
    await _with_sessions(world, count, look)
    notes = [
        f"{count} sessions, each with a connection of its own to one PostgreSQL, opened at its login",
        f"resident memory of the process tree, less that before, after {WARM_UP_SESSIONS} sessions had come and gone twice",
        f"all of it took {time.monotonic() - started:.0f} s",
    ]
    aim = Bound("value", "max", AIM_KB)
    how = "" if world.direct.ca_file is None else ", TLS on both sides"
    bare, used, silent = ((found[name] - before) * 1000 / count for name in ("bare", "used", "silent"))
    return [
        Row("volume", f"an idle session that has asked nothing{how}", bare, "kB", aim=aim, notes=notes),
        Row(
            "volume",
            f"a session that has just run a statement{how}",
            used,
            "kB",
            notes=["it keeps what it has learned for a minute"],
        ),
        Row("volume", f"the same after a minute of silence{how}", silent, "kB", aim=aim),
    ]


async def _nothing(_clients: list[_Client]) -> None:
    return


async def _with_sessions(world: World, count: int, then: Callable[[list[_Client]], Any]) -> None:
    clients = [_Client(world.gateway) for _ in range(count)]
    try:
        await _each(clients, lambda client: client.open())
        await then(clients)
        await _each(clients, lambda client: client.close())
    except* TargetError as errors:
        raise errors.exceptions[0] from None


async def _each(clients: list[_Client], do: Callable[[_Client], Any]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(client: _Client) -> None:
        async with room:
            await do(client)

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(one(client))


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


# --- COPY


def _measure_copies(world: World, gigabytes: float) -> list[Row]:
    count = int(gigabytes * 1e9 / (len(COPY_ROW) + 10))
    out = f"copy (select n, '{COPY_ROW}' from generate_series(1, {count}) n) to stdout"
    rows = []
    for name, sql, feed in (
        ("out", out, None),
        ("in", "copy sink from stdin where id < 0", _lines(count)),  # the server reads every row and keeps none
    ):
        _copy(world.gateway, sql.replace(str(count), "1000"), None if feed is None else _lines(1000))
        reset_peak(world.gateway_pid)
        before = read_memory_mb(world.gateway_pid, "Rss")
        with _sampling(world.gateway_pid) as samples:
            started = time.monotonic()
            _copy(world.gateway, sql, feed)
            elapsed_s = time.monotonic() - started
        growth = max(read_peak_mb(world.gateway_pid) - before, 0.0)
        halves = [samples[: len(samples) // 2], samples[len(samples) // 2 :]]
        notes = [
            f"{count:,} rows, {elapsed_s:.0f} s, {gigabytes * 1000 / elapsed_s:.0f} MB/s",
            "detectors on every cell" if feed is None else "the data of a COPY in is not read by detectors",
            f"largest in the first half {max(halves[0], default=0):.0f} MB, in the second {max(halves[1], default=0):.0f} MB",
        ]
        aim = Bound("value", "max", 64)
        rows.append(Row("volume", f"growth while {gigabytes:g} GB are copied {name}", growth, "MB", aim=aim, notes=notes))
    return rows


def _lines(count: int) -> Iterator[bytes]:
    block = 1000
    for first in range(0, count, block):
        yield b"".join(b"%d\t%s\n" % (number, COPY_ROW.encode()) for number in range(first, min(first + block, count)))


def _copy(way: Way, sql: str, feed: Iterator[bytes] | None) -> None:
    """Run a COPY with psql; what comes out is counted by nobody. Raises TargetError."""
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]
    source = subprocess.DEVNULL if feed is None else subprocess.PIPE
    with subprocess.Popen(
        command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=way.environment()
    ) as process:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                for block in feed or ():
                    process.stdin.write(block)
                process.stdin.close()
        error = process.stderr.read() if process.stderr else b""
    if process.returncode:
        raise TargetError("a COPY failed", why=error.decode(errors="replace")[-500:])


@contextlib.contextmanager
def _sampling(pid: int) -> Iterator[list[float]]:
    """Resident memory of a process tree, in MB, once a second while the block runs."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            samples.append(read_memory_mb(pid, "Rss"))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
