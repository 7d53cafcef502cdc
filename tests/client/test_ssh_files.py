"""The files a client's machine gets: private, complete, and understood by OpenSSH."""

import socket
import stat
import subprocess

import pytest

from gateway.client.ssh_files import (
    SshAccess,
    find_address,
    make_key,
    make_known_hosts,
    make_ssh_config,
    request_certificate,
    write_ssh_files,
)
from gateway.errors import ConfigError, TargetError

ACCESS = SshAccess(
    "ssh-ed25519-cert-v01@openssh.com AAAA",
    "2026-01-01T00:00:00.000000Z",
    "gw.example.com",
    2_022,
    "ssh-ed25519 AAAA",
    {"web-1": "deploy"},
)


def test_the_fragment_is_what_openssh_reads(tmp_path):
    config = write_ssh_files(tmp_path, ACCESS, address="gw.example.com")
    read = subprocess.run(
        ["ssh", "-G", "-F", str(config), "web-1"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for line in ("user deploy", "proxyjump sealgate", "stricthostkeychecking true", "forwardagent no", "identitiesonly yes"):
        assert line in read
    assert f"certificatefile {tmp_path}/id_ed25519-cert.pub" in read
    read = subprocess.run(
        ["ssh", "-G", "-F", str(config), "sealgate"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for line in ("hostname gw.example.com", "port 2022", "hostkeyalias gw.example.com"):
        assert line in read


def test_only_the_owner_reads_the_files(tmp_path):
    make_key(tmp_path / "id_ed25519")
    write_ssh_files(tmp_path, ACCESS, address="x")
    for name in ("id_ed25519", "id_ed25519-cert.pub", "known_hosts", "ssh_config"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_key_is_kept(tmp_path):
    first = make_key(tmp_path / "id_ed25519")
    assert make_key(tmp_path / "id_ed25519") == first
    assert first.startswith("ssh-ed25519 ")
    (tmp_path / "broken").write_text("no key")
    with pytest.raises(ConfigError):
        make_key(tmp_path / "broken")


def test_known_hosts_is_one_line():
    assert make_known_hosts("ssh-ed25519 AAAA") == "@cert-authority * ssh-ed25519 AAAA\n"
    assert "web-1" in make_ssh_config(ACCESS, address="x", folder="/f")


def test_the_address_comes_from_the_admin_listener():
    assert find_address("https://gw.example.com:8444") == "gw.example.com"


def test_a_gateway_that_is_not_there_is_said_so(unused_port):
    with pytest.raises(TargetError, match="does not answer"):
        request_certificate(f"http://127.0.0.1:{unused_port}", "token", "ssh-ed25519 AAAA")


@pytest.fixture
def unused_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield free.getsockname()[1]
