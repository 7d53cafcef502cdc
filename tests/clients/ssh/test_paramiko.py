"""paramiko, in both ways in: certificate and token, commands and files."""

import paramiko
import pytest


@pytest.fixture
def options(ssh_gateway):
    return {"hostname": "127.0.0.1", "port": ssh_gateway.ssh_port, "allow_agent": False, "look_for_keys": False}


@pytest.fixture
def new_client():
    opened = []

    def make(**options):
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # paramiko reads no @cert-authority lines
        opened.append(client)
        client.connect(**options)
        return client

    yield make
    for client in opened:
        client.close()


def run(client, command):
    _, output, errors = client.exec_command(command, timeout=60)
    return output.channel.recv_exit_status(), output.read(), errors.read()


def test_a_certificate_and_both_kinds_of_answers(new_client, options, agent, place):
    folder = agent.config.parent
    key = paramiko.Ed25519Key.from_private_key_file(str(folder / "id_ed25519"))
    key.load_certificate(str(folder / "id_ed25519-cert.pub"))
    client = new_client(**options, username="deploy%web-1", pkey=key)
    assert run(client, "echo hello") == (0, b"hello\n", b"")
    status, _, errors = run(client, "rm -rf /")
    assert (status, b"ssh.destructive.program" in errors) == (126, True)
    with client.open_sftp() as files:
        files.put(str(agent.config), f"{place}/paramiko")
        assert files.stat(f"{place}/paramiko").st_size == agent.config.stat().st_size
        with files.open(f"{place}/paramiko") as remote:
            assert remote.read() == agent.config.read_bytes()
        with pytest.raises(PermissionError, match=r"ssh\.credentials\.path"):
            files.open("/etc/shadow")


def test_a_jump_with_a_token(new_client, options, agent):
    outer = new_client(**options, username="anything", password=agent.token)
    channel = outer.get_transport().open_channel("direct-tcpip", ("web-1", 22), ("127.0.0.1", 0))
    inner = paramiko.Transport(channel)
    inner.start_client(timeout=60)
    inner.auth_none("deploy")
    session = inner.open_session()
    session.exec_command("echo hello")
    assert (session.makefile().read(), session.recv_exit_status()) == (b"hello\n", 0)
    inner.close()
