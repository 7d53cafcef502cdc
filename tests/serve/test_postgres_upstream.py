"""The gateway's own logins against a real server: TLS modes, SCRAM with channel binding, rotation, cancellation, look-ups."""

import asyncio
import dataclasses
import struct

import pytest
from sealgate_native.postgres import encode_message, encode_query

from gateway.errors import TargetError
from gateway.serve.listeners import Wire
from gateway.serve.postgres.lookups import run_query
from gateway.serve.postgres.start import LOGIN_METHODS
from gateway.serve.postgres.upstream import PostgresTarget, open_upstream
from gateway.testing.certificates import make_authority
from gateway.testing.postgres import start_postgres
from gateway.testing.waiting import wait_until_async


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority):
    access = ["hostssl all carded 127.0.0.1/32 cert", "hostssl all cloud 127.0.0.1/32 password"]
    certificate = authority.issue("target", ["127.0.0.1"])
    with start_postgres(tls=certificate, client_ca=authority.ca_file, access=access) as running:
        running.run("create role owner login password 'first'; create database shop owner owner")
        running.run("create role carded login; create role cloud login password 'good-for-a-quarter-hour'")
        yield running


@pytest.fixture
def target(server, authority):
    return PostgresTarget("127.0.0.1", server.port, "shop", ca_file=authority.ca_file)


def credential(user="owner", password="first"):
    async def give():
        return user, password

    return give


async def test_verified_tls_and_a_bound_login(target):
    upstream = await open_upstream(target, credential(), {"application_name": "test"})
    assert upstream.mechanism == "SCRAM-SHA-256-PLUS"
    assert upstream.parameters["client_encoding"] == "UTF8" or upstream.parameters["server_encoding"] == "UTF8"
    assert await run_query(upstream, "select ssl, current_user from pg_stat_ssl where pid = pg_backend_pid()") == [("t", "owner")]
    upstream.close()


@pytest.mark.parametrize(("mode", "ssl"), [("require", "t"), ("verify-ca", "t"), ("disable", "f")])
async def test_tls_modes(target, mode, ssl):
    upstream = await open_upstream(dataclasses.replace(target, tls_mode=mode), credential(), {})
    assert await run_query(upstream, "select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [(ssl,)]
    upstream.close()


async def test_unix_socket_without_password(server):
    target = PostgresTarget("", server.port, "postgres", socket_dir=server.socket_dir)
    upstream = await open_upstream(target, credential("postgres", ""), {})
    assert upstream.mechanism == ""
    upstream.close()


async def test_certificate_of_another_name_is_refused(target):
    with pytest.raises(TargetError, match="certificate"):
        await open_upstream(dataclasses.replace(target, host="localhost"), credential(), {})


async def test_certificate_of_another_authority_is_refused(target, tmp_path):
    other = make_authority(tmp_path)
    for mode in ("verify-ca", "verify-full"):
        with pytest.raises(TargetError, match="certificate"):
            await open_upstream(dataclasses.replace(target, ca_file=other.ca_file, tls_mode=mode), credential(), {})


async def test_server_without_tls_is_refused_where_tls_is_wanted():
    async def answer_no(reader, writer):
        await reader.readexactly(8)
        writer.write(b"N")

    async with await asyncio.start_server(answer_no, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(TargetError, match="does not offer TLS"):
            await open_upstream(PostgresTarget("127.0.0.1", port, "x", tls_mode="require"), credential(), {})


async def test_bytes_sneaked_in_before_encryption_are_refused():
    async def answer_more(reader, writer):
        await reader.readexactly(8)
        writer.write(b"S" + encode_message("R", struct.pack("!I", 0)))

    async with await asyncio.start_server(answer_more, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(TargetError):
            await open_upstream(PostgresTarget("127.0.0.1", port, "x", tls_mode="require"), credential(), {})


async def test_wrong_password_says_nothing_of_the_credential_in_its_message(target):
    with pytest.raises(TargetError) as caught:
        await open_upstream(target, credential(password="wrong"), {})
    assert caught.value.what == "the target refused the login"
    assert "wrong" not in str(caught.value)


async def test_unreachable_and_silent_targets(target):
    with pytest.raises(TargetError, match="cannot be reached"):
        await open_upstream(dataclasses.replace(target, port=1), credential(), {})

    async def say_nothing(reader, writer):
        await reader.read()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        silent = PostgresTarget("127.0.0.1", port, "x", tls_mode="disable", connect_timeout_s=0.2)
        with pytest.raises(TargetError, match="in time"):
            await open_upstream(silent, credential(), {})


async def test_the_credential_is_asked_for_at_every_login(server, target):
    current = {"password": "first"}

    async def give():
        return "owner", current["password"]

    (await open_upstream(target, give, {})).close()
    server.run("alter role owner password 'second'")
    try:
        with pytest.raises(TargetError):
            await open_upstream(target, give, {})
        current["password"] = "second"
        (await open_upstream(target, give, {})).close()
    finally:
        server.run("alter role owner password 'first'")


async def test_cancel_reaches_the_running_statement(target):
    upstream = await open_upstream(target, credential(), {})
    running = asyncio.create_task(run_query(upstream, "select pg_sleep(60)"))
    other = await open_upstream(target, credential(), {})
    active = "select 1 from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    await wait_until_async(lambda: run_query(other, active))
    await upstream.cancel()
    with pytest.raises(TargetError, match="refused"):
        await running
    assert await run_query(upstream, "select 1") == [("1",)]
    upstream.close()
    other.close()


async def test_rows_of_any_shape(target):
    upstream = await open_upstream(target, credential(), {})
    rows = await run_query(upstream, "select null, '', 'ä', repeat('x', 300000) from generate_series(1, 3)")
    assert rows == [(None, "", "ä", "x" * 300_000)] * 3
    upstream.close()


async def test_target_that_breaks_off_is_noticed():
    async def leave(reader, writer):
        await reader.read(4)
        writer.close()

    async with await asyncio.start_server(leave, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
        wire.write(encode_query("select 1"))
        assert await wire.read() == b""
        assert wire.gone.is_set()


async def test_a_client_certificate_is_a_login_of_its_own(target, authority):
    carded = dataclasses.replace(target, own_certificate=authority.issue("carded"), login_methods=LOGIN_METHODS["certificate"])
    upstream = await open_upstream(carded, credential("carded", ""), {})
    assert await run_query(upstream, "select current_user, client_dn from pg_stat_ssl where pid = pg_backend_pid()") == [
        ("carded", "/CN=carded")
    ]
    upstream.close()
    with pytest.raises(TargetError, match="refused the login"):
        await open_upstream(dataclasses.replace(carded, own_certificate=authority.issue("other")), credential("carded", ""), {})
    with pytest.raises(TargetError, match="refused the login"):
        await open_upstream(dataclasses.replace(carded, own_certificate=None), credential("carded", ""), {})


async def test_a_certificate_file_that_is_not_there_is_a_clear_error(target, tmp_path):
    missing = dataclasses.replace(target, own_certificate=(tmp_path / "a.crt", tmp_path / "a.key"))
    with pytest.raises(TargetError, match="certificate for the target cannot be used"):
        await open_upstream(missing, credential("carded", ""), {})


async def test_a_readable_password_is_sent_only_where_the_configuration_says_so(target):
    with pytest.raises(TargetError, match="a login the gateway does not give"):
        await open_upstream(target, credential("cloud", "good-for-a-quarter-hour"), {})
    cloud = dataclasses.replace(target, login_methods=LOGIN_METHODS["password"])
    upstream = await open_upstream(cloud, credential("cloud", "good-for-a-quarter-hour"), {})
    assert upstream.mechanism == "password"
    upstream.close()
