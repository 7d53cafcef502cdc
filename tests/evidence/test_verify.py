"""The verifier against every kind of tampering: each case with its exact exit code and the finding that explains it."""

import base64
import json
import shutil
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence import checkpoint_statement as statements
from evidence.canonical import encode
from evidence.keyless import KeylessSigner
from evidence.merkle import hash_leaf, root_of
from evidence.note import Checkpoint, NoteSigner, compute_key_id
from evidence.report import EXIT_INCOMPLETE, EXIT_TAMPERED, EXIT_UNTRUSTED, EXIT_VERIFIED, Report
from evidence.store import LogReader
from evidence.tiles import ENTRIES, TileReader, decode_entries, encode_entries, tile_path
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify import UsageError, verify_directory
from evidence.verify_approvals import ApprovalLedger
from evidence.verify_attest import AttestedRoot
from evidence.verify_records import RecordPass
from evidence.witness import COSIGNATURE_V1, WitnessKey, WitnessPolicy
from gateway.testing.evidence import GATEWAY, EvidenceBuilder
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

WAIT_S = 30


class Sample:
    """One finished evidence directory, and what verifies it."""

    def __init__(self, directory, builder, sigstore):
        self.directory = directory
        self.builder = builder
        self.sigstore = sigstore

    @property
    def log(self):
        return self.directory / self.builder.origin

    def verify(self, *, identities=False, **changes):
        ages = [str(self.builder.age)] if identities else []
        return verify_directory(self.directory, self.builder.trust(**changes), age_identities=ages)

    def size(self):
        return int((self.log / "checkpoint").read_text().splitlines()[1])

    def leaves(self):
        size = self.size()
        reader = TileReader(self.log)
        return [leaf for at in range(0, size, 256) for leaf in reader.leaves(at // 256, min(256, size - at))]

    def rewrite(self, leaves, *, resign=True):
        """Put other leaves in place with matching tiles and checkpoint, as someone with the log key could."""
        shutil.rmtree(self.log / "tile")
        shutil.rmtree(self.log / "wal")
        width = len(leaves)
        assert width < 256
        for name, data in (
            (tile_path(ENTRIES, 0, width), encode_entries(leaves)),
            (tile_path(0, 0, width), b"".join(hash_leaf(leaf) for leaf in leaves)),
        ):
            (self.log / name).parent.mkdir(parents=True)
            (self.log / name).write_bytes(data)
        if resign:
            checkpoint = Checkpoint(self.builder.origin, width, root_of([hash_leaf(leaf) for leaf in leaves]))
            note = NoteSigner(self.builder.origin, self.builder.log_key).sign(checkpoint.text())
            (self.log / "checkpoint").write_bytes(note)


@pytest.fixture(scope="module")
def sigstore(tmp_path_factory):
    with DevelopmentSigstore(tmp_path_factory.mktemp("sigstore")) as service:
        yield service


@pytest.fixture(scope="module")
def original(tmp_path_factory, sigstore):
    """Three attestations over five sessions, one of them with an approved action; closed in order."""
    builder = EvidenceBuilder(tmp_path_factory.mktemp("evidence"), sigstore).open()
    builder.write_session()
    builder.attestor.attest_now().result(WAIT_S)
    builder.write_session()
    builder.write_approved_session("tk-1")
    builder.attestor.attest_now().result(WAIT_S)
    builder.write_session()
    builder.close()
    return builder


@pytest.fixture
def sample(original, sigstore, tmp_path):
    shutil.copytree(original.directory, tmp_path / "evidence")
    return Sample(tmp_path / "evidence", original, sigstore)


def flip(path, offset=-1, bit=1):
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def first(directory, pattern):
    return min(directory.glob(pattern))


def codes(report):
    return {finding.code for finding in report.findings if finding.severity != "note"}


def fresh(tmp_path, sigstore, name="fresh", **options):
    return EvidenceBuilder(tmp_path / name, sigstore, **options).open()


def finish(builder, sigstore):
    builder.close()
    return Sample(builder.directory, builder, sigstore)


# -- nothing wrong ---------------------------------------------------------------------------------------------------------------


def test_untouched_evidence_is_verified(sample):
    report = sample.verify(identities=True)
    assert (report.exit_code, report.findings) == (EXIT_VERIFIED, [])
    assert report.assurance.identity == f"{GATEWAY} by {DEFAULT_ISSUER}"
    assert (report.assurance.time, report.assurance.fork, report.assurance.development) == ("rfc3161", "sigstore-log", True)
    assert report.counts["approved_actions"] == 1
    assert report.counts["chunks_opened"] == report.counts["chunks"] > 0
    json.dumps(report.as_record())


def test_what_was_not_checked_is_said(sample):
    checks = sample.verify().checks
    assert checks["verdicts_recomputed"] == checks["sealed_content"] == checks["witnesses"] == "not checked"
    assert checks["approvals"] == checks["log"] == "passed"


def test_one_logs_own_directory_verifies_too(sample):
    assert verify_directory(sample.log, sample.builder.trust()).exit_code == EXIT_VERIFIED


def test_verification_changes_nothing(sample):
    before = {path: path.read_bytes() for path in sample.directory.rglob("*") if path.is_file()}
    sample.verify(identities=True)
    assert before == {path: path.read_bytes() for path in sample.directory.rglob("*") if path.is_file()}


# -- a byte changed in every kind of file ----------------------------------------------------------------------------------------

BYTES = {
    "entries": ("tile/entries/000.p/*", 40, EXIT_TAMPERED),
    "leaf tile": ("tile/0/000.p/*", 5, EXIT_TAMPERED),
    "checkpoint root": ("checkpoint", 20, EXIT_TAMPERED),
    "checkpoint signature": ("checkpoint", -10, EXIT_TAMPERED),
    "note": ("attest/*.note", 20, EXIT_TAMPERED),
    "chunk": ("sessions/*/chunk-*", -1, EXIT_TAMPERED),
    "wrapped key": ("keys/*.dek", -1, EXIT_TAMPERED),
    "openings": ("sessions/*/openings.enc", -1, EXIT_TAMPERED),
    "approval bundle": ("approvals/*.sigstore.json", 200, EXIT_TAMPERED),
    "write-ahead log": ("wal/*.wal", 200, EXIT_TAMPERED),
}


@pytest.mark.parametrize("kind", BYTES)
def test_a_changed_byte_is_found(sample, kind):
    pattern, offset, expected = BYTES[kind]
    flip(first(sample.log, pattern), offset)
    assert sample.verify().exit_code == expected


def test_a_changed_record_is_named(sample):
    path = sample.log / tile_path(ENTRIES, 0, sample.size())
    leaves = list(decode_entries(path.read_bytes()))
    index = next(at for at, leaf in enumerate(leaves) if b"corp/agent-1" in leaf)
    leaves[index] = leaves[index].replace(b"corp/agent-1", b"corp/agent-2")
    path.write_bytes(encode_entries(leaves))
    report = sample.verify()
    assert report.exit_code == EXIT_TAMPERED
    assert f"{sample.builder.origin}#{index}" in {
        finding.where for finding in report.findings if finding.code == "record.changed"
    }
    assert {"root.attested", "wal.contradicts"} <= codes(report)


EXEMPT = ("lock", "ballast", "policy/")  # hold nothing, or nothing the log commits to when a test keeps the policy by hand


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_of_any_file_is_noticed(original, sigstore, data):
    """Also in parts of a bundle that no signature covers; only of the newest bundle such parts are free."""
    newest = statements.list_bundles(original.path)[-1][1]
    files = sorted(path for path in original.path.rglob("*") if path.is_file() and path != newest)
    names = [str(path.relative_to(original.path)) for path in files]
    name = data.draw(st.sampled_from([name for name in names if not name.startswith(EXEMPT)]))
    path = original.path / name
    saved = path.read_bytes()
    used = len(saved.rstrip(b"\0"))  # a write-ahead segment is allocated ahead
    offset = data.draw(st.integers(0, used - 1).filter(lambda at: not name.endswith(".wal") or not 49 <= at < 64))
    flip(path, offset, data.draw(st.sampled_from([1, 4, 32])))
    try:
        report = Sample(original.directory, original, sigstore).verify()
    finally:
        path.write_bytes(saved)
    assert report.exit_code != EXIT_VERIFIED, (name, offset)


BUNDLE_PARTS = [
    ("dsseEnvelope", "payload"),
    ("dsseEnvelope", "signatures", 0, "sig"),
    ("verificationMaterial", "tlogEntries", 0, "canonicalizedBody"),
    ("verificationMaterial", "tlogEntries", 0, "inclusionProof", "rootHash"),
    ("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps", 0, "signedTimestamp"),
    ("verificationMaterial", "certificate", "rawBytes"),
]


@pytest.mark.parametrize("part", BUNDLE_PARTS, ids=lambda part: str(part[-1]))
def test_a_changed_part_of_a_bundle_is_found(sample, part):
    path = first(sample.log, "attest/*.sigstore.json")
    document = json.loads(path.read_text())
    holder = document
    for name in part[:-1]:
        holder = holder[name]
    text = holder[part[-1]]
    middle = len(text) * 2 // 3
    holder[part[-1]] = text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
    path.write_text(json.dumps(document))
    assert sample.verify().exit_code == EXIT_TAMPERED


def test_a_bundle_without_its_timestamp_is_refused(sample):
    path = first(sample.log, "attest/*.sigstore.json")
    document = json.loads(path.read_text())
    del document["verificationMaterial"]["timestampVerificationData"]
    path.write_text(json.dumps(document))
    assert sample.verify().exit_code == EXIT_TAMPERED


# -- histories that someone with the log key could write -------------------------------------------------------------------------


def test_reordered_records_are_found(sample):
    leaves = sample.leaves()
    leaves[5], leaves[6] = leaves[6], leaves[5]
    sample.rewrite(leaves)
    report = sample.verify()
    assert report.exit_code == EXIT_TAMPERED
    assert {"root.attested", "chain.broken"} <= codes(report)


def test_a_dropped_session_is_found_even_when_the_rest_is_renumbered(sample):
    kept, dropped = [], None
    for leaf in sample.leaves():
        record = orjson.loads(leaf)
        dropped = dropped or (record["sid"] if record["type"] == "session.open" else None)
        if record["sid"] != dropped:
            kept.append(encode(record | {"seq": len(kept)}))
    sample.rewrite(kept)
    assert {"root.attested", "checkpoint.rollback"} & codes(sample.verify())
    assert sample.verify().exit_code == EXIT_TAMPERED


def test_a_tail_cut_below_the_attested_size_is_tampering(sample):
    sample.rewrite(sample.leaves()[:-3])
    report = sample.verify()
    assert report.exit_code == EXIT_TAMPERED
    assert "checkpoint.rollback" in codes(report)


def test_a_whole_directory_put_back_with_its_bundles_needs_the_auditors_memory(sample):
    known = (sample.log / "checkpoint").read_bytes()
    bundles = statements.list_bundles(sample.log)
    for size, path in bundles[1:]:
        path.unlink()
        statements.note_path(sample.log, size).unlink()
    sample.rewrite(sample.leaves()[: bundles[0][0]])
    # On its own the older state is consistent: nothing inside it can show that it once was longer.
    assert sample.verify().exit_code == EXIT_VERIFIED
    report = sample.verify(last_seen=(known,))
    assert report.exit_code == EXIT_TAMPERED
    assert "checkpoint.rollback" in codes(report)


def test_a_checkpoint_the_auditor_knows_raises_the_assurance(sample):
    note = statements.note_path(sample.log, statements.list_bundles(sample.log)[0][0]).read_bytes()
    report = sample.verify(last_seen=(note,))
    assert (report.exit_code, report.assurance.fork) == (EXIT_VERIFIED, "known-checkpoint")


def test_a_fork_with_the_same_key_contradicts_what_the_auditor_knows(sample, sigstore, tmp_path):
    known = statements.note_path(sample.log, statements.list_bundles(sample.log)[0][0]).read_bytes()
    fork = fresh(tmp_path, sigstore, log_key=sample.builder.log_key)
    for _ in range(4):
        fork.write_session()
    report = finish(fork, sigstore).verify(last_seen=(known,))
    assert report.exit_code == EXIT_TAMPERED
    assert "root.known" in codes(report)


def test_two_statements_with_one_number_are_a_fork(sample, sigstore):
    size, path = statements.list_bundles(sample.log)[-1]
    payload = json.loads(_payload(path)) | {}
    payload["predicate"]["at"] = "2026-01-01T00:00:00.000000Z"
    forged = KeylessSigner(sigstore.trust_config, lambda: sigstore.mint_token(GATEWAY)).sign(encode(payload))
    other = sample.directory / "gw/2026h2/w1"
    (other / "attest").mkdir(parents=True)
    statements.bundle_path(other, size).write_text(forged)
    report = sample.verify()
    assert report.exit_code == EXIT_TAMPERED
    assert "statement.fork" in codes(report)


def _payload(path):
    return base64.b64decode(json.loads(path.read_text())["dsseEnvelope"]["payload"])


def test_a_swapped_bundle_is_found(sample):
    (_, first_path), (_, second_path), *_ = statements.list_bundles(sample.log)
    data = first_path.read_bytes()
    first_path.write_bytes(second_path.read_bytes())
    second_path.write_bytes(data)
    report = sample.verify()
    assert report.exit_code == EXIT_TAMPERED
    assert "bundle.swapped" in codes(report)


# -- parts missing ---------------------------------------------------------------------------------------------------------------

MISSING = {
    "middle bundle": ("attest/*.sigstore.json", 1, "statement.missing"),
    "first bundle": ("attest/*.sigstore.json", 0, "statement.missing"),
    "note": ("attest/*.note", 1, "note.missing"),
    "entries": ("tile/entries/000.p/*", -1, "entries.missing"),
    "tile": ("tile/0/000.p/*", -1, "tile.missing"),
    "checkpoint": ("checkpoint", 0, "checkpoint.missing"),
    "chunk": ("sessions/*/chunk-*", 0, "chunk.missing"),
    "wrapped key": ("keys/*.dek", 0, "session.key_missing"),
    "openings": ("sessions/*/openings.enc", 0, "session.openings_missing"),
    "approval": ("approvals/*", 0, "approval.bundle_missing"),
    "policy": ("policy/*", 0, "policy.missing"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_file_is_incomplete(sample, kind):
    pattern, which, code = MISSING[kind]

    def number(path):
        stem = path.name.split(".")[0]
        return (int(stem), path.name) if stem.isdecimal() else (0, str(path))

    sorted(sample.log.glob(pattern), key=number)[which].unlink()
    report = sample.verify()
    assert report.exit_code == EXIT_INCOMPLETE
    assert code in codes(report)


def fill_tile(sample, change):
    """The leaf tile as it is between two checkpoints: full, its partial forms dropped."""
    newest = max(sample.log.glob("tile/0/000.p/*"), key=lambda path: int(path.name))
    hashes = change(newest.read_bytes())
    shutil.rmtree(newest.parent)
    (sample.log / "tile/0/000").write_bytes(hashes + bytes(256 * 32 - len(hashes)))


def test_a_full_tile_stands_for_its_partial_forms(sample):
    fill_tile(sample, lambda hashes: hashes)
    report = sample.verify()
    assert (report.exit_code, codes(report) & {"tile.missing", "tile.changed"}) == (0, set())


def test_a_full_tile_that_contradicts_the_records_is_found(sample):
    fill_tile(sample, lambda hashes: bytes([hashes[0] ^ 1]) + hashes[1:])
    report = sample.verify()
    assert report.exit_code == EXIT_TAMPERED
    assert {"tile.changed", "record.changed"} <= codes(report)


def test_without_its_newest_bundle_the_tail_is_unattested(sample):
    statements.list_bundles(sample.log)[-1][1].unlink()
    report = sample.verify()
    assert report.exit_code == EXIT_INCOMPLETE
    assert {"bundle.missing", "log.tail"} <= codes(report)


def test_a_log_without_any_attestation_is_incomplete(sample):
    shutil.rmtree(sample.log / "attest")
    report = sample.verify()
    assert report.exit_code == EXIT_INCOMPLETE
    assert "log.unattested" in codes(report)
    assert report.assurance.identity == "none"


def test_a_missing_log_is_incomplete(sample):
    other = NoteSigner("gw/2026h2/w1", Ed25519PrivateKey.generate()).verifier_key
    report = sample.verify(log_keys=(sample.builder.log.verifier_key, other))
    assert report.exit_code == EXIT_INCOMPLETE
    assert "log.missing" in codes(report)


# -- trust -----------------------------------------------------------------------------------------------------------------------


def test_development_trust_is_untrusted_unless_accepted(sample):
    report = sample.verify(accept_development=False)
    assert report.exit_code == EXIT_UNTRUSTED
    assert codes(report) == {"trust.development"}


def test_tampering_outweighs_missing_trust(sample):
    flip(first(sample.log, "tile/entries/000.p/*"), 40)
    assert sample.verify(accept_development=False).exit_code == EXIT_TAMPERED


def test_a_foreign_trusted_root_is_untrusted(sample, tmp_path):
    with DevelopmentSigstore(tmp_path / "other") as other:
        report = sample.verify(sigstore=SigstoreTrust(other.trust_config))
    assert report.exit_code == EXIT_UNTRUSTED
    assert "bundle.untrusted" in codes(report)


@pytest.mark.parametrize(
    "rule", [IdentityRule("other@example.com", DEFAULT_ISSUER), IdentityRule(GATEWAY, "https://idp.example.com")]
)
def test_another_gateway_identity_is_untrusted(sample, rule):
    report = sample.verify(gateway=(rule,))
    assert report.exit_code == EXIT_UNTRUSTED
    assert "bundle.identity" in codes(report)


def test_another_log_key_is_untrusted(sample):
    key = NoteSigner(sample.builder.origin, Ed25519PrivateKey.generate()).verifier_key
    report = sample.verify(log_keys=(key,))
    assert report.exit_code == EXIT_UNTRUSTED
    assert "note.untrusted" in codes(report)


def test_a_log_without_a_pinned_key_is_untrusted(sample):
    shutil.copytree(sample.log, sample.directory / "gw/2026h2/w1")
    report = sample.verify()
    assert "log.unpinned" in codes(report)
    assert report.exit_code in (EXIT_UNTRUSTED, EXIT_TAMPERED)


@pytest.mark.parametrize("changes", [{"log_keys": ()}, {"gateway": ()}])
def test_without_pins_nothing_is_verified(sample, changes):
    with pytest.raises(UsageError):
        sample.verify(**changes)


def test_an_empty_or_absent_directory_is_a_usage_error(sample, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(UsageError):
            verify_directory(path, sample.builder.trust())


def rotate(service, other, **windows):
    """One trusted root with the authorities of two Sigstore instances, as after a rotation; windows per list and position."""
    config, second = json.loads(service.trust_config), json.loads(other.trust_config)
    for name in ("tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"):
        config["trustedRoot"][name] = second["trustedRoot"][name] + config["trustedRoot"][name]
    for name, (start, end) in windows.items():
        for entry in config["trustedRoot"][name][1:]:
            entry.get("publicKey", entry)["validFor"] = {"start": start, "end": end}
    return SigstoreTrust(json.dumps(config))


def test_a_root_with_several_authorities_and_rotated_keys_verifies(sample, sigstore, tmp_path):
    start, end = "2020-01-01T00:00:00Z", (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = ("tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities")
    with DevelopmentSigstore(tmp_path / "other") as other:
        trust = rotate(sigstore, other, **dict.fromkeys(names, (start, end)))
    assert sample.verify(sigstore=trust).exit_code == EXIT_VERIFIED


@pytest.mark.parametrize("name", ["tlogs", "certificateAuthorities", "ctlogs"])
def test_an_authority_out_of_service_at_signing_time_is_untrusted(sample, sigstore, tmp_path, name):
    with DevelopmentSigstore(tmp_path / "other") as other:
        trust = rotate(sigstore, other, **{name: ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z")})
    assert sample.verify(sigstore=trust).exit_code == EXIT_UNTRUSTED


# -- witnesses -------------------------------------------------------------------------------------------------------------------


def cosign(note_path, name, key):
    text = note_path.read_text().rpartition("\n\n")[0] + "\n"
    stamp = 1_790_000_000
    signature = key.sign(f"cosignature/v1\ntime {stamp}\n{text}".encode())
    raw = key.public_key().public_bytes_raw()
    blob = base64.b64encode(compute_key_id(name, raw, COSIGNATURE_V1) + stamp.to_bytes(8) + signature).decode()
    note_path.write_text(note_path.read_text() + f"\u2014 {name} {blob}\n")


def test_a_witness_quorum_is_demanded_on_every_attested_note(sigstore, tmp_path):
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    witness = WitnessKey("witness.example.com", compute_key_id("witness.example.com", raw, COSIGNATURE_V1), key.public_key())
    builder = fresh(tmp_path, sigstore)
    take = builder.log.checkpoint

    def cosigned():
        path = tmp_path / "note"
        path.write_bytes(take())
        cosign(path, witness.name, key)
        return path.read_bytes()

    builder.log.checkpoint = cosigned
    builder.write_session()
    size = builder.attestor.attest_now().result(WAIT_S).sizes[builder.origin]
    builder.log.checkpoint = take
    builder.write_session()
    sample = finish(builder, sigstore)
    policy = WitnessPolicy((witness,), 1)
    report = sample.verify(witnesses=policy)
    assert (report.exit_code, codes(report)) == (EXIT_UNTRUSTED, {"witness.quorum"})  # the last note has no cosignature
    assert report.assurance.fork != "witnessed"
    assert policy.is_met([statements.note_path(sample.log, size).read_bytes()])
    assert sample.verify(sigstore_witnesses=policy).exit_code == EXIT_UNTRUSTED


def test_witness_keys_round_trip():
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    name = "w.example.com"
    vkey = f"{name}+{compute_key_id(name, raw, COSIGNATURE_V1).hex()}+{base64.b64encode(bytes([COSIGNATURE_V1]) + raw).decode()}"
    assert WitnessKey.parse(vkey).name == name
    with pytest.raises(Exception, match="witness key"):
        WitnessKey.parse(vkey.replace("w.", "v."))


# -- approvals -------------------------------------------------------------------------------------------------------------------

APPROVALS = {
    "of another action": ({"action_digest": "00" * 32}, {}, EXIT_TAMPERED, "approval.other_action"),
    "of another ticket": ({"ticket": "tk-9"}, {}, EXIT_TAMPERED, "approval.other_ticket"),
    "for another connection": ({"connection": "other"}, {}, EXIT_TAMPERED, "approval.other_connection"),
    "that denies": ({"decision": "deny"}, {}, EXIT_TAMPERED, "approval.denied"),
    "by the requester": ({}, {"reviewer": "agent-1@example.com"}, EXIT_TAMPERED, "approval.self"),
    "by a stranger": ({}, {"reviewer": "eve@elsewhere.com"}, EXIT_UNTRUSTED, "approval.identity"),
}


@pytest.mark.parametrize(
    ("bases", "expected"), [((0, 0, 0), set()), ((0, 9), {"chunk.base"}), ((0, 1), {"chunk.base"}), ((1,), {"chunk.base"})]
)
def test_a_chunk_is_packed_against_an_earlier_one_that_stands_alone(sigstore, tmp_path, bases, expected):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    decisions = [builder.decide(session)]
    for base in bases:
        blob = session.put_blob("input", b'{"sql":"select 2"}')
        decisions.append(builder.decide(session, input={**blob, "base": base}))
    for decision in decisions:
        session.submit("outcome", {"decision_id": decision, "status": "completed"})
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify(identities=True)
    assert codes(report) == expected


@pytest.mark.parametrize("kind", APPROVALS)
def test_an_approval_that_does_not_fit_is_found(sigstore, tmp_path, kind):
    terms, options, expected, code = APPROVALS[kind]
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    builder.approve(session, "tk-1", terms=terms, **options)
    decision = builder.decide(session, ticket="tk-1", subject={"id": "corp/agent-1@example.com"}, release="a")
    builder.run(session, decision)
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert code in codes(report)
    assert report.exit_code == expected


def test_a_ticket_that_nobody_granted_is_tampering(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    builder.run(session, builder.decide(session, ticket="tk-1"))
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert (report.exit_code, codes(report)) == (EXIT_TAMPERED, {"approval.absent"})


def test_a_grant_without_a_signature_is_incomplete(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    session.submit("approval.granted", {"ticket": "tk-1"})
    builder.run(session, builder.decide(session, ticket="tk-1"))
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert report.exit_code == EXIT_INCOMPLETE
    assert "approval.unsigned" in codes(report)


def test_a_ticket_releases_one_action(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    builder.approve(session, "tk-1")
    for _ in range(2):
        builder.run(session, builder.decide(session, ticket="tk-1"))
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert (report.exit_code, codes(report)) == (EXIT_TAMPERED, {"approval.reused"})


def test_a_nonce_is_good_for_one_ticket(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    builder.write_approved_session("tk-1", terms={"nonce": "same"})
    builder.write_approved_session("tk-2", terms={"nonce": "same"})
    report = finish(builder, sigstore).verify()
    assert report.exit_code == EXIT_TAMPERED
    assert "approval.replayed" in codes(report)


def test_two_reviewers_are_counted_by_their_certificates(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    requirement = {"effect": "require_approval", "approval": {"requirements": [{"count": 2}]}}
    builder.decide(session, "require_approval", ticket="tk-1", decision=requirement)
    builder.approve(session, "tk-1")
    builder.run(session, builder.decide(session, ticket="tk-1"))
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert (report.exit_code, codes(report)) == (EXIT_INCOMPLETE, {"approval.too_few"})


def test_no_reviewer_rule_means_no_approval_counts(sample):
    assert sample.verify(reviewers=()).exit_code == EXIT_UNTRUSTED


HELD = {"ticket": "tk-1", "approval": {"ticket": "tk-1", "digest": "d", "held": "commit"}}


@pytest.mark.parametrize(
    ("between", "kept", "found"),
    [
        ("nothing", "COMMIT", {"approval.bypassed"}),
        ("nothing", "ROLLBACK; COMMIT", {"approval.bypassed"}),
        ("nothing", "ROLLBACK", set()),
        ("grant", "COMMIT", set()),
        ("refused", "COMMIT", set()),
        ("failed", "COMMIT", set()),
    ],
)
def test_a_commit_without_the_grant_of_what_was_held_is_tampering(sigstore, tmp_path, between, kept, found):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    held = builder.decide(session, "require_approval", **HELD)
    status = "failed" if between == "failed" else "completed"
    session.submit("outcome", {"decision_id": held, "status": status, "tag": "UPDATE 1"})
    if between == "grant":
        builder.approve(session, "tk-1")
        builder.run(session, builder.decide(session, ticket="tk-1", approval={"used": True}))
    if between == "refused":
        builder.decide(session, ticket="tk-1", refused=True)
    session.submit("outcome", {"decision_id": builder.decide(session), "status": "completed", "tag": kept})
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert codes(report) == found


# -- records that contradict one another -----------------------------------------------------------------------------------------


def test_a_blocked_action_that_ran_is_tampering(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    session.submit("outcome", {"decision_id": builder.decide(session, "block"), "status": "completed"})
    session.submit("outcome", {"decision_id": "never", "status": "completed"})
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert (report.exit_code, codes(report)) == (EXIT_TAMPERED, {"outcome.contradicts", "outcome.unfounded"})


def test_an_unknown_outcome_is_indeterminate_not_tampered(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    builder.decide(session)
    session.submit_close().result(WAIT_S)
    report = finish(builder, sigstore).verify()
    assert report.exit_code == EXIT_VERIFIED
    assert [finding.code for finding in report.findings] == ["outcome.indeterminate"]


def test_an_open_session_and_an_unattested_tail_are_incomplete_unless_live(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    builder.run(session, builder.decide(session))
    builder.attestor.attest_now().result(WAIT_S)
    builder.decide(session)
    builder.log.checkpoint()
    shutil.copytree(builder.directory, tmp_path / "copy")
    copy = Sample(tmp_path / "copy", builder, sigstore)
    assert codes(copy.verify()) == {"session.not_closed", "log.tail"}
    assert copy.verify().exit_code == EXIT_INCOMPLETE
    assert copy.verify(live=True).exit_code == EXIT_VERIFIED
    session.submit_close().result(WAIT_S)
    builder.close()


def test_an_admitted_loss_is_incomplete_unless_accepted(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    builder.log.submit("gap", {"reason": "unwritten", "records": 2}).result(WAIT_S)
    sample = finish(builder, sigstore)
    assert (sample.verify().exit_code, codes(sample.verify())) == (EXIT_INCOMPLETE, {"gap"})
    assert sample.verify(accept_gaps=True).exit_code == EXIT_VERIFIED


def test_a_shredded_session_is_noted_with_its_reason(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    sid = builder.write_session()
    builder.log.shred_session(sid, {"rule": "retention-7y"})
    sample, ages = finish(builder, sigstore), [str(builder.age)]
    report = verify_directory(sample.directory, builder.trust(), age_identities=ages, recompute=lambda *_: "same")
    assert (report.exit_code, report.checks["verdicts_recomputed"]) == (EXIT_VERIFIED, "not checked")
    said = {finding.code: finding.message for finding in report.findings}
    assert "session.shredded" in said
    assert said["decision.not_recomputed"].endswith("4 have an input that is not recorded or could not be opened")


def test_recomputed_verdicts_are_compared(sample):
    def recompute(record, document):
        assert json.loads(document)["sql"]
        return "same"

    trust, ages = sample.builder.trust(), [str(sample.builder.age)]
    report = verify_directory(sample.directory, trust, age_identities=ages, recompute=recompute)
    assert (report.exit_code, report.checks["verdicts_recomputed"]) == (EXIT_VERIFIED, "passed")
    report = verify_directory(sample.directory, trust, age_identities=ages, recompute=lambda *_: "different")
    assert (report.exit_code, report.checks["verdicts_recomputed"]) == (EXIT_TAMPERED, "failed")
    report = verify_directory(sample.directory, trust, age_identities=ages, recompute=lambda *_: "not checked")
    assert (report.exit_code, report.checks["verdicts_recomputed"]) == (EXIT_VERIFIED, "not checked")
    report = verify_directory(sample.directory, trust, recompute=recompute)
    assert report.checks["verdicts_recomputed"] == "not checked"


@pytest.mark.parametrize(
    ("effect", "fields", "state", "why"),
    [
        ("block", {"cause": "policy.deadline"}, "passed", None),
        ("block", {"bundle": ""}, "passed", None),
        ("allow", {"cause": "policy.deadline"}, "not checked", "2 of 2 verdicts could not be recomputed: 2 name a policy bundle"),
        ("allow", {"bundle": ""}, "not checked", "2 of 2 verdicts could not be recomputed: 2 name a policy bundle"),
        ("block", {"replay": "needs-openings"}, "not checked", "1 of 2 verdicts could not be recomputed: 1 hold masked content"),
    ],
)
def test_a_verdict_that_is_not_recomputed_is_told_from_a_block_without_one(sigstore, tmp_path, effect, fields, state, why):
    """The enforcement point may block without policy. Whatever lets something through has to be what policy said."""
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    builder.decide(session, effect, **fields)
    builder.run(session, builder.decide(session))
    session.submit_close().result(10)
    sample = finish(builder, sigstore)
    answer = "same" if effect == "block" else "not checked"
    ages = [str(builder.age)]
    report = verify_directory(sample.directory, builder.trust(), age_identities=ages, recompute=lambda *_: answer)
    assert (report.exit_code, report.checks["verdicts_recomputed"]) == (EXIT_VERIFIED, state)
    said = [finding.message for finding in report.findings if finding.code == "decision.not_recomputed"]
    assert [why is not None and text.startswith(why) for text in said] == [True] * (why is not None)


# -- records an attested log should never hold: the gateway itself wrote them ----------------------------------------------------


def attest_leaves(sigstore, tmp_path, leaves):
    """Evidence whose log, checkpoint and attestation are over exactly these leaves."""
    builder = EvidenceBuilder(tmp_path / "made", sigstore)
    signer = NoteSigner(builder.origin, builder.log_key)
    sample = Sample(builder.directory, builder, sigstore)
    for name in ("tile", "wal", "attest"):
        (sample.log / name).mkdir(parents=True)
    sample.rewrite(leaves)
    note = (sample.log / "checkpoint").read_bytes()
    payload = statements.build("gw", 0, "2026-11-21T00:00:00.000000Z", "demand", [note])
    statements.note_path(sample.log, len(leaves)).write_bytes(note)
    bundle = KeylessSigner(sigstore.trust_config, lambda: sigstore.mint_token(GATEWAY)).sign(payload)
    statements.bundle_path(sample.log, len(leaves)).write_text(bundle)
    builder.log = type("Closed", (), {"verifier_key": signer.verifier_key})()
    return sample


def chain_of(*records, start=None):
    """Leaves of the log's own chain, a second apart."""
    moment = start or datetime.now(UTC) - timedelta(minutes=5)
    leaves, previous = [], ""
    for index, (kind, fields, after_s) in enumerate(records):
        moment += timedelta(seconds=after_s)
        ts = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        record = {"v": 1, "type": kind, "seq": index, "sid": "log", "sseq": index, "ts": ts, "mono_us": index} | fields
        leaves.append(encode(record | ({"sprev": previous} if previous else {})))
        previous = hash_leaf(leaves[-1]).hex()
    return leaves


OPEN = ("log.open", {"origin": "gw/2026h2/w0", "recovered": {}}, 0)
BEAT = ("heartbeat", {}, 1)

WRITTEN = {
    "in order": ([OPEN, BEAT, BEAT], EXIT_VERIFIED, set()),
    "silence": ([OPEN, BEAT, ("heartbeat", {}, 200)], EXIT_INCOMPLETE, {"log.silence"}),
    "downtime": ([OPEN, BEAT, (*OPEN[:2], 200)], EXIT_VERIFIED, set()),
    "time goes back": ([OPEN, BEAT, ("heartbeat", {}, -120)], EXIT_TAMPERED, {"time.backwards"}),
    "time runs ahead": ([OPEN, BEAT, ("log.open", OPEN[1], 3600)], EXIT_TAMPERED, {"time.ahead"}),
    "another origin": ([("log.open", {"origin": "gw/2026h2/w7", "recovered": {}}, 0)], EXIT_TAMPERED, {"log.origin"}),
    "wrong place": ([OPEN, ("heartbeat", {"seq": 7}, 1)], EXIT_TAMPERED, {"chain.broken"}),
    "another version": ([OPEN, ("heartbeat", {"v": 2}, 1)], EXIT_TAMPERED, {"chain.broken"}),
    "no time": ([OPEN, ("heartbeat", {"ts": "soon"}, 1)], EXIT_TAMPERED, {"record.malformed"}),
    "unknown type": ([OPEN, ("novelty", {}, 1)], EXIT_VERIFIED, set()),
    "orphan session": (
        [OPEN, ("session.close", {"sid": "s1", "sseq": 0, "reason": "x"}, 1)],
        EXIT_TAMPERED,
        {"session.not_opened"},
    ),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_a_lying_gateway_signs_is_still_examined(sigstore, tmp_path, kind):
    records, expected, wanted = WRITTEN[kind]
    leaves = chain_of(*records)
    if kind == "orphan session":
        leaves[1] = encode({name: value for name, value in orjson.loads(leaves[1]).items() if name != "sprev"})
    report = attest_leaves(sigstore, tmp_path, leaves).verify()
    assert (report.exit_code, codes(report)) == (expected, wanted)


def test_records_written_after_an_attestation_may_be_later_than_it(sigstore, tmp_path, sample):
    leaves = chain_of(OPEN, BEAT, ("log.open", OPEN[1], 3600))
    first_ts = datetime.fromisoformat(orjson.loads(leaves[0])["ts"])
    for size, wanted in ((2, set()), (3, {"time.ahead"})):
        report, trust = Report(), sample.builder.trust()
        attested = [AttestedRoot(size, b"", first_ts, "", "here")]
        records = RecordPass("gw/2026h2/w0", LogReader(tmp_path), trust, report, ApprovalLedger(trust, report), attested=attested)
        records.feed(0, leaves, [hash_leaf(leaf) for leaf in leaves])
        assert codes(report) == wanted


def test_bytes_that_read_two_ways_are_refused(sigstore, tmp_path):
    leaves = chain_of(OPEN, BEAT)
    leaves[1] = leaves[1].replace(b'{"mono_us"', b'{"mono_us":9,"mono_us"')
    sample = attest_leaves(sigstore, tmp_path, leaves)
    assert codes(sample.verify()) == {"record.malformed"}
    report = verify_directory(sample.directory, sample.builder.trust(), strict=False)
    assert (report.exit_code, report.checks["canonical_form"]) == (EXIT_VERIFIED, "not checked")


@pytest.mark.parametrize(
    "leaf", [b"", b"null", b"[]", b"{}", b"\xff", b'{"type":"decision"}', b'{"sid":1,"ts":2,"type":3,"seq":0,"sseq":0,"v":1}']
)
def test_a_leaf_of_any_shape_is_a_finding_not_a_crash(sigstore, tmp_path, leaf):
    report = attest_leaves(sigstore, tmp_path, [*chain_of(OPEN), leaf]).verify()
    assert report.exit_code == EXIT_TAMPERED


def test_many_bundles_of_records_verify(sigstore, tmp_path):
    builder = fresh(tmp_path, sigstore)
    session = builder.open_session()
    for number in range(400):
        builder.run(session, builder.decide(session))
        if number == 150:
            builder.attestor.attest_now().result(WAIT_S)
    session.submit_close().result(WAIT_S)
    sample = finish(builder, sigstore)
    report = sample.verify()
    assert (report.exit_code, report.findings) == (EXIT_VERIFIED, [])
    assert report.counts["records"] > 4 * 256
    for pattern, offset in (("tile/0/002", 40), ("tile/entries/001", 90), ("tile/1/000.p/*", 3)):
        target = first(sample.log, pattern)
        saved = target.read_bytes()
        flip(target, offset)
        assert sample.verify().exit_code == EXIT_TAMPERED, pattern
        target.write_bytes(saved)
    assert sample.verify().exit_code == EXIT_VERIFIED
    (sample.log / "tile/entries/001").unlink()
    assert sample.verify().exit_code == EXIT_INCOMPLETE
