"""Whether a known_hosts file can ever prove a connection's target: asked by `sealgate validate` and at every start."""

from __future__ import annotations

from typing import Final

import asyncssh

from gateway.config import Config, SshConnectionConfig
from gateway.errors import ConfigError

SSH_PORT: Final = 22
"""known_hosts names no port where it is this one."""

FIX: Final = "write it with `ssh-keyscan`, and check the key by another way"


def check_known_hosts(item: SshConnectionConfig) -> None:
    """Raise ConfigError where the file cannot be read, or has neither a key nor an authority for the target."""
    target = item.target
    try:
        known = asyncssh.read_known_hosts(str(target.known_hosts))
    except (OSError, ValueError) as error:
        raise ConfigError(f"connections[{item.name}].target.known_hosts cannot be read", why=str(error), fix=FIX) from error
    trusted, authorities, *_ = known.match(target.host, "", None if target.port == SSH_PORT else target.port)
    if not trusted and not authorities:
        why = f"{target.known_hosts.name} has no line for {target.host}:{target.port}"
        raise ConfigError(f"connection {item.name} could never be used", why=why, fix="add the host's key, or its authority")


def find_unproven_targets(config: Config) -> dict[int, str]:
    """What is wrong with the known_hosts files of a configuration, by the number of the connection.

    A file that is not there, or that only the gateway may read, is no finding: it may come with the machine the gateway runs on.
    """
    found: dict[int, str] = {}
    for number, item in enumerate(config.connections):
        if isinstance(item, SshConnectionConfig):
            try:
                check_known_hosts(item)
            except ConfigError as error:
                if not isinstance(error.__cause__, OSError):
                    found[number] = error.why
    return found
