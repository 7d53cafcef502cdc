"""The SSH target without OpenSSH's server, with the stock client: the demonstration on machines that have no sshd."""

import subprocess

import pytest

from gateway.demo import ssh_scene
from gateway.testing.ssh import make_key
from gateway.testing.ssh_target import start_target


@pytest.fixture
def client(tmp_path):
    """A stock client with a certificate of the target's authority; returns a function that runs a program."""
    with start_target(tmp_path / "target") as target:
        key = make_key(tmp_path / "key")
        sign = ["ssh-keygen", "-q", "-s", str(target.user_ca), "-I", "someone", "-n", target.user, f"{key}.pub"]
        subprocess.run(sign, check=True)
        options = ["-i", str(key), "-o", f"UserKnownHostsFile={target.known_hosts}", "-o", "BatchMode=yes"]

        def run(program, port_option, *words):
            command = [program, "-F", "/dev/null", *options, port_option, str(target.port), *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        yield run, f"{target.user}@127.0.0.1"


def test_a_command_runs_and_its_exit_code_comes_back(client):
    run, login = client
    done = run("ssh", "-p", login, "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_file_is_copied(client, tmp_path):
    run, login = client
    (tmp_path / "a").write_text("content")
    done = run("scp", "-P", str(tmp_path / "a"), f"{login}:{tmp_path}/b")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b").read_text() == "content"


def test_a_key_without_a_certificate_does_not_log_in(client, tmp_path):
    run, login = client
    (tmp_path / "key-cert.pub").unlink()
    assert run("ssh", "-p", login, "true").returncode == 255


def test_the_demonstration_falls_back_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ssh_scene, "has_sshd", lambda: False)
    with ssh_scene.open_target(tmp_path) as target:
        assert target.sshd.port
        assert target.connection()["target"]["port"] == target.sshd.port
