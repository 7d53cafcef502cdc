"""How the gateway proves itself, and that nothing an agent can see ever shows it."""

import base64
import gzip
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
from urllib.parse import quote

import pytest

from evidence.sessions import list_sessions, replay
from gateway.testing.waiting import wait_until

SECRET = "s3cr3t+value/with=odd&chars%in'it"


class EchoService:
    """Answers with everything it was sent, in every spelling, and with the client certificate's name."""

    def __init__(self, authority, *, wants_certificate=False):
        owner = self
        self.seen = []
        self.tokens = 0
        self.token_life_s = 3600

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                owner.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                proof = self.headers.get("authorization", "") + self.headers.get("x-api-key", "") + self.path
                peer = self.connection.getpeercert()
                parts = [proof, SECRET, SECRET[::1].encode().hex(), quote(SECRET, safe=""), json.dumps(SECRET)]
                parts += [base64.b64encode(pad + SECRET.encode()).decode() for pad in (b"", b"a", b"ab")]
                parts += ["".join(f"\\u{ord(char):04x}" for char in SECRET), str(peer and peer["subject"])]
                body = json.dumps({"parts": parts, "deep": {"x": base64.b64encode(quote(SECRET).encode()).decode()}}).encode()
                if "gzip" in self.path:
                    body = gzip.compress(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/json" if "text" not in self.path else "text/html")
                if "gzip" in self.path:
                    self.send_header("Content-Encoding", "gzip")
                self.send_header("X-Proof", proof)
                self.send_header("Set-Cookie", f"proof={quote(proof)}; Path=/")
                self.send_header("Location", f"https://{'service.test'}/?token={quote(SECRET, safe='')}")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for at in range(0, len(body), 7):
                    piece = body[at : at + 7]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")

            def do_POST(self):
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                owner.tokens += 1
                good = base64.b64encode(f"gw:{quote(SECRET, safe='')}".encode()).decode()
                ok = self.headers["authorization"] == f"Basic {good}" and "grant_type=client_credentials" in form
                body = json.dumps(
                    {"access_token": f"oauth-token-{owner.tokens}-abcdefgh", "expires_in": owner.token_life_s}
                ).encode()
                self.send_response(200 if ok else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("echo", ["service.test", "127.0.0.1"]))
        if wants_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority.ca_file)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def open_service(authority):
    opened = []

    def make(**options):
        opened.append(EchoService(authority, **options))
        return opened[-1]

    yield make
    for service in opened:
        service.stop()


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return f"file:{path}"


def connect(service, authority, credential):
    return {
        "name": "service",
        "type": "http",
        "match": {"hosts": ["service.test"]},
        "target": {"host": "127.0.0.1", "port": service.port, "tls": {"ca_file": str(authority.ca_file)}},
        "environment": "staging",
        "allow_groups": ["agents"],
        **({"credential": credential} if credential else {}),
    }


def ask(running, token, path="/", *options):
    trusted = running.config.listeners.http.ca.cert_file
    proxy = f"http://agent:{token}@127.0.0.1:{running.http_port}"
    command = ["curl", "-sS", "-i", "--suppress-connect-headers", "--proxy", proxy, "--cacert", str(trusted), *options]
    done = subprocess.run([*command, f"https://service.test{path}"], capture_output=True, check=False, timeout=30)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def spellings(secret):
    raw = secret.encode()
    yield from (secret, raw.hex(), quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1])
    for pad in range(3):
        yield base64.b64encode(b"\0" * pad + raw).decode()[4:-4]


CREDENTIALS = {
    "bearer": (lambda ref: {"kind": "bearer", "token": ref}, lambda seen: seen[1]["authorization"] == f"Bearer {SECRET}"),
    "basic": (
        lambda ref: {"kind": "basic", "user": "gw", "password": ref},
        lambda seen: seen[1]["authorization"] == f"Basic {base64.b64encode(f'gw:{SECRET}'.encode()).decode()}",
    ),
    "header": (lambda ref: {"kind": "header", "name": "X-Api-Key", "value": ref}, lambda seen: seen[1]["x-api-key"] == SECRET),
    "query": (
        lambda ref: {"kind": "query", "name": "key", "value": ref},
        lambda seen: f"key={quote(SECRET, safe='')}" in seen[0],
    ),
}


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_the_secret_arrives_and_is_found_nowhere(
    kind, open_service, authority, secret, make_gateway, mint, tmp_path, caplog, capfd
):
    """Greps traffic, the process's environment and output, logs and evidence, sealed parts opened."""
    service = open_service()
    make, arrived = CREDENTIALS[kind]
    folder = tmp_path / "gateway"
    with make_gateway(folder, connections=[connect(service, authority, make(secret))]) as running:
        answers = [
            ask(running, mint(), path, version) for path in ("/", "/gzip", "/text") for version in ("--http1.1", "--http2")
        ]
        answers.append(ask(running, mint(), "/x", "-X", "POST", "-d", "a=b"))
    assert all(arrived(seen) for seen in service.seen)
    assert all(" 200" in answer.splitlines()[0] for answer in answers[:6]), answers
    evidence = running.config.evidence.store
    age = (folder / "auditor.age").read_text()
    opened = [
        f"{step.text}{step.content}" if hasattr(step, "text") else str(step)
        for session in list_sessions(evidence)
        for step in replay(evidence, session.sid, [age])
    ]
    assert any("masked:credential" in step for step in opened)
    output = capfd.readouterr()
    places = {
        "answers": "\n".join(answers),
        "opened evidence": "\n".join(opened),
        "raw evidence": "\n".join(path.read_bytes().decode("latin-1") for path in evidence.rglob("*") if path.is_file()),
        "logs": caplog.text + output.out + output.err,
        "environment": "\n".join(f"{name}={value}" for name, value in os.environ.items()),
    }
    for place, text in places.items():
        for spelling in spellings(SECRET):
            assert spelling not in text, f"{spelling} in {place}"


def test_a_client_certificate_is_shown(open_service, authority, make_gateway, mint, tmp_path):
    service = open_service(wants_certificate=True)
    cert_file, key_file = authority.issue("gateway-client")
    credential = {"kind": "mtls", "cert_file": str(cert_file), "key": f"file:{key_file}"}
    with make_gateway(tmp_path / "with", connections=[connect(service, authority, credential)]) as running:
        answer = ask(running, mint())
        assert "gateway-client" in answer, answer
    with make_gateway(tmp_path / "without", connections=[connect(service, authority, None)]) as running:
        assert "gateway-client" not in ask(running, mint())


def test_oauth2_tokens_are_fetched_once_and_renewed(open_service, authority, secret, make_gateway, mint, tmp_path):
    service = open_service()
    credential = {
        "kind": "oauth2",
        "token_url": f"https://127.0.0.1:{service.port}/token",
        "client_id": "gw",
        "client_secret": secret,
        "ca_file": str(authority.ca_file),
    }
    with make_gateway(tmp_path / "gateway", connections=[connect(service, authority, credential)]) as running:
        assert "oauth-token" not in ask(running, mint())
        ask(running, mint())
        assert service.tokens == 1
        assert service.seen[-1][1]["authorization"] == "Bearer oauth-token-1-abcdefgh"
    service.token_life_s = 1
    service.tokens = 0
    with make_gateway(tmp_path / "short", connections=[connect(service, authority, credential)]) as running:
        ask(running, mint())
        ask(running, mint())
        assert service.tokens == 2, "a token that is about to end is not used again"


def test_a_credential_that_cannot_be_had_is_told_without_it(open_service, authority, make_gateway, mint, tmp_path):
    service = open_service()
    credential = {"kind": "bearer", "token": f"file:{tmp_path / 'missing'}"}
    with make_gateway(tmp_path / "gateway", connections=[connect(service, authority, credential)]) as running:
        answer = ask(running, mint())
    assert " 502" in answer.splitlines()[0]
    assert "credential of this connection cannot be read" in answer
    assert not service.seen
    outcomes = [record for record in running.read_records() if record["type"] == "outcome"]
    assert [record["status"] for record in outcomes] == ["refused"]


def test_the_agents_own_token_never_reaches_a_service(open_service, authority, make_gateway, mint, tmp_path):
    service = open_service()
    token = mint()
    with make_gateway(tmp_path / "gateway", connections=[connect(service, authority, None)]) as running:
        for options in (("-H", f"authorization: Bearer {token}"), ("-H", f"x-any: {token}")):
            assert " 400" in ask(running, token, "/", *options).splitlines()[0]
        assert " 400" in ask(running, token, f"/?t={token}").splitlines()[0]
        ask(running, token)
    assert token not in str(service.seen)
    raw = "".join(path.read_bytes().decode("latin-1") for path in running.config.evidence.store.rglob("*") if path.is_file())
    assert token not in raw
    assert re.search("sealgate", raw)
    wait_until(lambda: True)
