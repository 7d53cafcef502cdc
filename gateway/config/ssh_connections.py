"""SSH connections and the SSH listener: the hosts agents reach through the gateway, the keys both sides are known by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gateway.config.connections import ConnectionBase
from gateway.config.values import Bind, FilePath, ListenPort, Many, Port, SecretRef, Settings, Text

HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._:-]{0,251}[a-z0-9])?$")]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}$")]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\*?$")]


class SshTarget(Settings):
    """An SSH server, and how it proves that it is the right one."""

    host: Text = Field(description="Host name or address.")
    port: Port = Field(default=22, description="TCP port.")
    known_hosts: FilePath = Field(
        description="known_hosts file with the target's host key, or an @cert-authority line for its host certificates. Always checked: a host that proves nothing gets no credential."
    )


class SshCredential(Settings):
    """The account the gateway logs in with; agents never see it. Exactly one of key, password and user_ca."""

    user: UserName = Field(description="Account on the target. Give it no more rights than any agent may ever use.")
    key: SecretRef | None = Field(default=None, description="Private key, OpenSSH or PKCS #8, without a passphrase.")
    password: SecretRef | None = Field(default=None, description="Password; a key or a certificate is stronger.")
    user_ca: SecretRef | None = Field(
        default=None,
        description="Private key of an authority the target trusts (TrustedUserCAKeys): every login gets a certificate of its own for five minutes, whose key id names the subject.",
    )

    @model_validator(mode="after")
    def _require_one(self) -> SshCredential:
        if sum(value is not None for value in (self.key, self.password, self.user_ca)) != 1:
            raise ValueError("must have exactly one of key, password and user_ca")
        return self


class SshMatch(Settings):
    """How a client's request finds the connection."""

    hosts: Many[HostName] = Field(
        default=(), description="Host names clients may ask for, in lower case. Default: the connection's name."
    )
    users: Many[UserName] = Field(
        default=(),
        description="Login names clients may use; all of them lead to credential.user. Default: credential.user alone. A login name never says who an agent is.",
    )


class SshConnectionConfig(ConnectionBase):
    """One SSH server behind the gateway."""

    type: Literal["ssh"] = Field(description="Protocol of the target.")
    match: SshMatch = Field(default=SshMatch(), description="Names clients may use.")
    target: SshTarget = Field(description="Where the server is.")
    credential: SshCredential = Field(description="How the gateway logs in.")
    shell: bool = Field(
        default=False,
        description="Whether policy may allow shells and terminals at all. Default false: what is typed into them cannot be judged.",
    )
    environment_names: Many[EnvironmentName] = Field(
        default=("LANG", "LC_*", "TZ", "GIT_PROTOCOL"),
        description="Variables an agent may set; `*` at the end stands for any rest. Default: language, time zone, and Git's protocol version, which change no program's meaning.",
    )
    max_script_bytes: int = Field(
        default=65_536,
        ge=0,
        le=1_048_576,
        description="Longest standard input of a program that runs it as code (`bash -s`, `python -`), which is read whole before it is judged. Default 64 KiB.",
    )
    max_file_bytes: int = Field(
        default=1_073_741_824,
        ge=0,
        le=1_099_511_627_776,
        description="Largest file of sftp and scp, in bytes, either way. Default 1 GiB.",
    )

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The host names."""
        return self.match.hosts or (self.name,)

    @property
    def users(self) -> tuple[str, ...]:
        """The login names that lead to the account."""
        return self.match.users or (self.credential.user,)

    def find_weaknesses(self) -> Iterator[str]:
        """Also what lets more happen than can be judged."""
        yield from super().find_weaknesses()
        if self.shell:
            yield f"connection {self.name}: shell is true; what is typed into a shell is recorded, not judged"
        if self.credential.password is not None:
            yield f"connection {self.name}: a password is replayable by the target; use key or user_ca"

    def describe_target(self) -> str:
        """Server and port."""
        return f"{self.target.host}:{self.target.port}"

    def describe_protection(self) -> str:
        """The account, and how it is logged in to."""
        ((kind, reference),) = self.secret_references().items()
        return f", as {self.credential.user} with {kind} {reference}"

    def secret_references(self) -> Mapping[str, str]:
        """The one way to log in."""
        named = {"key": self.credential.key, "password": self.credential.password, "user_ca": self.credential.user_ca}
        return {name: reference for name, reference in named.items() if reference is not None}

    def target_address(self) -> tuple[str, int]:
        """The server's address."""
        return self.target.host, self.target.port


class SshListenerConfig(Settings):
    """The address SSH clients connect to, and the keys the gateway is known by."""

    bind: Bind = Field(
        default="127.0.0.1", description="Address to listen on. Default this machine only: opening up is a decision."
    )
    port: ListenPort = Field(description="TCP port; 0 lets the kernel choose (it is printed at start).")
    host_key: SecretRef = Field(description="The gateway's own private host key (Ed25519).")
    host_ca: SecretRef = Field(
        description="Private key of the authority that signs the host certificates shown to clients: the gateway's own, and one for each target name behind `ssh -J`. Clients trust it with one @cert-authority line."
    )
    user_ca: SecretRef = Field(
        description="Private key of the authority that signs users' certificates (`sealgate ssh-cert`); whoever holds it can be anyone to this gateway."
    )
    names: Many[HostName] = Field(
        default=(), description="Host names clients know the gateway by, for its certificate. Default: gateway.name."
    )
    certificate_ttl_s: int = Field(
        default=3_600,
        ge=60,
        le=86_400,
        description="Seconds a user certificate is good for, never longer than the token it was made from. Default one hour.",
    )
    max_auth_tries: int = Field(
        default=6, ge=1, le=20, description="Failed proofs of identity before the gateway hangs up. Default 6, as sshd."
    )
    max_channels: int = Field(
        default=32, ge=1, le=1_000, description="Channels open at once in one connection; a jump to a target is one. Default 32."
    )
    rekey_bytes: int = Field(
        default=1_073_741_824,
        ge=1_048_576,
        le=1_099_511_627_776,
        description="Bytes after which keys are exchanged anew. Default 1 GiB, as RFC 4253 advises.",
    )
    keepalive_s: float = Field(
        default=30.0,
        gt=0,
        le=3_600,
        description="Seconds of silence after which the gateway asks whether the client is there; three unanswered end the connection.",
    )
    pool_idle_s: float = Field(
        default=60.0,
        ge=0,
        le=3_600,
        description="Seconds a login at a target is kept for the same subject's next command. Default 60. Never shared between subjects.",
    )

    @property
    def tls(self) -> None:
        """SSH brings its own encryption."""
        return
