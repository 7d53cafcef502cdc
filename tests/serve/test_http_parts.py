"""Parts of the HTTP host on their own: certificates that follow their files, sessions that end, hosts that are found."""

import datetime as dt
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL

from evidence.store import EvidenceStore
from gateway.action import Resource, Subject
from gateway.config import load_config
from gateway.errors import ConfigError, LimitExceededError, TargetError
from gateway.pipeline import SessionSettings
from gateway.serve.http.authority import make_http_authority
from gateway.serve.http.client import read_token
from gateway.serve.http.host import HttpConnection, HttpTarget, Router
from gateway.serve.http.sessions import HttpSessions
from gateway.serve.http.tls import HostCertificates, make_target_context, open_target_tls
from gateway.serve.run import Gateway
from gateway.testing.gateway import write_config
from gateway.testing.oidc import DevelopmentIssuer

ROOT = Path(__file__).resolve().parents[2]
RESOURCE = Resource("ledger", "http", "test", "low")
SETTINGS = SessionSettings(RESOURCE)


def make_subject(sub="a", **members):
    return Subject(
        **(
            {"id": f"corp/{sub}", "kind": "agent", "issuer": "https://i", "sub": sub, "groups": ("agents",), "expires_ns": 10}
            | members
        )
    )


# --- certificates


@pytest.fixture
def files(tmp_path):
    return tmp_path / "ca.pem", tmp_path / "ca-key.pem"


def shake_hands(context, ca_file, host):
    """Python's own client against a context of ours; gives the certificate it was shown."""
    near, far = socket.socketpair()
    failed = []

    def serve():
        connection = SSL.Connection(context, far)
        connection.set_accept_state()
        try:
            connection.do_handshake()
        except SSL.Error as error:
            failed.append(error)
        far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=str(ca_file))
    try:
        with client.wrap_socket(near, server_hostname=host) as encrypted:
            return x509.load_der_x509_certificate(encrypted.getpeercert(binary_form=True))
    finally:
        near.close()
        thread.join(10)


@pytest.mark.parametrize("host", ["ledger.bank.test", "127.0.0.1", "xn--bcher-kva.test"])
def test_certificates_for_hosts_are_accepted_by_clients(files, host):
    make_http_authority(*files)
    certificates = HostCertificates(files[0], files[1].read_bytes)
    shown = shake_hands(certificates.context(host), files[0], host)
    assert shown.not_valid_after_utc - dt.datetime.now(dt.UTC) < dt.timedelta(days=2)
    assert certificates.context(host) is certificates.context(host)


def test_a_constrained_authority_speaks_for_its_hosts_only(files):
    make_http_authority(*files, constraints=["*.bank.test"])
    certificates = HostCertificates(files[0], files[1].read_bytes)
    shake_hands(certificates.context("ledger.bank.test"), files[0], "ledger.bank.test")
    with pytest.raises(ssl.SSLError):
        shake_hands(certificates.context("example.com"), files[0], "example.com")


def test_a_replaced_authority_is_used_at_once_and_a_broken_one_is_not(files, tmp_path):
    make_http_authority(*files)
    certificates = HostCertificates(files[0], files[1].read_bytes, (tmp_path / "next.pem",))
    first = certificates.authority()
    make_http_authority(tmp_path / "next.pem", tmp_path / "next-key.pem", name="next")
    assert certificates.trusted_pem().count("BEGIN CERTIFICATE") == 2
    files[0].write_text("not a certificate")
    assert certificates.authority() == first, "files that are being replaced"
    files[1].write_bytes((tmp_path / "next-key.pem").read_bytes())
    files[0].write_bytes((tmp_path / "next.pem").read_bytes())
    assert certificates.authority() != first
    shake_hands(certificates.context("ledger.bank.test"), tmp_path / "next.pem", "ledger.bank.test")


def test_an_authority_that_is_none_is_refused(files, tmp_path):
    make_http_authority(*files)
    make_http_authority(tmp_path / "b.pem", tmp_path / "b-key.pem")
    with pytest.raises(ConfigError, match="cannot be used"):
        HostCertificates(files[0], (tmp_path / "b-key.pem").read_bytes)
    with pytest.raises(ConfigError):
        HostCertificates(tmp_path / "missing.pem", files[1].read_bytes)


def test_nothing_is_overwritten(files):
    make_http_authority(*files)
    with pytest.raises(FileExistsError):
        make_http_authority(*files)
    assert files[1].stat().st_mode & 0o077 == 0


def test_files_of_targets_that_cannot_be_used(tmp_path):
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises(TargetError):
        make_target_context(tmp_path / "bad.pem")
    with pytest.raises(TargetError):
        make_target_context(tmp_path / "missing.pem")
    assert open_target_tls(make_target_context(None), "127.0.0.1", [b"http/1.1"])


# --- tokens and hosts


@pytest.mark.parametrize(
    ("value", "token"),
    [("Bearer abc", "abc"), ("bearer  abc", "abc"), ("Basic YWdlbnQ6YWJj", "abc"), ("Basic !", None), ("Basic YWdlbnQ=", None),
     ("Digest x", None), ("", None), (None, None), ("Bearer", None)],
)  # fmt: skip
def test_tokens_in_headers(value, token):
    assert read_token(value) == token


def make_connection(name, *hosts, ports=(443,)):
    return HttpConnection(name, hosts, ports, HttpTarget(), None, lambda _: True, SETTINGS, None, 1, 1, 1)


def test_hosts_are_found_exact_first_then_by_the_longest_pattern():
    router = Router([
        make_connection("all", "*.bank.test"),
        make_connection("api", "*.api.bank.test"),
        make_connection("one", "ledger.api.bank.test", ports=(443, 8443)),
    ])  # fmt: skip
    assert router.find("ledger.api.bank.test", 8443).name == "one"
    assert router.find("LEDGER.api.bank.test.", 443).name == "one"
    assert router.find("x.api.bank.test", 443).name == "api"
    assert router.find("a.b.bank.test", 443).name == "all"
    for host, port in (("bank.test", 443), ("evilbank.test", 443), ("x.bank.test", 80), ("bank.test.evil", 443)):
        assert router.find(host, port) is None
    assert router.find_named("api").name == "api"


# --- sessions


@pytest.fixture
async def served(tmp_path):
    """A running gateway's own pipeline, and a function that stops it and gives how each session ended."""
    connection = {
        "name": "ledger",
        "type": "http",
        "match": {"hosts": ["ledger.bank.test"]},
        "environment": "test",
        "allow_groups": ["agents"],
    }
    with DevelopmentIssuer() as issuer:
        config = load_config(write_config(tmp_path, issuer=issuer, bundle=ROOT / "rego", connections=[connection]))
        gateway = Gateway(config)
        await gateway.start()
        stopped = False

        async def end(sessions):
            nonlocal stopped
            await sessions.stop(0)
            await gateway.stop()
            stopped = True
            store = EvidenceStore(config.evidence.store)
            log = store.open_log(store.list_origins()[0])
            records = [record for _, record in log.iterate_records(log.read_checkpoint().size)]
            return [record["reason"] for record in records if record["type"] == "session.close"]

        yield gateway._hosts["http"]._host.pipeline, end
        if not stopped:
            await gateway.stop()


def make_sessions(pipeline, **options):
    return HttpSessions(pipeline, **({"idle_s": 100, "max_s": 100, "max_sessions": 10, "max_per_subject": 10} | options))


async def test_one_session_per_subject_connection_and_client(served):
    pipeline, end = served
    sessions = make_sessions(pipeline)
    first = await sessions.find(make_subject(), SETTINGS, "10.0.0.1")
    assert await sessions.find(make_subject(expires_ns=99), SETTINGS, "10.0.0.1") is first
    assert first.pipeline.subject.expires_ns == 99
    assert await sessions.find(make_subject(expires_ns=5), SETTINGS, "10.0.0.1") is first
    assert first.pipeline.subject.expires_ns == 99, "an older token does not shorten what was proven"
    for other in (("b", {}), ("a", {"groups": ("other",)}), ("a", {"run_id": "r"}), ("a", {"on_behalf_of": "corp/x"})):
        assert await sessions.find(make_subject(other[0], **other[1]), SETTINGS, "10.0.0.1") is not first
    assert await sessions.find(make_subject(), SETTINGS, "10.0.0.2") is not first
    assert await end(sessions) == ["shutdown"] * 6
    assert sessions.count == 0


@pytest.mark.parametrize(("options", "reason"), [({"idle_s": 0}, "idle"), ({"max_s": 0}, "too long")])
async def test_sessions_end_when_they_are_idle_or_old(served, options, reason):
    pipeline, end = served
    sessions = make_sessions(pipeline, **options)
    first = await sessions.find(make_subject(), SETTINGS, "10.0.0.1")
    assert await sessions.find(make_subject(), SETTINGS, "10.0.0.1") is not first
    assert (await end(sessions))[0] == reason


async def test_a_session_with_something_under_way_is_not_idle(served):
    pipeline, end = served
    sessions = make_sessions(pipeline, idle_s=0)
    first = await sessions.find(make_subject(), SETTINGS, "10.0.0.1")
    first.begin()
    assert await sessions.find(make_subject(), SETTINGS, "10.0.0.1") is first
    first.end()
    assert await sessions.find(make_subject(), SETTINGS, "10.0.0.1") is not first
    await end(sessions)


async def test_there_is_room_for_so_many_and_no_more(served):
    pipeline, end = served
    sessions = make_sessions(pipeline, max_sessions=2, max_per_subject=1)
    await sessions.find(make_subject("a"), SETTINGS, "10.0.0.1")
    with pytest.raises(LimitExceededError):
        await sessions.find(make_subject("a"), SETTINGS, "10.0.0.2")
    await sessions.find(make_subject("b"), SETTINGS, "10.0.0.1")
    with pytest.raises(LimitExceededError):
        await sessions.find(make_subject("c"), SETTINGS, "10.0.0.1")
    await end(sessions)
