"""One evaluator process as the gateway sees it: start, load, ask, kill. `gateway.policy.evaluator` is the other end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import sealgate_native

import gateway
from gateway.errors import PolicyError
from gateway.policy.allowance import Allowance
from gateway.policy.bundle import Bundle
from gateway.policy.engine import ENTRYPOINT, PolicyFailure
from gateway.policy.evaluator import LENGTH, MAX_FRAME_BYTES, RECEIVE_BYTES
from gateway.policy.heads import engine_modules

LOAD_DEADLINE_S: Final = 20.0
"""How long a new process may take until it is ready: interpreter start and compilation take 0.2 s, a parser blow-up never ends."""

REAP_DEADLINE_S: Final = 5.0
"""How long a killed process may take to be gone."""


def encode_frame(message: object) -> bytes:
    """One frame; raises PolicyFailure of kind input when the message is not JSON or too long."""
    try:
        body = orjson.dumps(message)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise PolicyFailure("input", f"the input document is not JSON ({type(error).__name__})") from None
    if len(body) > MAX_FRAME_BYTES:
        raise PolicyFailure("input", f"the input document has {len(body)} bytes; at most {MAX_FRAME_BYTES} are evaluated")
    return LENGTH.pack(len(body)) + body


def load_frame(bundle: Bundle, time_limit_ms: int) -> bytes:
    """The first frame an evaluator gets."""
    return encode_frame(
        {
            "bundle": bundle.digest,
            "modules": engine_modules(bundle),
            "data": bundle.data,
            "entrypoint": ENTRYPOINT,
            "time_limit_ms": time_limit_ms,
        }
    )


def start_process() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A fresh evaluator and our end of its socket. It inherits neither environment nor descriptors."""
    ours, theirs = socket.socketpair()
    folders = {str(Path(module.__file__ or "").resolve().parent) for module in (sealgate_native,)}
    folders.add(str(Path(gateway.__file__).resolve().parent.parent))
    environment = {"PYTHONPATH": os.pathsep.join(sorted(folders)), "LANG": "C.UTF-8"}
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gateway.policy.evaluator"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def receive_frame(channel: socket.socket, left_s: Callable[[], float]) -> dict[str, Any] | None:
    """The next frame, blocking until nothing is left; None when the other end is gone or silent.

    Args:
        channel: our end.
        left_s: seconds until it is to be asked again, none or less when the wait is over.
    """
    data = bytearray()
    while len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
        if (pause_s := left_s()) <= 0:
            return None
        try:
            channel.settimeout(pause_s)
            chunk = channel.recv(RECEIVE_BYTES)
        except TimeoutError:
            continue
        except OSError:
            return None
        if not chunk:
            return None
        data += chunk
    answer: dict[str, Any] = orjson.loads(memoryview(data)[LENGTH.size :])
    return answer


def open_evaluator(frame: bytes) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a process and load a bundle into it; blocking.

    Raises:
        PolicyError: the bundle was refused, or the process did not get ready in time.
    """
    until = time.monotonic() + LOAD_DEADLINE_S
    process, channel = start_process()
    try:
        channel.settimeout(LOAD_DEADLINE_S)
        with contextlib.suppress(OSError):
            channel.sendall(frame)
        answer = receive_frame(channel, lambda: until - time.monotonic())
        if answer is None:
            raise PolicyError(
                "the policy bundle cannot be compiled",
                why=f"the evaluator died or was silent for {LOAD_DEADLINE_S:.0f} s",
                fix="run `sealgate policy check` on the bundle; deeply nested literals and recursion do this",
            )
        if "ready" not in answer:
            raise PolicyError(
                "the policy bundle cannot be compiled", why=str(answer.get("refused")), fix="correct the named module"
            )
    except BaseException:
        channel.close()
        end_process(process)
        raise
    return process, channel


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process we started and collect it; blocking."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(REAP_DEADLINE_S)


def overdue(allowance: Allowance) -> PolicyFailure:
    """The failure of an evaluation that had nothing left."""
    if allowance.is_used_up():
        return PolicyFailure("deadline", "the evaluation did not end in time and its evaluator was killed")
    return PolicyFailure("deadline", "the evaluator got no processor in time, because the host is busy, and was killed")


class Evaluator:
    """One loaded process on the event loop. Takes one request at a time; the pool sees to that.

    Attributes:
        is_alive: false once the process was ended or has ended.
        was_starved: it was killed at the wall bound, before it had used its processor time up.
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, *, on_free: Callable[[Evaluator], None]) -> None:
        self._process = process
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._on_free = on_free
        self._received = bytearray()
        self._unsent = memoryview(b"")
        self._number = 0
        self._answer: asyncio.Future[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_alive = True
        self.was_starved = False
        channel.setblocking(False)
        self._loop.add_reader(channel, self._on_readable)

    @property
    def pid(self) -> int:
        """The process id, for diagnosis and tests."""
        return self._process.pid

    def ask(self, document: object, digest: str, deadline_s: float, wall_s: float | None = None) -> asyncio.Future[object]:
        """A future of the decision's value; fails with PolicyFailure.

        The evaluator is free again when `on_free` is called, whether or not the future is still awaited.

        Args:
            document: the input.
            digest: the bundle it is about.
            deadline_s: processor time after which the process is killed.
            wall_s: time after which it is killed whatever it did; None for the bound that goes with the deadline.
        """
        if not self.is_alive:
            raise PolicyFailure("died", "the evaluator ended before it was asked")
        self._number += 1
        frame = encode_frame({"id": self._number, "bundle": digest, "input": document})
        self._answer = self._loop.create_future()
        allowance = Allowance(self._process.pid, deadline_s, wall_s)
        self._timer = self._loop.call_later(allowance.left_s(), self._look, allowance)
        self._send(memoryview(frame))
        return self._answer

    def close(self) -> None:
        """Kill the process. What is still asked fails as died."""
        self._end(PolicyFailure("died", "the evaluator was ended"))

    def _send(self, data: memoryview) -> None:
        try:
            sent = self._channel.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(PolicyFailure("died", "the evaluator ended before it was asked"))
            return
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.add_writer(self._channel, self._on_writable)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._channel)
        self._send(self._unsent)

    def _on_readable(self) -> None:
        try:
            chunk = self._channel.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._end(PolicyFailure("died", "the evaluator died of this input"))
            return
        self._received += chunk
        if len(self._received) < LENGTH.size:
            return
        (length,) = LENGTH.unpack_from(self._received)
        if length > MAX_FRAME_BYTES:
            self._end(PolicyFailure("shape", "the evaluator's answer is too long"))
        elif len(self._received) >= LENGTH.size + length:
            body = bytes(memoryview(self._received)[LENGTH.size :][:length])
            self._received.clear()
            self._settle(orjson.loads(body))

    def _settle(self, answer: dict[str, Any]) -> None:
        if answer.get("id") != self._number or self._answer is None:
            self._end(PolicyFailure("shape", "the evaluator answered a question nobody asked"))
        elif "value" in answer:
            self._finish(answer["value"], None)
        else:
            self._finish(None, PolicyFailure(answer["kind"], answer["message"]))

    def _look(self, allowance: Allowance) -> None:
        if (pause_s := allowance.left_s()) > 0:
            self._timer = self._loop.call_later(pause_s, self._look, allowance)
            return
        self.was_starved = not allowance.is_used_up()
        self._end(overdue(allowance))

    def _end(self, failure: PolicyFailure) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        self._process.kill()
        self._loop.run_in_executor(None, end_process, self._process)
        self._finish(None, failure)

    def _finish(self, value: object, failure: PolicyFailure | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            if failure is None:
                answer.set_result(value)
            else:
                answer.set_exception(failure)
        self._on_free(self)
