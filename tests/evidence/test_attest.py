"""The attestor over a real log and a real (in-process) Sigstore: cadence, chain, outages, restarts, forks."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence import checkpoint_statement as statements
from evidence.attest import AttestationError, Attestor, CheckpointFile, ForkError, LogSource
from evidence.keyless import KeylessSigner
from evidence.log import Log
from evidence.note import NoteSigner
from evidence.record import make_origin
from evidence.trust import IdentityRule, SigstoreTrust
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

WHO = "gateway@example.com"
RECIPIENT = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"
WAIT_S = 30
NEVER_S = 3600.0


@pytest.fixture
def sigstore(tmp_path):
    with DevelopmentSigstore(tmp_path / "sigstore") as service:
        yield service


def open_log(directory, key, worker=0):
    return Log.open(directory, origin=make_origin("gw", 1_790_000_000_000_000_000, worker), log_key=key, recipients=[RECIPIENT])


def attestor_of(service, *logs, every_s=NEVER_S, timeout_s=10.0):
    sources = [LogSource(log) if isinstance(log, Log) else log for log in logs]
    signer = KeylessSigner(service.trust_config, lambda: service.mint_token(WHO), timeout_s=timeout_s)
    rules = [IdentityRule(WHO, DEFAULT_ISSUER)]
    return Attestor("gw", sources, signer=signer, trust=SigstoreTrust(service.trust_config), rules=rules, every_s=every_s)


@pytest.fixture
def log(tmp_path):
    with_key = open_log(tmp_path / "evidence", Ed25519PrivateKey.generate())
    yield with_key
    with_key.close()


def wait_for(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


def read(service, path):
    trust = SigstoreTrust(service.trust_config)
    return statements.read(trust.verify(path.read_bytes(), [IdentityRule(WHO, DEFAULT_ISSUER)]))


def beat(log):
    return log.submit("heartbeat", {}).result(WAIT_S)


def test_a_demanded_attestation_is_on_disk_and_verifies_with_the_stock_client(sigstore, log):
    attestor = attestor_of(sigstore, log)
    attestor.start()
    beat(log)
    attestation = attestor.attest_now().result(WAIT_S)
    size = attestation.sizes[log.origin]
    assert size == 2
    note, bundle = statements.note_path(log.path, size), statements.bundle_path(log.path, size)
    assert read(sigstore, bundle).logs[0].note_sha256 == hashlib.sha256(note.read_bytes()).hexdigest()
    expected = ("--cert-identity", WHO, "--cert-oidc-issuer", DEFAULT_ISSUER)
    command = [sys.executable, "-m", "sigstore", "--trust-config", sigstore.trust_config_path, "verify", "identity", "--offline"]
    done = subprocess.run(
        ["unshare", "-n", *command, "--bundle", bundle, *expected, note], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert attestor.stop(WAIT_S)


def test_statements_form_a_chain_and_nothing_new_means_no_statement(sigstore, log):
    attestor = attestor_of(sigstore, log)
    attestor.start()
    seen = []
    for _ in range(3):
        beat(log)
        seen.append(attestor.attest_now().result(WAIT_S))
    assert attestor.attest_now().result(WAIT_S) == seen[-1]
    found = [read(sigstore, path) for _, path in statements.list_bundles(log.path)]
    assert [each.seq for each in found] == list(range(len(found)))
    assert [each.prev for each in found] == ["", *(each.digest for each in found[:-1])]
    assert attestor.lag_s == 0
    beat(log)
    assert attestor.lag_s > 0
    attestor.stop(WAIT_S)


def test_the_chain_goes_on_after_a_restart(sigstore, tmp_path):
    key = Ed25519PrivateKey.generate()
    for round_number in range(2):
        log = open_log(tmp_path / "evidence", key)
        attestor = attestor_of(sigstore, log)
        attestor.start()
        before = attestor.last
        assert (before is None) == (round_number == 0)
        log.close()
        assert attestor.stop(WAIT_S), attestor.last_error
        assert attestor.last.seq > (before.seq if before else -1)
    found = [read(sigstore, path) for _, path in statements.list_bundles(log.path)]
    assert [each.prev for each in found] == ["", *(each.digest for each in found[:-1])]


def test_it_attests_by_itself_while_records_arrive(sigstore, log):
    attestor = attestor_of(sigstore, log, every_s=0.05)
    attestor.start()
    for _ in range(3):
        receipt = beat(log)
        wait_for(lambda receipt=receipt: attestor.last and attestor.last.sizes[log.origin] > receipt.index)
    attestor.stop(WAIT_S)


def test_session_ends_share_an_attestation(sigstore, log):
    attestor = attestor_of(sigstore, log)
    attestor.start()
    attestor.attest_now().result(WAIT_S)
    before = attestor.attempts
    beat(log)
    for _ in range(50):
        attestor.request()
    wait_for(lambda: attestor.lag_s == 0)
    assert attestor.attempts == before + 1
    attestor.stop(WAIT_S)


def test_one_statement_covers_all_workers(sigstore, tmp_path):
    key = Ed25519PrivateKey.generate()
    logs = [open_log(tmp_path / "evidence", key, worker) for worker in range(3)]
    attestor = attestor_of(sigstore, *logs)
    attestor.start()
    attestation = attestor.attest_now().result(WAIT_S)
    assert set(attestation.sizes) == {log.origin for log in logs}
    bundles = {statements.list_bundles(log.path)[-1][1].read_bytes() for log in logs}
    assert len(bundles) == 1
    beat(logs[1])
    attestor.attest_now().result(WAIT_S)
    assert [len(statements.list_bundles(log.path)) for log in logs] == [1, 2, 1]
    for log in logs:
        log.close()
    assert attestor.stop(WAIT_S)


@pytest.mark.parametrize("service", ["ca", "log", "tsa"])
def test_an_outage_fails_demands_at_once_and_is_caught_up_with_one_signature(sigstore, log, service):
    attestor = attestor_of(sigstore, log)
    attestor.start()
    with sigstore.outage(service):
        for _ in range(3):
            beat(log)
            with pytest.raises(Exception, match="signed"):
                attestor.attest_now().result(WAIT_S)
        assert attestor.lag_s > 0
        assert attestor.failures >= 3
    attestor.attest_now().result(WAIT_S)
    assert attestor.lag_s == 0
    assert attestor.last.seq == 0
    attestor.stop(WAIT_S)


def test_a_service_that_never_answers_costs_the_deadline_only(sigstore, log):
    attestor = attestor_of(sigstore, log, timeout_s=0.2)
    attestor.start()
    with sigstore.stalled("log"):
        with pytest.raises(Exception, match="signed"):
            attestor.attest_now().result(WAIT_S)
        receipt = beat(log)  # the data path is not held up
    assert attestor.attest_now().result(WAIT_S).sizes[log.origin] > receipt.index
    attestor.stop(WAIT_S)


def test_a_bundle_that_does_not_verify_never_counts(sigstore, log, tmp_path):
    with DevelopmentSigstore(tmp_path / "other") as other:
        attestor = attestor_of(sigstore, log)
        attestor._signer = KeylessSigner(other.trust_config, lambda: other.mint_token(WHO))
        attestor.start()
        with pytest.raises(Exception, match="pinned trust"):
            attestor.attest_now().result(WAIT_S)
        attestor.stop(WAIT_S)
    assert attestor.last is None
    assert statements.list_bundles(log.path) == []


def test_another_history_is_never_attested(sigstore, tmp_path):
    key = Ed25519PrivateKey.generate()
    log = open_log(tmp_path / "evidence", key)
    attestor = attestor_of(sigstore, log)
    attestor.start()
    attestor.attest_now().result(WAIT_S)
    log.close()
    attestor.stop(WAIT_S)
    attested = log.path / "attest"
    other = open_log(tmp_path / "other", key)  # the same key and origin, other records
    for _ in range(5):
        beat(other)
    other.close()
    shutil.copytree(attested, other.path / "attest")
    second = attestor_of(sigstore, CheckpointFile(other.path, other.verifier_key))
    second.start()
    demanded = second.attest_now()
    with pytest.raises(AttestationError) as caught:
        demanded.result(WAIT_S)
    assert isinstance(caught.value, ForkError)
    with pytest.raises(AttestationError):
        second.attest_now().result(WAIT_S)
    assert second.lag_s > 0


def test_a_smaller_log_is_never_attested(sigstore, tmp_path):
    key = Ed25519PrivateKey.generate()
    log = open_log(tmp_path / "evidence", key)
    for _ in range(3):
        beat(log)
    attestor = attestor_of(sigstore, log)
    attestor.start()
    attestor.attest_now().result(WAIT_S)
    log.close()
    attestor.stop(WAIT_S)
    path = log.path / "checkpoint"
    path.write_bytes(NoteSigner(log.origin, key).sign(f"{log.origin}\n2\n{'A' * 43}=\n"))
    second = attestor_of(sigstore, CheckpointFile(log.path, log.verifier_key))
    second.start()
    assert second.stop(WAIT_S) is True  # a smaller log has no unattested record, and yet
    assert isinstance(second._fork, ForkError)


def test_a_damaged_newest_bundle_stops_the_start(sigstore, log):
    attestor = attestor_of(sigstore, log)
    attestor.start()
    attestor.attest_now().result(WAIT_S)
    attestor.stop(WAIT_S)
    path = statements.list_bundles(log.path)[-1][1]
    document = json.loads(path.read_text())
    document["dsseEnvelope"]["payload"] = "e30="
    path.write_text(json.dumps(document))
    with pytest.raises(AttestationError, match="cannot be continued"):
        attestor_of(sigstore, log).start()


def test_a_demand_after_the_end_is_refused(sigstore, log):
    attestor = attestor_of(sigstore, log)
    attestor.start()
    attestor.stop(WAIT_S)
    future: Future = attestor.attest_now()
    with pytest.raises(AttestationError):
        future.result(WAIT_S)
