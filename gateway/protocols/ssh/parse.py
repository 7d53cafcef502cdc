"""From channel requests to events. Pure; what cannot be read becomes `Undecodable`, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gateway.protocols.ssh.commands import Command, find_options, name_program, normalize_path
from gateway.protocols.ssh.events import Event, Exec, Forward, Pty, Script, Shell, Subsystem, Undecodable

MAX_ENVIRONMENT_NAME_CHARS: Final = 128
MAX_ENVIRONMENT_VALUE_BYTES: Final = 4_096
"""Bounds of one variable: locale and time zone names are far shorter."""

MAX_TERMINAL_SIDE: Final = 10_000
"""Most columns or rows of a terminal."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A command line that is the other half of a file or repository transfer.

    Attributes:
        direction: read takes from the target, write changes it.
        paths: of the target.
        service: for git "receive-pack", "upload-pack" or "upload-archive".
        is_recursive: for scp, whether folders follow.
        to_folder: for scp, whether the path must be a folder.
    """

    program: Literal["scp", "rsync", "git"]
    direction: Literal["read", "write"]
    paths: tuple[str, ...]
    service: str | None = None
    is_recursive: bool = False
    to_folder: bool = False


def parse_exec(command: bytes, pty: Pty | None, env: Mapping[str, str], script: Script | None = None) -> Event:
    """The event of an exec request (RFC 4254, 6.5)."""
    try:
        line = command.decode()
    except UnicodeDecodeError:
        return Undecodable("the command line is not UTF-8")
    if "\0" in line:
        return Undecodable("the command line holds a NUL, at which the server could stop reading")
    if script is not None and _decode(script.data) is None:
        return Undecodable(f"the standard input that {script.reader} would run is not UTF-8 text")
    return Exec(line, pty, env, script)


def parse_shell(pty: Pty | None, env: Mapping[str, str]) -> Event:
    """The event of a shell request (RFC 4254, 6.5)."""
    return Shell(pty, env)


def parse_subsystem(name: bytes) -> Event:
    """The event of a subsystem request (RFC 4254, 6.5)."""
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        return Undecodable("the name of the subsystem is not ASCII")
    return Subsystem(text) if text.isprintable() and text else Undecodable("the name of the subsystem is not printable")


def parse_pty(term: bytes, columns: int, rows: int) -> Pty | Undecodable:
    """A terminal request (RFC 4254, 6.2)."""
    try:
        name = term.decode("ascii")
    except UnicodeDecodeError:
        return Undecodable("the terminal type is not ASCII")
    if not name.isprintable() or len(name) > MAX_ENVIRONMENT_NAME_CHARS or max(columns, rows) > MAX_TERMINAL_SIDE:
        return Undecodable("the terminal type or size is not usable")
    return Pty(name, columns, rows)


def parse_environment(name: bytes, value: bytes, allowed: tuple[str, ...]) -> tuple[str, str] | None:
    """One variable (RFC 4254, 6.4) where its name is allowed and both parts are plain text; None where it is dropped.

    Args:
        name: as it came.
        value: as it came.
        allowed: names; a `*` at the end stands for any rest, as in LC_*.
    """
    try:
        key, text = name.decode("ascii"), value.decode()
    except UnicodeDecodeError:
        return None
    fits = any(key == item or (item.endswith("*") and key.startswith(item[:-1])) for item in allowed)
    is_sound = len(key) <= MAX_ENVIRONMENT_NAME_CHARS and len(value) <= MAX_ENVIRONMENT_VALUE_BYTES and text.isprintable()
    return (key, text) if fits and is_sound and key.replace("_", "a").isalnum() else None


def parse_forward(channel: str, host: str | None = None, port: int | None = None, path: str | None = None) -> Event:
    """A way past the session (RFC 4254, 6.3 and 7; OpenSSH PROTOCOL 2.4)."""
    known = {"direct-tcpip", "tcpip-forward", "direct-streamlocal", "streamlocal-forward", "agent", "x11", "tun"}
    if channel not in known:
        return Undecodable("the kind of channel is not known")
    return Forward(channel, host, port, path)  # type: ignore[arg-type] # checked on the line above


def find_transfer(command: Command) -> Transfer | None:
    """The transfer a plain command line takes part in; None for any other command."""
    argv = command.argv
    if argv is None:
        return None
    name = name_program(argv[0])
    if name == "scp":
        return _read_scp(argv)
    if name == "rsync" and "--server" in argv[1:]:
        return _read_rsync(argv)
    if name == "git" and len(argv) > 1:
        name, argv = f"git-{argv[1]}", argv[1:]
    return _read_git(name, argv)


def _read_scp(argv: tuple[str, ...]) -> Transfer | None:
    """`scp -t PATH` receives, `scp -f PATH…` sends (scp.c); anything else is scp run as a client on the target."""
    options, operands = _split(argv)
    letters = {letter for option in options for letter in option[1:]}
    if letters - set("vprdtfq") or not ({"t", "f"} & letters) or {"t", "f"} <= letters or not operands:
        return None
    if "t" in letters and len(operands) != 1:
        return None
    paths = tuple(normalize_path(path) for path in operands)
    return Transfer("scp", "write" if "t" in letters else "read", paths, is_recursive="r" in letters, to_folder="d" in letters)


_RSYNC_OTHER: Final = frozenset({
    "--daemon", "--config", "--rsh", "--log-file", "--files-from", "--exclude-from", "--include-from", "--filter", "--temp-dir", "--backup-dir",
    "--partial-dir", "--link-dest", "--compare-dest", "--copy-dest", "--remove-source-files", "--remove-sent-files", "--write-devices",
    "--copy-devices", "--write-batch", "--read-batch", "--only-write-batch", "--password-file", "--out-format", "--iconv", "--chown",
})  # fmt: skip


def _read_rsync(argv: tuple[str, ...]) -> Transfer | None:
    """`rsync --server [--sender] OPTIONS . PATH…` (rsync's options.c, server_options)."""
    options = [word for word in argv[1:] if word.startswith("-")]
    operands = [word for word in argv[1:] if not word.startswith("-")]
    if len(operands) < 2 or operands[0] != ".":  # noqa: PLR2004 - the dot, then at least one path
        return None
    # What names further files, or takes from the target and changes it at once, is no plain transfer.
    if _RSYNC_OTHER & set(find_options(("rsync", *options))) or any("/" in option for option in options):
        return None
    paths = tuple(normalize_path(path) for path in operands[1:])
    return Transfer("rsync", "read" if "--sender" in options else "write", paths)


def _read_git(name: str, argv: tuple[str, ...]) -> Transfer | None:
    directions: dict[str, Literal["read", "write"]] = {
        "git-receive-pack": "write",
        "git-upload-pack": "read",
        "git-upload-archive": "read",
    }
    if name not in directions or len(argv) != 2 or argv[1].startswith("-"):  # noqa: PLR2004 - the program and the repository
        return None
    return Transfer("git", directions[name], (normalize_path(argv[1]),), service=name.removeprefix("git-"))


def _split(argv: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Options and operands; `--` ends the options."""
    options: list[str] = []
    for index, word in enumerate(argv[1:], 1):
        if word == "--":
            return options, list(argv[index + 1 :])
        if not word.startswith("-") or word == "-":
            return options, list(argv[index:])
        options.append(word)
    return options, []


def _decode(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
