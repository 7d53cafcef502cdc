"""Bytes that wait for a record: their order, that nothing leaves without it, and which records they wait for."""

import asyncio
import threading

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.disk import Disk
from evidence.keys import generate_log_key, load_log_key
from evidence.log import Log
from gateway.action import Resource, Subject
from gateway.decision import Decision
from gateway.errors import EvidenceUnavailableError
from gateway.messages import Outcome
from gateway.pipeline import PipelineSession, Ruling, SessionSettings
from gateway.serve.evidence import LogRecorder
from gateway.serve.listeners import Listener, Wire
from gateway.serve.release import ReleaseQueue


class Peer:
    """A queue to a real peer, which says what it has received."""

    async def __aenter__(self):
        connected = asyncio.get_running_loop().create_future()
        self.done = asyncio.Event()

        async def serve(wire, _):
            connected.set_result(wire)
            await self.done.wait()

        self.listener = Listener(serve)
        await self.listener.start("127.0.0.1", 0)
        _, self.wire = await asyncio.get_running_loop().create_connection(Wire, *self.listener.address)
        self.wire.write(b"!")  # a listener waits for the first byte
        self.lost = []
        self.queue = ReleaseQueue(await connected, self.lost.append)
        return self

    async def __aexit__(self, *_):
        self.wire.abort()
        self.done.set()
        await self.listener.stop()
        await self.listener.join(5)

    async def read(self, size):
        data = b""
        while len(data) < size:
            data += await self.wire.read()
        return data


def make_record():
    return asyncio.get_running_loop().create_future()


async def test_nothing_leaves_before_its_record_and_everything_in_its_turn():
    async with Peer() as peer:
        first, second = make_record(), make_record()
        peer.queue.put(b"0", None)
        peer.queue.put(b"1", first)
        peer.queue.put(b"2", second)
        peer.queue.put(b"3", None)  # needs no record, but its turn comes after what does
        second.set_result(None)
        await asyncio.sleep(0)
        assert await peer.read(1) == b"0"
        assert not peer.queue.is_empty
        assert peer.queue.size == 3
        first.set_result(None)
        await peer.queue.wait()
        assert await peer.read(3) == b"123"
        assert peer.queue.is_empty


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_what_lost_its_record_never_leaves_nor_anything_behind_it(how):
    async with Peer() as peer:
        good, bad, late = make_record(), make_record(), make_record()
        peer.queue.put(b"a", good)
        peer.queue.put(b"secret", bad)
        peer.queue.put(b"later", late)
        waiting = asyncio.create_task(peer.queue.wait())
        late.set_result(None)
        bad.cancel() if how == "cancelled" else bad.set_exception(OSError("the disk is gone"))
        good.set_result(None)
        with pytest.raises(EvidenceUnavailableError):
            await waiting
        peer.queue.put(b"afterwards", None)
        with pytest.raises(EvidenceUnavailableError):
            await peer.queue.wait()
        assert len(peer.lost) == 1
        assert await peer.read(1) == b"a"
        peer.done.set()


async def test_a_queue_that_is_cut_drops_what_waits():
    async with Peer() as peer:
        record = make_record()
        peer.queue.put(b"x", record)
        peer.queue.cut(EvidenceUnavailableError("no record"))
        record.set_result(None)
        peer.queue.put(b"y", None)
        with pytest.raises(EvidenceUnavailableError):
            await peer.queue.wait()
        assert peer.queue.is_empty


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 4), st.binary(min_size=1, max_size=4)), max_size=12), st.permutations(range(5)))
def test_whatever_the_order_records_become_durable_in_bytes_keep_theirs(puts, order):
    async def run():
        async with Peer() as peer:
            records = [make_record() for _ in range(5)]
            for number, data in puts:
                peer.queue.put(data, None if number < 0 else records[number])
            for number in order:
                records[number].set_result(None)
                await asyncio.sleep(0)
            await peer.queue.wait()
            sent = b"".join(data for _, data in puts)
            assert await peer.read(len(sent)) == sent

    asyncio.run(run())


class HeldDisk(Disk):
    """A disk whose syncs of data wait until they may."""

    def __init__(self):
        self.may_sync = threading.Event()
        self.may_sync.set()

    def sync_data(self, descriptor):
        self.may_sync.wait(20)
        super().sync_data(descriptor)


async def test_an_answer_waits_for_what_was_delivered_and_not_for_an_end_that_delivered_nothing(tmp_path):
    disk = HeldDisk()
    generate_log_key(tmp_path / "key.pem")
    log = Log.open(
        tmp_path / "evidence",
        origin="gw/2026h2/w0",
        log_key=load_log_key(tmp_path / "key.pem"),
        recipients=[str(pyrage.x25519.Identity.generate().to_public())],
        disk=disk,
    )
    try:
        recorder = LogRecorder(log.open_session({"subject": {"id": "a"}}), lambda: None, lambda: None)
        subject = Subject("i/a", "agent", "i", "a")
        resource = Resource("c", "postgres", "test", "low")
        session = PipelineSession(None, recorder, subject, SessionSettings(resource), "local", "")
        await recorder.append("outcome", {"decision_id": "d0", "status": "completed"})
        ruling = Ruling("d1", 1, None, Decision("allow", ()), "a")
        disk.may_sync.clear()
        session.finish(ruling, Outcome("completed", "UPDATE 1"))
        assert session.find_unsettled() is None
        session.finish(ruling, Outcome("completed", "SELECT 1", rows=1, bytes_out=9))
        waiting = session.find_unsettled()
        assert waiting is not None
        assert not waiting.done()
        disk.may_sync.set()
        await session.release_replies()
        assert session.find_unsettled() is None
    finally:
        disk.may_sync.set()
        await asyncio.to_thread(log.close)
