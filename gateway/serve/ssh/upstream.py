"""The gateway's own logins at SSH targets: host checked, credential resolved for each login, one pool per subject.

A login is never shared between subjects: the target's log, its limits and its session state belong to one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncssh
from asyncssh.connection import SSHClientConnection

from gateway.action import Subject
from gateway.errors import ConfigError, SecretError, TargetError, TargetUnprovenError
from gateway.secrets import SecretResolver
from gateway.serve.ssh.keys import certify_login, load_private_key
from gateway.serve.ssh.wire import KEY_EXCHANGES, MACS, TARGET_CIPHERS, supported

logger = logging.getLogger(__name__)

MAX_CHANNELS_PER_LOGIN: Final = 8
"""sshd lets one connection open ten sessions unless told otherwise (MaxSessions)."""

KEEPALIVE_S: Final = 30


@dataclass(frozen=True, slots=True)
class SshCredentials:
    """References to what the gateway logs in with; exactly one of the three is set."""

    user: str
    key: str | None = None
    password: str | None = None
    user_ca: str | None = None


@dataclass(frozen=True, slots=True)
class SshEndpoint:
    """Where a target is, and what proves it."""

    host: str
    port: int
    known_hosts: Path
    connect_timeout_s: float


@dataclass(eq=False, slots=True)
class _Login:
    """One connection to a target and how many channels use it."""

    connection: SSHClientConnection
    channels: int = 0
    idle: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        return self.channels < MAX_CHANNELS_PER_LOGIN and not self.connection.is_closed()


@dataclass(eq=False, slots=True)
class _Slot:
    """The logins of one subject at one target."""

    logins: list[_Login] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TargetPool:
    """Logins at targets, kept for the next command of the same subject.

    Args:
        idle_s: how long an unused login is kept.
    """

    def __init__(self, resolver: SecretResolver, *, idle_s: float) -> None:
        self._resolver = resolver
        self._idle_s = idle_s
        self._slots: dict[tuple[str, str | None, str], _Slot] = {}

    @property
    def login_count(self) -> int:
        """Connections to targets open now."""
        return sum(len(slot.logins) for slot in self._slots.values())

    @contextlib.asynccontextmanager
    async def use(
        self, name: str, endpoint: SshEndpoint, credentials: SshCredentials, subject: Subject
    ) -> AsyncIterator[SSHClientConnection]:
        """A connection to a target for one channel of this subject. Raises TargetError."""
        key = subject.id, subject.on_behalf_of, name
        slot = self._slots.setdefault(key, _Slot())
        async with slot.lock:
            login = next((item for item in slot.logins if item.is_usable), None)
            if login is None:
                login = _Login(await self._log_in(endpoint, credentials, subject))
                slot.logins.append(login)
            login.channels += 1
            if login.idle is not None:
                login.idle.cancel()
                login.idle = None
        try:
            yield login.connection
        finally:
            login.channels -= 1
            if not login.channels:
                if login.connection.is_closed() or not self._idle_s:
                    self._drop(key, login)
                else:
                    login.idle = asyncio.get_running_loop().call_later(self._idle_s, self._drop, key, login)

    def close(self) -> None:
        """End every login."""
        for key, slot in list(self._slots.items()):
            for login in list(slot.logins):
                self._drop(key, login)

    def _drop(self, key: tuple[str, str | None, str], login: _Login) -> None:
        if login.idle is not None:
            login.idle.cancel()
        login.connection.close()
        slot = self._slots.get(key)
        if slot is None:
            return
        with contextlib.suppress(ValueError):
            slot.logins.remove(login)
        if not slot.logins and not slot.lock.locked():
            del self._slots[key]

    async def _log_in(self, endpoint: SshEndpoint, credentials: SshCredentials, subject: Subject) -> SSHClientConnection:
        from asyncssh.encryption import get_encryption_algs  # noqa: PLC0415 - the registry is filled on import
        from asyncssh.kex import get_kex_algs  # noqa: PLC0415 - as above
        from asyncssh.mac import get_mac_algs  # noqa: PLC0415 - as above

        proof = await asyncio.to_thread(self._read_proof, credentials, subject)
        try:
            connection = await asyncssh.connect(
                endpoint.host,
                endpoint.port,
                username=credentials.user,
                config=None,
                known_hosts=str(endpoint.known_hosts),
                x509_trusted_certs=None,
                agent_path=None,
                agent_forwarding=False,
                gss_host=None,
                gss_kex=False,
                gss_auth=False,
                host_based_auth=False,
                client_version="Sealgate",
                kex_algs=supported(KEY_EXCHANGES, get_kex_algs),
                encryption_algs=supported(TARGET_CIPHERS, get_encryption_algs),
                mac_algs=[*supported(MACS, get_mac_algs), "hmac-sha2-256", "hmac-sha2-512"],
                compression_algs=["none"],
                connect_timeout=endpoint.connect_timeout_s,
                login_timeout=endpoint.connect_timeout_s,
                keepalive_interval=KEEPALIVE_S,
                **proof,
            )
        except (asyncssh.Error, OSError, TimeoutError, ValueError) as error:
            raise _refuse(endpoint, error) from error
        if not _is_safe(connection):
            connection.abort()
            why = "it offers neither AES-GCM nor strict key exchange, so packets could be dropped unnoticed (CVE-2023-48795)"
            raise TargetError("the target's SSH is too old", why=why, fix="update its sshd")
        return connection

    def _read_proof(self, credentials: SshCredentials, subject: Subject) -> dict[str, Any]:
        """How to log in: read at each login, so that rotation needs no restart. Raises TargetError."""
        try:
            if credentials.password is not None:
                password = self._resolver.resolve(credentials.password).decode()
                return {"password": password, "client_keys": None, "preferred_auth": "password,keyboard-interactive"}
            if credentials.key is not None:
                keys: list[Any] = [load_private_key(self._resolver, credentials.key, "credential.key")]
            else:
                authority = load_private_key(self._resolver, credentials.user_ca or "", "credential.user_ca")
                keys = [certify_login(authority, credentials.user, subject.id)]
        except (ConfigError, SecretError, UnicodeDecodeError) as error:
            raise TargetError("the credential of this connection cannot be read", why=str(error)) from error
        return {"client_keys": keys, "password": None, "preferred_auth": "publickey"}


def _is_safe(connection: SSHClientConnection) -> bool:
    """Whether nobody on the way can cut packets off the beginning: strict key exchange, or a cipher without the weakness."""
    ciphers = {str(connection.get_extra_info(name)) for name in ("recv_cipher", "send_cipher")}
    return bool(connection._strict_kex) or all("gcm" in name for name in ciphers)  # noqa: SLF001 - not in the public interface


def _refuse(endpoint: SshEndpoint, error: BaseException) -> TargetError:
    """What is wrong with the way to a target, without the address and without anything it said about the credential."""
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        why = f"{endpoint.host}:{endpoint.port} shows a host key that {endpoint.known_hosts.name} does not hold"
        what = "the target could not be proven to be the right machine: its host key is not the one that is known"
        return TargetUnprovenError(what, why=why, fix="check who answers there before anything else")
    if isinstance(error, asyncssh.PermissionDenied):
        return TargetError(
            "the target does not accept the gateway's login",
            why="its credential was refused",
            fix="check connections[].credential",
        )
    if isinstance(error, TimeoutError):
        return TargetError(
            "the target does not answer", why=f"nothing within {endpoint.connect_timeout_s:g} s", fix="check the network and sshd"
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return TargetError("the target's SSH is too old", why="no common algorithm", fix="update its sshd")
    return TargetError("the target cannot be reached", why=f"{type(error).__name__}: {error}", fix="check the network and sshd")
