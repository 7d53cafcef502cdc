"""The evaluator process: `python -m gateway.policy.evaluator`, one compiled bundle behind one socket.

A policy can hang its process or take it down (research behind design section 4: unbounded builtins, stack overflow, allocation
failure), so the gateway never evaluates in its own. It starts this program with one end of a socket pair as standard input, sends
the bundle, then one request per evaluation, and kills the program when an answer took too long (`gateway.policy.allowance`).

    frame    = length of the body (4 bytes, big-endian), body (JSON)
    load     → {"bundle": digest, "modules": [[path, text], …], "data": {…}, "entrypoint": rule, "time_limit_ms": n}
             ← {"ready": digest} | {"refused": message}
    evaluate → {"id": n, "bundle": digest, "input": {…}}
             ← {"id": n, "value": …} | {"id": n, "kind": failure kind, "message": text}

The program reads no file, opens no socket and inherits no environment beyond what Python needs to start.
"""

from __future__ import annotations

import os
import re
import resource
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from sealgate_native import policy as native

LENGTH: Final = struct.Struct(">I")

MAX_FRAME_BYTES: Final = 64 << 20
"""Longest frame either side accepts: far above the largest bundle and any input the gateway builds."""

ADDRESS_SPACE_BYTES: Final = 4 << 30
"""Limit of the evaluator's address space. The engine's allocator reserves 1 GiB at start, so a limit below 3 GiB breaks it."""

ENGINE_MEMORY_BYTES: Final = 512 << 20
"""What evaluations may allocate: a decision needs less than 10 MB."""

STACK_BYTES: Final = 128 << 20
"""Stack of the thread that evaluates. Rules that refer to one another take about 2 KiB of it each; with the usual 8 MiB a bundle
within the loader's rule limit could end the process."""

STARVED_SHARE: Final = 0.25
"""An evaluation that met the engine's timer after less than this share of it on a processor did not get to run. A quarter, so that a
second try that takes the whole limit stays within the gateway's deadline, which is a quarter above the limit."""

RECEIVE_BYTES: Final = 256 << 10

_ASIDES: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#.*$', re.MULTILINE)
_PACKAGE: Final = re.compile(r"^package\s+\S+", re.MULTILINE)
_TOPIC: Final = re.compile(r"^package\s+sealgate\.policies\.(\w+)\.", re.MULTILINE)
_MAIN: Final = re.compile(r"^package\s+sealgate\.main\s*$", re.MULTILINE)
_TELLS_TOPICS: Final = re.compile(r"\bpolicies\b|\bdata\b(?!\.(?!sealgate\b)\w|\.sealgate\.(?:lib|main)\b)")
"""A reference that could lead to the topics of other protocols: by name, by index, or to a whole that holds them."""


class _Peer:
    """Frames over the inherited socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._pending = bytearray()

    def receive(self) -> dict[str, Any] | None:
        """The next frame, or None at the end of the stream."""
        header = self._take(LENGTH.size)
        if header is None:
            return None
        (length,) = LENGTH.unpack(header)
        if length > MAX_FRAME_BYTES:
            return None
        body = self._take(length)
        return None if body is None else orjson.loads(body)

    def send(self, message: dict[str, Any]) -> None:
        body = orjson.dumps(message)
        self._channel.sendall(LENGTH.pack(len(body)) + body)

    def _take(self, size: int) -> bytes | None:
        pending = self._pending
        while len(pending) < size:
            chunk = self._channel.recv(RECEIVE_BYTES)
            if not chunk:
                return None
            pending += chunk
        taken = bytes(pending[:size])
        del pending[:size]
        return taken


class Policies:
    """A compiled bundle, and for each protocol that is asked about the same without the topics of the others.

    `sealgate.main` asks the topics of the input's protocol and those of `any`, so leaving the others out changes no decision; the engine
    looks through every module at each reference to `data`, so it is faster with fewer. Where a module refers to topics in a way of its
    own, the whole bundle answers.
    """

    def __init__(self, modules: Sequence[tuple[str, str]], data: Mapping[str, Any], entrypoint: str, time_limit_ms: int) -> None:
        self._modules = [(path, text) for path, text in modules]
        self._data = orjson.dumps(data).decode()
        self._entrypoint, self._time_limit_ms = entrypoint, time_limit_ms
        self._whole = self._compile(self._modules)
        self._of_protocols: dict[str, native.CompiledPolicy] = {}
        for protocol in {topics_of(text) for _, text in self._modules} - {None, "any"}:
            kept = select_modules(self._modules, str(protocol))
            if kept is not None and len(kept) < len(self._modules):
                self._of_protocols[str(protocol)] = self._compile(kept)

    def eval(self, document: Any) -> Any:
        """The value of the entry point for one input; raises EvaluationError.

        The engine's timer reads the wall clock. Where it ran out although this thread hardly ran, the host was busy, and the evaluation,
        which changes nothing, is begun anew. The gateway bounds how long that may go on.
        """
        protocol = document.get("protocol") if isinstance(document, dict) else None
        found = self._of_protocols.get(protocol) if isinstance(protocol, str) else None
        began_s = time.thread_time()
        while True:
            try:
                return (found or self._whole).eval(document)
            except native.EvaluationError as error:
                if error.kind != "deadline" or time.thread_time() - began_s >= STARVED_SHARE * self._time_limit_ms / 1000:
                    raise

    def _compile(self, modules: list[tuple[str, str]]) -> native.CompiledPolicy:
        return native.CompiledPolicy(modules, self._data, self._entrypoint, time_limit_ms=self._time_limit_ms)


def topics_of(text: str) -> str | None:
    """The protocol whose topics a module belongs to, "any" for those of all, None for main and libraries."""
    found = _TOPIC.search(text)
    return found[1] if found else None


def select_modules(modules: list[tuple[str, str]], protocol: str) -> list[tuple[str, str]] | None:
    """The modules that can take part in decisions about one protocol; None where that cannot be told."""
    kept = [(path, text) for path, text in modules if topics_of(text) in {None, "any", protocol}]
    for _, text in kept:
        body = _PACKAGE.sub("", _ASIDES.sub("", text), count=1)
        if not _MAIN.search(text) and _TELLS_TOPICS.search(body):
            return None
    return kept


def _load(peer: _Peer) -> tuple[str, Policies] | None:
    message = peer.receive()
    if message is None:
        return None
    try:
        policies = Policies(message["modules"], message["data"], message["entrypoint"], message["time_limit_ms"])
    except native.EvaluationError as error:
        peer.send({"refused": str(error)})
        return None
    peer.send({"ready": message["bundle"]})
    return message["bundle"], policies


def _answer(policies: Policies, digest: str, request: dict[str, Any]) -> dict[str, Any]:
    if request["bundle"] != digest:
        return {"id": request["id"], "kind": "digest", "message": "the evaluator holds another bundle"}
    try:
        value = policies.eval(request["input"])
    except native.EvaluationError as error:
        return {"id": request["id"], "kind": error.kind, "message": str(error)}
    if value is native.UNDEFINED:
        return {"id": request["id"], "kind": "undefined", "message": "the decision is undefined"}
    return {"id": request["id"], "value": value}


def _end_with_parent(channel: socket.socket) -> None:
    """Leave the process when the other end is gone, even while an evaluation hangs."""
    poll = select.poll()
    poll.register(channel, select.POLLHUP)
    poll.poll()
    os._exit(1)


def _serve(channel: socket.socket) -> None:
    peer = _Peer(channel)
    try:
        loaded = _load(peer)
        if loaded is not None:
            digest, policies = loaded
            while (request := peer.receive()) is not None:
                peer.send(_answer(policies, digest, request))
    finally:
        os._exit(0)  # the main thread sits in poll and has nothing to clean up


def main() -> int:
    """Serve one bundle until the other end closes."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    native.set_memory_limit(ENGINE_MEMORY_BYTES)
    channel = socket.socket(fileno=0)
    threading.stack_size(STACK_BYTES)
    threading.Thread(target=_serve, args=(channel,), daemon=True).start()
    _end_with_parent(channel)
    return 1


if __name__ == "__main__":
    sys.exit(main())
