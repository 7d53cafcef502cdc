"""Carries one sftp session: every operation on a path is judged on its own, every open file is counted, digested and masked.

Two tasks: one reads the agent's requests in order, judges, forwards or answers; the other reads the target's replies. Reads on an open
file need no decision of their own, the opening had it; what they deliver passes the detectors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import asyncssh

from gateway.errors import ProtocolError
from gateway.messages import Outcome, Refusal
from gateway.pipeline import Ruling
from gateway.protocols.ssh import enforce, sftp
from gateway.protocols.ssh.events import FileRequest, Undecodable
from gateway.protocols.ssh.sftp import Request, SftpReader
from gateway.refusal import refuse_unreadable
from gateway.serve.ssh.byte_queue import BROKEN_OFF, BrokenOffError, FlowSink
from gateway.serve.ssh.channel import AgentChannel
from gateway.serve.ssh.conversation import Conversation, open_target
from gateway.serve.ssh.files import FindingsError, OpenFile, open_file, read_file_limit

logger = logging.getLogger(__name__)

MAX_PENDING: Final = 4_096
"""Requests without a reply; OpenSSH's client sends 64 ahead."""

MAX_OPEN_FILES: Final = 1_024


@dataclass(slots=True)
class _Pending:
    """A request on its way: what its reply means."""

    request: Request
    ruling: Ruling | None = None
    file: OpenFile | None = None


class SftpRelay(FlowSink):
    """One sftp session."""

    def __init__(self, conversation: Conversation, agent: AgentChannel) -> None:
        super().__init__(agent)
        self._conversation = conversation
        self._session = conversation.session
        self._pending: dict[int, _Pending] = {}
        self._files: dict[bytes, OpenFile] = {}
        self._folders: set[bytes] = set()
        self._operations = 0

    async def run(self, ruling: Ruling, login: asyncssh.SSHClientConnection) -> Outcome:
        """Carry the session to its end. Raises TargetError."""
        del ruling
        self._target = await open_target(login, self, self._agent, subsystem="sftp")
        self._agent.carry(self)
        gone = asyncio.create_task(self._wait_for_agent())
        tasks = [asyncio.create_task(part) for part in (self._ask(), self._answer())]
        reason = "the client ended it"
        try:
            await asyncio.wait([*tasks, gone], return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not tasks[0].done():
                reason = BROKEN_OFF
            # The client said good-bye: what is under way at the target still gets its answer.
            if tasks[0].done() and tasks[0].exception() is None and not gone.done():
                self._target.write_eof()
                await asyncio.wait([tasks[1], gone], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
            # A killed client ends its input in order too, but it had closed none of its files.
            if gone.done() or self._files or self._pending:
                reason = BROKEN_OFF
            self._agent.exit(self.status or 0)
        except BrokenOffError:
            reason = BROKEN_OFF
            self._agent.end_with(b"sealgate: the sftp stream cannot be read on: it ends inside a packet\n", enforce.EXIT_REFUSED)
        except ProtocolError as error:
            reason = "the sftp stream cannot be read"
            await self._refuse_stream(error)
        finally:
            for task in (*tasks, gone):
                task.cancel()
            await asyncio.gather(*tasks, gone, return_exceptions=True)
            self._target.close()
            self._close_files()
        return Outcome(
            "completed" if reason == "the client ended it" else "unknown", tag=f"{self._operations} operations, {reason}"
        )

    async def _wait_for_agent(self) -> None:
        await self._agent.gone.wait()

    async def _refuse_stream(self, error: ProtocolError) -> None:
        """What cannot be read is refused with a record, and the session is over: nothing after it can be trusted."""
        event = Undecodable(f"{error.what}: {error.why}")
        ruling = await self._session.handle(event, self._conversation.door)
        if ruling.refusal is None:
            self._session.finish(ruling, Outcome("refused", error_code=error.code))
        refusal = ruling.refusal or refuse_unreadable(event.reason, ruling.decision_id)
        self._agent.end_with(enforce.refuse(refusal), enforce.EXIT_REFUSED)

    def _close_files(self) -> None:
        """Files nobody closed: the record says how far each came."""
        for pending in self._pending.values():
            if pending.ruling is not None:
                self._session.finish(pending.ruling, Outcome("unknown", tag="no answer"))
        for file in self._files.values():
            self._session.finish(file.ruling, file.end("unknown", self._session, tag="broken off"))
        self._files.clear()
        self._pending.clear()

    # --- agent to target

    async def _ask(self) -> None:
        reader = SftpReader()
        while data := await self.from_agent.get():
            reader.receive(data)
            for packet in sftp.iterate(reader):
                await self._take(packet)
            if self._target is not None:
                await self._target.drain()
        if reader.held_bytes:
            raise BrokenOffError

    async def _take(self, packet: bytes) -> None:
        request = sftp.parse_request(packet)
        if request.id is None:
            self._send(b"\x01\x00\x00\x00\x03")  # INIT, version 3, no extensions of the client
            return
        if request.id in self._pending or len(self._pending) >= MAX_PENDING:
            raise ProtocolError(
                "requests of the sftp stream cannot be told apart", why="a request id is used twice, or too many are open"
            )
        if request.event is not None:
            await self._judge(request, packet)
        elif request.handle is not None:
            self._use_handle(request, packet)
        else:
            self._forward(packet, _Pending(request))

    async def _judge(self, request: Request, packet: bytes) -> None:
        event = request.event
        if event is None or request.id is None:
            return
        if request.handle is not None:
            file = self._files.get(request.handle)
            if file is None:
                self._reply_status(request.id, enforce.STATUS_FAILURE, "the handle is not open")
                return
            event = FileRequest("sftp", event.operation, file.path, attributes=event.attributes, mode=event.mode, size=event.size)
        self._operations += 1
        on_hold = partial(self._conversation.announce, self._agent, f"sftp {event.operation}")
        ruling = await self._session.handle(event, self._conversation.door, abandoned=self._agent.gone, on_hold=on_hold)
        refusal = ruling.refusal or self._refuse_late(event, ruling)
        if refusal is not None:
            await self._session.release_replies()
            # OpenSSH's client shows the code's own words and not the message, so the reason goes to standard error as well.
            self._agent.write(enforce.refuse(refusal), is_error=True)
            self._reply_status(request.id, *enforce.refuse_status(refusal))
            return
        self._forward(packet, _Pending(request, ruling))

    def _refuse_late(self, event: FileRequest, ruling: Ruling) -> Refusal | None:
        if event.operation == "unknown":
            self._session.finish(ruling, Outcome("refused", error_code=ProtocolError.code))
            return refuse_unreadable("the operation is not known", ruling.decision_id)
        if event.operation == "open" and len(self._files) >= MAX_OPEN_FILES:
            self._session.finish(ruling, Outcome("refused", error_code="ssh.files"))
            return Refusal("limit", "ssh.files", "the file is not opened", "too many are open", "close some", ruling.decision_id)
        limit = read_file_limit(ruling.decision, self._conversation.connection.max_file_bytes)
        if event.size is not None and event.size > limit:
            self._session.finish(ruling, Outcome("refused", error_code="ssh.file_size"))
            why = f"it would have {event.size} bytes; at most {limit} are allowed"
            return Refusal("limit", "ssh.file_size", "the file is too large", why, "send less at once", ruling.decision_id)
        return None

    def _use_handle(self, request: Request, packet: bytes) -> None:
        handle, number = request.handle or b"", request.id or 0
        file = self._files.get(handle)
        if file is None and handle not in self._folders:
            self._reply_status(number, enforce.STATUS_FAILURE, "the handle is not open")
            return
        if file is None or request.kind not in {sftp.READ, sftp.WRITE}:
            self._forward(packet, _Pending(request, file=file))
            return
        # Of a file opened to append, offsets say nothing; what was written so far does.
        end = max(request.offset, file.counts["write"]) + request.length
        if end > file.max_bytes and request.kind == sftp.WRITE:
            self._reply_status(number, enforce.STATUS_FAILURE, f"sealgate: the file is longer than {file.max_bytes} bytes")
            return
        if request.kind == sftp.WRITE:
            file.note("write", request.offset, sftp.read_written(packet))
        elif file.is_masked:
            packet = sftp.make_read(number, handle, request.offset, request.length + sftp.READ_AHEAD_BYTES)
        self._forward(packet, _Pending(request, file=file))

    def _forward(self, packet: bytes, pending: _Pending) -> None:
        if pending.request.id is not None:
            self._pending[pending.request.id] = pending
        self._send(packet)

    def _send(self, packet: bytes) -> None:
        if self._target is not None:
            self._target.write(sftp.frame(packet))

    # --- target to agent

    async def _answer(self) -> None:
        reader = SftpReader()
        while data := await self.from_target.get():
            reader.receive(data)
            for packet in sftp.iterate(reader):
                reply = self._read_reply(packet)
                if reply is not None:
                    await self._session.release_replies()
                    self._agent.write(sftp.frame(reply))
            await self._agent.drain()

    def _read_reply(self, packet: bytes) -> bytes | None:
        """What the agent gets for a reply; every outcome it settles is recorded."""
        kind, number = sftp.read_reply(packet)
        if number is None:
            return sftp.keep_extensions(packet)
        pending = self._pending.pop(number, None)
        if pending is None:
            raise ProtocolError("the target answers what was not asked", why=f"request {number}")
        return _REPLIES.get(pending.request.kind, SftpRelay._settle)(self, kind, packet, pending)

    def _settle(self, kind: int, packet: bytes, pending: _Pending) -> bytes:
        if pending.ruling is not None:
            is_done = kind != sftp.STATUS or sftp.read_status(packet) == sftp.STATUS_OK
            code = None if is_done else f"sftp.{sftp.read_status(packet)}"
            self._session.finish(pending.ruling, Outcome("completed" if is_done else "failed", error_code=code))
        if pending.request.extension == b"limits@openssh.com" and kind == sftp.EXTENDED_REPLY:
            return sftp.shrink_read_limit(packet)
        return packet

    def _settle_open(self, kind: int, packet: bytes, pending: _Pending) -> bytes:
        event, ruling = pending.request.event, pending.ruling
        if kind != sftp.HANDLE or event is None or ruling is None:
            return self._settle(kind, packet, pending)
        self._files[sftp.read_handle(packet)] = open_file(self._conversation, ruling, event.path)
        return packet

    def _settle_folder(self, kind: int, packet: bytes, pending: _Pending) -> bytes:
        if kind == sftp.HANDLE:
            self._folders.add(sftp.read_handle(packet))
        return self._settle(kind, packet, pending)

    def _settle_read(self, kind: int, packet: bytes, pending: _Pending) -> bytes:
        file, request = pending.file, pending.request
        if kind != sftp.DATA or file is None or request.id is None:
            return packet
        data = sftp.read_handle(packet)
        room = file.max_bytes - request.offset
        if room <= 0:
            text = f"sealgate: the file is longer than {file.max_bytes} bytes"
            return sftp.make_status(request.id, enforce.STATUS_FAILURE, text)
        try:
            delivered = file.mask(request.offset, data, min(request.length, room))
        except FindingsError as error:
            text = f"sealgate: withheld, the file holds {error} (decision {file.ruling.decision_id})"
            return sftp.make_status(request.id, enforce.STATUS_PERMISSION_DENIED, text)
        file.note("read", request.offset, delivered)
        return packet if delivered is data or delivered == data else sftp.make_data(request.id, delivered)

    def _settle_close(self, kind: int, packet: bytes, pending: _Pending) -> bytes:
        handle = pending.request.handle or b""
        self._folders.discard(handle)
        file = self._files.pop(handle, None)
        if file is not None:
            is_done = kind == sftp.STATUS and sftp.read_status(packet) == sftp.STATUS_OK
            self._session.finish(file.ruling, file.end("completed" if is_done else "failed", self._session))
        return packet

    def _reply_status(self, number: int, code: int, text: str) -> None:
        self._agent.write(sftp.frame(sftp.make_status(number, code, text)))

    # --- flow

    def deliver_error(self, data: bytes) -> None:
        """sftp-server writes nothing there; where it does, it is not shown."""
        logger.debug("%d bytes on standard error of sftp", len(data))


_REPLIES: Final[dict[int, Callable[[SftpRelay, int, bytes, _Pending], bytes]]] = {
    sftp.OPEN: SftpRelay._settle_open,  # noqa: SLF001 - the table belongs to the class
    sftp.OPENDIR: SftpRelay._settle_folder,  # noqa: SLF001 - as above
    sftp.READ: SftpRelay._settle_read,  # noqa: SLF001 - as above
    sftp.CLOSE: SftpRelay._settle_close,  # noqa: SLF001 - as above
}
