"""One byte stream with backpressure both ways, and the listener that accepts them."""

import asyncio
import contextlib
import os
import socket

import pytest
from sealgate_native.tls import TlsError

from gateway.errors import TargetError
from gateway.serve import listeners
from gateway.serve.listeners import READ_HIGH_BYTES, WRITE_HIGH_BYTES, Listener, Wire
from gateway.serve.tls import POSTGRES_ALPN, ServerTls, client_context
from gateway.testing.certificates import make_authority
from gateway.testing.waiting import wait_until_async


@contextlib.asynccontextmanager
async def listening(serve, **options):
    listener = Listener(serve, **options)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.stop()
        await listener.join(0)


async def dial(listener):
    return await asyncio.get_running_loop().create_connection(Wire, *listener.address)


async def test_bytes_go_both_ways_until_the_peer_leaves():
    async def echo(wire, is_tls):
        assert not is_tls
        assert wire.peer_ip == "127.0.0.1"
        while data := await wire.read():
            wire.write(data.upper())

    async with listening(echo) as listener:
        _, wire = await dial(listener)
        wire.write(b"abc")
        assert await wire.read() == b"ABC"
        wire.close()


async def test_a_peer_nobody_reads_is_paused():
    sent = asyncio.Event()
    release = asyncio.Event()
    total = 64 << 20

    async def flood(wire, _):
        block = b"x" * 65_536
        for _ in range(total // len(block)):
            wire.write(block)
            await wire.drain()
        sent.set()
        await release.wait()

    async with listening(flood) as listener:
        _, wire = await dial(listener)
        wire.write(b"!")
        # Both sides of the pipe fill up, and then the writer waits.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sent.wait(), 0.3)
        assert wire._size <= READ_HIGH_BYTES + (1 << 20)
        received = 0
        while received < total:
            received += len(await wire.read())
        await asyncio.wait_for(sent.wait(), 20)
        release.set()
        wire.close()
    assert total > WRITE_HIGH_BYTES


async def test_leaving_is_noticed_while_nobody_reads():
    left = asyncio.Event()

    async def wait(wire, _):
        await wire.gone.wait()
        left.set()

    async with listening(wait) as listener:
        _, wire = await dial(listener)
        wire.write(b"data that nobody reads")
        wire.close()
        await asyncio.wait_for(left.wait(), 20)


async def test_what_arrived_before_the_peer_left_is_still_read():
    got = asyncio.get_running_loop().create_future()

    async def read_late(wire, _):
        await wire.gone.wait()
        got.set_result((await wire.read(), await wire.read()))

    async with listening(read_late) as listener:
        _, wire = await dial(listener)
        wire.write(b"last words")
        wire.close()
        assert await asyncio.wait_for(got, 20) == (b"last words", b"")


async def test_a_wake_ends_a_wait_even_when_it_came_first():
    wire = Wire()
    wire.wake()
    await asyncio.wait_for(wire.wait_for_wake(), 20)
    waiting = asyncio.create_task(wire.wait_for_wake())
    await asyncio.sleep(0)
    assert not waiting.done()
    wire.data_received(b"bytes do not wake")
    await asyncio.sleep(0)
    assert not waiting.done()
    wire.wake()
    await asyncio.wait_for(waiting, 20)
    assert wire.take() == b"bytes do not wake"


async def test_tls_at_once_and_by_request(tmp_path):
    authority = make_authority(tmp_path)
    tls = ServerTls(*authority.issue("gateway"), alpn=POSTGRES_ALPN)
    seen = []

    async def greet(wire, is_tls):
        seen.append(is_tls)
        if not is_tls:
            await wire.read()
            wire.write(b"S")
            await wire.start_tls(tls.context().accept())
        wire.write(b"hello")
        await wire.read()

    async with listening(greet, tls=tls.context) as listener:
        context = client_context("verify-full", authority.ca_file)
        assert context is not None
        _, wire = await dial(listener)
        await wire.start_tls(context.connect("localhost"))
        assert await wire.read() == b"hello"
        wire.close()
        _, wire = await dial(listener)
        wire.write(b"?")
        assert await wire.read() == b"S"
        await wire.start_tls(context.connect("localhost"))
        assert await wire.read() == b"hello"
        assert wire.tls is not None
        wire.close()
    assert seen == [True, False]


async def test_a_silent_client_is_let_go():
    async def never(wire, _):
        raise AssertionError("served without a byte")

    async with listening(never, first_byte_timeout_s=0.1) as listener:
        with socket.create_connection(listener.address) as raw:
            raw.setblocking(False)
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(raw, 1), 20) == b""


async def test_where_it_is_full_the_oldest_stranger_makes_room():
    crowded = []

    async def serve(wire, _):
        try:
            while data := await wire.read():
                wire.is_admitted |= data == b"token"
                wire.write(data)
        except asyncio.CancelledError:
            crowded.append(wire.is_crowded_out)
            raise

    async with listening(serve, max_connections=3) as listener:
        loop = asyncio.get_running_loop()
        _, known = await dial(listener)
        known.write(b"token")
        assert await known.read() == b"token"
        with socket.create_connection(listener.address) as silent:
            silent.setblocking(False)
            _, stranger = await dial(listener)
            stranger.write(b"hello")
            assert await stranger.read() == b"hello"
            _, late = await dial(listener)
            assert await asyncio.wait_for(loop.sock_recv(silent, 1), 20) == b""
        late.write(b"token")
        assert await late.read() == b"token"
        assert not crowded
        _, last = await dial(listener)
        assert await stranger.read() == b""
        assert crowded == [True]
        last.write(b"token")
        assert await last.read() == b"token"
        known.write(b"still here")
        assert await known.read() == b"still here"
        _, nobody = await dial(listener)
        assert await nobody.read() == b""
        for wire in (known, late, last):
            wire.close()


async def test_a_fault_in_one_connection_leaves_the_others():
    async def serve(wire, _):
        if await wire.read() == b"fail":
            raise RuntimeError("a fault")
        wire.write(b"ok")
        await wire.read()

    async with listening(serve) as listener:
        _, broken = await dial(listener)
        broken.write(b"fail")
        assert await broken.read() == b""
        _, fine = await dial(listener)
        fine.write(b"work")
        assert await fine.read() == b"ok"
        fine.close()


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path):
    authority = make_authority(tmp_path)
    cert_file, key_file = authority.issue("gateway")
    tls = ServerTls(cert_file, key_file)
    first = tls.context()
    assert tls.context() is first
    authority.issue("gateway", ["localhost", "other"])
    assert tls.context() is not first
    cert_file.write_text("half written")
    assert tls.context() is not None


def test_connections_to_targets_share_a_context_until_a_file_changes(tmp_path):
    authority = make_authority(tmp_path)
    own = authority.issue("own")
    first = client_context("verify-full", authority.ca_file, own)
    assert client_context("verify-full", authority.ca_file, own) is first
    assert client_context("verify-ca", authority.ca_file, own) is not first
    assert client_context("verify-full", None) is client_context("verify-full", None)
    os.utime(own[1], ns=(1, 1))
    assert client_context("verify-full", authority.ca_file, own) is not first
    authority.ca_file.write_text("half written")
    for _ in range(2):  # what cannot be used is not kept
        with pytest.raises(TargetError, match="the CA file for the target cannot be used"):
            client_context("verify-full", authority.ca_file)
    with pytest.raises(TargetError, match="the gateway's certificate for the target cannot be used"):
        client_context("require", None, (tmp_path / "missing", own[1]))


async def test_an_arrival_is_offered_only_while_a_reader_waits_for_nothing_else():
    wire = Wire()
    offered = []

    def take(data):
        offered.append(data)
        return data != b"no"

    wire.receiver = take
    wire.data_received(b"nobody reads")
    assert wire.take() == b"nobody reads"
    reading = asyncio.create_task(wire.wait())
    await asyncio.sleep(0)
    wire.data_received(b"yes")
    wire.data_received(b"no")
    wire.data_received(b"behind it")  # what was refused comes first, so this is not offered
    await reading
    assert wire.take() == b"nobehind it"
    assert offered == [b"yes", b"no"]
    reading = asyncio.create_task(wire.wait_for_wake())
    await asyncio.sleep(0)
    wire.data_received(b"held")
    wire.wake()
    await reading
    assert wire.take() == b"held"
    reading = asyncio.create_task(wire.wait())
    await asyncio.sleep(0)
    wire.wake()
    wire.data_received(b"woken")  # the reader is on its way to something else
    await reading
    assert wire.take() == b"woken"
    assert offered == [b"yes", b"no"]


async def test_a_wire_is_lent_only_while_nothing_of_it_waits():
    """Whoever has it meanwhile reads and writes; then it goes on here, with what arrived in between."""
    accepted = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def keep(wire, _):
        accepted.set_result(wire)
        await over.wait()

    async with listening(keep) as listener:
        _, wire = await dial(listener)
        wire.write(b"x")
        ours = await accepted
        await ours.wait()
        assert ours.lend() is None  # not read
        assert await ours.read() == b"x"
        descriptor, channel = ours.lend()
        assert channel is None
        with socket.socket(fileno=os.dup(descriptor)) as lent:
            wire.write(b"abc")
            lent.setblocking(True)
            lent.settimeout(20)
            assert lent.recv(2) == b"ab"
            lent.sendall(b"said")
        assert await wire.read() == b"said"
        assert not ours._size
        ours.take_back()
        assert await ours.read() == b"c"
        ours.write(b"y" * (WRITE_HIGH_BYTES * 64))
        assert ours.lend() is None  # not sent
        wire.abort()
        await ours.gone.wait()
        assert ours.lend() is None
        over.set()


@pytest.fixture
async def encrypted(tmp_path):
    """A listener that answers in capitals to what begins with TLS, and its authority; keeps the wires it served."""
    authority = make_authority(tmp_path)
    tls = ServerTls(*authority.issue("gateway"))
    served = []

    async def echo(wire, is_tls):
        served.append((wire, is_tls))
        while data := await wire.read():
            wire.write(data.upper())

    async with listening(echo, tls=tls.context, first_byte_timeout_s=20) as listener:
        yield listener, authority, served


async def test_a_stock_client_changes_keys_in_the_middle(encrypted):
    """`K` has openssl send new keys and ask for ours (RFC 8446 4.6.3); what follows is encrypted with them."""
    listener, authority, served = encrypted
    arguments = ["-connect", f"127.0.0.1:{listener.address[1]}", "-CAfile", str(authority.ca_file), "-verify_return_error"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
    process = await asyncio.create_subprocess_exec("openssl", "s_client", *arguments, **pipes)
    process.stdin.write(b"first\n")
    seen = await process.stdout.readuntil(b"FIRST\n")
    for line in (b"second\n", b"third\n"):
        process.stdin.write(b"K\n")
        await process.stderr.readuntil(b"KEYUPDATE\n")
        process.stdin.write(line)
        seen = await process.stdout.readuntil(line.upper())
    assert seen
    process.stdin.write(b"Q\n")
    await process.wait()
    assert [is_tls for _, is_tls in served] == [True]
    await served[0][0].gone.wait()


async def test_a_client_that_asks_for_new_keys_again_and_again_is_let_go(encrypted):
    """Each asks for an answer, and costs us more than it costs the client."""
    listener, authority, served = encrypted
    arguments = ["-connect", f"127.0.0.1:{listener.address[1]}", "-CAfile", str(authority.ca_file), "-quiet", "-no_ign_eof"]
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", *arguments), stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    asked = 0
    while not served or not served[0][0].gone.is_set():
        process.stdin.write(b"K\n")
        if not await process.stderr.readline():
            break
        asked += 1
        assert asked < 200
    assert asked > 10
    await served[0][0].gone.wait()
    process.stdin.close()
    await process.wait()


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_peer_that_does_not_take_the_last_words_is_let_go(monkeypatch, tmp_path, is_tls):
    monkeypatch.setattr(listeners, "CLOSE_TIMEOUT_S", 0.05)
    authority = make_authority(tmp_path)
    tls = ServerTls(*authority.issue("gateway"))
    served = asyncio.get_running_loop().create_future()

    async def flood(wire, _):
        wire.write(b"x" * (WRITE_HIGH_BYTES * 64))
        served.set_result(wire)

    async with listening(flood, tls=tls.context) as listener:
        _, wire = await dial(listener)
        if is_tls:
            await wire.start_tls(client_context("verify-full", authority.ca_file).connect("localhost"))
        wire.write(b"!")
        ours = await served
        wire._transport.pause_reading()
        await ours.gone.wait()
        wire.abort()


async def test_a_listener_that_ends_closes_what_shakes_hands(encrypted):
    listener, _, served = encrypted
    with socket.create_connection(listener.address) as raw:
        raw.setblocking(False)
        raw.sendall(b"\x16")  # and nothing more

        async def shakes_hands():
            await asyncio.sleep(0)
            return any("shake_hands" in str(task.get_coro().cr_await) for task in listener._tasks)

        await wait_until_async(shakes_hands)
        await listener.join(0)
        assert await asyncio.get_running_loop().sock_recv(raw, 100) == b""
    assert not served


async def test_a_listener_survives_what_is_no_handshake(encrypted):
    listener, authority, served = encrypted
    with socket.create_connection(listener.address) as raw:
        raw.sendall(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff")
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        assert (await loop.sock_recv(raw, 100))[:1] == b"\x15"  # an alert
        assert await loop.sock_recv(raw, 100) == b""
    _, wire = await dial(listener)
    await wire.start_tls(client_context("verify-full", authority.ca_file).connect("localhost"))
    wire.write(b"x")
    assert await wire.read() == b"X"
    wire.close()
    assert len(served) == 1


async def test_a_certificate_that_does_not_pass_ends_the_handshake(encrypted):
    listener, authority, served = encrypted
    _, wire = await dial(listener)
    with pytest.raises(TlsError, match="certificate verify failed: hostname mismatch"):
        await wire.start_tls(client_context("verify-full", authority.ca_file).connect("elsewhere"))
    wire.abort()
    assert not served


async def test_bytes_before_the_handshake_are_refused(encrypted):
    """Whoever is in the network could have put them there, to be taken for what the peer said encrypted (CVE-2021-23214)."""
    _, authority, _ = encrypted

    async def inject(wire, _):
        await wire.read()
        wire.write(b"SEvil")
        await wire.read()

    async with listening(inject) as intruder:
        _, wire = await dial(intruder)
        wire.write(b"?")
        await wire.wait()
        with pytest.raises(ConnectionResetError, match="before the TLS handshake"):
            await wire.start_tls(client_context("verify-full", authority.ca_file).connect("localhost"))
        wire.abort()


async def test_an_encrypted_wire_is_lent_with_its_channel(encrypted):
    """Whoever has it meanwhile reads and writes by way of the channel; then it goes on here, with what could not be sent first."""
    listener, authority, _ = encrypted
    _, wire = await dial(listener)
    await wire.start_tls(client_context("verify-full", authority.ca_file).connect("localhost"))
    descriptor, channel = wire.lend()
    with socket.socket(fileno=os.dup(descriptor)) as lent:
        lent.setblocking(False)
        lent.sendall(channel.send(b"abc"))
        assert channel.receive(await asyncio.get_running_loop().sock_recv(lent, 1000)) == b"ABC"
    wire.take_back(channel.send(b"def"))
    assert await wire.read() == b"DEF"
    wire.close()
    await wire.gone.wait()
    assert wire.lend() is None


async def test_a_wire_whose_peer_ended_meanwhile_ends_when_it_is_taken_back(encrypted):
    listener, authority, served = encrypted
    _, wire = await dial(listener)
    await wire.start_tls(client_context("verify-full", authority.ca_file).connect("localhost"))
    wire.write(b"x")
    assert await wire.read() == b"X"
    ours = served[0][0]
    descriptor, channel = ours.lend()
    with socket.socket(fileno=os.dup(descriptor)) as lent:
        lent.setblocking(False)
        wire.write(b"y")
        wire._transport.write(wire.tls.end())  # it says that it ends, and leaves its socket open
        while not channel.is_over:
            channel.receive(await asyncio.get_running_loop().sock_recv(lent, 1000))
    assert not ours.gone.is_set()
    ours.take_back()
    assert ours.gone.is_set()
    wire.close()
