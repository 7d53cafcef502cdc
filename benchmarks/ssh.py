"""SSH: what a command and a large file cost through the gateway, beside the same OpenSSH client and server without it.

The gateway is a process of its own with everything on: the shipped policy library, a durable log on this disk, transcript mode full, masking.
The client, the server and the gateway share the machine's cores, and every way ends in the same sshd. Direct connections use OpenSSH's own
choice of cipher; through the gateway it is AES-GCM.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.rows import Bound, Row, compare
from gateway.client.ssh_files import make_key as make_client_key
from gateway.client.ssh_files import request_certificate, write_ssh_files
from gateway.policy.bundle import write_manifest
from gateway.testing.gateway import write_config
from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.ssh import RunningSshd, make_key, start_sshd

ROOT: Final = Path(__file__).resolve().parent.parent
COMMANDS: Final = 15
FILE_MB: Final = 200
TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the server: an ssh_config and the name of the host in it."""

    name: str
    config: Path
    host: str
    options: tuple[str, ...] = ()

    def run(self, program: str, *arguments: str) -> float:
        """Seconds one client program takes."""
        command = [program, "-F", str(self.config), "-o", "BatchMode=yes", *self.options, *arguments]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
        return time.perf_counter() - started


def measure(directory: Path, *, is_quick: bool = False) -> list[Row]:
    """The rows of SSH, rounds interleaved."""
    files = directory / "files"
    files.mkdir()
    with start_sshd(directory / "sshd") as sshd, open_ways(directory, sshd, files) as (direct, jump, login):
        return [
            *_time_commands(direct, jump, login, 3 if is_quick else COMMANDS),
            *_time_files(direct, jump, login, files, is_quick=is_quick),
        ]


def _time_commands(direct: Way, jump: Way, login: Way, count: int) -> list[Row]:
    times: dict[str, list[float]] = {way.name: [] for way in (direct, jump, login)}
    for way in (direct, jump, login):
        way.run("ssh", way.host, "true")  # the first command logs in at the target; the pool keeps that login
    for _ in range(count):
        for way in (direct, jump, login):
            times[way.name].append(way.run("ssh", way.host, "true") * 1_000)
    notes = [f"{count} rounds", "a new client each time", "release point a", "transcript full"]
    floor, aim = Bound("ratio", "max", 1.1), Bound("ratio", "max", 0.9)
    return [
        compare(
            "ssh", "ssh -J, one command", "ms", times[jump.name], times[direct.name], "direct", floor=floor, aim=aim, notes=notes
        ),
        compare("ssh", "ssh user%target, one command", "ms", times[login.name], times[direct.name], "direct", notes=notes),
    ]


def _time_files(direct: Way, jump: Way, login: Way, files: Path, *, is_quick: bool) -> list[Row]:
    size = FILE_MB // 5 if is_quick else FILE_MB
    source = files / "source"
    source.write_bytes(os.urandom(1 << 20) * size)
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(1 if is_quick else 3):
        for way in (direct, jump, login):
            for verb, arguments in (
                ("up", (str(source), f"{way.host}:{files}/up")),
                ("down", (f"{way.host}:{files}/up", f"{files}/down")),
            ):
                rates.setdefault((way.name, verb), []).append(size / way.run("scp", *arguments))
    floor, aim = Bound("ratio", "min", 0.6), Bound("ratio", "min", 0.8)
    notes = [f"{size} MB of random bytes", "sftp protocol", "digest of every byte"]
    rows = []
    for verb in ("up", "down"):
        peer = rates[direct.name, verb]
        rows.append(
            compare(
                "ssh", f"scp {verb}, ssh -J", "MB/s", rates[jump.name, verb], peer, "direct", floor=floor, aim=aim, notes=notes
            )
        )
        rows.append(compare("ssh", f"scp {verb}, user%target", "MB/s", rates[login.name, verb], peer, "direct", notes=notes))
    return rows


@contextlib.contextmanager
def open_ways(directory: Path, sshd: RunningSshd, files: Path) -> Iterator[tuple[Way, Way, Way]]:
    """The server directly, through a jump, and by login name; the gateway runs until the block ends."""
    bundle = _copy_bundle(directory, files)
    keys = {name: f"file:{make_key(directory / name)}" for name in ("host_key", "host_ca", "user_ca")}
    connection = {
        "name": "target",
        "type": "ssh",
        "target": {"host": "127.0.0.1", "port": sshd.port, "known_hosts": str(sshd.known_hosts)},
        "credential": {"user": sshd.user, "user_ca": f"file:{sshd.user_ca}"},
        "environment": "production",
        "allow_groups": ["agents"],
    }
    with DevelopmentIssuer() as issuer:
        config = write_config(
            directory / "gateway",
            issuer=issuer,
            bundle=bundle,
            connections=[connection],
            listeners={"postgres": None, "ssh": {"port": 0, **keys}},
        )
        command = [sys.executable, "-m", "gateway.cli", "serve", "--json", "-c", str(config)]
        with (directory / "gateway.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT)
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise RuntimeError(f"the gateway did not start: {(directory / 'gateway.log').read_text()[-500:]}")
            admin = json.loads(line)["ready"]["admin"]
            folder = directory / "client"
            access = request_certificate(
                f"http://{admin}", issuer.mint("bench", groups=["agents"]), make_client_key(folder / "id_ed25519")
            )
            through = write_ssh_files(folder, access, address="127.0.0.1")
            plain = directory / "direct_config"
            plain.write_text(
                f"Host target\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n"
                f"  IdentityAgent none\n  UserKnownHostsFile {sshd.known_hosts}\n"
            )
            user = access.hosts["target"]
            yield (
                Way("direct", plain, "target"),
                Way("jump", through, "target"),
                Way("login", through, "sealgate", ("-o", f"User={user}%target")),
            )
        finally:
            process.terminate()
            process.wait(60)


def _copy_bundle(directory: Path, files: Path) -> Path:
    bundle = directory / "policy"
    shutil.copytree(ROOT / "rego", bundle, ignore=shutil.ignore_patterns("*_test.rego"))
    site = bundle / "site/data.json"
    facts = json.loads(site.read_text())
    facts["ssh"]["folders"] = {"read": [str(files)], "write": [str(files)]}
    site.write_text(json.dumps(facts))
    write_manifest(bundle)
    return bundle
