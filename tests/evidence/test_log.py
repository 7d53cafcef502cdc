"""The log in use: appending from coroutines and threads, sessions, checkpoints, heartbeats, closing."""

import asyncio
import hashlib
import itertools
import subprocess
import sys
import threading
from dataclasses import replace

import orjson
import pytest

from evidence.errors import CanonicalError, DataKeyError, EvidenceWriteError, LogLockedError, RecordError, RecordTooLargeError
from evidence.keys import commit_data_key, derive_salt
from evidence.merkle import hash_leaf, root_of, verify_consistency, verify_inclusion
from evidence.note import verify_checkpoint
from evidence.segment import list_segments
from evidence.store import EvidenceStore, LogReader


def read(log_path):
    reader = LogReader(log_path)
    return list(reader.iterate_leaves(reader.read_checkpoint().size))


def records(log_path):
    reader = LogReader(log_path)
    return [fields for _, fields in reader.iterate_records(reader.read_checkpoint().size)]


def check_chains(found):
    """Every session's records are numbered from zero and name the leaf hash of the one before."""
    last = {}
    for index, leaf in enumerate(found):
        fields = orjson.loads(leaf)
        sseq, sprev = last.get(fields["sid"], (-1, None))
        assert (fields["seq"], fields["sseq"], fields.get("sprev")) == (index, sseq + 1, sprev)
        last[fields["sid"]] = (fields["sseq"], hash_leaf(leaf).hex())


async def test_receipt_names_the_record(log, log_path, decision):
    session = log.open_session({"subject": "bank/agent-7"})
    reference = session.put_blob("input", b'{"a":1}')
    receipt = await session.append("decision", decision(input=reference))
    await session.append("outcome", {"decision_id": "d1", "status": "completed"})
    await session.close()
    await asyncio.wrap_future(log.request_checkpoint())
    leaves = read(log_path)
    assert hash_leaf(leaves[receipt.index]) == receipt.leaf_hash
    assert receipt.session_seq == 1
    check_chains(leaves)
    kinds = [fields["type"] for fields in records(log_path)]
    assert kinds == ["log.open", "session.open", "decision", "outcome", "session.close"]
    assert records(log_path)[-1]["records"] == 4


async def test_a_decision_with_its_input_costs_one_sync(log, decision):
    session = log.open_session({})
    await session.append("lookup", {"kind": "postgres.catalog"})
    before = log.metrics()["syncs"]
    for number in range(10):
        await session.append("decision", decision(f"d{number}", input=session.put_blob("input", b"x" * 2000)))
    assert log.metrics()["syncs"] == before + 10


async def test_concurrent_appends_share_syncs_and_keep_order(log, log_path):
    session = log.open_session({})

    async def work(worker):
        for number in range(50):
            await session.append("lookup", {"kind": f"{worker}-{number}"})

    await asyncio.gather(*(work(worker) for worker in range(40)))
    await asyncio.to_thread(log.checkpoint)
    assert log.metrics()["syncs"] < 1000
    check_chains(read(log_path))
    kinds = [fields["kind"] for fields in records(log_path) if fields["type"] == "lookup"]
    assert sorted(kinds) == sorted(f"{worker}-{number}" for worker in range(40) for number in range(50))
    for worker in range(40):
        own = [kind for kind in kinds if kind.startswith(f"{worker}-")]
        assert own == [f"{worker}-{number}" for number in range(50)]


def test_threads_append_too(log, log_path):
    sessions = [log.open_session({}) for _ in range(4)]

    def work(session):
        for number in range(200):
            session.put_blob("transcript", b"%d" % number)
            session.submit("lookup", {"kind": str(number)}).result()

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.checkpoint()
    check_chains(read(log_path))
    assert log.metrics()["records"] == 1 + 4 + 8 * 200


def test_session_keys_chunks_and_openings(log, log_path, reader_identity, auditor_identity):
    session = log.open_session({"subject": "x"}, sid="session-1")
    reference = session.put_blob("input", b"masked input")
    session.submit("lookup", {"kind": "x", "chunk": reference}).result()
    log.checkpoint()
    reader = EvidenceStore(log_path.parents[2]).open_log(log.origin)
    opening = records(log_path)[1]
    data_key = reader.unwrap_data_key("session-1", [str(reader_identity)])
    assert opening["dek_commit"] == commit_data_key(data_key)
    assert opening["dek_sha256"] == hashlib.sha256((log_path / "keys/session-1.dek").read_bytes()).hexdigest()
    assert hashlib.sha256(reader.read_chunk("session-1", 0)).hexdigest() == reference["sha256"]
    assert reader.open_chunk(log.origin, "session-1", 0, data_key) == b"masked input"
    assert reference == {"n": 0, "sha256": reference["sha256"], "bytes": 12}
    assert reader.unwrap_salt("session-1", [str(auditor_identity)]) == session.salt
    assert session.salt_for("d1") == derive_salt(session.salt, "d1")
    with pytest.raises(DataKeyError):
        reader.unwrap_salt("session-1", [str(reader_identity)])
    with pytest.raises(DataKeyError):
        reader.unwrap_data_key("session-1", [str(auditor_identity)])
    assert reader.list_sessions() == ["session-1"]


async def test_refused_records_harm_nothing(log, log_path, decision):
    session = log.open_session({})
    for kind, fields, error in (
        ("decision", {}, RecordError),
        ("nonsense", {}, RecordError),
        ("lookup", {"kind": "x", "seq": 1}, RecordError),
        ("lookup", {"kind": "x", "ratio": 0.5}, CanonicalError),
        ("lookup", {"kind": "x", "expires_ns": 1 << 60}, CanonicalError),
        ("lookup", {"kind": "x" * 70_000}, RecordTooLargeError),
    ):
        with pytest.raises(error):
            session.append(kind, fields)
    await session.append("decision", decision())
    await session.close()
    with pytest.raises(RecordError, match="closed"):
        session.append("lookup", {"kind": "late"})
    await asyncio.to_thread(log.checkpoint)
    check_chains(read(log_path))
    assert [fields["type"] for fields in records(log_path)] == [
        "log.open",
        "session.open",
        "decision",
        "outcome",
        "session.close",
    ]
    assert records(log_path)[3]["status"] == "unknown"


@pytest.mark.parametrize("sid", ["log", "a/b", "..", "x" * 65, "é"])
def test_session_ids_are_plain(log, sid):
    with pytest.raises(RecordError, match="session id"):
        log.open_session({}, sid=sid)


def test_session_ids_are_unique(log):
    log.open_session({}, sid="one")
    with pytest.raises(RecordError, match="open already"):
        log.open_session({}, sid="one")


def test_checkpoints_verify_and_extend_one_another(log, log_path):
    notes = [log.checkpoint()]
    for number in range(700):
        future = log.submit("lookup", {"kind": str(number)})
        if number % 100 == 0:
            future.result()
            notes.append(log.checkpoint())
    future.result()
    notes.append(log.checkpoint())
    assert notes[-1] == log.checkpoint() == LogReader(log_path).read_note()
    reader = LogReader(log_path)
    points = [verify_checkpoint(note, log.verifier_key) for note in notes]
    leaf_hashes = [hash_leaf(leaf) for leaf in read(log_path)]
    for old, new in itertools.pairwise(points):
        assert root_of(leaf_hashes[: old.size]) == old.root
        verify_consistency(old.size, old.root, new.size, new.root, reader.prove_consistency(old.size, new.size))
    for index in (0, 255, 256, 700):
        path = reader.prove_inclusion(index, points[-1].size)
        verify_inclusion(index, points[-1].size, leaf_hashes[index], path, points[-1].root)
        assert hash_leaf(reader.read_leaf(index, points[-1].size)) == leaf_hashes[index]


def test_checkpoint_covers_what_was_acknowledged(log):
    for number in range(200):
        receipt = log.submit("lookup", {"kind": str(number)}).result()
        assert verify_checkpoint(log.checkpoint(), log.verifier_key).size > receipt.index


def test_checkpoints_and_heartbeats_come_by_themselves(open_log, settings, log_path):
    log = open_log(settings=replace(settings, checkpoint_interval_s=0.02, heartbeat_s=0.02))
    seen = threading.Event()
    beats = []

    def subscriber(published):
        beats.extend(index for index, leaf in published if b'"type":"heartbeat"' in leaf)
        if len(beats) >= 3:
            seen.set()

    log.subscribe(subscriber)
    assert seen.wait(30)
    log.close()
    assert [fields["type"] for fields in records(log_path)][1:4] == ["heartbeat"] * 3
    assert log.metrics()["checkpoints"] > 1


def test_subscriber_sees_every_record_once(log):
    seen = []
    unsubscribe = log.subscribe(seen.extend)
    for number in range(600):
        log.submit("lookup", {"kind": str(number)})
    log.submit("lookup", {"kind": "last"}).result()
    log.checkpoint()
    assert [index for index, _ in seen] == list(range(1, 602))
    unsubscribe()
    log.submit("lookup", {"kind": "unseen"}).result()
    log.checkpoint()
    assert len(seen) == 601


def test_segments_are_removed_once_published(open_log, settings, log_path):
    log = open_log(settings=replace(settings, segment_bytes=64 << 10))
    for number in range(1000):
        log.submit("lookup", {"kind": "x" * 300, "number": number})
    log.submit("lookup", {"kind": "last"}).result()
    assert log.metrics()["segments"] > 5
    log.checkpoint()
    assert len(list_segments(log_path / "wal")) == 1
    check_chains(read(log_path))


def test_shredding_destroys_the_key_everywhere(log, open_log, log_path, reader_identity):
    session = log.open_session({}, sid="gone")
    session.put_blob("input", b"personal")
    session.submit("lookup", {"kind": "x"}).result()
    with pytest.raises(RecordError, match="is open"):
        log.shred_session("gone", {"rule": "retention/7y"})
    session.submit_close().result()
    log.checkpoint()
    wrapped = (log_path / "keys/gone.dek").read_bytes()
    log.shred_session("gone", {"rule": "retention/7y"})
    log.close()
    open_log().close()
    assert not (log_path / "keys/gone.dek").exists()
    assert not (log_path / "sessions/gone/openings.enc").exists()
    assert not any(wrapped in path.read_bytes() for path in log_path.rglob("*") if path.is_file())
    assert LogReader(log_path).read_chunk("gone", 0)
    assert "retention.shred" in [fields["type"] for fields in records(log_path)]


def test_a_second_opener_is_refused(log, open_log):
    with pytest.raises(LogLockedError):
        open_log()


def test_a_second_process_is_refused(log, tmp_path, reader_identity):
    code = (
        "import sys, pathlib\n"
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey\n"
        "from evidence.log import Log\n"
        "from evidence.errors import LogLockedError\n"
        "try:\n"
        "    Log.open(pathlib.Path(sys.argv[1]), origin=sys.argv[2], log_key=Ed25519PrivateKey.generate(), recipients=[sys.argv[3]])\n"
        "except LogLockedError:\n"
        "    sys.exit(7)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path), log.origin, str(reader_identity.to_public())]
    assert subprocess.run(arguments, check=False, timeout=60).returncode == 7


def test_closing_closes_sessions_and_refuses_more(open_log, log_path):
    log = open_log()
    log.open_session({}, sid="left-open")
    log.close()
    log.close()
    assert [fields.get("reason") for fields in records(log_path)] == [None, None, "shutdown"]
    with pytest.raises(EvidenceWriteError, match="closed"):
        log.submit("heartbeat", {})
    with pytest.raises(EvidenceWriteError):
        log.checkpoint()


@pytest.mark.parametrize("origin", ["", "/a", "a/", "A/b", "a//b", "a/../b", "a b", "a|b"])
def test_origin_is_plain(open_log, origin):
    with pytest.raises(RecordError, match="origin"):
        open_log(origin=origin)


def test_recipients_are_needed(open_log):
    with pytest.raises(DataKeyError):
        open_log(recipients=[])


async def test_a_cancelled_waiter_does_not_disturb_others(log):
    session = log.open_session({})
    futures = [session.append("lookup", {"kind": str(number)}) for number in range(10)]
    futures[3].cancel()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result).__name__ for result in results].count("Receipt") == 9


def test_a_closed_loop_does_not_disturb_the_log(log):
    session = log.open_session({})

    async def leave():
        session.append("lookup", {"kind": "nobody waits"})

    asyncio.run(leave())
    assert session.submit("lookup", {"kind": "next"}).result().session_seq == 2


def test_a_failing_subscriber_does_not_stop_the_log(log):
    seen = []
    log.subscribe(lambda _published: 1 / 0)
    log.subscribe(seen.extend)
    for _ in range(3):
        log.submit("lookup", {"kind": "x"}).result()
        log.checkpoint()
    assert len(seen) == 3
    assert log.failure is None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("decision", {"decision": {"effect": ["allow"]}}),
        ("decision", {"decision": {}}),
        ("transcript.chunk", {"chunk": {}, "offset": 0, "first_ts": "", "last_ts": ""}),
    ],
)
def test_odd_fields_keep_the_chain_whole(log, log_path, decision, kind, fields):
    session = log.open_session({})
    session.submit(kind, {**(decision() if kind == "decision" else {}), **fields}).result()
    session.submit("lookup", {"kind": "next"}).result()
    log.checkpoint()
    check_chains(read(log_path))
