"""What every way of carrying an SSH channel works with: the connection, the door to the pipeline, a channel at the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncssh

from gateway.action import Action, Lookup, Subject
from gateway.decision import Enforceable
from gateway.errors import ProtocolError, TargetError
from gateway.pipeline import PipelineSession, SessionSettings
from gateway.protocols.ssh import actions, enforce
from gateway.protocols.ssh.actions import SshSettings
from gateway.protocols.ssh.events import Event
from gateway.refusal import Ticket
from gateway.serve.cell_masking import CellMasking
from gateway.serve.ssh.channel import AgentChannel, TargetChannel, TargetSink
from gateway.serve.ssh.upstream import SshCredentials, SshEndpoint
from gateway.serve.ssh.wire import WINDOW_BYTES


@dataclass(frozen=True, slots=True)
class SshConnection:
    """One registered connection, ready to use.

    Attributes:
        admits: whether a subject with these groups may use it at all.
        users: login names that lead to the account.
    """

    name: str
    hosts: tuple[str, ...]
    users: tuple[str, ...]
    endpoint: SshEndpoint
    credentials: SshCredentials
    admits: Callable[[Sequence[str]], bool]
    session: SessionSettings
    shell: bool
    environment_names: tuple[str, ...]
    max_script_bytes: int
    max_file_bytes: int


class SshDoor:
    """What SSH brings to the pipeline for one session (`gateway.pipeline.Door`)."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings

    @property
    def enforceable(self) -> Enforceable:
        """What can be carried out on an SSH channel."""
        return enforce.ENFORCEABLE

    def lookups(self, event: Event) -> Sequence[Lookup]:
        """None: what an action is lies in its own bytes."""
        return actions.lookups(event, self._settings)

    async def look_up(self, lookup: Lookup) -> object:
        """There is nothing to look up. Raises ProtocolError."""
        raise ProtocolError("the gateway cannot look this up", why=lookup.kind)

    def describe(self, event: Event, facts: Mapping[str, object]) -> Action:
        """The action an event attempts."""
        return actions.describe(event, facts, self._settings)

    def may_hold(self) -> bool:
        """Always: an SSH channel waits without holding anything at the target."""
        return True


class Conversation(Protocol):
    """A session with one target, as those who carry its channels see it; `gateway.serve.ssh.session` implements it."""

    masking: CellMasking
    connection: SshConnection
    subject: Subject
    door: SshDoor

    @property
    def session(self) -> PipelineSession:
        """Its evidence."""

    def announce(self, agent: AgentChannel, title: str, ticket: Ticket) -> None:
        """Say on standard error that an action waits for a reviewer."""


async def open_target(
    login: asyncssh.SSHClientConnection,
    sink: TargetSink,
    agent: AgentChannel,
    *,
    command: str | None = None,
    subsystem: str | None = None,
) -> TargetChannel:
    """A session channel at the target with the same program, terminal and variables. Raises TargetError."""
    terminal: dict[str, Any] = {"request_pty": False}
    if agent.pty is not None:
        terminal = {
            "request_pty": "force",
            "term_type": agent.pty.term,
            "term_size": (agent.pty.columns, agent.pty.rows),
            "term_modes": dict(agent.pty_modes),
        }
    program: dict[str, Any] = (
        {"subsystem": subsystem} if subsystem is not None else {"command": command} if command is not None else {}
    )
    env: list[tuple[bytes | str, bytes | str]] = list(agent.environment.items())
    target = TargetChannel(sink)
    try:
        await login.create_session(lambda: target, env=env, encoding=None, window=WINDOW_BYTES, **program, **terminal)
    except (asyncssh.Error, OSError) as error:
        raise TargetError("the target does not open a session", why=f"{type(error).__name__}: {error}") from error
    return target
