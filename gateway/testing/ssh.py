"""A real OpenSSH server on 127.0.0.1 for tests, benchmarks and the demonstration, and the keys around it.

Runs as the calling user from a folder of its own, on a port the kernel chose; only that user can log in unless it is root.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.testing.waiting import wait_until

SSHD: Final = "/usr/sbin/sshd"
START_TIMEOUT_S: Final = 20.0


def has_sshd() -> bool:
    """Whether an OpenSSH server is installed."""
    return os.access(SSHD, os.X_OK)


def make_key(path: Path) -> Path:
    """A new Ed25519 key without a passphrase at `path`, its public half beside it."""
    if not path.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)  # noqa: S603, S607 - fixed program, own arguments
    return path


@dataclass(frozen=True, slots=True)
class RunningSshd:
    """A server that runs until the `with` block ends.

    Attributes:
        user: who can log in.
        key: a private key that logs in.
        user_ca: private key of an authority whose certificates log in.
        known_hosts: a known_hosts file with the server's key.
        log: what the server says.
    """

    port: int
    user: str
    key: Path
    user_ca: Path
    known_hosts: Path
    log: Path
    pid: int


@contextlib.contextmanager
def start_sshd(folder: Path, *, options: Sequence[str] = ()) -> Iterator[RunningSshd]:
    """Run a server from a folder; `options` are further lines of its configuration."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host_key, key, user_ca = (make_key(folder / name) for name in ("host_key", "login_key", "login_ca"))
    shutil.copyfile(f"{key}.pub", folder / "authorized_keys")
    port, user, log = _find_port(), getpass.getuser(), folder / "sshd.log"
    config = folder / "sshd_config"
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {host_key}",
        f"PidFile {folder / 'sshd.pid'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"TrustedUserCAKeys {user_ca}.pub",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "StrictModes no",
        "UsePAM no",
        "Subsystem sftp internal-sftp",
        "AcceptEnv *",
        "PrintMotd no",
        "PrintLastLog no",
        "MaxStartups 200",
        *options,
    ]
    config.write_text("\n".join(lines) + "\n")
    known_hosts = folder / "known_hosts"
    kind, value, *_ = Path(f"{host_key}.pub").read_text().split()
    known_hosts.write_text(f"[127.0.0.1]:{port} {kind} {value}\n")
    # The path must be absolute: sshd starts itself anew for every connection.
    process = subprocess.Popen([SSHD, "-D", "-f", str(config), "-E", str(log)])  # noqa: S603 - fixed program, own arguments
    try:
        wait_until(lambda: _answers(port), timeout_s=START_TIMEOUT_S)
        yield RunningSshd(port, user, key, user_ca, known_hosts, log, process.pid)
    finally:
        process.terminate()
        process.wait()


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
        return probe.recv(4) == b"SSH-"
    return False
