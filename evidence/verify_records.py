"""The record pass: session chains, decisions and their outcomes, chunks, time, gaps. Fed by the log pass, in log order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Final

import orjson

from evidence import canonical
from evidence.chunks import iterate_frames
from evidence.errors import CanonicalError, EvidenceError
from evidence.keys import ChunkSealer, commit_data_key
from evidence.record import FINAL_STATUSES, LOG_SID, VERSION
from evidence.report import Report, Severity
from evidence.store import LogReader
from evidence.verify_approvals import ApprovalLedger
from evidence.verify_attest import AttestedRoot, parse_moment
from evidence.verify_trust import TrustPolicy

POLICY_FOLDER: Final = "policy"
"""Below a log's directory: every policy bundle that decided something, in files named `<digest>...`."""

Recompute = Callable[[Mapping[str, Any], bytes], str]
"""(decision record, masked input document) -> `same`, `different`, or `not checked`; given by whoever has a policy engine."""

_EXECUTED: Final = frozenset({"sent", "completed", "withheld"})
_RELEASING: Final = frozenset({"allow", "mask"})
NOT_RECORDED: Final = "not-recorded"
_SID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MINUTE: Final = 16  # characters of an RFC 3339 time up to the minute


class SessionState:
    """What the pass remembers of one session while it is open."""

    __slots__ = (
        "bases",
        "chunks",
        "commit",
        "decisions",
        "held",
        "last_ts",
        "opened",
        "pending",
        "records",
        "sid",
        "sprev",
        "sseq",
    )

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.sseq = 0
        self.sprev = ""
        self.opened = False
        self.commit = ""
        self.last_ts = ""
        self.decisions: dict[str, str] = {}
        """Effect by decision id."""
        self.pending: set[str] = set()
        self.chunks: dict[int, tuple[str, int]] = {}
        """(SHA-256 of the ciphertext, record index) by chunk number."""
        self.bases: dict[int, int] = {}
        """Number of the chunk that another is packed against."""
        self.records: dict[int, Mapping[str, Any]] = {}
        """Decision record by the number of its input chunk; kept only when verdicts are recomputed."""
        self.held: dict[str, str] = {}
        """Ticket by decision id: what ran in the open transaction before its approval and nobody has granted yet."""

    def follow_held(self, record: Mapping[str, Any], *, is_held: bool) -> None:
        """Take a decision: one that lets something run before its approval, one that grants it, or a refused COMMIT."""
        ticket = record.get("ticket")
        if is_held:
            self.held[record["decision_id"]] = str(ticket)
        elif ticket is not None and record.get("refused") is True and ticket in self.held.values():
            self.held.clear()  # the transaction was rolled back
        elif ticket is not None and record.get("approval", {}).get("used") is True:
            self.held = {decision: other for decision, other in self.held.items() if other != ticket}

    def is_kept_unapproved(self, outcome: Mapping[str, Any]) -> bool:
        """Whether an outcome says that a transaction was kept with something in it that nobody had granted."""
        if not self.held:
            return False
        tags = str(outcome.get("tag") or "").split("; ")
        if outcome["decision_id"] in self.held and outcome["status"] not in {"completed", "withheld", "unknown"}:
            del self.held[outcome["decision_id"]]  # it failed, and did nothing
        is_kept = bool(self.held) and any(tag in {"COMMIT", "PREPARE TRANSACTION"} for tag in tags)
        if any(tag == "ROLLBACK" for tag in tags):
            self.held.clear()
        return is_kept


class RecordPass:
    """Checks the records of one log. Give its `feed` to the log pass, then call `finish`."""

    def __init__(
        self,
        origin: str,
        reader: LogReader,
        trust: TrustPolicy,
        report: Report,
        ledger: ApprovalLedger,
        *,
        attested: Sequence[AttestedRoot] = (),
        strict: bool = True,
        age_identities: Sequence[str] = (),
        recompute: Recompute | None = None,
    ) -> None:
        self._origin = origin
        self._reader = reader
        self._trust = trust
        self._report = report
        self._counts = report.counts
        self._ledger = ledger
        self._attested = {each.size: each for each in attested}
        self._strict = strict
        self._identities = age_identities
        self._recompute = recompute
        self._sessions: dict[str, SessionState] = {}
        self._finished: set[str] = set()
        self._missing: dict[str, list[tuple[str, str]]] = {}
        self._shredded: set[str] = set()
        self._bundles: dict[str, int] = {}
        self._latest = ""
        self._minute = ""
        self._handlers: dict[str, Callable[[SessionState, dict[str, Any], int], None]] = {
            "log.open": self._on_log_open,
            "session.open": self._on_session_open,
            "session.close": self._on_session_close,
            "decision": self._on_decision,
            "outcome": self._on_outcome,
            "transcript.chunk": self._on_chunk,
            "approval.requested": self._on_approval,
            "approval.granted": self._on_approval,
            "approval.denied": self._on_approval,
            "policy.loaded": self._on_policy,
            "gap": self._on_loss,
            "evidence.degraded": self._on_loss,
            "retention.shred": self._on_shred,
        }

    def feed(self, first: int, leaves: Sequence[bytes], hashes: Sequence[bytes]) -> None:
        """Take the records of one bundle."""
        loads, dumps, sort = orjson.loads, orjson.dumps, orjson.OPT_SORT_KEYS
        sessions, handlers, strict = self._sessions, self._handlers, self._strict
        ends = {size - 1 for size in self._attested if first < size <= first + len(leaves)}
        for index, (leaf, leaf_hash) in enumerate(zip(leaves, hashes, strict=True), first):
            try:
                record = loads(leaf)
                if strict and dumps(record, option=sort) != leaf:
                    canonical.decode(leaf)  # says what is wrong
                sid, ts, kind = record["sid"], record["ts"], record["type"]
                session = sessions.get(sid)
                if session is None:
                    session = sessions[sid] = SessionState(_check_sid(sid))
                place = record["seq"], record["sseq"], record.get("sprev", "")
                if place != (index, session.sseq, session.sprev) or record["v"] != VERSION:
                    self._out_of_place(session, record, index)
                session.sseq += 1
                session.sprev = leaf_hash.hex()
                session.last_ts = ts
                if ts[:_MINUTE] != self._minute or ts < self._latest:
                    self._on_time(ts, kind, index)
                else:
                    self._latest = ts
                handler = handlers.get(kind)
                if handler is not None:
                    handler(session, record, index)
                if index in ends:
                    self._check_attested_time(index + 1)
            except (orjson.JSONDecodeError, CanonicalError, KeyError, TypeError, ValueError, AttributeError) as error:
                self._add("tampered", "record.malformed", index, f"{type(error).__name__}: {error}"[:300])
        self._counts["records"] += len(leaves)

    def _check_attested_time(self, size: int) -> None:
        """Compare the times of the first `size` records with the stamped time of an attestation over them."""
        latest = parse_moment(self._latest)
        if latest is None:
            return
        ahead = latest - self._attested[size].signed_at
        if ahead > timedelta(seconds=self._trust.max_skew_s):
            message = f"a record claims a time {ahead.total_seconds():.0f} s after it was attested"
            self._add("tampered", "time.ahead", size - 1, message)

    def finish(self) -> None:
        """Report what is still owed at the end of the log."""
        for session in list(self._sessions.values()):
            if session.sid == LOG_SID:
                continue
            severity: Severity = "note" if self._trust.live else "incomplete"
            where = f"{self._origin}/sessions/{session.sid}"
            self._report.add(
                severity, "session.not_closed", where, f"the session has no close; {len(session.pending)} outcomes owed"
            )
            self._counts["sessions_open"] += 1
            self._check_chunks(session)
        for sid, missing in self._missing.items():
            severity = "note" if sid in self._shredded else "incomplete"
            for code, message in missing:
                self._report.add(severity, code, f"{self._origin}/sessions/{sid}", message)
        self._check_policies()

    # -- records -----------------------------------------------------------------------------------------------------------------

    def _on_log_open(self, _session: SessionState, record: dict[str, Any], index: int) -> None:
        if record["origin"] != self._origin:
            self._add("tampered", "log.origin", index, f"the log was opened as {record['origin']!r}")
        self._counts["log_opens"] += 1

    def _on_session_open(self, session: SessionState, record: dict[str, Any], index: int) -> None:
        if session.sseq != 1 or session.sid in self._finished:
            self._add("tampered", "session.reopened", index, f"session {session.sid} is opened twice")
        session.opened = True
        session.commit = record["dek_commit"]
        self._counts["sessions"] += 1
        self._check_key_file(session, f"keys/{session.sid}.dek", record.get("dek_sha256"), "session.key_missing")
        if record.get("openings_recipients"):
            name = f"sessions/{session.sid}/openings.enc"
            self._check_key_file(session, name, record.get("openings_sha256"), "session.openings_missing")

    def _check_key_file(self, session: SessionState, name: str, digest: object, code: str) -> None:
        try:
            data = (self._reader.path / name).read_bytes()
        except FileNotFoundError:
            self._missing.setdefault(session.sid, []).append((code, f"{name} is missing"))
            return
        if digest is not None and hashlib.sha256(data).hexdigest() != digest:
            message = "the wrapped key is not the one the session began with"
            self._report.add("tampered", "session.key_changed", f"{self._origin}/{name}", message)

    def _on_session_close(self, session: SessionState, record: dict[str, Any], index: int) -> None:
        if record.get("records", session.sseq) != session.sseq:
            self._add(
                "tampered", "session.count", index, f"it closes with {record['records']} records, the log has {session.sseq}"
            )
        for decision_id in sorted(session.pending):
            self._add("incomplete", "outcome.missing", index, f"decision {decision_id} was released and has no outcome")
        self._check_chunks(session)
        del self._sessions[session.sid]
        self._finished.add(session.sid)
        self._counts["sessions_closed"] += 1

    def _on_decision(self, session: SessionState, record: dict[str, Any], index: int) -> None:
        effect, decision_id = record["decision"]["effect"], record["decision_id"]
        if decision_id in session.decisions:
            self._add("tampered", "decision.duplicate", index, f"decision {decision_id} is recorded twice")
        is_released = effect in _RELEASING and record.get("refused") is not True
        # A statement that was only prepared may reach the target before the approval that running it will need.
        approval = record.get("approval", {}) if effect == "require_approval" else {}
        is_held = approval.get("held") == "commit" and record.get("refused") is not True
        session.decisions[decision_id] = effect if is_released or effect not in _RELEASING else "refused"
        if approval.get("deferred") is True or is_held:
            session.decisions[decision_id] = "allow"
        if is_held or session.held:
            session.follow_held(record, is_held=is_held)
        if is_released and record.get("phase") == "request":
            session.pending.add(decision_id)
        replay = record.get("replay", NOT_RECORDED)
        self._note_input(session, record, index)
        if record.get("bundle"):
            self._bundles.setdefault(record["bundle"], index)
        counts = self._counts
        counts["decisions"] += 1
        counts[f"decisions_{effect}"] += 1
        counts[f"replay_{replay}"] += 1
        counts["decisions_without_verdict"] += not has_verdict(record)
        if record.get("ticket"):
            self._ledger.note_decision(self._origin, index, record, released=is_released)

    def _note_input(self, session: SessionState, record: dict[str, Any], index: int) -> None:
        blob = record.get("input")
        if blob is None:
            return
        if "base" in blob:
            base = blob["base"]
            if base not in session.chunks or base in session.bases:
                self._add(
                    "tampered", "chunk.base", index, f"chunk {blob['n']} is packed against {base}, which no earlier record names"
                )
            session.bases[blob["n"]] = base
        session.chunks[blob["n"]] = (blob["sha256"], index)
        if self._recompute is not None:
            session.records[blob["n"]] = record

    def _on_outcome(self, session: SessionState, record: dict[str, Any], index: int) -> None:
        decision_id, status = record["decision_id"], record["status"]
        effect = session.decisions.get(decision_id)
        if effect is None:
            self._add("tampered", "outcome.unfounded", index, f"an outcome for {decision_id}, which this session never decided")
        elif effect not in _RELEASING and status in _EXECUTED:
            self._add(
                "tampered", "outcome.contradicts", index, f"decision {decision_id} said {effect}, its outcome says {status}"
            )
        if session.is_kept_unapproved(record):
            tickets = ", ".join(sorted(set(session.held.values())))
            self._add("tampered", "approval.bypassed", index, f"a COMMIT kept what waited for the approval of {tickets}")
        if status in FINAL_STATUSES:
            session.pending.discard(decision_id)
        transcript = record.get("transcript")
        if transcript is not None and "n" in transcript:
            session.chunks[transcript["n"]] = (transcript["sha256"], index)
        self._counts[f"outcomes_{status}"] += 1
        if status == "unknown":
            self._add("note", "outcome.indeterminate", index, f"what became of decision {decision_id} is not known")

    def _on_chunk(self, session: SessionState, record: dict[str, Any], index: int) -> None:
        chunk = record["chunk"]
        session.chunks[chunk["n"]] = (chunk["sha256"], index)

    def _on_approval(self, _session: SessionState, record: dict[str, Any], index: int) -> None:
        self._ledger.note_approval(self._origin, self._reader.path, index, record)
        self._counts[record["type"].replace(".", "_")] += 1

    def _on_policy(self, _session: SessionState, record: dict[str, Any], index: int) -> None:
        self._counts["policies_loaded"] += 1
        expected = record.get("archive_sha256")
        name = f"{record['bundle'].removeprefix('sha256:')}.tar.gz"
        path = self._reader.path / POLICY_FOLDER / PurePath(name).name
        if expected is not None and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            self._add("tampered", "policy.changed", index, f"the kept bundle {name} is not the one that was loaded")

    def _on_loss(self, _session: SessionState, record: dict[str, Any], index: int) -> None:
        severity: Severity = "note" if self._trust.accept_gaps else "incomplete"
        details = {name: record[name] for name in ("session", "bytes", "records", "max_bytes", "max_ms") if name in record}
        extra = ", ".join(f"{name} {value}" for name, value in details.items())
        self._add(severity, record["type"], index, f"the log admits a loss: {record['reason']}{f' ({extra})' if extra else ''}")

    def _on_shred(self, _session: SessionState, record: dict[str, Any], index: int) -> None:
        self._shredded.add(record["session"])
        self._add("note", "session.shredded", index, f"session {record['session']} was made unreadable by rule {record['rule']}")

    # -- place and time ----------------------------------------------------------------------------------------------------------

    def _out_of_place(self, session: SessionState, record: Mapping[str, Any], index: int) -> None:
        found = record["v"], record["seq"], record["sseq"]
        if found == (VERSION, index, session.sseq):
            message = f"it does not continue record {session.sseq - 1} of session {session.sid}"
        else:
            message = f"it says version, place, place in session {found}, expected {(VERSION, index, session.sseq)}"
        self._add("tampered", "chain.broken", index, message)

    def _on_time(self, ts: str, kind: str, index: int) -> None:
        """Called when the minute changes or time goes back: rarely enough to parse times here."""
        moment, latest = parse_moment(ts), parse_moment(self._latest) if self._latest else None
        if moment is None:
            raise ValueError(f"{ts!r} is not a time")
        self._minute, self._latest = ts[:_MINUTE], max(self._latest, ts)
        if latest is None:
            return
        silence_s = (moment - latest).total_seconds()
        if silence_s < -self._trust.max_skew_s:
            self._add("tampered", "time.backwards", index, f"its time is {-silence_s:.0f} s before an earlier record's")
        elif silence_s > self._trust.max_silence_s and kind == "log.open":
            self._add("note", "log.downtime", index, f"the gateway was down for {silence_s:.0f} s")
        elif silence_s > self._trust.max_silence_s:
            self._add("incomplete", "log.silence", index, f"no record, not even a heartbeat, for {silence_s:.0f} s before it")

    # -- chunks and policies -----------------------------------------------------------------------------------------------------

    def _check_chunks(self, session: SessionState) -> None:
        """Compare the digests that records name with the session's chunk files."""
        if not session.opened:
            self._add("tampered", "session.not_opened", None, f"session {session.sid} has no opening record")
        if not session.chunks:
            return
        cipher = self._cipher(session)
        words: dict[int, bytes | None] = dict.fromkeys(session.bases.values())
        wanted = session.chunks
        left = dict(wanted)
        for number, sealed in self._frames(session.sid):
            if number not in left:
                continue
            digest, index = left.pop(number)
            if hashlib.sha256(sealed).hexdigest() != digest:
                self._add("tampered", "chunk.changed", index, f"chunk {number} of session {session.sid} is not the recorded one")
            elif cipher is not None:
                base = session.bases.get(number)
                plain = self._open_chunk(cipher, session, number, sealed, None if base is None else words[base])
                if number in words:
                    words[number] = plain
        self._counts["chunks"] += len(wanted) - len(left)
        if left:
            numbers = ", ".join(str(number) for number in sorted(left)[:10])
            self._missing.setdefault(session.sid, []).append(("chunk.missing", f"{len(left)} chunks missing: {numbers}"))

    def _frames(self, sid: str) -> Iterable[tuple[int, bytes]]:
        for path in self._reader.list_chunk_files(sid):
            for number, _, sealed in iterate_frames(path.read_bytes()):
                yield number, sealed

    def _cipher(self, session: SessionState) -> ChunkSealer | None:
        """What opens the session's chunks, when the auditor gave an identity that unwraps its key."""
        if not self._identities:
            return None
        where = f"{self._origin}/keys/{session.sid}.dek"
        try:
            data_key = self._reader.unwrap_data_key(session.sid, self._identities)
            if commit_data_key(data_key) != session.commit:
                self._report.add(
                    "tampered", "session.key_commitment", where, "the data key is not the one the session began with"
                )
                return None
            return ChunkSealer(data_key, self._origin, session.sid)
        except EvidenceError as error:
            if session.sid not in self._missing:
                self._report.add("incomplete", "session.key_unusable", where, str(error))
            return None

    def _open_chunk(
        self, cipher: ChunkSealer, session: SessionState, number: int, sealed: bytes, words: bytes | None
    ) -> bytes | None:
        """Open a chunk and recompute what it decided; its plain text. `words` is that of its base, where it is at hand."""
        index = session.chunks[number][1]
        if words is None and number in session.bases:
            return None  # what is wrong with its base is said of the base
        try:
            plain = cipher.open(number, sealed, words)
        except EvidenceError as error:
            self._add("tampered", "chunk.sealed_otherwise", index, str(error))
            return None
        self._counts["chunks_opened"] += 1
        record = session.records.get(number)
        if record is not None and self._recompute is not None:
            self._compare(self._recompute, record, plain, index)
        return plain

    def _compare(self, recompute: Recompute, record: Mapping[str, Any], plain: bytes, index: int) -> None:
        if not has_verdict(record):
            return
        can_replay = record.get("replay") in {"exact", "same-on-masked"}
        verdict = recompute(record, plain) if can_replay else "masked"
        self._counts[f"recomputed_{verdict.replace(' ', '_')}"] += 1
        if verdict == "different":
            self._add(
                "tampered", "decision.differs", index, f"the policy gives another decision than {record['decision_id']} recorded"
            )

    def _check_policies(self) -> None:
        folder = self._reader.path / POLICY_FOLDER
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        for digest, index in self._bundles.items():
            if digest and not any(name.startswith(digest.removeprefix("sha256:")) for name in names):
                self._add("incomplete", "policy.missing", index, f"the policy bundle {digest} that decided it is not kept")

    def _add(self, severity: Severity, code: str, index: int | None, message: str) -> None:
        self._report.add(severity, code, self._origin if index is None else f"{self._origin}#{index}", message)


def has_verdict(record: Mapping[str, Any]) -> bool:
    """Whether policy gave the decision: the enforcement point may block by itself, and do nothing else without policy."""
    return record["decision"]["effect"] != "block" or bool(record.get("bundle") and not record.get("cause"))


def _check_sid(sid: str) -> str:
    """A session id becomes part of file names, so one of another form is refused before any path is built from it."""
    if not _SID.fullmatch(sid):
        raise ValueError(f"{sid[:80]!r} is not a session id")
    return sid
