"""HTTP through the gateway, beside mitmproxy with the same parts and nothing of ours, and nginx itself.

Plain HTTP on every way, so that parsing, deciding and recording are measured and not TLS. Rounds are interleaved. Release point b: reads.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import read_cpu_s
from benchmarks.rows import Bound, Row, compare
from gateway.errors import TargetError
from gateway.policy.bundle import write_manifest
from gateway.testing.gateway import write_config
from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.postgres import find_free_port

HOST: Final = "ledger.bank.test"
ANSWER: Final = {"accounts": [{"id": 1, "owner": "Ann Archer", "ssn": "123-45-6789"}], "page": 1}
OPERATIONS: Final = [{"id": "accounts.list", "methods": ["GET"], "path": "/accounts"}]
ROUNDS: Final = 5
REQUESTS: Final = 2_000
CLIENTS: Final = 8
START_TIMEOUT_S: Final = 30.0
ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Way:
    """One way to nginx: where to connect, what to ask for, whose processor time counts."""

    name: str
    port: int
    request: bytes
    pid: int


def measure(directory: Path, *, is_quick: bool) -> list[Row]:
    """The rows of HTTP. Raises TargetError where nginx is not installed."""
    rounds, requests = (2, 400) if is_quick else (ROUNDS, REQUESTS)
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    with open_ways(directory) as ways:
        single, pair = ways[:-1], ways[-2:]
        for way in ways:
            _drive(way, 50, 1)
        for _ in range(rounds):
            started = time.perf_counter()
            _drive_together(pair, requests)
            rates.setdefault("pair", []).append(len(pair) * requests / (time.perf_counter() - started))
            for way in single:
                before_s = read_cpu_s(way.pid)
                started = time.perf_counter()
                _drive(way, requests, CLIENTS)
                rates.setdefault(way.name, []).append(requests / (time.perf_counter() - started))
                costs.setdefault(way.name, []).append((read_cpu_s(way.pid) - before_s) / requests * 1e6)
    notes = [
        f"{CLIENTS} clients",
        "plain HTTP",
        "one masked field",
        "transcript head",
        "release point b",
        "one worker",
        f"{rounds} rounds",
    ]
    floor, aim = Bound("ratio", "max", 1.3), Bound("ratio", "max", 1.1)
    cost = compare(
        "http", "CPU per request", "us", costs["gateway"], costs["mitmproxy"], "bare mitmproxy", floor=floor, aim=aim, notes=notes
    )
    rate = compare("http", "small requests", "req/s", rates["gateway"], rates["mitmproxy"], "bare mitmproxy", notes=notes)
    direct = compare("http", "small requests: beside direct", "req/s", rates["gateway"], rates["nginx"], "nginx", notes=notes)
    beside = compare(
        "http",
        "small requests, two gateways side by side",
        "req/s",
        rates["pair"],
        rates["gateway"],
        "one gateway",
        aim=Bound("ratio", "min", 1.9),
        notes=[f"{CLIENTS} clients each", "each with a log of its own: one process is one worker", f"{rounds} rounds"],
    )
    return [cost, rate, direct, beside]


@contextlib.contextmanager
def open_ways(directory: Path) -> Iterator[list[Way]]:
    """nginx, bare mitmproxy, the gateway, and a second one, running."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        raise TargetError("nginx is not installed", fix="install it (Debian: apt-get install nginx-light)")
    with contextlib.ExitStack() as stack:
        port, bare_port = find_free_port(), find_free_port()
        _write_nginx(directory, port)
        server = start(stack, [nginx, "-c", str(directory / "nginx.conf"), "-p", str(directory)])
        bare = start(stack, [sys.executable, "-m", "benchmarks.http", str(bare_port)])
        issuer = stack.enter_context(DevelopmentIssuer())
        gateways = [_start_gateway(stack, directory / name, issuer, port) for name in ("one", "two")]
        for each in (port, bare_port):
            _wait_for(each)
        token = issuer.mint("agent-7", groups=["agents"])
        credential = base64.b64encode(f"agent:{token}".encode()).decode()
        proof = f"Proxy-Authorization: Basic {credential}\r\n"
        yield [
            Way("nginx", port, f"GET /accounts HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(), server.pid),
            Way(
                "mitmproxy",
                bare_port,
                f"GET http://127.0.0.1:{port}/accounts HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode(),
                bare.pid,
            ),
            *(
                Way(
                    "gateway",
                    gateway_port,
                    f"GET http://{HOST}/accounts HTTP/1.1\r\nHost: {HOST}\r\n{proof}\r\n".encode(),
                    pid,
                )
                for gateway_port, pid in gateways
            ),
        ]


def _start_gateway(stack: contextlib.ExitStack, directory: Path, issuer: DevelopmentIssuer, port: int) -> tuple[int, int]:
    """A gateway before the service on a port: its own port, and its process."""
    directory.mkdir()
    config = write_gateway(directory, issuer, port, OPERATIONS)
    gateway = start(stack, [sys.executable, "-m", "gateway.cli", "serve", "--json", "-c", str(config)])
    line = gateway.stdout.readline() if gateway.stdout else b""
    if not line:
        raise TargetError("the gateway did not start")
    return int(json.loads(line)["ready"]["http"].rsplit(":", 1)[1]), gateway.pid


def start(stack: contextlib.ExitStack, command: list[str]) -> subprocess.Popen[bytes]:
    """A process that is stopped with the stack."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ)

    def stop() -> None:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()

    stack.callback(stop)
    return process


def _write_nginx(directory: Path, port: int) -> None:
    (directory / "www").mkdir()
    (directory / "www/accounts").write_text(json.dumps(ANSWER))
    account = "user root; " if os.geteuid() == 0 else ""  # nginx's worker would have an account that may not read here
    http = f"access_log off; default_type application/json; keepalive_requests 10000000; server {{ listen 127.0.0.1:{port}; root www; }}"
    text = f"{account}daemon off; pid nginx.pid; error_log stderr; worker_processes 1; events {{}} http {{ {http} }}\n"
    (directory / "nginx.conf").write_text(text)


def write_gateway(directory: Path, issuer: DevelopmentIssuer, port: int, operations: list[dict[str, Any]]) -> Path:
    """A configuration with the whole shipped policy library and one connection to a service on this port."""
    bundle = directory / "policy"
    shutil.copytree(ROOT / "rego", bundle, ignore=shutil.ignore_patterns("*_test.rego"))
    site = json.loads((bundle / "site/data.json").read_text())
    site["http"] |= {"plain_allowed": True, "session_bytes": 1 << 40}
    (bundle / "site/data.json").write_text(json.dumps(site))
    write_manifest(bundle)
    connection = {
        "name": "ledger",
        "type": "http",
        "match": {"hosts": [HOST], "ports": [80]},
        "target": {"scheme": "http", "host": "127.0.0.1", "port": port},
        "environment": "staging",
        "allow_groups": ["agents"],
        "sensitive": ["ssn"],
        "operations": operations,
    }
    return write_config(directory / "gateway", issuer=issuer, bundle=bundle, connections=[connection])


def _wait_for(port: int) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TargetError("a peer does not start", why=f"port {port}")


def _drive(way: Way, requests: int, clients: int) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _ask(way, requests // clients)
        except (OSError, ValueError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise TargetError(f"{way.name} does not answer", why=str(failures[0]))


def _drive_together(ways: list[Way], requests: int) -> None:
    with ThreadPoolExecutor(len(ways)) as pool:
        for done in [pool.submit(_drive, way, requests, CLIENTS) for way in ways]:
            done.result()


def _ask(way: Way, requests: int) -> None:
    """Requests one after the other on one connection."""
    with socket.create_connection(("127.0.0.1", way.port), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = b""
        for _ in range(requests):
            client.sendall(way.request)
            while b"\r\n\r\n" not in rest:
                rest += _receive(client)
            head, _, rest = rest.partition(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise ValueError(head[:200].decode("latin-1"))
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            while len(rest) < length:
                rest += _receive(client)
            rest = rest[length:]


def _receive(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ValueError("the connection was closed")
    return data


async def serve_bare(port: int) -> None:
    """mitmproxy with the parts a proxy needs and one hook that does nothing."""
    from mitmproxy import options  # noqa: PLC0415 - only in the peer's own process
    from mitmproxy.addons import core, errorcheck, next_layer, proxyserver, tlsconfig  # noqa: PLC0415 - as above
    from mitmproxy.master import Master  # noqa: PLC0415 - as above

    class Nothing:
        async def request(self, flow: object) -> None:
            """Let it pass."""

    master = Master(options.Options(mode=[f"regular@127.0.0.1:{port}"]))
    parts = [
        core.Core(),
        proxyserver.Proxyserver(),
        next_layer.NextLayer(),
        tlsconfig.TlsConfig(),
        errorcheck.ErrorCheck(),
        Nothing(),
    ]
    master.addons.add(*parts)
    master.options.update(connection_strategy="lazy", upstream_cert=False)
    await master.run()


if __name__ == "__main__":
    asyncio.run(serve_bare(int(sys.argv[1])))
