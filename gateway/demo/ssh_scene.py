"""The SSH part of the demonstration: an agent with stock ssh and scp, and OpenSSH's own server where one is installed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.client.ssh_files import make_key as make_client_key
from gateway.client.ssh_files import request_certificate, write_ssh_files
from gateway.testing.ssh import RunningSshd, has_sshd, make_key, start_sshd
from gateway.testing.ssh_target import RunningTarget, start_target

HOST: Final = "web-1"
COMMAND_TIMEOUT_S: Final = 60
CARD: Final = "4111111111111111"
SEED: Final = f"order 1 paid with card {CARD}\norder 2 paid in cash\n"

_DECISION_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class SshTarget:
    """The server, and a folder on it that agents may use."""

    sshd: RunningSshd | RunningTarget
    files: Path
    keys: Mapping[str, Path]

    def listener(self) -> dict[str, Any]:
        """`listeners.ssh` of the demonstration."""
        return {"bind": "127.0.0.1", "port": 0, **{name: f"file:{path}" for name, path in self.keys.items()}}

    def connection(self) -> dict[str, Any]:
        """The registered connection."""
        return {
            "name": HOST,
            "type": "ssh",
            "match": {"users": ["deploy"]},
            "target": {"host": "127.0.0.1", "port": self.sshd.port, "known_hosts": str(self.sshd.known_hosts)},
            "credential": {"user": self.sshd.user, "user_ca": f"file:{self.sshd.user_ca}"},
            "environment": "production",
            "risk": "high",
            "allow_groups": ["agents"],
        }

    def adapt(self, facts: dict[str, Any]) -> None:
        """The site facts for this machine: the folder agents may read and write."""
        facts["ssh"]["folders"] = {"read": [str(self.files)], "write": [str(self.files)]}


@contextlib.contextmanager
def open_target(directory: Path) -> Iterator[SshTarget | None]:
    """Start the server below `directory`: OpenSSH's, else one in this process; None where there is no stock client to show."""
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        yield None
        return
    files = directory / "files"
    files.mkdir(parents=True)
    (files / "orders.txt").write_text(SEED)
    keys = {name: make_key(directory / name) for name in ("host_key", "host_ca", "user_ca")}
    start = start_sshd if has_sshd() else start_target
    with start(directory / "sshd") as server:
        yield SshTarget(server, files, keys)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing the agent tried: its name, the program, what must come of it, and what came."""

    name: str
    client: str
    expected: str
    command: str
    observed: str
    is_ok: bool
    decision_id: str | None


def write_access(admin: str, token: str, folder: Path) -> Path:
    """What `sealgate ssh-cert` makes, in a new folder; returns the ssh_config."""
    access = request_certificate(f"http://{admin}", token, make_client_key(folder / "id_ed25519"))
    return write_ssh_files(folder, access, address="127.0.0.1")


def play_ssh(target: SshTarget, admin: str, token: str, folder: Path) -> Iterator[Attempt]:
    """What the agent does over SSH, with a certificate made from its token."""
    config = write_access(admin, token, folder)
    orders = target.files / "orders.txt"
    yield _try(config, "allowed: a command that looks", "one line", ["ssh", HOST, "uptime"], 0, "load average")
    yield _try(
        config,
        "masked: a card number in a file",
        "[masked:payment_card]",
        ["ssh", HOST, "cat", str(orders)],
        0,
        "[masked:payment_card]",
    )
    yield _try(
        config,
        "blocked: destroy files",
        "exit 126",
        ["ssh", HOST, "rm", "-rf", str(target.files)],
        126,
        "ssh.destructive.program",
    )
    hidden = f"echo $(cat {orders})"
    yield _try(config, "blocked: hidden in shell syntax", "exit 126", ["ssh", HOST, hidden], 126, "ssh.commands.shell_syntax")
    yield _try(config, "blocked: a shell", "exit 126", ["ssh", HOST], 126, "ssh.shells.shell")
    yield _try(
        config, "blocked: a tunnel", "refused", ["ssh", "-W", "127.0.0.1:22", HOST], None, "nothing passes that is not seen"
    )
    local = folder / "note.txt"
    local.write_text("a note\n")
    yield _try(
        config, "allowed: a file to a listed folder", "copied", ["scp", str(local), f"{HOST}:{target.files}/note.txt"], 0, ""
    )
    yield _try(
        config,
        "blocked: a file anywhere else",
        "refused",
        ["scp", str(local), f"{HOST}:/etc/note.txt"],
        None,
        "default.deny.write",
    )


def _try(config: Path, name: str, expected: str, words: list[str], code: int | None, wanted: str) -> Attempt:
    """Run one program; `code` None stands for any but 0."""
    command = [words[0], "-F", str(config), "-o", "BatchMode=yes", *words[1:]]
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    done = subprocess.run(  # noqa: S603 - a stock client with our own arguments
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    text = (done.stdout + done.stderr).strip()
    is_ok = (done.returncode == code if code is not None else done.returncode != 0) and wanted in text and CARD not in text
    found = _DECISION_ID.search(text)
    return Attempt(name, words[0], expected, " ".join(words), text, is_ok, found.group() if found else None)
