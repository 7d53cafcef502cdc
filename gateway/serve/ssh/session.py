"""One subject's conversation with one target over one SSH connection: every channel of it judged, recorded and carried.

The order within a channel: read what was asked (and standard input, where it is code), `PipelineSession.handle`, and only then a
channel at the target. What is refused is said on standard error with exit status 126; nothing was opened at the target by then.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Final

import asyncssh

from gateway.action import Subject
from gateway.errors import EvidenceUnavailableError, ProtocolError, TargetError, TargetUnprovenError
from gateway.messages import Outcome, Refusal
from gateway.pipeline import Pipeline, PipelineSession, Ruling
from gateway.protocols.ssh import enforce
from gateway.protocols.ssh.actions import SshSettings
from gateway.protocols.ssh.commands import read_command
from gateway.protocols.ssh.events import Event, Exec, Script, Shell, Subsystem, Undecodable
from gateway.protocols.ssh.parse import Transfer, find_transfer, parse_exec, parse_forward, parse_shell, parse_subsystem
from gateway.protocols.ssh.script_readers import find_script_reader
from gateway.refusal import Ticket, refuse_unreadable
from gateway.serve.cell_masking import CellMasking
from gateway.serve.ssh.channel import AgentChannel
from gateway.serve.ssh.conversation import SshConnection, SshDoor, open_target
from gateway.serve.ssh.files import run_scp, run_sftp
from gateway.serve.ssh.git import run_git
from gateway.serve.ssh.recorder import PIPE_FLUSH_S, TERMINAL_FLUSH_S, MaskedStream, Recording, choose_detectors
from gateway.serve.ssh.relay import Relay
from gateway.serve.ssh.upstream import TargetPool

logger = logging.getLogger(__name__)

SCRIPT_TIMEOUT_S: Final = 30.0
"""How long a script on standard input may take to arrive whole; a terminal that nobody types into must not wait for ever."""


class TargetSession:
    """All channels of one subject at one target. `open` it, give its channels to the client, `close` it.

    Args:
        asked: the host name the client asked for.
        user: the login name the client gave; it never says who the subject is.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        pool: TargetPool,
        masking: CellMasking,
        connection: SshConnection,
        subject: Subject,
        asked: str,
        client_ip: str,
    ) -> None:
        self._pipeline = pipeline
        self._pool = pool
        self.masking = masking
        self.connection = connection
        self.subject = subject
        self._client_ip = client_ip
        self.door = SshDoor(SshSettings(connection.name, asked, connection.credentials.user))
        self._session: PipelineSession | None = None
        self._channels: set[AgentChannel] = set()
        self._is_closed = False

    @property
    def session(self) -> PipelineSession:
        """Its evidence."""
        if self._session is None:
            raise RuntimeError("the session is not open")
        return self._session

    def running_tasks(self) -> list[asyncio.Task[None]]:
        """What carries its channels now."""
        return [channel.task for channel in self._channels if channel.task is not None]

    async def open(self) -> None:
        """Begin the record. Raises EvidenceUnavailableError."""
        self._session = await self._pipeline.open_session(
            subject=self.subject, settings=self.connection.session, protocol="ssh", client_ip=self._client_ip
        )

    async def close(self, reason: str) -> None:
        """End every channel, give each action its outcome, and end the record."""
        if self._is_closed or self._session is None:
            return
        self._is_closed = True
        tasks = self.running_tasks()
        for channel in self._channels:
            channel.gone.set()
        if tasks:
            await asyncio.wait(tasks, timeout=SCRIPT_TIMEOUT_S)
        for task in tasks:
            task.cancel()
        try:
            await self._session.close(reason)
        except EvidenceUnavailableError as error:
            logger.error("the end of session %s cannot be recorded: %s", self._session.id, error)  # noqa: TRY400

    def make_channel(self) -> AgentChannel:
        """A new session channel for the client."""
        return AgentChannel(
            self._serve,
            may_have_terminal=self.connection.shell,
            environment_names=self.connection.environment_names,
            judge_forward=self.judge_forward,
        )

    async def judge_forward(
        self, channel: str, host: str | None = None, port: int | None = None, path: str | None = None
    ) -> bool:
        """Decide and record a way past the session; none is carried by this version, whatever policy says."""
        event = parse_forward(channel, host, port, path)
        ruling = await self.session.handle(event, self.door)
        if ruling.refusal is None:
            self.session.finish(ruling, Outcome("refused", error_code="ssh.forward"))
        return False

    # --- one channel

    async def _serve(self, agent: AgentChannel) -> None:
        self._channels.add(agent)
        try:
            event = await self._read_event(agent)
            ruling = await self.judge(event, agent)
            if ruling is not None:
                await self._carry(event, ruling, agent)
        except EvidenceUnavailableError as error:
            logger.error("a channel of session %s ends: %s", self.session.id, error)  # noqa: TRY400
            agent.end_with(b"sealgate: the session ends, because its record cannot be made durable\n", enforce.EXIT_REFUSED)
        finally:
            self._channels.discard(agent)

    async def judge(self, event: Event, agent: AgentChannel) -> Ruling | None:
        """Put an event through the pipeline; None once it was refused and the agent was told."""
        title = self.door.describe(event, {}).title or "the action"
        on_hold = partial(self.announce, agent, title)
        ruling = await self.session.handle(event, self.door, abandoned=agent.gone, on_hold=on_hold)
        refusal = ruling.refusal or self._refuse_late(event, ruling, agent)
        if refusal is None:
            return ruling
        await self.session.release_replies()
        agent.end_with(enforce.refuse(refusal), enforce.EXIT_REFUSED)
        return None

    def announce(self, agent: AgentChannel, title: str, ticket: Ticket) -> None:
        """Say on standard error that an action waits for a reviewer."""
        agent.say(enforce.announce_hold(title, ticket.id, self.connection.session.hold_s))

    def _refuse_late(self, event: Event, ruling: Ruling, agent: AgentChannel) -> Refusal | None:
        """What stops an action that policy allowed: the agent left, nobody can read it, or the connection has no shells."""
        if agent.gone.is_set():
            self.session.finish(ruling, Outcome("cancelled"))
            return Refusal("cancelled", "agent.cancelled", "cancelled", "the client left", "run it again", ruling.decision_id)
        if isinstance(event, Undecodable):
            self.session.finish(ruling, Outcome("refused", error_code=ProtocolError.code))
            return refuse_unreadable(event.reason, ruling.decision_id)
        if isinstance(event, Shell) and not self.connection.shell:
            self.session.finish(ruling, Outcome("refused", error_code="ssh.shell"))
            why, fix = "connections[].shell is false for this connection", "give a command: ssh HOST COMMAND"
            return Refusal("denied", "ssh.shell", "a shell is not available here", why, fix, ruling.decision_id)
        if isinstance(event, Subsystem) and event.name != "sftp":
            self.session.finish(ruling, Outcome("refused", error_code="ssh.subsystem"))
            why, fix = "only sftp is understood, and nothing is carried unseen", "use sftp, scp or a command"
            return Refusal("denied", "ssh.subsystem", "the subsystem is not carried", why, fix, ruling.decision_id)
        return None

    async def _read_event(self, agent: AgentChannel) -> Event:
        channel = agent.channel
        if channel is None:
            return Undecodable("the channel closed before it asked for anything")
        if agent.kind == "shell":
            return parse_shell(agent.pty, agent.environment)
        if agent.kind == "subsystem":
            return parse_subsystem(channel.raw_subsystem)
        event = parse_exec(channel.raw_command, agent.pty, agent.environment)
        reader = find_script_reader(read_command(event.command), event.command) if isinstance(event, Exec) else None
        if reader is None:
            return event
        script = await self._read_script(agent, reader)
        if isinstance(script, Undecodable):
            return script
        return parse_exec(channel.raw_command, agent.pty, agent.environment, script)

    async def _read_script(self, agent: AgentChannel, reader: str) -> Script | Undecodable:
        """Standard input that `reader` would run, whole; what cannot be had whole cannot be judged."""
        limit = self.connection.max_script_bytes
        if agent.pty is not None:
            return Undecodable(f"{reader} on a terminal would run what is typed, which cannot be judged before it runs")
        try:
            async with asyncio.timeout(SCRIPT_TIMEOUT_S):
                data = await agent.read_all(limit)
        except TimeoutError:
            fix = "redirect it from a file or /dev/null"
            return Undecodable(f"{reader} would run its standard input, which did not end within {SCRIPT_TIMEOUT_S:g} s; {fix}")
        if data is None:
            why = f"which is longer than the {limit} bytes that are judged, or was cut off"
            return Undecodable(f"{reader} would run its standard input, {why}")
        return Script(data, reader)

    async def _carry(self, event: Event, ruling: Ruling, agent: AgentChannel) -> None:
        """Open the target's half and carry the channel to its end."""
        try:
            async with self._pool.use(
                self.connection.name, self.connection.endpoint, self.connection.credentials, self.subject
            ) as login:
                outcome = await self._run(event, ruling, agent, login)
        except TargetError as error:
            self.session.finish(ruling, Outcome("failed", tag=error.what[:200], error_code=error.code))
            logger.warning("connection %s: %s", self.connection.name, error)
            fix = "try again later, or tell the operators the decision id"
            if isinstance(error, TargetUnprovenError):
                fix = "do not try again: the gateway's operators must look who answers there; tell them the decision id"
            refusal = Refusal("target", error.code, error.what, "", fix, ruling.decision_id)
            agent.end_with(enforce.refuse(refusal), enforce.EXIT_NO_TARGET)
        else:
            self.session.finish(ruling, outcome)

    async def _run(self, event: Event, ruling: Ruling, agent: AgentChannel, login: asyncssh.SSHClientConnection) -> Outcome:
        if isinstance(event, Subsystem):
            return await run_sftp(self, ruling, agent, login)
        transfer = find_transfer(read_command(event.command)) if isinstance(event, Exec) else None
        if isinstance(event, Exec) and transfer is not None and transfer.program == "scp":
            return await run_scp(self, event, transfer, ruling, agent, login)
        if isinstance(event, Exec) and transfer is not None and transfer.program == "git":
            return await run_git(self, event, transfer, ruling, agent, login)
        return await self._relay(event, transfer, ruling, agent, login)

    async def _relay(
        self, event: Event, transfer: Transfer | None, ruling: Ruling, agent: AgentChannel, login: asyncssh.SSHClientConnection
    ) -> Outcome:
        decision = ruling.decision
        is_opaque = transfer is not None  # rsync frames its bytes; a changed one would break the stream
        delivered = None if is_opaque else choose_detectors(decision, self.masking, "delivered")
        recorded = choose_detectors(decision, self.masking, "record")
        keeps = self.connection.session.transcript in {"head", "full"} and not is_opaque
        writer = self.session.open_transcript(ruling) if keeps else None
        recording = Recording(writer, recorded, pty=agent.pty, kind="shell" if isinstance(event, Shell) else "exec")
        flush_s = PIPE_FLUSH_S if agent.pty is None else TERMINAL_FLUSH_S
        relay = Relay(agent, recording, partial(MaskedStream, delivered, flush_s=flush_s), self.session.recorder.commit)
        command = event.command if isinstance(event, Exec) else None
        relay.attach(await open_target(login, relay, agent, command=command))
        return await relay.wait()
