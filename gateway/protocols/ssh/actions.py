"""From events to actions: what an agent attempts on an SSH target, with facts for policy and the text kept apart as payload.

Facts name programs, subcommands, options, paths and sizes; they never hold a command line, a script or a variable's value. Effects:

    exec                  execute; privilege for sudo and its kin; unknown where the line is not plain commands and pipes
    scp, rsync, git       read or write, by direction; what each file or ref is comes as an action of its own (scp, git)
    shell                 execute and unknown: nothing of what is typed can be judged before it runs
    files                 read or write; privilege where an owner changes; unknown for operations nobody knows
    forward               network
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.action import Action, Lookup
from gateway.protocols.ssh.commands import (
    MAX_PATHS,
    PRIVILEGE_PROGRAMS,
    Command,
    find_options,
    find_paths,
    name_program,
    normalize_path,
    read_command,
    unwrap,
)
from gateway.protocols.ssh.events import Event, Exec, FileRequest, Forward, Shell, Subsystem, Undecodable
from gateway.protocols.ssh.parse import Transfer, find_transfer

READING: Final = frozenset({"list", "stat", "readlink", "realpath", "statvfs", "read"})
"""File operations that change nothing."""

WRITING: Final = frozenset({"write", "setstat", "remove", "rename", "mkdir", "rmdir", "symlink", "link", "fsync", "copy"})

_SUBCOMMAND: Final = 64
"""Longest subcommand that is a fact; a longer word is an operand."""

SUBCOMMAND_PROGRAMS: Final = frozenset({
    "systemctl", "service", "apt", "apt-get", "apt-cache", "dpkg", "yum", "dnf", "rpm", "snap", "pip", "pip3", "npm", "git", "docker",
    "podman", "kubectl", "helm", "crictl", "ip", "nmcli", "timedatectl", "hostnamectl", "loginctl", "journalctl", "ufw", "firewall-cmd",
    "nft", "supervisorctl", "pm2", "aws", "gcloud", "az", "terraform", "ansible", "openssl", "zfs", "zpool", "lvm", "virsh", "sysctl",
    "resolvectl", "networkctl", "machinectl", "coredumpctl", "vault", "consul", "nomad", "etcdctl", "rabbitmqctl", "brew", "zypper",
    "pacman", "apk", "flatpak", "cargo", "go", "make", "bpftool", "tc", "update-rc.d", "chkconfig", "pg_ctl", "pg_ctlcluster",
})  # fmt: skip
"""Programs whose first operand says what they do, so that it is structure rather than data."""


@dataclass(frozen=True, slots=True)
class SshSettings:
    """What describing an action needs to know of its connection.

    Attributes:
        target: the host name the agent asked for.
        user: the account on the target.
    """

    connection: str
    target: str
    user: str


def lookups(event: Event, settings: SshSettings) -> tuple[Lookup, ...]:
    """Nothing is asked of the target: what an SSH action is lies in its own bytes."""
    del event, settings
    return ()


def describe(event: Event, facts: Mapping[str, object], settings: SshSettings) -> Action:
    """The action an event attempts."""
    del facts  # there are no look-ups
    match event:
        case Exec():
            return _describe_exec(event, settings)
        case Shell():
            tty = {"tty": event.pty is not None}
            payload = {"env": dict(event.env)} if event.env else {}
            return _make(
                "shell", {"execute", "unknown"}, tty | _env_names(event.env), payload, {"shell": True}, settings, "a shell"
            )
        case Subsystem():
            title = f"subsystem {event.name}"
            effects = {"read"} if event.name == "sftp" else {"unknown"}
            return _make("subsystem", effects, {"subsystem": event.name}, {}, {"subsystem": event.name}, settings, title)
        case FileRequest():
            return _describe_file(event, settings)
        case Forward():
            return _describe_forward(event, settings)
        case Undecodable():
            action = _make("exec", {"unknown"}, {}, {}, {"undecodable": event.reason}, settings, "the request")
            return _fail(action, event.reason)


def _describe_exec(event: Exec, settings: SshSettings) -> Action:
    command = read_command(event.command)
    transfer = find_transfer(command)
    described = [_describe_program(argv) for argv in command.stages]
    facts: dict[str, Any] = {
        "tty": event.pty is not None,
        "shell_features": list(command.features),
        "commands": described,
        **_env_names(event.env),
    }
    if described:
        facts["argv0"] = described[0]["argv0"]
    if event.script is not None:
        facts["script"] = {"reader": event.script.reader, "bytes": len(event.script.data)}
    if transfer is not None:
        facts["transfer"] = _transfer_facts(transfer)
    payload: dict[str, Any] = {"command": event.command}
    if command.argv is not None:
        payload["argv"] = list(command.argv)
    if event.env:
        payload["env"] = dict(event.env)
    canonical: dict[str, Any] = {
        "command": event.command,
        "tty": event.pty is not None,
        **({"env": dict(event.env)} if event.env else {}),
    }
    if event.script is not None:
        payload["stdin"] = canonical["stdin"] = event.script.data.decode()
    title = _name(described, transfer)
    return _make("exec", _exec_effects(command, described, transfer), facts, payload, canonical, settings, title)


def _exec_effects(command: Command, described: list[dict[str, Any]], transfer: Transfer | None) -> set[str]:
    if not command.stages:
        return {"execute", "unknown"}
    if transfer is not None:
        return {transfer.direction}
    return {"execute"} | ({"privilege"} if any(item.get("privileged") for item in described) else set())


def _describe_program(argv: tuple[str, ...]) -> dict[str, Any]:
    """The structure of one command of a line."""
    wrappers, inner = unwrap(argv)
    program = name_program(inner[0]) if inner else None
    paths = find_paths(argv)
    described: dict[str, Any] = {
        "argv0": name_program(argv[0]),
        "options": list(find_options(inner or argv)),
        "paths": list(paths[:MAX_PATHS]),
        "arg_count": len(argv) - 1,
        "privileged": bool(({program} | set(wrappers) | {name_program(argv[0])}) & PRIVILEGE_PROGRAMS),
    }
    if len(paths) > MAX_PATHS:
        described["paths_truncated"] = True
    if wrappers:
        described["wrappers"] = list(wrappers)
    if program is not None:
        described["program"] = program
        subcommand = _find_subcommand(program, inner)
        if subcommand is not None:
            described["subcommand"] = subcommand
    return described


def _find_subcommand(program: str, argv: tuple[str, ...]) -> str | None:
    if program not in SUBCOMMAND_PROGRAMS:
        return None
    word = next((word for word in argv[1:] if not word.startswith("-")), None)
    if program == "service" and len(argv) > 2:  # noqa: PLR2004 - service NAME VERB
        word = argv[2]
    if word is None or len(word) > _SUBCOMMAND or not word.replace("-", "a").replace("_", "a").isalnum():
        return None
    return word


def _transfer_facts(transfer: Transfer) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "program": transfer.program,
        "direction": transfer.direction,
        "paths": list(transfer.paths[:MAX_PATHS]),
    }
    return facts | ({"service": transfer.service} if transfer.service else {})


def _name(described: list[dict[str, Any]], transfer: Transfer | None) -> str:
    if transfer is not None:
        return f"{transfer.program} ({transfer.direction})"
    if not described:
        return "the command line"
    names = [" ".join(filter(None, (item.get("program") or item["argv0"], item.get("subcommand")))) for item in described]
    return " | ".join(names)


def _describe_file(event: FileRequest, settings: SshSettings) -> Action:
    operation = event.operation
    details: dict[str, Any] = {"op": operation, "path": normalize_path(event.path)}
    if event.other_path is not None:
        details["other_path"] = normalize_path(event.other_path)
    for name, values in (("flags", event.flags), ("attributes", event.attributes)):
        if values:
            details[name] = list(values)
    details |= {name: value for name, value in (("mode", event.mode), ("size", event.size)) if value is not None}
    effects = _file_effects(event)
    title = f"{event.via} {operation} of a file" if operation != "list" else f"{event.via} listing of a folder"
    action = _make(
        event.via, effects, {"sftp": details}, {}, {"file": details}, settings, title, name=f"ssh.{event.via}.{operation}"
    )
    return _fail(action, "the operation is not known") if operation == "unknown" else action


def _file_effects(event: FileRequest) -> set[str]:
    if event.operation == "open":
        changes = set(event.flags) & {"write", "append", "create", "truncate"}
        return ({"write"} if changes else set()) | ({"read"} if "read" in event.flags or not changes else set())
    if event.operation in READING:
        return {"read"}
    if event.operation in WRITING:
        return {"write", "privilege"} if "owner" in event.attributes else {"write"}
    return {"unknown"}


def _describe_forward(event: Forward, settings: SshSettings) -> Action:
    details = {"channel": event.channel, "host": event.host, "port": event.port, "path": event.path}
    details = {name: value for name, value in details.items() if value is not None}
    titles = {"agent": "agent forwarding", "x11": "X11 forwarding", "tun": "a network tunnel"}
    title = titles.get(event.channel, "port forwarding" if event.path is None else "socket forwarding")
    return _make("forward", {"network"}, {"forward": details}, {}, {"forward": details}, settings, title)


def _env_names(env: Mapping[str, str]) -> dict[str, Any]:
    return {"env_names": sorted(env)} if env else {}


def _make(
    kind: str,
    effects: set[str],
    facts: Mapping[str, Any],
    payload: Mapping[str, Any],
    canonical: Mapping[str, Any],
    settings: SshSettings,
    title: str,
    *,
    name: str | None = None,
) -> Action:
    return Action(
        protocol="ssh",
        phase="request",
        name=name or f"ssh.{kind}",
        effects=frozenset(effects),
        facts={"kind": kind, "target": settings.target, "user": settings.user, **facts},
        payload=payload,
        canonical={**canonical, "user": settings.user, "target": settings.target},
        harmless_read=effects == {"read"} and kind == "sftp",
        title=f"{title} on {settings.target}",
    )


def _fail(action: Action, reason: str) -> Action:
    return Action(
        protocol=action.protocol,
        phase=action.phase,
        name=action.name,
        effects=frozenset({"unknown"}),
        facts=action.facts,
        payload=action.payload,
        canonical=action.canonical,
        parse_status="failed",
        parse_reason=reason,
        title=action.title,
    )
