"""PostgreSQL through the gateway, beside pgbouncer and the server itself; and the gateway's memory while it carries them.

Rounds are interleaved: each runs every way once, in turn, so that what else the machine does meets all of them. Release point b: harmless
reads leave for the server at once, and no reply reaches the client before its record is durable. Release point a: the record is
durable before the server sees the statement.
"""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import Any, Final

import psycopg
from sealgate_native.postgres import encode_query

from benchmarks.bare import run_bare_relay
from benchmarks.machine import read_cpu_s, read_memory_mb, read_peak_mb, reset_peak
from benchmarks.rows import Bound, Row, compare
from benchmarks.world import BULK_ROWS, Way, World, run
from gateway.errors import TargetError

CLIENTS: Final = 8
ROUNDS: Final = 5
SECONDS: Final = 4
WARM_UP_S: Final = 1
BULK_SQL: Final = "SELECT id, name, city, ssn, opened, cents FROM clients"
PROBE_SQL: Final = "SELECT 1"
HEX_SQL: Final = "SELECT id, key, city, ssn, opened, cents FROM keyed"
RECEIVE_BYTES: Final = 1 << 20
READY: Final = b"Z\0\0\0\x05I"
"""ReadyForQuery outside a transaction: the end of an answer."""

TAIL_BYTES: Final = 64
"""Enough for the two last messages of an answer: how many rows there were, and READY."""

IDLE_S: Final = 2
"""After start and warm-up, before memory is called idle."""

_TPS: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_COUNT: Final = re.compile(r"actually processed: ([0-9]+)")
_SSN: Final = re.compile(rb"[0-9]{3}-[0-9]{2}-[0-9]{4}")

SHORT_FLOOR: Final = Bound("ratio", "min", 0.5)
SHORT_AIM: Final = Bound("ratio", "min", 1.0)


def measure_statements(world: World, *, is_quick: bool = False) -> list[Row]:
    """Short reads, simple, prepared and each on a connection of its own, and short transactions that write; over TLS in a TLS world."""
    rows = []
    ending = "" if world.direct.ca_file is None else ", TLS"
    with run_bare_relay(world.direct, world.directory) as (bare_pid, bare):
        for name, arguments, release in (
            ("pgbench -S, simple", ["-S", "-M", "simple"], "b"),
            ("pgbench -S, prepared", ["-S", "-M", "prepared"], "b"),
            ("pgbench -N, writes", ["-N", "-M", "simple"], "a"),
            ("pgbench -S -C, a connection each", ["-S", "-C"], "b"),
        ):
            ways = {world.direct: 0, world.pgbouncer: world.pgbouncer_pid, bare: bare_pid, world.gateway: world.gateway_pid}
            rows += _measure_pgbench(ways, name + ending, arguments, release, is_quick=is_quick)
    return rows


def _measure_pgbench(ways: dict[Way, int], name: str, arguments: list[str], release: str, *, is_quick: bool) -> list[Row]:
    """One kind of load through each way in turn; `ways` has the process of each, or 0 where there is none between."""
    rounds, seconds = (2, 2) if is_quick else (ROUNDS, SECONDS)
    for way in ways:
        _run_pgbench(way, arguments, WARM_UP_S)
    tps: dict[str, list[float]] = {way.name: [] for way in ways}
    cpu: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way, pid in ways.items():
            before_s = read_cpu_s(pid) if pid else 0.0
            rate, count = _run_pgbench(way, arguments, seconds)
            tps[way.name].append(rate)
            if pid:
                cpu[way.name].append((read_cpu_s(pid) - before_s) / count * 1e6)
    tls = "TLS off everywhere" if next(iter(ways)).ca_file is None else "TLS on every connection, certificates checked"
    notes = [f"{CLIENTS} clients", "transcript head", f"release point {release}", tls, f"{rounds} rounds"]
    short = compare(
        "postgres", name, "tps", tps["gateway"], tps["pgbouncer"], "pgbouncer", floor=SHORT_FLOOR, aim=SHORT_AIM, notes=notes
    )
    # What a transaction costs in processor time says more than its rate where other programs share the machine.
    cost = compare("postgres", f"{name}: CPU per transaction", "us", cpu["gateway"], cpu["pgbouncer"], "pgbouncer")
    direct = compare("postgres", f"{name}: beside direct", "tps", tps["gateway"], tps["direct"], "direct")
    # What a gateway that decides and records nothing, but syncs, would have reached on this disk: the most the first row can be.
    bare = compare("postgres", f"{name}: beside a bare relay", "tps", tps["gateway"], tps["bare relay"], "bare relay")
    most = compare("postgres", f"{name}: a bare relay", "tps", tps["bare relay"], tps["pgbouncer"], "pgbouncer")
    return [short, direct, bare, most, cost]


def _run_pgbench(way: Way, arguments: list[str], seconds: int) -> tuple[float, int]:
    command = ["pgbench", "-n", "-c", str(CLIENTS), "-j", "1", "-T", str(seconds), *arguments]
    printed = run(command, way.environment())
    rate, count = _TPS.search(printed), _COUNT.search(printed)
    if rate is None or count is None or not int(count[1]):
        raise TargetError(f"pgbench through {way.name} ran nothing", why=printed[-500:])
    return float(rate[1]), int(count[1])


def measure_bulk(world: World, *, is_quick: bool = False) -> list[Row]:
    """A million rows with one masked column, and what carrying them does to memory. Begin with a gateway that has just started."""
    _drain(world.gateway, PROBE_SQL)
    time.sleep(IDLE_S)
    idle = _measure_idle(world)
    for way in (world.direct, world.pgbouncer):
        _drain(way, BULK_SQL)
    rounds = 2 if is_quick else ROUNDS
    wall: dict[str, list[float]] = {way.name: [] for way in world.ways}
    growth: list[float] = []
    peer_growth: list[float] = []
    for _ in range(rounds):
        wall["direct"].append(_drain(world.direct, BULK_SQL))
        peer_growth.append(_measure_growth(world.pgbouncer_pid, world.pgbouncer, wall["pgbouncer"]))
        growth.append(_measure_growth(world.gateway_pid, world.gateway, wall["gateway"]))
    conditions = ["detectors on every cell", "transcript head", "release point b", f"{rounds} rounds"]
    floor, aim = Bound("ratio", "max", 1.2), Bound("ratio", "max", 1.05)
    name, peer = "1 M rows x 6, one masked column", wall["direct"]
    bulk = compare("postgres", name, "s", wall["gateway"], peer, "direct", floor=floor, aim=aim, notes=conditions)
    beside = compare("postgres", f"{name}: beside pgbouncer", "s", wall["gateway"], wall["pgbouncer"], "pgbouncer, no mask")
    memory = Row(
        "memory",
        "growth while 1 M rows pass",
        max(growth),
        "MB",
        max(peer_growth),
        "pgbouncer",
        None,
        Bound("value", "max", 64),
        Bound("value", "max", 32),
        [f"peak above the memory before, largest of {rounds} rounds", f"first round {growth[0]:.1f} MB"],
    )
    return [bulk, beside, _measure_hex(world, 1 if is_quick else 3), idle, memory]


def _measure_growth(pid: int, way: Way, wall: list[float]) -> float:
    """Megabytes the peak of a process tree rose by while a million rows passed; the time goes to `wall`."""
    reset_peak(pid)
    before = read_memory_mb(pid, "Rss")
    wall.append(_drain(way, BULK_SQL))
    return max(read_peak_mb(pid) - before, 0.0)


def _measure_hex(world: World, rounds: int) -> Row:
    ours, peer = [], []
    for _ in range(rounds):
        peer.append(_drain(world.direct, HEX_SQL))
        ours.append(_drain(world.gateway, HEX_SQL))
    notes = ["digests of 32 digits, full of what looks like the beginning of an account number"]
    return compare("postgres", "the same with a column of hexadecimal text", "s", ours, peer, "direct", notes=notes)


def _measure_idle(world: World) -> Row:
    ours, peer = (read_memory_mb(pid, "Rss") for pid in (world.gateway_pid, world.pgbouncer_pid))
    shared = read_memory_mb(world.gateway_pid, "Pss")
    return Row(
        "memory",
        "idle, whole process tree",
        ours,
        "MB",
        peer,
        "pgbouncer",
        None,
        Bound("value", "max", 250),
        Bound("value", "max", 150),
        ["sum of the resident memory of every process", f"{shared:.0f} MB with shared pages counted once"],
    )


def _drain(way: Way, sql: str) -> float:
    """Seconds until the last byte of a query's answer arrived, read as fast as a client can.

    Raises:
        TargetError: the answer is an error, or a sensitive value came through the gateway.
    """
    with (
        psycopg.connect(**_conninfo(way), autocommit=True) as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as stream,
    ):
        stream.setblocking(True)
        return _read_answer(stream, sql, way)


def _read_answer(stream: socket.socket, sql: str, way: Way) -> float:
    buffer = bytearray(RECEIVE_BYTES)
    started = time.perf_counter()
    stream.sendall(encode_query(sql))
    first, tail, total = b"", b"", 0
    while not tail.endswith(READY):
        count = stream.recv_into(buffer)
        if not count:
            raise TargetError(f"{way.name} broke off", why=f"after {total} bytes")
        first = first or bytes(buffer[:count])
        total += count
        tail = (tail + bytes(buffer[max(count - TAIL_BYTES, 0) : count]))[-TAIL_BYTES:]
    elapsed = time.perf_counter() - started
    wanted = b"SELECT 1\0" if sql == PROBE_SQL else b"SELECT %d\0" % BULK_ROWS
    if first[:1] != b"T" or wanted not in tail:
        raise TargetError(f"{way.name} did not give every row", why=(first[:300] + b" ... " + tail).decode(errors="replace"))
    if way.name == "gateway" and _SSN.search(first):
        raise TargetError("a value that policy masks came through the gateway")
    return elapsed


def _conninfo(way: Way) -> dict[str, Any]:
    return {
        "host": way.host,
        "port": way.port,
        "user": way.user,
        "password": way.password,
        "dbname": way.database,
        "sslmode": "disable",
        "gssencmode": "disable",
    }


def make_directory(directory: Path, name: str) -> Path:
    """A new folder for one part of a run."""
    path = directory / name
    path.mkdir(mode=0o700)
    return path
