"""The gateway's own login at a target: by key, password and certificate, a host proven by key or authority, signals on their way in."""

import asyncio
import subprocess

import asyncssh
import pytest

from gateway.testing.ssh import make_key, start_sshd
from gateway.testing.ssh_target import start_target

SECRET = "0nly-the-gateway-knows"


@pytest.fixture
def run(make_ssh_gateway, make_ssh_connection, make_client, tmp_path):
    """Runs a command through a gateway of its own for a connection with these members; returns what stock ssh got."""

    def make(*words, **changes):
        with make_ssh_gateway(tmp_path / "gateway", connections=[make_ssh_connection(**changes)]) as running:
            return make_client(running).ssh("web-1", *words)

    return make


def secret_file(path, text):
    path.touch(mode=0o600)
    path.write_text(text)
    return f"file:{path}"


def test_login_with_a_key(run, sshd):
    assert run("uname", credential={"user": sshd.user, "key": f"file:{sshd.key}"}).stdout == b"Linux\n"


def test_login_with_a_password_that_nobody_sees(run, tmp_path):
    with start_target(tmp_path / "target", password=SECRET) as target:
        place = {"host": "127.0.0.1", "port": target.port, "known_hosts": str(target.known_hosts)}
        reference = secret_file(tmp_path / "password", SECRET)
        done = run("uname", target=place, credential={"user": target.user, "password": reference})
        assert (done.returncode, done.stdout) == (0, b"Linux\n"), done.stderr
        wrong = secret_file(tmp_path / "wrong", "wrong-password")
        refused = run("uname", target=place, credential={"user": target.user, "password": wrong})
    assert refused.returncode == 255
    assert b"wrong-password" not in refused.stderr


def test_a_host_proven_by_an_authority(run, tmp_path):
    authority = make_key(tmp_path / "authority")
    folder = tmp_path / "sshd"
    folder.mkdir()
    host_key = make_key(folder / "host_key")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "host", "-h", "-n", "127.0.0.1", f"{host_key}.pub"]
    subprocess.run(sign, check=True)
    with start_sshd(folder, options=[f"HostCertificate {host_key}-cert.pub"]) as server:
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(f"@cert-authority [127.0.0.1]:{server.port} {(tmp_path / 'authority.pub').read_text()}")
        place = {"host": "127.0.0.1", "port": server.port, "known_hosts": str(known_hosts)}
        credential = {"user": server.user, "user_ca": f"file:{server.user_ca}"}
        assert run("uname", target=place, credential=credential).stdout == b"Linux\n"
        other = make_key(tmp_path / "other")
        known_hosts.write_text(f"@cert-authority [127.0.0.1]:{server.port} {other.with_suffix('.pub').read_text()}")
        refused = run("uname", target=place, credential=credential)
    assert refused.returncode == 255
    assert refused.stdout == b""


async def test_a_signal_reaches_the_program(make_ssh_gateway, make_ssh_connection, make_client, place, tmp_path):
    (place / "follow").write_text("first line\n")
    with start_target(tmp_path / "target") as target:
        address = {"host": "127.0.0.1", "port": target.port, "known_hosts": str(target.known_hosts)}
        credential = {"user": target.user, "user_ca": f"file:{target.user_ca}"}
        connection = make_ssh_connection(target=address, credential=credential)
        with make_ssh_gateway(tmp_path / "gateway", connections=[connection]) as running:
            client = await asyncio.to_thread(make_client, running)
            options = {"port": running.ssh_port, "username": "deploy%web-1", "known_hosts": None, "password": client.token}
            async with (
                asyncssh.connect("127.0.0.1", client_keys=None, encryption_algs=["aes256-gcm@openssh.com"], **options) as agent,
                agent.create_process(f"tail -f {place}/follow") as process,
            ):
                first = await process.stdout.readline()
                assert first == "first line\n", await process.stderr.read()
                process.send_signal("TERM")
                done = await asyncio.wait_for(process.wait(), 20)
    assert done.exit_signal[0] == "TERM"
