"""HTTP connections: the services agents reach through the gateway as their proxy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.config.connections import ConnectionBase
from gateway.config.values import Many, Settings

HostPattern = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$", max_length=253)]


class HttpMatch(Settings):
    """How a client's request finds the connection."""

    hosts: Many[HostPattern] = Field(
        min_length=1, description="Host names in lower case; `*.example.com` stands for every name below example.com."
    )


class HttpConnectionConfig(ConnectionBase):
    """One HTTP service behind the gateway."""

    type: Literal["http"] = Field(description="Protocol of the target.")
    match: HttpMatch = Field(description="Which hosts are this connection.")

    @property
    def asked_for(self) -> tuple[str, ...]:
        """The hosts."""
        return self.match.hosts

    def describe_target(self) -> str:
        """The hosts."""
        return ",".join(self.match.hosts)
