"""The connections: the systems agents may reach through the gateway, and how the gateway logs in to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from gateway.config.values import (
    FilePath,
    FunctionName,
    Many,
    Name,
    Port,
    SecretRef,
    SensitiveColumn,
    Settings,
    Text,
    is_loopback,
)

ANY_GROUP: Final = "*"
"""In `allow_groups`: every subject with a valid token."""

TranscriptMode = Literal["none", "summary", "head", "full"]
DatabaseName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f]+$")]


class TargetTlsConfig(Settings):
    """How the gateway protects its own way to a target; the modes are those of libpq."""

    mode: Literal["disable", "require", "verify-ca", "verify-full"] = Field(
        default="verify-full",
        description="Default verify-full: only it notices a false target. disable and require do not check who answers.",
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file with the authority of the target's certificate. None: the system's authorities."
    )
    cert_file: FilePath | None = Field(
        default=None, description="PEM file with the gateway's own certificate, where the target asks for one. Needs `key_file`."
    )
    key_file: FilePath | None = Field(
        default=None, description="PEM file with its private key, readable by the gateway's user only."
    )

    @model_validator(mode="after")
    def _require_pair(self) -> TargetTlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("must have both cert_file and key_file, or neither")
        if self.cert_file is not None and self.mode == "disable":
            raise ValueError("cert_file is never shown with mode disable")
        return self

    @property
    def own_files(self) -> tuple[Path, Path] | None:
        """The gateway's certificate and key, where the target asks for one."""
        return None if self.cert_file is None or self.key_file is None else (self.cert_file, self.key_file)


class PostgresTarget(Settings):
    """A PostgreSQL server."""

    host: Text | None = Field(default=None, description="Host name or address. Either this or `socket_dir`.")
    port: Port = Field(default=5432, description="TCP port, and part of the socket's name.")
    socket_dir: FilePath | None = Field(default=None, description="Folder of the server's Unix socket.")
    database: DatabaseName | None = Field(
        default=None, description="Database on the server. None: the name the client asked for."
    )
    tls: TargetTlsConfig = Field(
        default=TargetTlsConfig(), description="Protection of the way to the server; not used on a Unix socket."
    )

    @model_validator(mode="after")
    def _require_address(self) -> PostgresTarget:
        if (self.host is None) == (self.socket_dir is None):
            raise ValueError("must have either host or socket_dir")
        return self


class PostgresCredential(Settings):
    """The role the gateway logs in with; agents never see it."""

    user: DatabaseName = Field(description="Role on the server. Give it no more rights than any agent may ever use.")
    password: SecretRef | None = Field(
        default=None, description="Its password; read again at each login, so that rotation needs no restart."
    )
    password_command: Many[Text] = Field(
        default=(),
        max_length=64,
        description="Program and arguments that print a short-lived password, run for each login, such as `aws rds generate-db-auth-token …`.",
    )
    login: Literal["scram-sha-256", "password", "certificate"] = Field(
        default="scram-sha-256",
        description="How the server may ask. password sends it readable inside TLS, which cloud tokens need; certificate uses `target.tls.cert_file` alone.",
    )

    @model_validator(mode="after")
    def _require_one_source(self) -> PostgresCredential:
        given = (self.password is not None) + bool(self.password_command)
        if self.login == "certificate" and given:
            raise ValueError("login certificate takes neither password nor password_command")
        if self.login != "certificate" and given != 1:
            raise ValueError("must have either password or password_command")
        return self


class DatabaseMatch(Settings):
    """How a client's request finds the connection."""

    databases: Many[DatabaseName] = Field(
        default=(), description="Database names clients may ask for. Default: the connection's name."
    )


class ConnectionBase(Settings, ABC):
    """What every connection has, whatever its protocol."""

    name: Name = Field(description="Name in policy, records and tickets; for PostgreSQL also the database name clients ask for.")
    environment: Text = Field(description="Such as production, staging or development; policy reads it.")
    risk: Literal["low", "medium", "high", "critical"] = Field(
        default="high",
        description="How much harm is possible; policy reads it. Default high: a system nobody rated is not harmless.",
    )
    labels: dict[Text, Text] = Field(default_factory=dict, description="Free labels policy may read.")
    allow_groups: Many[Text] = Field(
        min_length=1,
        description='Groups whose members may connect at all; "*" admits every valid token. Policy still judges every action.',
    )
    transcript: TranscriptMode | None = Field(
        default=None, description="How much of results is recorded: none, summary, head or full. None: full for ssh, else head."
    )
    hold_s: float | None = Field(
        default=None,
        ge=0,
        le=300,
        description="Seconds an action waits for a reviewer. None: approval.hold_s, for http at most 4: httpx gives up at 5.",
    )

    def find_weaknesses(self) -> Iterator[str]:
        """What about this connection is allowed but weak, for `find_warnings`."""
        if self.transcript == "none":
            yield f"connection {self.name}: transcript none records decisions but nothing of the results"

    @property
    @abstractmethod
    def asked_for(self) -> tuple[str, ...]:
        """The names clients ask for: databases or hosts."""

    @abstractmethod
    def describe_target(self) -> str:
        """Where the system is, for a person."""

    def describe_protection(self) -> str:
        """What is protected and how the gateway logs in, for a person; begins with a comma where there is something to say."""
        return ""

    def secret_references(self) -> Mapping[str, str]:
        """Every reference to a secret, by what it is for."""
        return {}

    def target_address(self) -> tuple[str, int] | None:
        """What `sealgate doctor` connects to and no more: host and port; None where there is no single place, or a session is tried."""
        return None

    def admits(self, groups: Sequence[str]) -> bool:
        """Whether a subject with these groups may connect at all."""
        return ANY_GROUP in self.allow_groups or not set(groups).isdisjoint(self.allow_groups)


class PostgresConnectionConfig(ConnectionBase):
    """One PostgreSQL database behind the gateway."""

    type: Literal["postgres"] = Field(description="Protocol of the target.")
    match: DatabaseMatch = Field(default=DatabaseMatch(), description="Other names clients may use.")
    target: PostgresTarget = Field(description="Where the server is.")
    credential: PostgresCredential = Field(description="How the gateway logs in.")
    sensitive: Many[SensitiveColumn] = Field(
        default=(),
        description="Columns that hold sensitive data, as schema.table.column, letter for letter as the catalogue has them (lower case unless they were made with quotes). Policy masks or refuses by this mark.",
    )
    clean_functions: Many[FunctionName] = Field(
        default=(),
        description="Functions of the database's own or of its extensions, as schema.function, whose results hold nothing of sensitive columns but what their arguments hold (public.uuid_generate_v4). What others return is masked where a connection has sensitive columns, and so is everything beside it. Policy still has to allow the call.",
    )
    read_only: bool = Field(
        default=False,
        description="Every transaction is read-only, as the server itself enforces (default_transaction_read_only), and no session may change that. The obligation read_only needs it.",
    )

    def find_weaknesses(self) -> Iterator[str]:
        """Also a way to the server on which a false one would not be noticed."""
        yield from super().find_weaknesses()
        host, mode = self.target.host, self.target.tls.mode
        if host is not None and not is_loopback(host) and mode in {"disable", "require"}:
            yield f"connection {self.name}: tls mode {mode} does not notice a false {host}"

    def describe_target(self) -> str:
        """Server, port and role."""
        return f"{self.target.host or self.target.socket_dir}:{self.target.port}"

    def describe_protection(self) -> str:
        """How many columns are sensitive, and the role."""
        given = self.credential.password or " ".join(self.credential.password_command[:1]) or "its certificate"
        return f", {len(self.sensitive)} sensitive columns, as {self.credential.user} with {given}"

    def secret_references(self) -> Mapping[str, str]:
        """The role's password."""
        return {} if self.credential.password is None else {"password": self.credential.password}

    @model_validator(mode="after")
    def _protect_password(self) -> PostgresConnectionConfig:
        tls = self.target.tls
        if self.credential.login == "password" and self.target.socket_dir is None and not tls.mode.startswith("verify-"):
            raise ValueError("credential.login password needs target.tls.mode verify-full or verify-ca: it is sent readable")
        if self.credential.login == "certificate" and tls.cert_file is None:
            raise ValueError("credential.login certificate needs target.tls.cert_file")
        return self

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The database names."""
        return self.databases

    @property
    def databases(self) -> tuple[str, ...]:
        """The database names that lead to this connection."""
        return self.match.databases or (self.name,)

    def target_database(self, asked: str) -> str:
        """The database on the server for the name a client asked for."""
        return self.target.database or asked
