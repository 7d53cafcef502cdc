"""An SSH server in this process: commands run in a shell, signals reach them, files by sftp, login by certificate or password.

The demonstration uses it where no sshd is installed, tests for what OpenSSH's server does not do for root. It runs what it is told as the
calling user, so it listens on 127.0.0.1 and admits only certificates of an authority it makes itself, and a password it was given.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

START_TIMEOUT_S: Final = 20.0
CHUNK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class RunningTarget:
    """A server that runs until the `with` block ends.

    Attributes:
        user: who can log in.
        user_ca: private key of the authority whose certificates log in.
        known_hosts: a known_hosts file with the server's key.
    """

    port: int
    user: str
    user_ca: Path
    known_hosts: Path


@contextlib.contextmanager
def start_target(folder: Path, *, password: str | None = None) -> Iterator[RunningTarget]:
    """Run the server from a folder that holds its keys; `password` also logs in where it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    host_key, authority = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    user_ca = folder / "login_ca"
    authority.write_private_key(user_ca)
    user_ca.chmod(0o600)
    admitted = asyncssh.import_authorized_keys(f"cert-authority {authority.export_public_key().decode()}")
    loop, stopping, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        listening = await asyncssh.create_server(
            lambda: _Logins(password),
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=admitted,
            process_factory=_run,
            sftp_factory=_Files,
            encoding=None,
        )
        async with listening:
            ports.append(listening.get_port())
            ready.set()
            await stopping.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="ssh-target", daemon=True)
    thread.start()
    try:
        if not ready.wait(START_TIMEOUT_S):
            raise TimeoutError("the SSH target did not start")
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{ports[0]} {host_key.export_public_key().decode()}")
        yield RunningTarget(ports[0], getpass.getuser(), user_ca, known_hosts)
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(START_TIMEOUT_S)


class _Logins(asyncssh.SSHServer):
    """Who may log in beside those with a certificate."""

    def __init__(self, password: str | None) -> None:
        self._password = password

    def password_auth_supported(self) -> bool:
        """Only where a password was given."""
        return self._password is not None

    def validate_password(self, username: str, password: str) -> bool:
        """Whether it is the one that was given."""
        return username == getpass.getuser() and password == self._password


class _Files(asyncssh.SFTPServer):
    """The file system as it is."""

    def exit(self) -> None:
        """Say that the subsystem ended well, as sshd does; stock scp takes silence for a failure."""
        self.channel.exit(0)


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """One command, as sshd would run it: by the user's shell."""
    if process.command is None:
        process.stderr.write(b"this server runs commands only\n")
        process.exit(1)
        return
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_shell(process.command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    feeding = asyncio.create_task(_feed(process.stdin, child.stdin, child))
    await asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
    status = await child.wait()
    feeding.cancel()
    if status < 0:
        process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        process.exit(status)


async def _copy(source: asyncio.StreamReader | None, sink: asyncssh.SSHWriter[bytes]) -> None:
    while source is not None and (data := await source.read(CHUNK_BYTES)):
        sink.write(data)
        await sink.drain()


async def _feed(source: asyncssh.SSHReader[bytes], sink: asyncio.StreamWriter | None, child: asyncio.subprocess.Process) -> None:
    """Input to the command, and the signals that come between."""
    while sink is not None:
        try:
            data = await source.read(CHUNK_BYTES)
        except asyncssh.SignalReceived as received:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.Signals[f"SIG{received.signal}"])  # the shell, and what it runs
            continue
        except asyncssh.Error:
            return
        if not data:
            sink.close()
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sink.write(data)
            await sink.drain()
