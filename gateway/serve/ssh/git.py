"""Carries git over ssh: the exec was judged as the carrier; what is fetched or pushed is judged as a `git` action of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import asyncssh

from gateway.action import Action, Carrier, Lookup
from gateway.decision import Enforceable
from gateway.errors import ProtocolError
from gateway.messages import Outcome
from gateway.pipeline import Ruling
from gateway.protocols.git import actions, enforce
from gateway.protocols.git.events import Event, Fetch, Push, Undecodable
from gateway.protocols.git.parse import FLUSH, PushReader
from gateway.protocols.ssh import enforce as ssh_enforce
from gateway.protocols.ssh.events import Exec
from gateway.protocols.ssh.parse import Transfer
from gateway.refusal import refuse_unreadable
from gateway.serve.ssh.byte_queue import FlowSink
from gateway.serve.ssh.channel import AgentChannel
from gateway.serve.ssh.conversation import Conversation, open_target


class GitDoor:
    """What git over ssh brings to the pipeline (`gateway.pipeline.Door`).

    Args:
        carrier: the exec that carries it.
    """

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    @property
    def enforceable(self) -> Enforceable:
        """What can be carried out on a pack stream."""
        return enforce.ENFORCEABLE

    def lookups(self, event: Event) -> Sequence[Lookup]:
        """None."""
        return actions.lookups(event)

    async def look_up(self, lookup: Lookup) -> object:
        """There is nothing to look up. Raises ProtocolError."""
        raise ProtocolError("the gateway cannot look this up", why=lookup.kind)

    def describe(self, event: Event, facts: Mapping[str, object]) -> Action:
        """The action an event attempts."""
        return actions.describe(event, facts, self._carrier)

    def may_hold(self) -> bool:
        """Always: the target waits for the commands."""
        return True


async def run_git(
    conversation: Conversation,
    event: Exec,
    transfer: Transfer,
    ruling: Ruling,
    agent: AgentChannel,
    login: asyncssh.SSHClientConnection,
) -> Outcome:
    """Carry one fetch or push to its end; returns the outcome of the carrier. Raises TargetError."""
    door = GitDoor(Carrier("ssh", ruling.decision_id))
    return await _GitRelay(conversation, agent, door, transfer).run(event, login)


class _GitRelay(FlowSink):
    """One fetch or push."""

    def __init__(self, conversation: Conversation, agent: AgentChannel, door: GitDoor, transfer: Transfer) -> None:
        super().__init__(agent)
        self._conversation = conversation
        self._session = conversation.session
        self._door = door
        self._repository = transfer.paths[0]
        self._service = transfer.service or "upload-pack"
        self._inner: Ruling | None = None
        self._bytes_in = 0
        self._bytes_out = 0
        self._is_refused = False

    async def run(self, event: Exec, login: asyncssh.SSHClientConnection) -> Outcome:
        if self._service != "receive-pack" and not await self._judge_fetch():
            return Outcome("refused", tag="the fetch was refused")
        self._target = await open_target(login, self, self._agent, command=event.command)
        self._agent.carry(self)
        left = asyncio.create_task(self._wait_for_agent())
        asking = asyncio.create_task(self._ask())
        answering = asyncio.create_task(self._answer())
        try:
            await asyncio.wait([answering, left], return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and (error := asking.exception()) is not None:
                raise error
            if answering.done() and (error := answering.exception()) is not None:
                raise error
            status = self.status if answering.done() else None
            if self._is_refused:
                await asyncio.wait([asking, left], return_when=asyncio.FIRST_COMPLETED)
                status = 0
            self._agent.exit(ssh_enforce.EXIT_NO_TARGET if status is None else status)
        finally:
            for task in (left, asking, answering):
                task.cancel()
            await asyncio.gather(left, asking, answering, return_exceptions=True)
            self._target.close()
            outcome = self._end()
        return outcome

    async def _wait_for_agent(self) -> None:
        await self._agent.gone.wait()

    def _end(self) -> Outcome:
        is_known = self.status is not None
        stream = {"bytes_in": self._bytes_in, "bytes_out": self._bytes_out}
        tag = f"exit {self.status}" if is_known else f"signal {self.signal}" if self.signal else "broken off"
        ended = Outcome("completed" if self.status == 0 else "failed" if is_known else "unknown", tag=tag, stream=stream)
        if self._inner is not None:
            self._session.finish(self._inner, ended)
        return Outcome("completed", tag="the push was refused", stream=stream) if self._is_refused else ended

    # --- judging

    async def _judge(self, event: Event) -> Ruling:
        title = self._door.describe(event, {}).title or "git"
        on_hold = partial(self._conversation.announce, self._agent, title)
        return await self._session.handle(event, self._door, abandoned=self._agent.gone, on_hold=on_hold)

    async def _judge_fetch(self) -> bool:
        ruling = await self._judge(Fetch(self._repository, self._service))
        if ruling.refusal is None:
            self._inner = ruling
            return True
        await self._session.release_replies()
        self._agent.write(enforce.refuse_fetch(ruling.refusal))
        self._agent.exit(ssh_enforce.EXIT_REFUSED)
        return False

    async def _judge_push(self, event: Push | Undecodable, head: bytes, rest: bytes) -> None:
        if self._target is None:
            return
        ruling = await self._judge(event)
        refusal = ruling.refusal
        if refusal is None:
            if isinstance(event, Push):
                self._inner = ruling
                self._target.write(head + rest)
                return
            self._session.finish(ruling, Outcome("refused", error_code=ProtocolError.code))
            refusal = refuse_unreadable(event.reason, ruling.decision_id)
        self._is_refused = True
        await self._session.release_replies()
        # An empty command list is what a client sends that has nothing to push: the target ends in order.
        self._target.write(FLUSH)
        self._target.write_eof()
        if isinstance(event, Push):
            self._agent.write(enforce.refuse_push(refusal, event))
        if not isinstance(event, Push) or "side-band-64k" not in event.capabilities:
            self._agent.write(ssh_enforce.refuse(refusal), is_error=True)

    # --- agent to target

    async def _ask(self) -> None:
        if self._target is None:
            return
        reader = PushReader(self._repository) if self._service == "receive-pack" else None
        while data := await self.from_agent.get():
            self._bytes_in += len(data)
            if self._is_refused:
                continue  # the pack of a refused push: taken, so that the client comes to read its answer
            if reader is not None:
                reader = await self._read_commands(reader, data)
                continue
            self._target.write(data)
            await self._target.drain()
        if not self._is_refused:
            self._target.write_eof()

    async def _read_commands(self, reader: PushReader, data: bytes) -> PushReader | None:
        try:
            push = reader.receive(data)
        except ProtocolError as error:
            event = Undecodable(self._repository, f"{error.what}: {error.why}")
            await self._judge_push(event, b"", b"")
            self._agent.exit(ssh_enforce.EXIT_REFUSED)
            return None
        if push is None:
            return reader
        if not push.updates and self._target is not None:
            self._target.write(reader.head + reader.rest)  # nothing to push: nothing to judge
        else:
            await self._judge_push(push, reader.head, reader.rest)
        return None

    # --- target to agent

    async def _answer(self) -> None:
        while data := await self.from_target.get():
            if self._is_refused:
                continue  # how it ends its empty push is of no use to anyone
            self._bytes_out += len(data)
            await self._session.release_replies()
            self._agent.write(data)
            await self._agent.drain()
        await self.ended.wait()

    def deliver_error(self, data: bytes) -> None:
        """What git and the hooks of the target say."""
        if not self._is_refused:
            self._agent.write(self._conversation.masking.mask_always(data), is_error=True)
