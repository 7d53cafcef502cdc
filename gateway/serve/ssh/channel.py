"""One session channel on each side: what asyncssh calls back with, kept or handed to whatever carries the channel.

Until something carries it, the agent's channel keeps what arrives, up to a bound, and then stops reading; nothing is lost and nothing
is sent on. The target's channel exists only after a decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, cast

import asyncssh

from gateway.protocols.ssh.enforce import EXIT_NO_TARGET, EXIT_REFUSED, announce_refused_way
from gateway.protocols.ssh.events import Pty, Undecodable
from gateway.protocols.ssh.parse import parse_environment, parse_pty
from gateway.serve.ssh.wire import AgentSessionChannel

logger = logging.getLogger(__name__)

KEPT_BYTES: Final = 256 << 10
"""Input kept while nothing carries the channel yet; then the client is not read any more."""

WRITE_HIGH_BYTES: Final = 1 << 20
"""Unsent bytes at which the other side is not read any more."""


class AgentSink(Protocol):
    """What takes the agent's half of a channel."""

    def receive(self, data: bytes) -> None:
        """Input."""

    def receive_eof(self) -> None:
        """The end of the input."""

    def receive_signal(self, name: str) -> None:
        """A signal for the program."""

    def receive_size(self, columns: int, rows: int) -> None:
        """A new terminal size."""

    def resume(self) -> None:
        """The agent reads again."""

    def pause(self) -> None:
        """The agent does not read."""


class AgentChannel(asyncssh.SSHServerSession[bytes]):
    """The agent's half of one session channel.

    Args:
        serve: judges and carries the channel once its program is known; runs as a task of its own.
        may_have_terminal: whether the connection allows terminals at all.
        environment_names: variables that are let through.
        judge_forward: decides about agent and X11 forwarding; true only where it is carried.
    """

    def __init__(
        self,
        serve: Callable[[AgentChannel], Awaitable[None]],
        *,
        may_have_terminal: bool,
        environment_names: tuple[str, ...],
        judge_forward: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._serve = serve
        self._may_have_terminal = may_have_terminal
        self._environment_names = environment_names
        self._judge_forward = judge_forward
        self._kept = bytearray()
        self._sink: AgentSink | None = None
        self._arrived = asyncio.Event()
        self._has_ended = False
        self._is_resized = False
        self._is_write_paused = False
        self._notices: dict[str, bytes] = {}
        self._writable = asyncio.Event()
        self._writable.set()
        self.channel: AgentSessionChannel | None = None
        self.kind = ""
        self.pty: Pty | None = None
        self.pty_modes: Mapping[int, int] = {}
        self.environment: dict[str, str] = {}
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    # --- asyncssh

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self.channel = cast("AgentSessionChannel", chan)
        self.channel.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone, in whatever way."""
        del exc  # reset or closed: gone either way
        self.gone.set()
        self._arrived.set()
        self._writable.set()

    def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]) -> bool:
        """A terminal, where the connection allows them."""
        parsed = parse_pty(term_type.encode(), term_size[0], term_size[1])
        if not self._may_have_terminal or isinstance(parsed, Undecodable):
            return False
        self.pty, self.pty_modes = parsed, dict(term_modes)
        return True

    def environment_requested(self, name: bytes, value: bytes) -> bool:
        """A variable; those that are not let through are dropped, as sshd does."""
        found = parse_environment(name, value, self._environment_names)
        if found is not None:
            self.environment[found[0]] = found[1]
        return found is not None

    async def forward_requested(self, channel: str) -> bool:
        """Agent or X11 forwarding; a refusal that the client would not show is said once the program is known."""
        is_carried = await self._judge_forward(channel)
        if not is_carried:
            self._notices[channel] = announce_refused_way(channel)
        return is_carried

    def exec_requested(self, command: str) -> bool:
        """A command; refusals come as text and exit status, so the request itself succeeds."""
        del command  # its bytes are on the channel
        self.kind = "exec"
        return True

    def shell_requested(self) -> bool:
        """A shell."""
        self.kind = "shell"
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """A subsystem."""
        del subsystem  # its bytes are on the channel
        self.kind = "subsystem"
        return True

    def session_started(self) -> None:
        """The program is known: judge and carry it."""
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        if self.kind != "subsystem":  # what speaks a protocol has nobody who reads standard error
            for notice in self._notices.values():
                self.say(notice)
        try:
            await self._serve(self)
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("a channel ended with a fault of the gateway")
            self.end_with(b"sealgate: the gateway met a case it does not handle; nothing more is carried\n", EXIT_REFUSED)
        finally:
            if self.channel is not None and not self.gone.is_set():
                self.channel.close()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Input of the agent."""
        del datatype  # clients send no extended data
        if self._sink is not None:
            self._sink.receive(data)
            return
        self._kept += data
        self._arrived.set()
        if len(self._kept) > KEPT_BYTES and self.channel is not None:
            self.channel.pause_reading()

    def eof_received(self) -> bool:
        """The agent sends nothing more; it still reads."""
        self._has_ended = True
        self._arrived.set()
        if self._sink is not None:
            self._sink.receive_eof()
        return True

    def signal_received(self, signal: str) -> None:
        """A signal for the program; before there is one it means nothing."""
        if self._sink is not None:
            self._sink.receive_signal(signal)

    def break_received(self, msec: int) -> bool:
        """A break on a serial line, of which there is none."""
        del msec
        return False

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """A new size of the agent's terminal."""
        del pixwidth, pixheight  # no program of ours draws pixels
        if self.pty is None or isinstance(parse_pty(self.pty.term.encode(), width, height), Undecodable):
            return
        self.pty = Pty(self.pty.term, width, height)
        if self._sink is not None:
            self._sink.receive_size(width, height)
        else:
            self._is_resized = True

    def pause_writing(self) -> None:
        """The agent reads more slowly than the target sends."""
        self._is_write_paused = True
        self._writable.clear()
        if self._sink is not None:
            self._sink.pause()

    def resume_writing(self) -> None:
        """The agent caught up."""
        self._is_write_paused = False
        self._writable.set()
        if self._sink is not None:
            self._sink.resume()

    # --- for what carries it

    async def read_all(self, max_bytes: int) -> bytes | None:
        """All input to its end; None when there is more than `max_bytes`, or the agent left. What was read stays to be sent on."""
        while not self._has_ended and not self.gone.is_set() and len(self._kept) <= max_bytes:
            if self.channel is not None:
                self.channel.resume_reading()
            self._arrived.clear()
            await self._arrived.wait()
        return bytes(self._kept) if self._has_ended and len(self._kept) <= max_bytes else None

    def carry(self, sink: AgentSink) -> None:
        """Hand everything that arrived, and all that will, to `sink`."""
        self._sink = sink
        if self._is_resized and self.pty is not None:  # it may have been opened with the size before
            sink.receive_size(self.pty.columns, self.pty.rows)
        kept, self._kept = bytes(self._kept), bytearray()
        if kept:
            sink.receive(kept)
        if self._is_write_paused:
            sink.pause()
        if self._has_ended:
            sink.receive_eof()
        if self.channel is not None:
            self.channel.resume_reading()

    def write(self, data: bytes, *, is_error: bool = False) -> None:
        """Send to the agent; nothing once it has left."""
        if self.channel is None or self.gone.is_set() or not data:
            return
        with contextlib.suppress(OSError):
            self.channel.write(data, asyncssh.EXTENDED_DATA_STDERR if is_error else None)

    @property
    def is_behind(self) -> bool:
        """Whether the agent has not read what was sent, beyond the bound at which senders wait."""
        return self._is_write_paused

    async def drain(self) -> None:
        """Wait until the agent has caught up, or has left."""
        await self._writable.wait()

    def write_eof(self) -> None:
        """Nothing more comes."""
        if self.channel is not None and not self.gone.is_set():
            self.channel.write_eof()

    def pause_reading(self) -> None:
        """Let nothing more arrive for now."""
        if self.channel is not None:
            self.channel.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.channel is not None and not self.gone.is_set():
            self.channel.resume_reading()

    def exit(self, status: int) -> None:
        """The program ended."""
        if self.channel is not None and not self.gone.is_set():
            self.channel.exit(status)

    def exit_with_signal(self, name: str, message: str) -> None:
        """The program was ended by a signal."""
        if self.channel is not None and not self.gone.is_set():
            self.channel.exit_with_signal(name, False, message)

    def say(self, text: bytes) -> None:
        """Words of the gateway on standard error; a terminal has but one stream."""
        self.write(text if self.pty is None else text.replace(b"\n", b"\r\n"), is_error=self.pty is None)

    def abort(self) -> None:
        """Close at once: an agent that reads no more would never take what is still to be sent."""
        if self.channel is not None:
            self.channel.abort()

    def end_with(self, text: bytes, status: int = EXIT_NO_TARGET) -> None:
        """Last words on standard error, then the exit status."""
        self.say(text)
        self.exit(status)


class TargetSink(Protocol):
    """What takes the target's half of a channel."""

    def deliver(self, data: bytes, *, is_error: bool) -> None:
        """Output."""

    def deliver_eof(self) -> None:
        """The end of the output."""

    def end(self, status: int | None, signal: str | None, message: str) -> None:
        """The program ended, or the target left without saying how (both None)."""

    def pause_target(self) -> None:
        """The target does not read."""

    def resume_target(self) -> None:
        """The target reads again."""


class TargetChannel(asyncssh.SSHClientSession[bytes]):
    """The target's half of one session channel."""

    def __init__(self, sink: TargetSink) -> None:
        self._sink = sink
        self._status: int | None = None
        self._signal: tuple[str, str] | None = None
        self.channel: asyncssh.SSHClientChannel[bytes] | None = None
        self.gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self.channel = chan
        chan.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Output of the program."""
        self._sink.deliver(data, is_error=datatype == asyncssh.EXTENDED_DATA_STDERR)

    def eof_received(self) -> bool:
        """The program's output ended."""
        self._sink.deliver_eof()
        return True

    def exit_status_received(self, status: int) -> None:
        """The program ended."""
        self._status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """The program was ended by a signal."""
        del core_dumped, lang  # neither is passed on
        self._signal = signal, msg

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone: by then the program's end is known, or never will be."""
        del exc
        self.gone.set()
        self._writable.set()
        signal, message = self._signal or (None, "")
        self._sink.end(self._status, signal, message)

    def pause_writing(self) -> None:
        """The target reads more slowly than the agent sends."""
        self._writable.clear()
        self._sink.pause_target()

    def resume_writing(self) -> None:
        """The target caught up."""
        self._writable.set()
        self._sink.resume_target()

    # --- for what carries it

    def write(self, data: bytes) -> None:
        """Send to the program."""
        if self.channel is not None and not self.gone.is_set() and data:
            with contextlib.suppress(OSError):
                self.channel.write(data)

    async def drain(self) -> None:
        """Wait until the target has caught up, or has left."""
        await self._writable.wait()

    def write_eof(self) -> None:
        """Nothing more comes."""
        if self.channel is not None and not self.gone.is_set():
            with contextlib.suppress(OSError):
                self.channel.write_eof()

    def pause_reading(self) -> None:
        """Let nothing more arrive for now."""
        if self.channel is not None and not self.gone.is_set():
            self.channel.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self.channel is not None and not self.gone.is_set():
            self.channel.resume_reading()

    def close(self) -> None:
        """End the channel; the target ends the program."""
        if self.channel is not None and not self.gone.is_set():
            self.channel.close()
