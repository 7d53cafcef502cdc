"""What was asked of a Git repository, typed. Section names refer to gitprotocol-pack(5)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One command of a push ("Reference Update Request"): a ref goes from one object to another; all zeros stand for none."""

    ref: str
    old: str
    new: str

    @property
    def is_create(self) -> bool:
        """Whether the ref did not exist."""
        return not self.old.strip("0")

    @property
    def is_delete(self) -> bool:
        """Whether the ref ends."""
        return not self.new.strip("0")


@dataclass(frozen=True, slots=True)
class Push:
    """A push: its commands, in the order they were sent.

    Attributes:
        capabilities: what the client asked for, without values.
        options: push options, free text for hooks of the target.
    """

    repository: str
    updates: tuple[RefUpdate, ...]
    capabilities: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fetch:
    """A fetch, a clone, a listing of refs or an archive."""

    repository: str
    service: str


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A request that cannot be judged."""

    repository: str
    reason: str


Event = Push | Fetch | Undecodable
