"""What goes wrong: strangers, broken targets, broken bytes, clients that leave, proofs that end. Nothing gets through, all is recorded."""

import asyncio
import contextlib
import os
import socket
import subprocess

import asyncssh
import pytest
from asyncssh import connection as library

from gateway.testing.ssh import make_key
from gateway.testing.waiting import wait_until

QUICK = {"login_timeout_s": 1.5, "connect_timeout_s": 3.0}


def read_records(running, kind):
    return [record for record in running.read_records() if record["type"] == kind]


def connect(running, token, *, username="deploy%web-1", **options):
    return asyncssh.connect(
        "127.0.0.1",
        running.ssh_port,
        username=username,
        password=token,
        known_hosts=None,
        config=None,
        client_keys=None,
        agent_path=None,
        **options,
    )


@pytest.fixture
def mint_token(issuer):
    return lambda sub="agent-7", groups=("agents",), **options: issuer.mint(sub, groups=groups, **options)


def test_a_target_with_another_host_key_gets_no_login(make_ssh_gateway, make_ssh_connection, make_client, sshd, tmp_path):
    other = make_key(tmp_path / "other")
    kind, value, *_ = (tmp_path / "other.pub").read_text().split()
    assert other.exists()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {kind} {value}\n")
    target = {"host": "127.0.0.1", "port": sshd.port, "known_hosts": str(tmp_path / "known_hosts")}
    before = sshd.log.read_text().count("Accepted publickey")
    with make_ssh_gateway(tmp_path / "gateway", connections=[make_ssh_connection(target=target)]) as running:
        done = make_client(running).ssh("web-1", "uptime")
    assert done.returncode == 255
    assert b"the target could not be proven to be the right machine" in done.stderr
    assert b"the gateway's operators must look" in done.stderr
    assert b"later" not in done.stderr
    for secret in (value.encode(), str(sshd.port).encode(), b"SHA256", b"known_hosts"):
        assert secret not in done.stderr
    assert sshd.log.read_text().count("Accepted publickey") == before
    (outcome,) = read_records(running, "outcome")
    assert (outcome["status"], outcome["error_code"]) == ("failed", "target.unproven")


def test_a_target_that_is_down(make_ssh_gateway, make_ssh_connection, make_client, sshd, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        (tmp_path / "known_hosts").write_text(sshd.known_hosts.read_text().replace(str(sshd.port), str(port)))
        target = {"host": "127.0.0.1", "port": port, "known_hosts": str(tmp_path / "known_hosts")}
        with make_ssh_gateway(tmp_path / "gateway", connections=[make_ssh_connection(target=target)]) as running:
            client = make_client(running)
            for command in (["ssh", "web-1", "uptime"], ["sftp", "-b", "/dev/null", "web-1"]):
                done = client.run(*command)
                assert done.returncode == 255
                assert b"target.unavailable" in done.stderr


def test_a_client_that_never_says_who_it_is_is_hung_up_on_and_recorded(make_ssh_gateway, tmp_path):
    with (
        make_ssh_gateway(tmp_path, limits=QUICK) as running,
        socket.create_connection(("127.0.0.1", running.ssh_port), timeout=20) as silent,
    ):
        while silent.recv(4_096):
            pass
    (refused,) = read_records(running, "login.refused")
    assert (refused["protocol"], refused["code"]) == ("ssh", "login.refused")


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-x\r\n" + b"\xff" * 64, b"SSH-2.0-x\r\n\x7f\xff\xff\xff" + b"x" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000],
    ids=["garbage", "oversized", "http", "zeros"],
)
def test_bytes_that_are_no_ssh_end_one_connection_only(ssh_gateway, agent, data):
    with socket.create_connection(("127.0.0.1", ssh_gateway.ssh_port), timeout=20) as wild:
        wild.sendall(data)
        with contextlib.suppress(ConnectionError):
            while wild.recv(4_096):
                pass
    assert agent.ssh("web-1", "echo", "ok").stdout == b"ok\n"


def test_a_thousand_channels_are_bounded(ssh_gateway, mint_token, agent):
    async def flood():
        async with connect(ssh_gateway, mint_token()) as connection:
            opened = await asyncio.gather(*(connection.run("echo x") for _ in range(1_000)), return_exceptions=True)
        return [isinstance(item, asyncssh.ChannelOpenError) for item in opened].count(True)

    assert asyncio.run(flood()) > 500
    assert agent.ssh("web-1", "echo", "ok").stdout == b"ok\n"


def test_garbage_instead_of_sftp_is_refused(agent):
    for data in (b"\xff" * 1_000, b"\0\0\0\0", b"\0\0\0\5\1\0\0\0\3\0\0\0\x09\x03\0\0\0\1"):
        done = agent.ssh("-s", "web-1", "sftp", data=data)
        assert done.returncode == 126, data
        assert b"cannot be read" in done.stderr or b"refused" in done.stderr


START = b"\0\0\0\5\1\0\0\0\3"
"""INIT of sftp version 3."""

NONSENSE = b"\xc8\0\0\0\7\0\0\0\x10nonsense@example"
"""An extended request with the number 7, of a kind that nobody knows."""


@pytest.mark.parametrize(
    ("words", "data", "reason"),
    [
        (["-s", "web-1", "sftp"], b"\xff" * 1_000, b"sftp"),
        (["-s", "web-1", "sftp"], START + b"\0\0\0\5\3\0\0\0\1", b"sftp"),
        (["web-1", "scp -t {file}"], b"touch me\n", b"the scp stream cannot be read: an unknown announcement"),
        (["web-1", "scp -t {file}"], b"C0644 3 file\nabcX", b"the scp stream cannot be read: no status after a file"),
        (["web-1", "scp -t {file}"], b"E\n", b"a folder ends that never began"),
    ],
)
def test_streams_that_cannot_be_read_are_refused_even_where_policy_allows_it(
    make_ssh_gateway, make_client, open_bundle, place, tmp_path, words, data, reason
):
    file = place / tmp_path.name
    with make_ssh_gateway(tmp_path / "gateway", policy={"bundle": str(open_bundle)}) as running:
        done = make_client(running).ssh(*(word.format(file=file) for word in words), data=data)
    assert done.returncode == 126
    assert reason in done.stderr
    assert b"protocol.malformed: no policy can allow what was not read" in done.stderr
    (code,) = [record["error_code"] for record in read_records(running, "outcome") if record["status"] == "refused"]
    assert code in {"protocol.malformed", "limit.exceeded"}
    assert not file.exists() or file.read_bytes() in {b"", b"abc"}


def test_an_sftp_operation_nobody_knows_is_refused_even_where_policy_allows_it(
    make_ssh_gateway, make_client, open_bundle, tmp_path
):
    with make_ssh_gateway(tmp_path / "gateway", policy={"bundle": str(open_bundle)}) as running:
        done = make_client(running).ssh("-s", "web-1", "sftp", data=START + len(NONSENSE).to_bytes(4) + NONSENSE)
    assert done.returncode == 0
    assert b"the request cannot be read: the operation is not known" in done.stderr
    # STATUS, the number of the request, OP_UNSUPPORTED, and the gateway's own words: the target was never asked.
    assert b"\x65\0\0\0\7\0\0\0\x08" in done.stdout
    assert b"no policy can allow what was not read" in done.stdout
    (refused,) = [record for record in read_records(running, "outcome") if record["status"] == "refused"]
    assert refused["error_code"] == "protocol.malformed"


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("protocol", [[], ["-O"]], ids=["sftp", "scp"])
def test_a_transfer_that_breaks_off_says_so_and_how_far_it_came(
    make_ssh_gateway, make_client, place, tmp_path, protocol, direction
):
    here, there = tmp_path / "here", place / tmp_path.name
    source, arrived = (here, there) if direction == "up" else (there, here)
    source.write_bytes(os.urandom(30_000_000))
    words = [str(here), f"web-1:{there}"] if direction == "up" else [f"web-1:{there}", str(here)]
    with make_ssh_gateway(tmp_path / "gateway") as running:
        client = make_client(running)
        command = ["scp", "-F", str(client.config), *protocol, "-l", "20000", *words]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: arrived.exists() and arrived.stat().st_size > 200_000)
        process.kill()
        process.wait()
        wait_until(lambda: not running.session_count)
    outcomes = read_records(running, "outcome")
    (broken,) = [record for record in outcomes if record.get("tag") == "broken off"]
    assert broken["status"] == "unknown"
    assert broken["stream"]["write_bytes" if direction == "up" else "read_bytes"] >= 200_000
    (whole,) = [record for record in outcomes if record.get("tag", "").endswith("the connection broke off")]
    assert whole["status"] == "unknown"
    assert "refused" not in {record["status"] for record in outcomes}


def test_an_sftp_session_whose_connection_drops_broke_off_and_one_that_ended_did_not(
    make_ssh_gateway, mint_token, place, tmp_path
):
    (place / "dropped").write_text("x")

    async def use(running, *, drops):
        connection = await connect(running, mint_token())
        client = await connection.start_sftp_client()
        assert await client.exists(str(place / "dropped"))
        if drops:
            connection.abort()
        else:
            client.exit()
            await client.wait_closed()
            connection.close()
        await connection.wait_closed()

    for drops, expected in ((True, ("unknown", "the connection broke off")), (False, ("completed", "the client ended it"))):
        with make_ssh_gateway(tmp_path / str(drops)) as running:
            asyncio.run(use(running, drops=drops))
            wait_until(lambda running=running: not running.session_count)
        (whole,) = [record for record in read_records(running, "outcome") if "operations, " in record.get("tag", "")]
        assert (whole["status"], whole["tag"].partition(", ")[2]) == expected


def test_a_command_whose_agent_leaves_is_of_unknown_outcome(make_ssh_gateway, make_client, place, tmp_path):
    (place / "followed").write_text("first line\n")
    with make_ssh_gateway(tmp_path / "gateway") as running:
        process = make_client(running).start("web-1", "tail", "-f", place / "followed")
        assert process.stdout.readline() == b"first line\n"
        process.kill()
        process.communicate()
        wait_until(lambda: not running.session_count)
    (outcome,) = read_records(running, "outcome")
    assert (outcome["status"], outcome["tag"]) == ("unknown", "the agent left")


def test_a_proof_that_ended_opens_no_new_channel(ssh_gateway, mint_token):
    async def use():
        async with connect(ssh_gateway, mint_token(ttl_s=3)) as connection:
            assert (await connection.run("echo x")).stdout == "x\n"
            for _ in range(100):
                try:
                    done = await connection.run("echo x")
                except asyncssh.ChannelOpenError as error:
                    return error.reason
                assert done.stdout in {"x\n", ""}
                await asyncio.sleep(0.1)
        return ""

    assert "has expired" in asyncio.run(use())


def test_the_token_works_as_password_and_in_answer_to_a_prompt(ssh_gateway, mint_token):
    async def use(**options):
        async with connect(ssh_gateway, mint_token(), **options) as connection:
            return (await connection.run("echo x")).stdout

    assert asyncio.run(use(preferred_auth="password")) == "x\n"
    assert asyncio.run(use(preferred_auth="keyboard-interactive")) == "x\n"


def test_idle_connections_end_and_busy_ones_do_not(make_ssh_gateway, mint_token, place, tmp_path):
    (place / "watched").write_text("first\n")

    async def use(running):
        async with connect(running, mint_token()) as busy, connect(running, mint_token()) as idle:
            process = await busy.create_process(f"tail -f {place}/watched")
            assert await process.stdout.readline() == "first\n"
            assert (await idle.run("echo x")).stdout == "x\n"
            await asyncio.wait_for(idle.wait_closed(), 20)
            (place / "watched").open("a").write("second\n")
            assert await asyncio.wait_for(process.stdout.readline(), 20) == "second\n"

    with make_ssh_gateway(tmp_path, limits={"idle_timeout_s": 1.5}) as running:
        asyncio.run(use(running))


def test_window_sizes_and_the_signal_that_ended_a_program_pass(ssh_gateway, mint_token):
    async def use():
        async with connect(ssh_gateway, mint_token(groups=("agents", "break-glass"))) as connection:
            shell = await connection.create_process(term_type="xterm", term_size=(80, 24))
            shell.change_terminal_size(123, 45)
            shell.stdin.write("stty size; kill -KILL $$\n")
            ended = await asyncio.wait_for(shell.wait(), 30)
            return ended.exit_signal[0], ended.stdout

    signal, shown = asyncio.run(use())
    assert signal == "KILL"
    assert "45 123" in shown


def test_other_proofs_are_refused(ssh_gateway, ssh_keys, issuer, tmp_path):
    key = make_key(tmp_path / "key")
    stranger = make_key(tmp_path / "ca")
    for arguments in (
        ["-s", str(stranger), "-I", '{"v":1}', "-n", "sealgate:gw-test", f"{key}.pub"],
        ["-s", ssh_keys["user_ca"].removeprefix("file:"), "-I", "not a subject", "-n", "sealgate:gw-test", f"{key}.pub"],
        ["-s", ssh_keys["user_ca"].removeprefix("file:"), "-I", "x", "-n", "sealgate:other-gateway", f"{key}.pub"],
        ["-s", ssh_keys["host_ca"].removeprefix("file:"), "-h", "-I", "x", "-n", "sealgate:gw-test", f"{key}.pub"],
        None,
    ):
        if arguments is not None:
            subprocess.run(["ssh-keygen", "-q", *arguments], check=True)
        elif (tmp_path / "key-cert.pub").exists():
            (tmp_path / "key-cert.pub").unlink()
        done = subprocess.run(
            ["ssh", "-F", "/dev/null", "-p", str(ssh_gateway.ssh_port), "-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
             "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known", "-l", "deploy%web-1", "127.0.0.1", "uptime"],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 255, arguments
        assert b"Permission denied" in done.stderr


def test_too_many_wrong_tokens_end_the_connection(ssh_gateway):
    async def guess():
        with pytest.raises((asyncssh.PermissionDenied, asyncssh.DisconnectError)):
            await connect(ssh_gateway, "wrong")

    asyncio.run(guess())


def test_logins_at_targets_are_not_shared_between_subjects(ssh_gateway, make_client, sshd):
    for name in ("alone-1", "alone-2"):
        client = make_client(ssh_gateway, sub=name)
        for _ in range(2):
            assert client.ssh("web-1", "echo", "x").returncode == 0
    log = sshd.log.read_text()
    for name in ("alone-1", "alone-2"):
        assert log.count(f'ID "sealgate corp/{name}"') + log.count(f"ID sealgate corp/{name} ") == 1


def test_a_client_without_strict_key_exchange_is_refused(ssh_gateway, mint_token, monkeypatch):
    original = library.SSHConnection._get_extra_kex_algs
    monkeypatch.setattr(
        library.SSHConnection,
        "_get_extra_kex_algs",
        lambda self: [name for name in original(self) if not (self.is_client() and name.startswith(b"kex-strict"))],
    )

    async def use():
        with pytest.raises(asyncssh.DisconnectError, match="strict key exchange"):
            await connect(ssh_gateway, mint_token())

    asyncio.run(use())
