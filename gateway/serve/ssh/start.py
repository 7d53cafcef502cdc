"""Builds the SSH host of a worker from its configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from gateway.action import Resource, Subject
from gateway.config import SshConnectionConfig, SshListenerConfig
from gateway.errors import ConfigError
from gateway.pipeline import SessionSettings
from gateway.serve.hosts import Parts
from gateway.serve.ssh.conversation import SshConnection
from gateway.serve.ssh.keys import HostKeys, UserAuthority, load_private_key
from gateway.serve.ssh.known_hosts import check_known_hosts
from gateway.serve.ssh.listener import SshHost
from gateway.serve.ssh.servers import HostLimits
from gateway.serve.ssh.upstream import SshCredentials, SshEndpoint, TargetPool

BACKLOG = 256

logging.getLogger("asyncssh").setLevel(logging.WARNING)  # at INFO the library logs every command line and host name


class RunningSsh:
    """The SSH host with its listener: a `gateway.serve.hosts.Host`.

    Attributes:
        users: signs users' keys.
        name: what the gateway's own host certificate names.
    """

    def __init__(
        self,
        host: SshHost,
        server: asyncio.Server,
        connections: Mapping[str, SshConnection],
        keys: HostKeys,
        users: UserAuthority,
        name: str,
    ) -> None:
        self._host = host
        self._server = server
        self._connections = connections
        self._keys = keys
        self.users = users
        self.name = name
        loop = asyncio.get_running_loop()
        self._chores = [loop.create_task(chore) for chore in (host.keep_prepared(), host.end_idle())]

    @property
    def address(self) -> tuple[str, int]:
        """Where it accepts."""
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    @property
    def session_count(self) -> int:
        """Sessions open now."""
        return self._host.session_count

    def count(self) -> Mapping[str, float]:
        """Sessions now and the totals since the start."""
        return self._host.count()

    def for_clients(self, subject: Subject) -> Mapping[str, Any]:
        """The port, the gateway's name, the host authority's public key, and which login name leads to each host."""
        hosts = {host: item.users[0] for host, item in sorted(self._connections.items()) if item.admits(subject.groups)}
        return {"port": self.address[1], "name": self.name, "host_ca": self._keys.authority_line, "hosts": hosts}

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let commands under way finish, end the sessions and the logins at targets."""
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._server.close()
        await self._host.stop(grace_s)


async def start_ssh_host(parts: Parts, listener: SshListenerConfig) -> RunningSsh:
    """The host, accepting. Raises ConfigError when a key cannot be used, a file is missing, or the address is taken."""
    config = parts.config
    host_key, host_ca, user_ca = await asyncio.gather(
        *(
            asyncio.to_thread(load_private_key, parts.secrets, reference, f"listeners.ssh.{name}")
            for name, reference in (
                ("host_key", listener.host_key),
                ("host_ca", listener.host_ca),
                ("user_ca", listener.user_ca),
            )
        )
    )
    keys, users = HostKeys(host_key, host_ca), UserAuthority(user_ca, config.gateway.name, listener.certificate_ttl_s)
    connections: dict[str, SshConnection] = {}
    for item in config.connections:
        if isinstance(item, SshConnectionConfig):
            connection = await asyncio.to_thread(_make_connection, parts, item)
            connections |= dict.fromkeys(item.asked_for, connection)
    names = listener.names or (config.gateway.name,)
    host = SshHost(
        pipeline=parts.pipeline,
        verify=parts.verifier.verify,
        connections=connections,
        pool=TargetPool(parts.secrets, idle_s=listener.pool_idle_s),
        keys=keys,
        users=users,
        names=names,
        masking=parts.masking,
        limits=_limit(parts, listener),
    )
    await host.prepare()
    try:
        server = await asyncio.get_running_loop().create_server(host.accept, listener.bind, listener.port, backlog=BACKLOG)
    except OSError as error:
        why, fix = f"{listener.bind}:{listener.port}: {error}", "choose a free port, and an address of this machine"
        raise ConfigError("the ssh listener cannot start", why=why, fix=fix) from error
    return RunningSsh(host, server, connections, keys, users, names[0])


def _limit(parts: Parts, listener: SshListenerConfig) -> HostLimits:
    limits = parts.config.limits
    return HostLimits(
        login_timeout_s=limits.login_timeout_s,
        max_sessions=limits.max_sessions,
        max_sessions_per_subject=limits.max_sessions_per_subject,
        max_session_s=limits.max_session_s,
        max_auth_tries=listener.max_auth_tries,
        max_channels=listener.max_channels,
        rekey_bytes=listener.rekey_bytes,
        keepalive_s=listener.keepalive_s,
        idle_timeout_s=limits.idle_timeout_s,
    )


def _make_connection(parts: Parts, item: SshConnectionConfig) -> SshConnection:
    target, credential = item.target, item.credential
    check_known_hosts(item)
    return SshConnection(
        name=item.name,
        hosts=item.asked_for,
        users=item.users,
        endpoint=SshEndpoint(target.host, target.port, target.known_hosts, parts.config.limits.connect_timeout_s),
        credentials=SshCredentials(credential.user, credential.key, credential.password, credential.user_ca),
        admits=item.admits,
        session=SessionSettings(
            Resource(item.name, item.type, item.environment, item.risk, dict(item.labels)),
            item.transcript or "full",
            parts.config.approval.hold_s if item.hold_s is None else item.hold_s,
        ),
        shell=item.shell,
        environment_names=item.environment_names,
        max_script_bytes=item.max_script_bytes,
        max_file_bytes=item.max_file_bytes,
    )
