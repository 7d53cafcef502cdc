"""One session's view of the log: its chain of records, its data key and chunks, its transcript."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from evidence.chain import Chain
from evidence.drafts import Drafts, LentChain
from evidence.entries import CHUNK, FILE
from evidence.errors import RecordError
from evidence.keys import SALT_BYTES, commit_data_key, derive_salt, generate_data_key, wrap
from evidence.record import LOG_SID, BlobRef, TranscriptMode

if TYPE_CHECKING:
    from evidence.log import Log, Receipt
    from evidence.transcript import Transcript

_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def make_session_id() -> str:
    """A random session id."""
    return secrets.token_hex(16)


class SessionLog:
    """Appends to one session. Made by `Log.open_session`; may be used from any thread.

    Attributes:
        sid: the session's id.
        salt: key of the session's commitments (HMAC-SHA256 of what must not be guessed); wrapped for auditors only.
    """

    __slots__ = ("_chain", "_chunk_lock", "_log", "_next_chunk", "_opening", "_sealer", "_transcripts", "salt", "sid")

    def __init__(self, log: Log, sid: str, fields: Mapping[str, Any], transcript: TranscriptMode) -> None:
        if not _SID.fullmatch(sid) or sid == LOG_SID:
            raise RecordError("a session id is 1 to 64 of A-Z a-z 0-9 _ -", why=repr(sid[:80]), fix="use a UUID or leave it out")
        self.sid = sid
        self.salt = secrets.token_bytes(SALT_BYTES)
        self._log = log
        self._chain = Chain(sid)
        self._next_chunk = 0
        self._chunk_lock = threading.Lock()
        """Held while a chunk is numbered, sealed and queued: numbers are nonces and must not repeat."""
        self._transcripts: list[Transcript] = []
        data_key = generate_data_key()
        self._sealer = log.make_sealer(data_key, log.origin, sid)
        opening = {
            **fields,
            "dek_commit": commit_data_key(data_key),
            "recipients": list(log.recipients),
            "transcript": transcript,
        }
        wrapped = wrap(data_key, log.wrapping_recipients)
        opening["dek_sha256"] = hashlib.sha256(wrapped).hexdigest()
        attachments = [(FILE, f"keys/{sid}.dek", 0, wrapped)]
        if log.openings_recipients:
            opening["openings_recipients"] = list(log.openings_recipients)
            salt = orjson.dumps({"v": 1, "sid": sid, "salt": self.salt.hex()})
            wrapped = wrap(salt, log.wrapping_openings_recipients)
            opening["openings_sha256"] = hashlib.sha256(wrapped).hexdigest()
            attachments.append((FILE, f"sessions/{sid}/openings.enc", 0, wrapped))
        log.add_session(self._chain)
        try:
            # Weak, because a future of this kind is a kilobyte, and whoever writes the record has it for as long as it counts.
            self._opening = weakref.ref(log.submit_to(self._chain, "session.open", opening, tuple(attachments)))
        except BaseException:
            log.remove_session(sid)
            raise

    def wait_for_opening(self) -> None:
        """Block until the opening record is durable, or the log has failed."""
        if (opening := self._opening()) is not None:
            opening.result()

    def append(self, kind: str, fields: Mapping[str, Any]) -> asyncio.Future[Receipt]:
        """Append a record; the future completes once it, and every chunk put before it, is durable.

        Raises:
            RecordError, CanonicalError: the record is refused; the log is unharmed.
            EvidenceWriteError: the log has failed, or is too far behind; the action must be refused.
        """
        return self._log.append_to(self._chain, kind, fields)

    def submit(self, kind: str, fields: Mapping[str, Any]) -> Future[Receipt]:
        """Like `append`, for threads without an event loop."""
        return self._log.submit_to(self._chain, kind, fields)

    def append_drafts(self, drafts: Drafts) -> asyncio.Future[Receipt]:
        """Append records that were made ready elsewhere; the future completes once all of them and their chunks are durable.

        Raises:
            ValueError: they could not be finished; the log is unharmed.
            EvidenceWriteError: as for `append`.
        """
        with self._chunk_lock:
            future, chunks = self._log.append_drafts(self._chain, drafts, self._sealer, self._next_chunk)
            self._next_chunk += chunks
        return future

    def lend[Lent: LentChain](self, make: Callable[[str, Any, int, Any, int, list[str]], Lent]) -> Lent:
        """Have native code append to the session in place of the log, until `take_back`; nothing else may meanwhile.

        Args:
            make: (session id, what seals its chunks, number of the next record, the record before it, number of the next chunk,
                decisions without an outcome) -> who has the chain from now on.
        """
        chain = self._chain
        lent = make(self.sid, self._sealer, chain.sseq, chain.tip, self._next_chunk, list(chain.pending))
        chain.lent = lent
        return lent

    def take_back(self) -> None:
        """Go on after whatever was appended meanwhile."""
        if self._chain.lent is not None:
            self._next_chunk = self._chain.follow_lent()
            self._chain.lent = None

    def hurry(self) -> None:
        """Have what is queued written now; a record of a read waits a moment for company otherwise."""
        self._log.hurry()

    @property
    def is_crowded(self) -> bool:
        """Whether publishing is so far behind that whoever can wait with records should."""
        return self._log.is_crowded

    @property
    def is_writable(self) -> bool:
        """Whether the log takes records."""
        return self._log.is_writable

    def put_blob(self, _kind: Literal["input", "transcript"], data: bytes) -> BlobRef:
        """Seal bytes as the session's next chunk and return how a record names it.

        It costs no sync of its own: the chunk is durable together with the next record. A chunk that no record names means that
        the record was refused.

        Args:
            _kind: what the chunk is, for the reader of the calling code; on disk the record that names the chunk says it.
            data: plain text, at most `evidence.keys.MAX_BLOB_BYTES`.
        """
        with self._chunk_lock:
            number = self._next_chunk
            sealed = self._sealer.seal(number, data)
            self._next_chunk = number + 1
            self._log.attach(CHUNK, self.sid, number, sealed)
        return {"n": number, "sha256": hashlib.sha256(sealed).hexdigest(), "bytes": len(data)}

    def salt_for(self, name: str) -> bytes:
        """A salt for one commitment, such as "<decision id>/payload/params/0"; auditors derive it from the session's salt."""
        return derive_salt(self.salt, name)

    def close(self, fields: Mapping[str, Any] | None = None) -> asyncio.Future[Receipt]:
        """End the session: flush transcripts, mark decisions without outcome as unknown, append session.close."""
        document = self._prepare_close(fields)
        future = self._log.append_to(self._chain, "session.close", document)
        self._log.remove_session(self.sid)
        return future

    def submit_close(self, fields: Mapping[str, Any] | None = None) -> Future[Receipt]:
        """Like `close`, for threads without an event loop."""
        document = self._prepare_close(fields)
        future = self._log.submit_to(self._chain, "session.close", document)
        self._log.remove_session(self.sid)
        return future

    def add_transcript(self, transcript: Transcript) -> None:
        """Have a transcript flushed when it is due, and when the session closes."""
        self._transcripts.append(transcript)

    def remove_transcript(self, transcript: Transcript) -> None:
        """Forget a transcript that has ended; a session may have thousands of them."""
        self._transcripts = [other for other in self._transcripts if other is not transcript]

    def flush_due(self) -> None:
        """Flush transcripts whose oldest bytes have waited long enough; called by the log about once a second."""
        for transcript in self._transcripts:
            transcript.flush_due()

    def _prepare_close(self, fields: Mapping[str, Any] | None) -> dict[str, Any]:
        for transcript in self._transcripts:
            transcript.flush()
        for decision_id in list(self._chain.pending):
            self.submit("outcome", {"decision_id": decision_id, "status": "unknown"})
        return {"reason": "closed", **(fields or {})}
