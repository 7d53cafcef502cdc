"""Carries one command or shell that was let through: bytes both ways, masked and recorded, until the program ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gateway.errors import EvidenceUnavailableError
from gateway.messages import Outcome
from gateway.serve.ssh.channel import AgentChannel, TargetChannel
from gateway.serve.ssh.recorder import MaskedStream, Recording

logger = logging.getLogger(__name__)


class Relay:
    """Both halves of one channel.

    Args:
        make_stream: makes the masked way to the agent, given where its output goes.
    """

    def __init__(
        self,
        agent: AgentChannel,
        recording: Recording,
        make_stream: Callable[[Callable[[bytes], None]], MaskedStream],
        commit: Callable[[bytes], str],
    ) -> None:
        self._agent = agent
        self._recording = recording
        self._commit = commit
        self._out = make_stream(self._write_output)
        self._error = make_stream(self._write_error)
        self._target: TargetChannel | None = None
        self._ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def attach(self, target: TargetChannel) -> None:
        """The target's half is open: begin to carry the agent's."""
        self._target = target
        self._agent.carry(self)

    async def wait(self) -> Outcome:
        """How it ended. The agent leaving ends it too."""
        left = asyncio.ensure_future(self._agent.gone.wait())
        try:
            await _first(self._ended, left)
            if not self._ended.done():
                # A program that goes on without its agent cannot be stopped for sure; what is known is how far the bytes came.
                if self._target is not None:
                    self._target.close()
                self._finish(Outcome("unknown", tag="the agent left", stream=self._recording.close("disconnected", self._commit)))
            return self._ended.result()
        finally:
            left.cancel()

    # --- from the agent

    def receive(self, data: bytes) -> None:
        """Input for the program."""
        with self._recorded():
            self._recording.input(data)
            if self._target is not None:
                self._target.write(data)

    def receive_eof(self) -> None:
        """The end of the input."""
        if self._target is not None:
            self._target.write_eof()

    def receive_signal(self, name: str) -> None:
        """A signal for the program."""
        if self._target is not None and self._target.channel is not None:
            with suppress(OSError, ValueError):
                self._target.channel.send_signal(name)

    def receive_size(self, columns: int, rows: int) -> None:
        """A new terminal size."""
        with self._recorded():
            self._recording.resize(columns, rows)
            if self._target is not None and self._target.channel is not None:
                with suppress(OSError):
                    self._target.channel.change_terminal_size(columns, rows)

    def pause(self) -> None:
        """The agent does not read, so the target is not read either."""
        if self._target is not None:
            self._target.pause_reading()

    def resume(self) -> None:
        """The agent reads again."""
        if self._target is not None:
            self._target.resume_reading()

    # --- from the target

    def deliver(self, data: bytes, *, is_error: bool) -> None:
        """Output of the program."""
        if self._ended.done():
            return
        with self._recorded():
            self._recording.output(data, is_error=is_error)
            (self._error if is_error else self._out).feed(data)

    def deliver_eof(self) -> None:
        """The end of the output."""
        self._out.finish()
        self._error.finish()
        self._agent.write_eof()

    def end(self, status: int | None, signal: str | None, message: str) -> None:
        """The program ended."""
        if self._ended.done():
            return
        self._out.finish()
        self._error.finish()
        shown = str(status) if status is not None else signal or "disconnected"
        with self._recorded():
            stream = self._recording.close(shown, self._commit)
            detected = {name: count + self._error.counts.get(name, 0) for name, count in self._out.counts.items()}
            detected = {**self._error.counts, **detected}
            tag = f"exit {status}" if status is not None else f"signal {signal}" if signal else "the target broke off"
            ended = "completed" if status is not None else "failed" if signal else "unknown"
            self._finish(
                Outcome(ended, tag=tag[:64], bytes_out=self._recording.bytes_out, detected=detected, stream=stream)  # type: ignore[arg-type] # one of three literals
            )
        if status is not None:
            self._agent.exit(status)
        elif signal:
            self._agent.exit_with_signal(signal, "")
        else:
            self._agent.end_with(b"sealgate: the target broke off; how the command ended is not known\n")
        del message  # free text of the target, which nobody masked

    def pause_target(self) -> None:
        """The target does not read, so the agent is not read either."""
        self._agent.pause_reading()

    def resume_target(self) -> None:
        """The target reads again."""
        self._agent.resume_reading()

    # --- both

    def _write_output(self, data: bytes) -> None:
        self._agent.write(data)

    def _write_error(self, data: bytes) -> None:
        self._agent.write(data, is_error=True)

    def _finish(self, outcome: Outcome) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)

    def _recorded(self) -> _Recorded:
        return _Recorded(self)

    def fail(self, error: EvidenceUnavailableError) -> None:
        """The record cannot be written any more: nothing more may be carried."""
        logger.error("a channel ends: %s", error)
        if self._target is not None:
            self._target.close()
        self._finish(Outcome("unknown", tag="the record failed"))
        self._agent.end_with(b"sealgate: the session ends, because its record cannot be made durable\n")


class _Recorded:
    """Ends the relay when a record cannot be written."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, EvidenceUnavailableError):
            self._relay.fail(error)
            return True
        return False


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
