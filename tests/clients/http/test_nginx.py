"""nginx as the service: what a real server does with compression, ranges, conditions and dots; and names that lead where they must not."""

import contextlib
import json
import os
import shutil
import socket
import subprocess

import pytest

from gateway.testing.waiting import wait_until

ACCOUNT = {"owner": "Ann Archer", "ssn": "123-45-6789", "filler": "x" * 4000}


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "www/admin").mkdir(parents=True)
    (folder / "www/account.json").write_text(json.dumps(ACCOUNT))
    (folder / "www/admin/secret.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    account = "user root; " if os.geteuid() == 0 else ""
    http = f"access_log off; gzip on; gzip_types *; types {{ application/json json; }} server {{ listen 127.0.0.1:{port}; root www; }}"
    text = f"{account}daemon off; pid nginx.pid; error_log stderr; events {{}} http {{ {http} }}\n"
    (folder / "nginx.conf").write_text(text)
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.DEVNULL)

    def answers():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    wait_until(answers)
    yield port
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def running(nginx, make_gateway, tmp_path_factory):
    connection = {
        "name": "files",
        "type": "http",
        "match": {"hosts": ["ledger.bank.test"]},
        "target": {"scheme": "http", "host": "127.0.0.1", "port": nginx},
        "environment": "staging",
        "allow_groups": ["agents"],
        "sensitive": ["ssn"],
        "operations": [{"id": "account", "methods": ["GET"], "path": "/account.json"}],
    }
    with make_gateway(tmp_path_factory.mktemp("gateway"), connections=[connection]) as gateway:
        yield gateway


@pytest.mark.parametrize("options", [(), ("--compressed",), ("-H", "accept-encoding: gzip, br"), ("-r", "20-60"), ("--http1.1",)])
def test_answers_are_whole_plain_and_masked(curl, running, mint, options):
    answer = curl("/account.json", *options, running=running, token=mint())
    assert answer.status == 200, answer.all
    assert answer.json["ssn"] == "[redacted]"
    assert "content-encoding" not in answer.head.lower()
    assert "accept-ranges" not in answer.head.lower()


def test_conditions_pass(curl, running, mint):
    first = curl("/account.json", running=running, token=mint())
    tag = next(line for line in first.head.splitlines() if line.lower().startswith("etag:")).split(": ", 1)[1]
    assert curl("/account.json", "-H", f"if-none-match: {tag}", running=running, token=mint()).status == 304


@pytest.mark.parametrize(
    "path", ["//admin/secret.json", "/x/../admin/secret.json", "/%61dmin/secret.json", "/./admin/secret.json"]
)
def test_what_nginx_would_normalise_is_judged_by_its_normal_form(curl, running, mint, path):
    answer = curl(path, "--path-as-is", running=running, token=mint())
    assert answer.status == 403
    assert answer.json["rule"] == "http.operations.undeclared"


def test_a_name_that_leads_to_the_gateways_own_machine_is_not_spoken_to(make_gateway, mint, tmp_path, nginx):
    connection = {
        "name": "near",
        "type": "http",
        "match": {"hosts": ["localhost"], "ports": [nginx]},
        "target": {"scheme": "http"},
        "environment": "staging",
        "allow_groups": ["agents"],
    }
    with make_gateway(tmp_path, connections=[connection]) as near:
        proxy = f"http://agent:{mint()}@127.0.0.1:{near.http_port}"
        command = ["curl", "-sS", "-i", "--noproxy", "", "--proxy", proxy, f"http://localhost:{nginx}/account.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert " 502" in done.stdout.splitlines()[0], done.stdout
    assert "Ann" not in done.stdout
