"""`sealgate env` gives stock ssh, scp and git their way through the gateway, and names nothing the caller may not use."""

import json
import os
import subprocess
import sys

import httpx
import pytest

SEALGATE = [sys.executable, "-m", "gateway.cli"]


def make_environment(running, token, tmp_path):
    variables = os.environ | {"SEALGATE_ADMIN_URL": f"http://127.0.0.1:{running.admin_port}", "SEALGATE_TOKEN": token}
    command = [*SEALGATE, "env", "--shell", "json", "--dir", str(tmp_path / "agent")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return variables | json.loads(done.stdout)


def test_stock_ssh_works_in_the_environment(ssh_gateway, agent, tmp_path):
    variables = make_environment(ssh_gateway, agent.token, tmp_path)
    script = 'ssh -F "$SEALGATE_SSH_CONFIG" -o BatchMode=yes web-1 uname'
    done = subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "Linux\n"), done.stderr
    assert variables["GIT_SSH_COMMAND"] == f'ssh -F "{variables["SEALGATE_SSH_CONFIG"]}"'
    assert (tmp_path / "agent/ssh/id_ed25519").stat().st_mode & 0o077 == 0


def test_names_of_systems_are_told_to_those_who_may_use_them(ssh_gateway, agent, issuer, tmp_path):
    url = f"http://127.0.0.1:{ssh_gateway.admin_port}/v1/clients"

    def ask(token):
        return httpx.get(url, headers={"authorization": f"Bearer {token}"}).json()["protocols"]["ssh"]["hosts"]

    assert "web-1" in ask(agent.token)
    stranger = issuer.mint("nobody", groups=["strangers"])
    assert ask(stranger) == {}
    assert "SEALGATE_SSH_CONFIG" not in make_environment(ssh_gateway, stranger, tmp_path)


@pytest.mark.parametrize("command", [["env"], ["ssh-cert"], ["approvals", "list"]], ids=" ".join)
def test_commands_find_the_gateway_inside_the_environment_too(ssh_gateway, agent, tmp_path, command):
    variables = make_environment(ssh_gateway, agent.token, tmp_path)
    variables |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    folder = [] if command[0] == "approvals" else ["--dir", str(tmp_path / "again")]
    done = subprocess.run([*SEALGATE, *command, *folder], env=variables, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
