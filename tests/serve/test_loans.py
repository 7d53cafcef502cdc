"""Sessions lent to the relay and given back, at the level of sockets: who is told what."""

import asyncio
import contextlib
import select
import socket
import ssl
import time

import pytest
from sealgate_native.postgres import CLIENT_EVENTS, Session, encode_query
from sealgate_native.record import Chain, Sealer, Writer
from sealgate_native.tls import ServerContext, TlsError

from gateway.errors import EvidenceUnavailableError
from gateway.serve.postgres.loans import MAX_LENT, Loans
from gateway.testing.certificates import make_authority
from gateway.testing.waiting import wait_until_async


class Borrower:
    """Keeps what it is told."""

    def __init__(self):
        self.returned = None
        self.error = None

    def receive_back(self, returned):
        self.returned = returned

    def lose(self, error):
        self.error = error


class World:
    """Loans over a writer that nobody runs, and sessions that have learned nothing."""

    def __init__(self, lag_left_s=60.0):
        self.writer = Writer(9, 1 << 20, 1 << 20, 1 << 16, 1 << 16, 0)
        self.loans = Loans(self.writer, time.monotonic_ns(), lambda: lag_left_s)
        self.peers, self.readers = [], []

    def lend(self, group=None, channel=None):
        kernel = Session(
            max_message_bytes=4096,
            max_statements=4,
            max_portals=4,
            max_pending=16,
            error_detectors=None,
            record_limit_bytes=100,
        )
        chain = Chain("s", Sealer(bytes(32), "gw/2026h2/w0", "s"), 1, "00", 0, [])
        pairs = [socket.socketpair() for _ in range(2)]
        for ours, _ in pairs:
            ours.setblocking(False)
        borrower = Borrower()
        number = self.loans.lend(
            borrower,
            kernel,
            chain,
            ((pairs[0][0].fileno(), channel), (pairs[1][0].fileno(), None)),
            group=group,
            expires_ns=0,
            until_ns=time.monotonic_ns() + 10**12,
        )
        pairs[1][0].close()  # the relay has descriptors of its own
        if channel is None:
            pairs[0][0].close()
        else:
            self.readers.append(pairs[0][0])  # shows what the relay has not read yet
        client, server = pairs[0][1], pairs[1][1]
        self.peers += [client, server]
        return number, borrower, client


@pytest.fixture
async def world():
    made = World()
    made.loans.start()
    yield made
    await made.loans.stop()
    for peer in made.peers + made.readers:
        peer.close()


async def test_a_session_goes_back_with_what_the_kernel_says(world):
    _, borrower, client = world.lend()
    assert world.loans.count() == {"sessions_lent": 1, "loans_total": 1}
    client.sendall(encode_query("select 1"))
    await wait_until_async(returned(borrower))
    assert borrower.returned.state & CLIENT_EVENTS
    assert borrower.returned.unsent == (b"", b"")
    assert (borrower.returned.has_failed, borrower.returned.staged, borrower.error) == (False, None, None)
    assert world.loans.count() == {"sessions_lent": 0, "loans_total": 1}


async def test_bytes_that_break_the_protocol_are_told(world):
    _, borrower, client = world.lend()
    client.sendall(b"?\0\0\0\x04")
    await wait_until_async(returned(borrower))
    assert borrower.returned.has_failed
    assert borrower.returned.state == 0


async def test_one_is_recalled_or_a_group_or_all(world):
    group = object()
    (first, one, _), (_, two, _), (_, three, _), (_, four, _) = world.lend(), world.lend(group), world.lend(group), world.lend()
    world.loans.recall(first)
    await wait_until_async(returned(one))
    world.loans.recall_group(group)
    await wait_until_async(returned(two))
    await wait_until_async(returned(three))
    assert four.returned is None
    world.loans.recall_all()
    await wait_until_async(returned(four))


async def test_a_session_that_is_discarded_is_not_told(world):
    number, borrower, client = world.lend()
    assert world.loans.read_active_s(number) > 0
    world.loans.discard(number)
    assert world.loans.read_active_s(number) == 0
    _, other, other_client = world.lend()
    other_client.sendall(encode_query("select 1"))
    await wait_until_async(returned(other))
    assert borrower.returned is None
    assert client.recv(1) == b""


async def test_a_relay_that_ends_gives_everything_up(world):
    _, borrower, _ = world.lend()
    assert world.loans.has_room
    world.loans._relay.stop()  # as after a fault of the system: nobody asked the loans to stop
    await wait_until_async(returned(borrower))
    assert isinstance(borrower.error, RuntimeError)
    assert not isinstance(borrower.error, EvidenceUnavailableError)
    assert not world.loans.has_room


async def test_a_log_that_stopped_loses_nothing_that_waits_for_nothing(world):
    _, borrower, _ = world.lend()
    world.writer.close()
    await wait_until_async(returned(borrower))
    assert borrower.error is None


async def test_there_is_room_for_so_many(world):
    for _ in range(MAX_LENT // 64):
        world.lend()
    assert world.loans.has_room
    world.loans._lent.update({-number: (Borrower(), None) for number in range(1, MAX_LENT)})
    assert not world.loans.has_room
    world.loans._lent.clear()


def open_tls(folder):
    """A channel to an agent that has shaken hands, and the agent's end of it."""
    authority = make_authority(folder)
    channel = ServerContext(*(path.read_bytes() for path in authority.issue("gateway"))).accept()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    agent = ssl.create_default_context(cafile=str(authority.ca_file)).wrap_bio(incoming, outgoing, server_hostname="localhost")
    while not channel.is_open:
        with contextlib.suppress(ssl.SSLWantReadError):
            agent.do_handshake()
        channel.receive(outgoing.read())
        incoming.write(channel.take_outgoing())
    agent.do_handshake()
    return channel, agent, outgoing


async def test_what_is_encrypted_is_read_alike(world, tmp_path):
    channel, agent, outgoing = open_tls(tmp_path)
    number, borrower, client = world.lend(channel=channel)
    agent.write(encode_query("select 1"))
    sealed = outgoing.read()
    active_s = world.loans.read_active_s(number)
    client.sendall(sealed[:20])

    async def is_taken():
        await asyncio.sleep(0)
        return not select.select([world.readers[-1]], [], [], 0)[0]

    await wait_until_async(is_taken)
    assert world.loans.read_active_s(number) == active_s  # a record of which a part has not arrived says nothing yet
    client.sendall(sealed[20:])
    await wait_until_async(returned(borrower))
    assert borrower.returned.state & CLIENT_EVENTS
    assert not channel.is_over


async def test_an_agent_that_says_it_ends_goes_back_although_its_socket_stays_open(world, tmp_path):
    channel, agent, outgoing = open_tls(tmp_path)
    _, borrower, client = world.lend(channel=channel)
    with pytest.raises(ssl.SSLWantReadError):
        agent.unwrap()  # it waits for ours
    client.sendall(outgoing.read())
    await wait_until_async(returned(borrower))
    assert (borrower.returned.has_failed, borrower.error, channel.is_over) == (False, None, True)


async def test_bytes_that_were_tampered_with_go_no_further(world, tmp_path):
    channel, agent, outgoing = open_tls(tmp_path)
    _, borrower, client = world.lend(channel=channel)
    agent.write(encode_query("select 1"))
    sealed = bytearray(outgoing.read())
    sealed[-1] ^= 1
    client.sendall(sealed)
    await wait_until_async(returned(borrower))
    assert borrower.returned.state == 0
    assert channel.is_over
    with pytest.raises(TlsError):
        channel.receive(b"")
    assert client.recv(100)[0] == 0x17  # the alert, encrypted


def returned(borrower):
    async def look():
        await asyncio.sleep(0)
        return borrower.returned is not None

    return look
