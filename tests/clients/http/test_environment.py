"""`sealgate env`, `run`, `agent` and `token` with stock clients, and the reverse listener for clients that know no proxy."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway.client.environment import Environment
from gateway.client.forwarder import add_token

CHECK = "curl -sS https://ledger.bank.test/accounts"
SEALGATE = [sys.executable, "-m", "gateway.cli"]


@pytest.fixture
def variables(gateway, mint, tmp_path):
    return os.environ | {
        "SEALGATE_ADMIN_URL": f"http://127.0.0.1:{gateway.admin_port}",
        "SEALGATE_TOKEN": mint(),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }


def run(command, environment, **options):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60, **options)


def test_exports_for_sh_work_with_stock_curl(variables):
    script = f'eval "$({sys.executable} -m gateway.cli env)" && {CHECK}'
    done = run(["sh", "-c", script], variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accounts"][0]["ssn"] == "[redacted]"


def test_exports_as_json(variables, tmp_path):
    done = run([*SEALGATE, "env", "--shell", "json"], variables)
    said = json.loads(done.stdout)
    assert said["HTTPS_PROXY"].startswith("http://agent:")
    assert said["SSL_CERT_FILE"] == said["CURL_CA_BUNDLE"] == said["NODE_EXTRA_CA_CERTS"]
    bundle = (tmp_path / "sealgate/gw-test/ca-bundle.pem").read_text()
    assert bundle.count("BEGIN CERTIFICATE") > 1 or not Path("/etc/ssl/certs/ca-certificates.crt").exists()
    assert (tmp_path / "sealgate/gw-test/ca-bundle.pem").stat().st_mode & 0o077 == 0


def test_quoting_in_every_shell():
    awkward = 'it\'s a \\ "test" $HOME `x`'
    made = Environment({"NAME": awkward}, ())
    assert made.render("sh") == "export NAME='it'\"'\"'s a \\ \"test\" $HOME `x`'"
    assert made.render("fish") == "set -gx NAME 'it\\'s a \\\\ \"test\" $HOME `x`'"
    assert made.render("powershell") == "$Env:NAME = 'it''s a \\ \"test\" $HOME `x`'"
    assert json.loads(made.render("json"))["NAME"] == awkward
    shown = run(["sh", "-c", f'{made.render("sh")}; printf %s "$NAME"'], dict(os.environ))
    assert shown.stdout == awkward
    if fish := shutil.which("fish"):
        assert run([fish, "-c", f'{made.render("fish")}; printf %s "$NAME"'], dict(os.environ)).stdout == awkward


def test_a_command_runs_with_everything_it_needs(variables):
    done = run([*SEALGATE, "run", "--", "sh", "-c", f"{CHECK}; echo; env"], variables)
    assert done.returncode == 0, done.stderr
    body, _, environment = done.stdout.partition("\n")
    assert json.loads(body)["accounts"]
    proxy = next(line for line in environment.splitlines() if line.startswith("HTTPS_PROXY="))
    assert "@" not in proxy, "the forwarder holds the token, the environment does not"
    assert variables["SEALGATE_TOKEN"] not in environment
    assert run([*SEALGATE, "run", "--", "sh", "-c", "exit 7"], variables).returncode == 7
    assert run([*SEALGATE, "run", "--", "no-such-program"], variables).returncode == 2


def test_the_agent_uses_a_renewed_token_at_once(variables, gateway, mint, tmp_path, ca_file):
    token_file = tmp_path / "token"
    token_file.write_text(mint())
    command = [*SEALGATE, "agent", "--json", "--token-file", str(token_file)]
    agent = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = json.loads(agent.stdout.readline())["ready"]
        token_file.write_text("no longer a token")
        curl = [
            "curl",
            "-sS",
            "-i",
            "--proxy",
            f"http://{address}",
            "--cacert",
            str(ca_file),
            "https://ledger.bank.test/accounts",
        ]
        assert run(curl, dict(os.environ)).returncode != 0
        token_file.write_text(mint())
        assert "Ann Archer" in run(curl, dict(os.environ)).stdout
        plain = run([*curl[:-1], "http://ledger.bank.test/accounts"], dict(os.environ))
        assert "Ann Archer" in plain.stdout
    finally:
        agent.terminate()
        assert agent.wait(20) == 0
        agent.stdout.close()
        agent.stderr.close()


def test_tokens_and_their_errors(variables, tmp_path):
    assert run([*SEALGATE, "token"], variables).stdout.strip() == variables["SEALGATE_TOKEN"]
    assert run([*SEALGATE, "token", "--token-command", "echo abc"], variables).stdout == "abc\n"
    assert run([*SEALGATE, "token", "--token-file", str(tmp_path / "none")], variables).returncode == 4
    assert run([*SEALGATE, "env"], variables | {"SEALGATE_TOKEN": "nonsense"}).returncode == 4
    assert run([*SEALGATE, "env"], variables | {"SEALGATE_ADMIN_URL": "http://127.0.0.1:9"}).returncode == 5


def test_the_admin_listener_tells_clients_nothing_without_a_token(gateway, mint):
    url = f"http://127.0.0.1:{gateway.admin_port}/v1/clients"
    assert httpx.get(url).status_code == 401
    told = httpx.get(url, headers={"authorization": f"Bearer {mint()}"}).json()
    assert told["gateway"] == "gw-test"
    assert told["protocols"]["http"]["port"] == gateway.http_port
    assert "PRIVATE" not in str(told)


def test_a_forwarder_adds_the_token_once():
    head = b"GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic x\r\nConnection: keep-alive\r\n\r\n"
    made = add_token(head, "t")
    assert made.count(b"Proxy-Authorization") == 1
    assert b"Connection: close" in made
    assert b"Connection: close" not in add_token(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "t")
    with pytest.raises(ValueError, match="request line"):
        add_token(b"nonsense\r\n\r\n", "t")


def test_the_reverse_listener(make_gateway, mint, tmp_path, service):
    with make_gateway(tmp_path, listeners={}) as probe:
        section = probe.config.listeners.http
    http = {"port": 0, "ca": {"cert_file": str(section.ca.cert_file), "key": section.ca.key}, "reverse": {"port": 0}}
    with make_gateway(tmp_path, listeners={"http": http, "admin": {"port": 0}}) as running:
        port = running.gateway._hosts["http"].reverse_address[1]
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {mint()}"}, trust_env=False
        ) as client:
            read = client.get("/ledger/accounts?x=1")
            assert read.status_code == 200, read.text
            assert read.json()["accounts"][0]["ssn"] == "[redacted]"
            assert service.record.requests[-1].path == "/accounts"
            assert service.record.requests[-1].headers["authorization"].startswith("Bearer s3rvice")
            assert client.delete("/ledger/accounts/1").status_code == 403
            assert client.get("/ledger/redirect").headers["location"].startswith("/ledger/echo")
            assert client.get("/nothing/accounts").status_code == 403
            assert client.get("/").status_code == 403
            refused = client.get("/ledger/accounts", headers={"authorization": "Bearer x"})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert client.request("CONNECT", "/ledger/accounts").status_code in {400, 405}
