"""Carries one `scp -O` transfer: every file and folder is judged when it is announced, before a byte of it passes."""

from __future__ import annotations

import asyncio
from functools import partial

import asyncssh

from gateway.errors import ProtocolError
from gateway.messages import Outcome, Refusal
from gateway.pipeline import Ruling
from gateway.protocols.ssh import enforce
from gateway.protocols.ssh.events import Exec, FileRequest, Undecodable
from gateway.protocols.ssh.parse import Transfer
from gateway.protocols.ssh.scp import Announcement, Chunk, Control, ScpSource
from gateway.refusal import refuse_unreadable
from gateway.serve.ssh.byte_queue import BROKEN_OFF, BrokenOffError, FlowSink
from gateway.serve.ssh.channel import AgentChannel
from gateway.serve.ssh.conversation import Conversation, open_target
from gateway.serve.ssh.files import FindingsError, OpenFile, open_file


class _StopError(Exception):
    """The transfer ends here; the agent was told why."""


class ScpRelay(FlowSink):
    """One transfer. The source is the agent for `scp -t`, the target for `scp -f`."""

    def __init__(self, conversation: Conversation, agent: AgentChannel, transfer: Transfer) -> None:
        super().__init__(agent)
        self._conversation = conversation
        self._session = conversation.session
        self._transfer = transfer
        self._file: OpenFile | None = None
        self._offset = 0
        self._held = b""
        self._files = 0

    async def run(self, ruling: Ruling, event: Exec, login: asyncssh.SSHClientConnection) -> Outcome:
        """Carry the transfer to its end. Raises TargetError."""
        del ruling
        self._target = await open_target(login, self, self._agent, command=event.command)
        self._agent.carry(self)
        tasks = [asyncio.create_task(part) for part in (self._judge_source(), self._pass_answers())]
        left = asyncio.create_task(self._wait_for_agent())
        reason = "done"
        try:
            await self._wait(tasks, left, last=tasks[1] if self._is_upload else tasks[0])
            if left.done():
                reason = BROKEN_OFF
            else:
                await self.ended.wait()
                self._agent.exit(self.status if self.status is not None else enforce.EXIT_NO_TARGET)
        except _StopError:
            reason = "refused"
        except BrokenOffError:
            reason = BROKEN_OFF if self._is_upload or self.from_agent.has_ended else "the target broke off"
            if self._agent.is_behind:
                self._agent.abort()
            else:
                self._agent.end_with(f"sealgate: {reason} inside a file\n".encode())
        except ProtocolError as error:
            reason = "the scp stream cannot be read"
            unread = Undecodable(f"{error.what}: {error.why}")
            refused = await self._session.handle(unread, self._conversation.door)
            if refused.refusal is None:
                self._session.finish(refused, Outcome("refused", error_code=error.code))
            refusal = refused.refusal or refuse_unreadable(unread.reason, refused.decision_id)
            self._agent.end_with(enforce.refuse(refusal), enforce.EXIT_REFUSED)
        finally:
            for task in (*tasks, left):
                task.cancel()
            await asyncio.gather(*tasks, left, return_exceptions=True)
            self._target.close()
            if self._file is not None:
                self._session.finish(self._file.ruling, self._file.end("unknown", self._session, tag="broken off"))
        return Outcome("completed" if reason == "done" else "unknown", tag=f"{self._files} files, {reason}")

    async def _wait_for_agent(self) -> None:
        await self._agent.gone.wait()

    async def _wait(self, tasks: list[asyncio.Task[None]], left: asyncio.Task[None], *, last: asyncio.Task[None]) -> None:
        """Until the target's half has ended, the agent left, or something raised."""
        open_tasks = {*tasks, left}
        while not last.done() and not left.done():
            done, open_tasks = await asyncio.wait(open_tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is not None:
                    raise error

    @property
    def _is_upload(self) -> bool:
        return self._transfer.direction == "write"

    async def _judge_source(self) -> None:
        queue, source = (self.from_agent if self._is_upload else self.from_target), ScpSource()
        while data := await queue.get():
            source.receive(data)
            while (part := source.next()) is not None:
                match part:
                    case Announcement():
                        await self._announce(part)
                    case Chunk():
                        self._pass_chunk(part)
                    case Control():
                        await self._to_sink(part.data)
            await self._drain()
        if not source.is_between_files:
            raise BrokenOffError
        if self._is_upload and self._target is not None:
            self._target.write_eof()

    async def _announce(self, part: Announcement) -> None:
        path = self._place(part.path)
        operation = "mkdir" if part.kind == "folder" and self._is_upload else "list" if part.kind == "folder" else "open"
        flags = () if part.kind == "folder" else ("write", "create", "truncate") if self._is_upload else ("read",)
        event = FileRequest("scp", operation, path, flags=flags, mode=part.mode, size=part.size)  # type: ignore[arg-type] # one of three literals
        on_hold = partial(self._conversation.announce, self._agent, f"scp {operation}")
        ruling = await self._session.handle(event, self._conversation.door, abandoned=self._agent.gone, on_hold=on_hold)
        refusal = ruling.refusal
        file = None if refusal is not None else open_file(self._conversation, ruling, path)
        if file is not None and part.size > file.max_bytes:
            self._session.finish(ruling, Outcome("refused", error_code="ssh.file_size"))
            why, fix = f"it has {part.size} bytes; at most {file.max_bytes} are allowed", "send less at once"
            refusal = Refusal("limit", "ssh.file_size", "the file is too large", why, fix, ruling.decision_id)
        if refusal is not None:
            await self._stop(refusal)
        if part.kind == "folder":
            self._session.finish(ruling, Outcome("completed"))
        elif file is not None:
            self._file, self._offset, self._held = file, 0, b""
            self._files += 1
            if not part.size:
                self._end_file()
        await self._to_sink(part.line)

    def _place(self, path: str) -> str:
        base = self._transfer.paths[0]
        if not self._is_upload:
            # The target names files relative to what was asked for: its last part is the first part here.
            folder, _, _ = base.rpartition("/")
            return f"{folder}/{path}" if folder or base.startswith("/") else path
        return f"{base}/{path}" if self._transfer.to_folder or self._transfer.is_recursive else base

    def _pass_chunk(self, part: Chunk) -> None:
        """Bytes of a file: counted and digested; on their way to the agent masked, the end held back until what follows is known."""
        file = self._file
        if file is None:
            raise ProtocolError("the scp stream cannot be read", why="bytes outside any file")
        if self._is_upload:
            file.note("write", self._offset, part.data)
            self._offset += len(part.data)
            self._write_to_sink(part.data)
        else:
            data = self._held + part.data
            length = len(data) if part.is_last else max(0, len(data) - 1_024)
            try:
                delivered = file.mask(self._offset, data, length)
            except FindingsError as error:
                text = f"withheld, the file holds {error} (decision {file.ruling.decision_id})"
                self._agent.write(b"\2" + f"sealgate: {text}\n".encode())
                self._agent.exit(enforce.EXIT_REFUSED)
                raise _StopError from error
            self._held = data[length:]
            file.note("read", self._offset, delivered)
            self._offset += length
            self._write_to_sink(delivered)
        if part.is_last:
            self._end_file()

    def _end_file(self) -> None:
        if self._file is not None:
            self._session.finish(self._file.ruling, self._file.end("completed", self._session))
            self._file = None

    async def _stop(self, refusal: Refusal) -> None:
        """Refuse a file: the agent's scp prints the line, whichever side it is, and nothing more is sent."""
        await self._session.release_replies()
        self._agent.write(enforce.refuse_scp(refusal))
        self._agent.exit(enforce.EXIT_REFUSED)
        raise _StopError

    async def _to_sink(self, data: bytes) -> None:
        await self._session.release_replies()
        self._write_to_sink(data)

    def _write_to_sink(self, data: bytes) -> None:
        if not self._is_upload:
            self._agent.write(data)
        elif self._target is not None:
            self._target.write(data)

    async def _drain(self) -> None:
        if not self._is_upload:
            await self._agent.drain()
        elif self._target is not None:
            await self._target.drain()

    async def _pass_answers(self) -> None:
        """The sink's one-byte answers and messages; none of them says anything about a file that was not judged."""
        queue = self.from_target if self._is_upload else self.from_agent
        while data := await queue.get():
            if self._is_upload:
                await self._session.release_replies()
                self._agent.write(data)
            elif self._target is not None:
                self._target.write(data)
        if not self._is_upload and self._target is not None:
            if self._file is not None or self._agent.is_behind:
                raise BrokenOffError  # it answers nothing more, and may not read either: do not wait until it does
            self._target.write_eof()

    def deliver_error(self, data: bytes) -> None:
        """What scp at the target complains about."""
        self._agent.write(self._conversation.masking.mask_always(data), is_error=True)
