"""What an agent's client asked for on one SSH connection, typed. Section numbers refer to RFC 4254 (the SSH connection protocol)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Pty:
    """A terminal asked for with "pty-req" (6.2): its type and its size in characters."""

    term: str
    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Script:
    """Standard input that a program will run as code, read to its end before anything is decided.

    Attributes:
        data: all of it.
        reader: the program that would run it.
    """

    data: bytes
    reader: str


@dataclass(frozen=True, slots=True)
class Exec:
    """A command line to run (6.5), as the remote shell would get it.

    Attributes:
        env: variables the agent set that the connection lets through, by name.
        script: standard input that is code, where the command reads any.
    """

    command: str
    pty: Pty | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    script: Script | None = None


@dataclass(frozen=True, slots=True)
class Shell:
    """An interactive shell (6.5): what is typed into it cannot be judged before it runs."""

    pty: Pty | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subsystem:
    """A subsystem by name (6.5); only "sftp" is understood."""

    name: str


FileOperation = Literal[
    "open", "read", "write", "list", "stat", "setstat", "remove", "rename", "mkdir", "rmdir", "symlink", "link", "readlink",
    "realpath", "statvfs", "fsync", "copy", "unknown",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileRequest:
    """One operation on files of the target, over sftp or scp.

    Attributes:
        via: which protocol carries it.
        path: as the client wrote it, decoded; the first of two.
        other_path: the second path of rename, link and symlink.
        flags: how a file is opened: read, write, append, create, truncate, exclusive.
        attributes: names of attributes that are set: size, owner, permissions, times, extended.
        mode: permission bits, where the client gives them.
        size: bytes announced or set, where the client gives them.
    """

    via: Literal["sftp", "scp"]
    operation: FileOperation
    path: str
    other_path: str | None = None
    flags: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    mode: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """A way past the session: a forwarded port (7), socket, agent, display (6.3) or network device.

    Attributes:
        channel: what kind of way.
        host: where to, or where it would listen.
    """

    channel: Literal["direct-tcpip", "tcpip-forward", "direct-streamlocal", "streamlocal-forward", "agent", "x11", "tun"]
    host: str | None = None
    port: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A request that cannot be judged: refused, because the server could read it otherwise."""

    reason: str


Event = Exec | Shell | Subsystem | FileRequest | Forward | Undecodable
"""What needs a decision before a byte of it reaches the target."""
