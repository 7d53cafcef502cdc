"""SSH connections: the hosts agents reach through the gateway as their jump host."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.config.connections import ConnectionBase
from gateway.config.values import Port, Settings, Text


class SshTarget(Settings):
    """An SSH server."""

    host: Text = Field(description="Host name or address.")
    port: Port = Field(default=22, description="TCP port.")


class SshConnectionConfig(ConnectionBase):
    """One SSH server behind the gateway."""

    type: Literal["ssh"] = Field(description="Protocol of the target.")
    target: SshTarget = Field(description="Where the server is.")

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The connection's name, as `ssh -J gateway NAME` asks for it."""
        return (self.name,)

    def describe_target(self) -> str:
        """Server and port."""
        return f"{self.target.host}:{self.target.port}"

    def target_address(self) -> tuple[str, int]:
        """The server's address."""
        return self.target.host, self.target.port
