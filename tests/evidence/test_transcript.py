"""Transcripts: modes, bounds of chunks, keyed digests, and the end of delivery when the log has failed."""

import hashlib
import hmac
import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from evidence import transcript as transcript_module
from evidence.errors import EvidenceWriteError
from evidence.keys import derive_salt
from evidence.store import LogReader
from evidence.transcript import FLUSH_BYTES, Transcript


def read_chunks(log, log_path, sid, identity):
    """(record, plain text) of every transcript chunk of a session."""
    log.checkpoint()
    reader = LogReader(log_path)
    key = reader.unwrap_data_key(sid, [str(identity)])
    size = reader.read_checkpoint().size
    return [
        (fields, reader.open_chunk(log.origin, sid, fields["chunk"]["n"], key))
        for _, fields in reader.iterate_records(size)
        if fields["type"] == "transcript.chunk" and fields["sid"] == sid
    ]


@pytest.mark.parametrize(("mode", "kept"), [("none", 0), ("summary", 0), ("head", 100_000), ("full", 300_000)])
def test_modes(log, log_path, reader_identity, mode, kept):
    session = log.open_session({}, mode)
    transcript = Transcript(session, mode, head_bytes=100_000)
    delivered = bytes(range(250)) * 1200
    transcript.begin("d1")
    for start in range(0, len(delivered), 7000):
        transcript.write(delivered[start : start + 7000])
    summary = transcript.end()
    session.submit_close().result()
    chunks = read_chunks(log, log_path, session.sid, reader_identity)
    assert b"".join(plain for _, plain in chunks) == delivered[:kept]
    assert all(len(plain) <= FLUSH_BYTES for _, plain in chunks)
    if mode == "none":
        assert summary == {}
    else:
        digest = hmac.new(derive_salt(session.salt, "d1/transcript"), delivered, hashlib.sha256).hexdigest()
        assert summary == {"bytes": len(delivered), "kept": kept, "hmac": digest}


@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.binary(max_size=40_000), max_size=5), max_size=4))
def test_chunking_does_not_change_the_transcript(log, log_path, reader_identity, actions):
    session = log.open_session({}, "full")
    transcript = Transcript(session, "full")
    for number, parts in enumerate(actions):
        transcript.begin(f"d{number}")
        for part in parts:
            transcript.write(part)
        assert transcript.end()["bytes"] == sum(map(len, parts))
    session.submit_close().result()
    chunks = read_chunks(log, log_path, session.sid, reader_identity)
    offset = 0
    for number, parts in enumerate(actions):
        own = [plain for fields, plain in chunks if fields["decision_id"] == f"d{number}"]
        assert b"".join(own) == b"".join(parts)
    for fields, plain in chunks:
        assert fields["offset"] == offset
        assert fields["first_ts"] <= fields["last_ts"]
        offset += len(plain)


def test_old_bytes_leave_by_themselves(open_log, settings, monkeypatch):
    monkeypatch.setattr(transcript_module, "FLUSH_S", 0.01)
    log = open_log(settings=replace(settings, checkpoint_interval_s=0.01))
    seen = threading.Event()
    log.subscribe(lambda published: seen.set() if any(b'"transcript.chunk"' in leaf for _, leaf in published) else None)
    session = log.open_session({}, "full")
    transcript = Transcript(session, "full")
    transcript.begin("d1")
    transcript.write(b"waiting")
    assert seen.wait(30)


def test_failed_log_ends_delivery(open_log, tmp_path):
    log = open_log()
    session = log.open_session({}, "full")
    transcript = Transcript(session, "full")
    transcript.begin("d1")
    transcript.write(b"x")
    log.close()
    with pytest.raises(EvidenceWriteError):
        transcript.write(bytes(FLUSH_BYTES))
