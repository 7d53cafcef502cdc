"""Records made ready elsewhere: what the log stores of them, and the native sealer beside the reference one."""

import asyncio
import hashlib
import shutil

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.record import Sealer

from evidence.canonical import encode_leaf
from evidence.drafts import envelop
from evidence.errors import DataKeyError, RecordError
from evidence.keys import ChunkSealer, generate_log_key, load_log_key
from evidence.log import Log
from evidence.merkle import hash_leaf
from evidence.store import EvidenceStore

ORIGIN = "gw/2026h2/w0"


class Outcomes:
    """Drafts of outcome records with a transcript each, made the plain way."""

    has_effects = has_decisions = False
    has_data = True

    def __init__(self, *decisions, opened=(), closed=None):
        self.decisions, self.opened = decisions, list(opened)
        self.closed = list(decisions if closed is None else closed)

    def place(self, sealer, sid, seq, sseq, previous, chunk, ts, mono_us):
        if not isinstance(previous, str):
            previous = previous.last_hash()
        return Placed(self, sealer, sid, seq, sseq, previous, chunk, ts, mono_us)


class Placed:
    """The same at their place (`evidence.drafts.Prepared`)."""

    def __init__(self, drafts, sealer, sid, seq, sseq, previous, chunk, ts, mono_us):
        self.opened, self.closed = drafts.opened, drafts.closed
        self.records = self.chunks = len(drafts.decisions)
        self._items, self._leaves, self._chunks = b"", [], []
        for number, decision in enumerate(drafts.decisions):
            sealed = sealer.seal(chunk + number, decision.encode())
            reference = {"n": chunk + number, "sha256": hashlib.sha256(sealed).hexdigest(), "bytes": len(decision)}
            fields = {"decision_id": decision, "status": "completed", "transcript": reference}
            place = {"seq": seq + number, "sseq": sseq + number, "sprev": previous, "ts": ts, "mono_us": mono_us}
            leaf = encode_leaf({**envelop("outcome", fields, sid), **place})
            head = len(sid).to_bytes(2) + sid.encode() + (chunk + number).to_bytes(8)
            self._items += b"\2" + (len(head) + len(sealed)).to_bytes(4) + head + sealed + b"\1" + len(leaf).to_bytes(4) + leaf
            previous = hash_leaf(leaf).hex()
            self._leaves.append(leaf)
            self._chunks.append((chunk + number, sealed))
        self.size = len(self._items)

    def last_hash(self):
        return hash_leaf(self._leaves[-1]).hex()

    def cancel(self):
        pass

    def items(self):
        return self._items

    def take(self):
        return self._leaves, [hash_leaf(leaf) for leaf in self._leaves], self._chunks


@pytest.fixture
def open_log(tmp_path):
    age = pyrage.x25519.Identity.generate()
    generate_log_key(tmp_path / "key.pem")
    opened = []

    def make(**options):
        log = Log.open(
            tmp_path / "evidence",
            origin=ORIGIN,
            log_key=load_log_key(tmp_path / "key.pem"),
            recipients=[str(age.to_public())],
            **options,
        )
        opened.append(log)
        return log, age

    yield make
    for log in opened:
        log.close()


@pytest.mark.parametrize("make_sealer", [ChunkSealer, Sealer])
def test_prepared_records_are_stored_between_ordinary_ones(open_log, tmp_path, make_sealer):
    log, age = open_log(make_sealer=make_sealer)

    async def write():
        session = log.open_session({"subject": {"id": "a"}})
        session.put_blob("transcript", b"first")
        receipt = await session.append_drafts(Outcomes("d1", "d2", opened=["d1", "d2", "d3"]))
        assert receipt.session_seq == 2
        await session.append("outcome", {"decision_id": "d3", "status": "failed"})
        await session.close()
        with pytest.raises(RecordError):
            session.append_drafts(Outcomes("d4"))
        return session.sid

    sid = asyncio.run(write())
    log.close()
    reader = EvidenceStore(tmp_path / "evidence").open_log(ORIGIN)
    records = [record for _, record in reader.iterate_records(reader.read_checkpoint().size) if record["sid"] == sid]
    assert [record["type"] for record in records] == ["session.open", "outcome", "outcome", "outcome", "session.close"]
    assert [record["sseq"] for record in records] == list(range(5))
    key = reader.unwrap_data_key(sid, [str(age)])
    for record in records[1:3]:
        assert reader.open_chunk(ORIGIN, sid, record["transcript"]["n"], key).decode() == record["decision_id"]
    assert [record["transcript"]["n"] for record in records[1:3]] == [1, 2]


def test_prepared_records_survive_a_crash(open_log, tmp_path):
    log, _ = open_log()

    async def write():
        session = log.open_session({"subject": {"id": "a"}})
        await session.append_drafts(Outcomes("d1", "d2", opened=["d1", "d9"]))

    asyncio.run(write())
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "evidence", copy)
    recovered = Log.open(copy, origin=ORIGIN, log_key=load_log_key(tmp_path / "key.pem"), recipients=list(log.recipients))
    recovered.close()
    reader = EvidenceStore(copy).open_log(ORIGIN)
    records = [record for _, record in reader.iterate_records(reader.read_checkpoint().size)]
    assert {"d1", "d2"} <= {record.get("decision_id") for record in records if record.get("status") == "completed"}


def test_a_record_nobody_waits_for_is_written_soon(open_log):
    log, _ = open_log()

    async def write():
        session = log.open_session({"subject": {"id": "a"}})
        await session.append_drafts(Outcomes("d1", opened=["d1"], closed=[]))  # nobody calls hurry: the delay ends by itself

    asyncio.run(write())


@given(st.integers(0, 2**63), st.binary(max_size=5000))
def test_the_native_sealer_seals_as_the_reference_does(number, plain):
    sealed = Sealer(bytes(32), "o", "s").seal(number, plain)
    assert ChunkSealer(bytes(32), "o", "s").open(number, sealed) == plain
    with pytest.raises(DataKeyError):
        ChunkSealer(bytes(32), "o", "t").open(number, sealed)


def test_the_native_sealer_has_the_same_limits():
    with pytest.raises(ValueError, match="too large"):
        Sealer(bytes(32), "o", "s").seal(0, bytes((16 << 20) + 1))
    with pytest.raises(ValueError, match="data key"):
        Sealer(bytes(16), "o", "s")
