"""asyncssh, bent to the gateway's needs in one place: what the library decides by itself, decided by us instead.

Three things are not in its public interface and are overridden here, for the version the lock file pins: who a certificate proves (the
library only says yes or no), requests it answers without asking (environment, agent, X11, commands that are not UTF-8), and an inner
server that runs on a channel instead of a socket (`ssh -J`). Everything else uses the library as documented.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHServerConnection, SSHServerConnectionOptions
from asyncssh.packet import SSHPacket, String
from asyncssh.public_key import SSHOpenSSHCertificate, decode_ssh_certificate

from gateway.errors import IdentityError

KEY_EXCHANGES: Final = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
)
CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""AES-GCM only: authenticated, outside the reach of prefix truncation (CVE-2023-48795), and the fastest here."""

TARGET_CIPHERS: Final = (*CIPHERS, "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr")
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
SIGNATURES: Final = (
    "ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip

MAX_ENVIRONMENT_REQUESTS: Final = 64
"""Variables a client may send for one session; OpenSSH sends the few its configuration names."""

MAX_OFFERED_KEYS: Final = 64
"""Keys a client may offer without a signature: an agent holds a dozen, and each offer costs a decoding."""

WINDOW_BYTES: Final = 2 << 20
"""Bytes under way per channel and direction; with it one channel fills a line of 100 MB/s at 20 ms."""


def supported(names: tuple[str, ...], known: Callable[[], list[bytes]]) -> list[str]:
    """The algorithms of a list that this build of the library offers."""
    available = {name.decode() for name in known()}
    return [name for name in names if name in available]


class AgentConnection(SSHServerConnection):
    """The gateway's side of one client's connection.

    `prove` is called with a certificate whose signature over this connection was checked; it raises IdentityError where the certificate
    proves nobody.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: SSHServerConnectionOptions,
        *,
        prove: Callable[[SSHOpenSSHCertificate], Any] | None = None,
    ) -> None:
        super().__init__(loop, options, None, None)
        self._prove = prove
        self._offered = 0
        self.active_at = loop.time()
        """When something last ran in it."""

    @property
    def has_strict_kex(self) -> bool:
        """Whether both sides agreed on strict key exchange (OpenSSH PROTOCOL 1.10)."""
        return bool(self._strict_kex)

    @property
    def owner(self) -> Any:
        """The server object of this connection."""
        return self._owner

    @property
    def open_channels(self) -> int:
        """Channels open or being opened."""
        return len(self._channels)

    @property
    def peer_ip(self) -> str:
        """The client's address; that of the outer connection for an inner one."""
        name = self.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) and name else "unknown"

    def disconnect(self, code: int, reason: str, lang: str = "en") -> None:
        """Say why, then hang up."""
        super().disconnect(code, reason, lang)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Only certificates count, and only what they say: the login name is free text and proves nothing."""
        del username
        self._offered += 1
        certificate = _read_certificate(key_data)
        if self._prove is None or certificate is None or self._offered > MAX_OFFERED_KEYS:
            return False
        try:
            subject = self._prove(certificate)
        except IdentityError as error:
            self.owner.note_refused_proof(error)
            return False
        if msg:
            if not certificate.key.verify(String(self._session_id) + msg, signature):
                return False
            self.owner.accept(subject)
        return True

    def public_key_auth_supported(self) -> bool:
        """Certificates are offered on the outer connection."""
        return self._prove is not None

    def create_server_channel(
        self, encoding: str | None = "", errors: str = "", window: int = 0, max_pktsize: int = 0
    ) -> AgentSessionChannel:
        """A session channel that carries bytes and asks before it answers."""
        del encoding, errors
        size = max_pktsize or self._max_pktsize
        self._update_recv_pktlen(size)
        return AgentSessionChannel(self, self._loop, True, False, False, 0, 1024, None, "strict", window or self._window, size)


def _read_certificate(key_data: bytes) -> SSHOpenSSHCertificate | None:
    try:
        certificate = decode_ssh_certificate(key_data)
    except asyncssh.KeyImportError:
        return None
    return certificate if isinstance(certificate, SSHOpenSSHCertificate) else None


class AgentSessionChannel(SSHServerChannel[bytes]):
    """A session channel whose requests all go to its session object, as bytes."""

    environment_requests = 0
    raw_command: bytes = b""
    raw_subsystem: bytes = b""

    def _process_env_request(self, packet: SSHPacket) -> bool:
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        self.environment_requests += 1
        if self.environment_requests > MAX_ENVIRONMENT_REQUESTS:
            return False
        return bool(cast("Any", self._session).environment_requested(name, value))

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        self.raw_command = packet.get_string()
        packet.check_end()
        return self._start_session(command=self.raw_command.decode("utf-8", "backslashreplace"))

    def _process_subsystem_request(self, packet: SSHPacket) -> bool:
        self.raw_subsystem = packet.get_string()
        packet.check_end()
        return self._start_session(subsystem=self.raw_subsystem.decode("ascii", "backslashreplace"))

    def _process_x11_req_request(self, packet: SSHPacket) -> None:
        del packet
        self._ask("x11")

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> None:
        del packet
        self._ask("agent")

    def _ask(self, channel: str) -> None:
        async def answer() -> None:
            self._report_response(await cast("Any", self._session).forward_requested(channel))

        self._conn.create_task(answer())


async def make_options(
    server_factory: Callable[[], asyncssh.SSHServer], keys: list[Any], **settings: Any
) -> SSHServerConnectionOptions:
    """Options of a server of ours: modern algorithms, nothing the library would do by itself."""
    from asyncssh.encryption import get_encryption_algs  # noqa: PLC0415 - the registry is filled on import
    from asyncssh.kex import get_kex_algs  # noqa: PLC0415 - as above
    from asyncssh.mac import get_mac_algs  # noqa: PLC0415 - as above

    options: SSHServerConnectionOptions = await SSHServerConnectionOptions.construct(
        server_factory=server_factory,
        config=None,
        server_host_keys=keys,
        server_version="Sealgate",
        kex_algs=supported(KEY_EXCHANGES, get_kex_algs),
        encryption_algs=supported(CIPHERS, get_encryption_algs),
        mac_algs=supported(MACS, get_mac_algs),
        signature_algs=list(SIGNATURES),
        compression_algs=["none"],
        allow_pty=True,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        host_based_auth=False,
        encoding=None,
        allow_scp=False,
        window=WINDOW_BYTES,
        **settings,
    )
    return options


class OpenError(asyncssh.ChannelOpenError):
    """A channel that is not opened; `reason` is what the client shows."""

    def __init__(self, reason: str) -> None:
        super().__init__(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)
