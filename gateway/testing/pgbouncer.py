"""A PgBouncer before a PostgreSQL server, for tests and benchmarks: session pooling, SCRAM, and TLS where an authority is given."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from gateway.errors import TargetError
from gateway.testing.certificates import Authority
from gateway.testing.postgres import PostgresServer, find_free_port

START_TIMEOUT_S: Final = 10.0
"""It answers within a few milliseconds."""


@contextlib.contextmanager
def start_pgbouncer(
    server: PostgresServer,
    *,
    database: str,
    role: str,
    password: str,
    authority: Authority | None = None,
    settings: Mapping[str, object] | None = None,
) -> Iterator[tuple[int, int]]:
    """Its process and the port of 127.0.0.1 it accepts on; stopped at the end.

    Args:
        server: what it pools connections to.
        database: the one it knows.
        role: who logs in to it, and by it to the server.
        password: of the role, for both.
        authority: where given, both its sides are TLS.
        settings: lines of its configuration beside these.

    Raises:
        TargetError: it is not installed, or does not start.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        raise TargetError(
            "pgbouncer is not installed", fix="install the package pgbouncer (`make bench` and `make test` do where they may)"
        )
    with tempfile.TemporaryDirectory(prefix="sealgate-bouncer-") as made:
        folder, port = Path(made), find_free_port()
        (folder / "users.txt").write_text(f'"{role}" "{password}"\n')
        chosen = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": folder / "users.txt",
            "pool_mode": "session",
            "max_client_conn": 100,
            "default_pool_size": 40,
            "ignore_startup_parameters": "extra_float_digits,options",
            "logfile": folder / "pgbouncer.log",
            "log_connections": 0,
            "log_disconnections": 0,
            **_encrypt(folder, authority),
            **(settings or {}),
        }
        lines = [f"[databases]\n{database} = host={server.host} port={server.port}\n[pgbouncer]"]
        (folder / "pgbouncer.ini").write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in chosen.items()), ""]))
        process = subprocess.Popen(  # noqa: S603 - fixed argv
            [program, "-q", str(folder / "pgbouncer.ini")], user=_find_account(folder), cwd="/", stderr=subprocess.DEVNULL
        )
        try:
            _wait_for_port(port, process)
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_TIMEOUT_S)


def _encrypt(folder: Path, authority: Authority | None) -> dict[str, object]:
    """The settings of both its sides, with copies of the files that its account can read."""
    if authority is None:
        return {}
    cert_file, key_file = authority.issue("pgbouncer")
    copies = {path: shutil.copyfile(path, folder / path.name) for path in (cert_file, key_file, authority.ca_file)}
    return {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": copies[cert_file],
        "client_tls_key_file": copies[key_file],
        "server_tls_sslmode": "verify-full",
        "server_tls_ca_file": copies[authority.ca_file],
    }


def _find_account(folder: Path) -> int | None:
    """The account it runs as, where it would refuse ours, with the folder given to it."""
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam("postgres")
    for path in (folder, *folder.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
    return account.pw_uid


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TargetError("pgbouncer does not start")
