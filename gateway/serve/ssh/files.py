"""Carries file transfers that were let through: the entry points for sftp and scp, and what both share about one file."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Final

import asyncssh
import orjson
from sealgate_native.mask import Detectors

from gateway.decision import Decision
from gateway.messages import Outcome, OutcomeStatus
from gateway.pipeline import PipelineSession, Ruling
from gateway.protocols.ssh.events import Exec
from gateway.protocols.ssh.parse import Transfer
from gateway.serve.ssh.channel import AgentChannel
from gateway.serve.ssh.conversation import Conversation
from gateway.serve.ssh.recorder import choose_detectors

CONTEXT_BYTES: Final = 8_192
"""Bytes kept before what is delivered next, so that a finding across two reads is seen whole; longer than any finding but a key."""

PROBE_BYTES: Final = 8_192
"""A NUL within these first bytes makes a file binary, as grep has it; binary files are not masked."""


class FindingsError(Exception):
    """A file holds what policy does not let out."""


class OpenFile:
    """One file under way: how far it came, its digest, and what of it may be delivered.

    Args:
        ruling: the decision that opened it.
        max_bytes: longest file either way.
        detectors: read what is delivered.
    """

    def __init__(self, ruling: Ruling, path: str, *, max_bytes: int, detectors: Detectors | None) -> None:
        self.ruling = ruling
        self.path = path
        self.max_bytes = read_file_limit(ruling.decision, max_bytes)
        self._detectors = detectors
        self._withholds = ruling.find_obligation("withhold_findings") is not None
        self._digests: dict[str, Any] = {"read": hashlib.sha256(), "write": hashlib.sha256()}
        self._next: Counter[str] = Counter()
        self._is_sequential = {"read": True, "write": True}
        self.counts: Counter[str] = Counter()
        self.detected: Counter[str] = Counter()
        self._tail, self._tail_end = b"", 0
        self._is_binary: bool | None = None
        self.is_withheld = False

    def note(self, direction: str, offset: int, data: bytes) -> None:
        """Count what passed, and take it into the digest while it comes in order."""
        if offset == self._next[direction]:
            self._digests[direction].update(data)
        else:
            self._is_sequential[direction] = False
        self._next[direction] = offset + len(data)
        self.counts[direction] += len(data)

    @property
    def is_masked(self) -> bool:
        """Whether what is read may still have to be changed."""
        return self._detectors is not None and self._is_binary is not True

    def mask(self, offset: int, data: bytes, length: int) -> bytes:
        """The first `length` bytes of what was read at `offset`, findings overwritten byte for byte: sizes and offsets stay true.

        Args:
            offset: in the file, of the first byte of `data`.
            data: may hold more than `length`, read ahead for the border.
            length: how much of it is delivered now.

        Raises:
            FindingsError: policy lets no finding out.
        """
        delivered = data[:length]
        if self._is_binary is None and offset == 0:
            self._is_binary = b"\0" in data[:PROBE_BYTES]
        if self._detectors is None or self._is_binary:
            return delivered
        before = self._tail if self._tail_end == offset else b""
        window = before + data
        self._tail, self._tail_end = (before + delivered)[-CONTEXT_BYTES:], offset + len(delivered)
        findings = [item for item in self._detectors.scan(window) if item[2] > len(before) and item[1] < len(before) + length]
        if not findings:
            return delivered
        self.detected.update(name for name, start, _ in findings if start >= len(before))
        if self._withholds:
            self.is_withheld = True
            raise FindingsError(findings[0][0])
        masked = bytearray(window)
        for name, start, end in findings:
            label = f"[masked:{name}]".encode()
            size = end - start
            masked[start:end] = label.ljust(size, b"*") if len(label) <= size else b"*" * size
        return bytes(masked[len(before) : len(before) + length])

    def end(self, status: OutcomeStatus, session: PipelineSession, *, tag: str | None = None) -> Outcome:
        """The outcome of the action that opened it, with keyed digests of what passed in order."""
        stream: dict[str, Any] = {}
        listing: dict[str, Any] = {"path": self.path}
        for direction in ("read", "write"):
            if not self.counts[direction]:
                continue
            stream[f"{direction}_bytes"] = listing[f"{direction}_bytes"] = self.counts[direction]
            if self._is_sequential[direction]:
                digest = self._digests[direction].digest()
                stream[f"{direction}_digest"] = session.recorder.commit(digest)
                listing[f"{direction}_sha256"] = digest.hex()
        return Outcome(
            "withheld" if self.is_withheld else status,
            tag=tag,
            bytes_out=self.counts["read"],
            detected=dict(self.detected),
            stream=stream,
            transcript=orjson.dumps(listing) + b"\n" if stream else b"",
        )


def read_file_limit(decision: Decision, most: int) -> int:
    """The least of the connection's limit and those policy sets. A limit that is no number lets nothing through."""
    limits = [most]
    for obligation in decision.obligations:
        if obligation.kind == "file_limit":
            size = obligation.params.get("bytes")
            limits.append(size if isinstance(size, int) and not isinstance(size, bool) else 0)
    return min(limits)


def open_file(conversation: Conversation, ruling: Ruling, path: str) -> OpenFile:
    """A file that may be opened. Raises ConfigError for a detector that does not exist."""
    detectors = choose_detectors(ruling.decision, conversation.masking, "delivered")
    return OpenFile(ruling, path, max_bytes=conversation.connection.max_file_bytes, detectors=detectors)


async def run_sftp(
    conversation: Conversation, ruling: Ruling, agent: AgentChannel, login: asyncssh.SSHClientConnection
) -> Outcome:
    """Carry an sftp session to its end."""
    from gateway.serve.ssh.sftp import SftpRelay  # noqa: PLC0415 - it needs what is above

    return await SftpRelay(conversation, agent).run(ruling, login)


async def run_scp(
    conversation: Conversation,
    event: Exec,
    transfer: Transfer,
    ruling: Ruling,
    agent: AgentChannel,
    login: asyncssh.SSHClientConnection,
) -> Outcome:
    """Carry one scp transfer to its end."""
    from gateway.serve.ssh.scp import ScpRelay  # noqa: PLC0415 - it needs what is above

    return await ScpRelay(conversation, agent, transfer).run(ruling, event, login)
