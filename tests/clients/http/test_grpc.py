"""gRPC's own Python client and server: unary calls, streams of one direction, and what becomes of streams in both at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

ACCOUNTS = "/bank.Accounts"
SSN = b"ssn 123-45-6789 of "


class Bank:
    """What the server does, and what it saw."""

    def __init__(self):
        self.seen = []

    def show(self, request, context):
        self.seen.append(request)
        context.set_trailing_metadata((("note", "ssn 123-45-6789"),))
        return SSN + request

    def stream(self, request, _):
        for number in range(3):
            yield b"%d " % number + SSN + request

    def gather(self, requests, _):
        self.seen += requests
        return SSN + b", ".join(self.seen)

    def talk(self, requests, _):
        for request in requests:
            self.seen.append(request)
            yield SSN + request


@pytest.fixture(scope="module")
def bank():
    return Bank()


@pytest.fixture(scope="module")
def port(bank, authority):
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "Show": grpc.unary_unary_rpc_method_handler(bank.show),
        "Stream": grpc.unary_stream_rpc_method_handler(bank.stream),
        "Gather": grpc.stream_unary_rpc_method_handler(bank.gather),
        "Talk": grpc.stream_stream_rpc_method_handler(bank.talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bank.Accounts", handlers),))
    cert_file, key_file = authority.issue("grpc", ["grpc.test", "127.0.0.1"])
    credentials = grpc.ssl_server_credentials([(key_file.read_bytes(), cert_file.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture(scope="module")
def running(port, authority, make_gateway, tmp_path_factory):
    connection = {
        "name": "grpc",
        "type": "http",
        "match": {"hosts": ["grpc.test"]},
        "target": {"host": "127.0.0.1", "port": port, "tls": {"ca_file": str(authority.ca_file)}},
        "environment": "staging",
        "allow_groups": ["agents"],
        "operations": [{"id": "accounts", "methods": ["POST"], "path": "/bank.Accounts/{method}", "effects": ["read"]}],
    }
    with make_gateway(tmp_path_factory.mktemp("gateway"), connections=[connection]) as gateway:
        yield gateway


@pytest.fixture
def channel(running, mint, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://agent:{mint()}@127.0.0.1:{running.http_port}")
    trusted = running.config.listeners.http.ca.cert_file.read_bytes()
    with grpc.secure_channel("grpc.test:443", grpc.ssl_channel_credentials(trusted)) as opened:
        yield opened


def test_a_call_is_masked_in_place(channel):
    answer, call = channel.unary_unary(f"{ACCOUNTS}/Show").with_call(b"Ann", timeout=20)
    assert answer == b"ssn *********** of Ann"
    assert "45-6789" not in str(call.trailing_metadata())


def test_a_stream_of_answers_is_masked_in_place(channel):
    answers = list(channel.unary_stream(f"{ACCOUNTS}/Stream")(b"Bob", timeout=20))
    assert answers == [b"%d ssn *********** of Bob" % number for number in range(3)]


def test_a_stream_of_requests_is_judged_whole(channel, bank):
    bank.seen.clear()
    answer = channel.stream_unary(f"{ACCOUNTS}/Gather")(iter([b"Ann", b"Bob"]), timeout=20)
    assert answer == b"ssn *********** of Ann, Bob"


def test_both_directions_pass_where_the_client_speaks_first(channel):
    """A stream whose requests end without waiting for an answer is carried like any other."""
    answers = list(channel.stream_stream(f"{ACCOUNTS}/Talk")(iter([b"Ann", b"Bob"]), timeout=20))
    assert answers == [b"ssn *********** of Ann", b"ssn *********** of Bob"]


def test_both_directions_at_once_are_refused_in_words(channel, bank, monkeypatch):
    """Nothing of the stream reaches the service, and the client is told instead of left waiting."""
    monkeypatch.setattr("addons.layers.MAX_PAUSE_S", 0.5)
    bank.seen.clear()
    answered = threading.Event()

    def ask():
        yield b"first"
        answered.wait(60)  # the second request depends on the first answer
        yield b"second"

    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(f"{ACCOUNTS}/Talk")(ask(), timeout=60))
    answered.set()
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "streams in both directions at once are not carried" in caught.value.details()
    assert "(http.duplex)" in caught.value.details()
    assert not bank.seen


def test_a_refusal_says_its_rule_in_grpcs_own_words(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/bank.Other/Drop")(b"x", timeout=20)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "rule http.operations.undeclared" in caught.value.details()
    assert "decision " in caught.value.details()


def test_policy_sees_service_and_method(running, channel):
    channel.unary_unary(f"{ACCOUNTS}/Show")(b"Ann", timeout=20)
    decisions = [record for record in running.read_records() if record["type"] == "decision" and record["phase"] == "request"]
    assert decisions[0]["facts"]["grpc"]["service"] == "bank.Accounts"
