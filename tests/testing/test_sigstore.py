"""The development Sigstore against stock clients, its persistence, and what it refuses."""

import base64
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from sigstore.dsse import StatementBuilder, Subject
from sigstore.errors import VerificationError
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from evidence.development import DEVELOPMENT_OPERATOR
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore, TrustedIssuer, der
from gateway.testing.sigstore.log import Tree
from gateway.testing.sigstore.timestamps import parse_request

WHO = "gateway@example.com"
OFFLINE = ["unshare", "-n"]  # an empty network namespace: no address, not even loopback
STOCK = [sys.executable, "-m", "sigstore"]


@pytest.fixture
def sigstore(tmp_path):
    with DevelopmentSigstore(tmp_path / "sigstore") as service:
        yield service


def signer_of(service, identity=WHO, **token):
    context = SigningContext.from_trust_config(ClientTrustConfig.from_json(service.trust_config))
    return context.signer(IdentityToken(service.mint_token(identity, **token)))


def verifier_of(service):
    return Verifier(trusted_root=ClientTrustConfig.from_json(service.trust_config).trusted_root)


def stock(*arguments, offline=False):
    command = [*(OFFLINE if offline else []), *STOCK, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def stock_verify(service, bundle, file, identity=WHO, issuer=DEFAULT_ISSUER):
    expected = ("--cert-identity", identity, "--cert-oidc-issuer", issuer)
    return stock(
        "--trust-config",
        service.trust_config_path,
        "verify",
        "identity",
        "--offline",
        "--bundle",
        bundle,
        *expected,
        file,
        offline=True,
    )


def test_stock_client_signs_and_verifies_without_a_network(sigstore, tmp_path):
    file, bundle = tmp_path / "file", tmp_path / "file.sigstore.json"
    file.write_text("what was done")
    signed = stock(
        "--trust-config",
        sigstore.trust_config_path,
        "sign",
        "--identity-token",
        sigstore.mint_token(WHO),
        "--bundle",
        bundle,
        file,
    )
    assert signed.returncode == 0, signed.stderr
    assert stock_verify(sigstore, bundle, file).returncode == 0
    assert stock_verify(sigstore, bundle, file, identity="other@example.com").returncode != 0
    assert stock_verify(sigstore, bundle, file, issuer="https://issuer.example.com").returncode != 0
    file.write_text("what was not done")
    assert stock_verify(sigstore, bundle, file).returncode != 0


def test_statements_verify_and_trust_survives_a_restart(tmp_path):
    statement = (
        StatementBuilder()
        .subjects([Subject(name="x", digest={"sha256": "00" * 32})])
        .predicate_type("https://example.com/p")
        .predicate({"a": 1})
    ).build()
    with DevelopmentSigstore(tmp_path) as service, signer_of(service) as signer:
        bundles = [signer.sign_dsse(statement) for _ in range(5)]
        before = json.loads(service.trust_config)["trustedRoot"]
    with DevelopmentSigstore(tmp_path) as service:
        assert json.loads(service.trust_config)["trustedRoot"] == before
        assert service.log.size == 5
        with signer_of(service, "spiffe://example.com/gateway") as signer:
            bundles.append(signer.sign_dsse(statement))
        verifier = verifier_of(service)
    indexes = [bundle.log_entry._inner.log_index for bundle in bundles]
    assert indexes == list(range(6))
    for bundle in bundles[:5]:
        verifier.verify_dsse(bundle, policy.Identity(identity=WHO, issuer=DEFAULT_ISSUER))
    verifier.verify_dsse(bundles[5], policy.Identity(identity="spiffe://example.com/gateway", issuer=DEFAULT_ISSUER))


def test_another_instance_is_not_trusted(sigstore, tmp_path):
    with DevelopmentSigstore(tmp_path / "other") as other, signer_of(other) as signer:
        bundle = signer.sign_artifact(b"data")
    with pytest.raises(VerificationError):
        verifier_of(sigstore).verify_artifact(b"data", bundle, policy.Identity(identity=WHO, issuer=DEFAULT_ISSUER))


def test_the_label_is_in_every_authority_and_service(sigstore):
    config = json.loads(sigstore.trust_config)
    root, signing = config["trustedRoot"], config["signingConfig"]
    services = [*root["tlogs"], *root["ctlogs"], *root["certificateAuthorities"], *root["timestampAuthorities"]]
    services += [each for name in ("caUrls", "oidcUrls", "rekorTlogUrls", "tsaUrls") for each in signing[name]]
    assert {each["operator"] for each in services} == {DEVELOPMENT_OPERATOR}
    ca = ClientTrustConfig.from_json(sigstore.trust_config).trusted_root.get_fulcio_certs()[0]
    assert DEVELOPMENT_OPERATOR in ca.subject.rfc4514_string()


def test_two_instances_never_share_a_log(tmp_path):
    with DevelopmentSigstore(tmp_path), pytest.raises(RuntimeError, match="in use"):
        DevelopmentSigstore(tmp_path)


def certify(service, token):
    return requests.post(
        f"{service.url}/api/v2/signingCert", data=json.dumps({}), headers={"Authorization": f"Bearer {token}"}, timeout=10
    )


@pytest.mark.parametrize("change", [{"exp": 1}, {"aud": "somebody-else"}, {"iss": "https://issuer.example.com"}, {"sub": None}])
def test_tokens_that_prove_nothing_get_no_certificate(sigstore, change):
    assert certify(sigstore, sigstore.mint_token(WHO, claims=change)).status_code == 401


def test_a_token_signed_by_a_foreign_key_gets_no_certificate(sigstore):
    claims = jwt.decode(sigstore.mint_token(WHO), options={"verify_signature": False})
    forged = jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    assert certify(sigstore, forged).status_code == 401
    assert certify(sigstore, "").status_code == 401


def test_a_good_token_with_a_bad_request_is_a_client_error(sigstore):
    answer = certify(sigstore, sigstore.mint_token(WHO))
    assert answer.status_code == 400
    assert "certificate request" in answer.json()["message"]


def test_the_issuer_speaks_for_no_real_name(sigstore):
    with pytest.raises(ValueError, match="speaks for no other name"):
        sigstore.mint_token(WHO, issuer="https://accounts.example.com")


def test_a_configured_issuer_is_accepted_by_its_own_keys(tmp_path):
    with DevelopmentSigstore(tmp_path / "a") as a:
        # The second instance knows the first one's issuer only through its published key set.
        foreign = TrustedIssuer("https://idp.example.com", a.jwks_url, claim="email")
        with DevelopmentSigstore(tmp_path / "b", issuers=[foreign]) as b:
            token = a.mint_token("id-17", claims={"iss": foreign.issuer, "email": "ann@example.com", "email_verified": True})
            with SigningContext.from_trust_config(ClientTrustConfig.from_json(b.trust_config)).signer(
                IdentityToken(token)
            ) as signer:
                bundle = signer.sign_artifact(b"data")
            verifier_of(b).verify_artifact(b"data", bundle, policy.Identity(identity="ann@example.com", issuer=foreign.issuer))
            unverified = a.mint_token(
                "id-17", claims={"iss": foreign.issuer, "email": "ann@example.com", "email_verified": False}
            )
            assert certify(b, unverified).status_code == 401


def test_discovery_names_a_key_set_that_verifies_tokens(sigstore):
    discovery = requests.get(f"{sigstore.url}/.well-known/openid-configuration", timeout=10).json()
    key = jwt.PyJWKClient(discovery["jwks_uri"]).get_signing_key_from_jwt(sigstore.mint_token(WHO, audience="sealgate")).key
    claims = jwt.decode(
        sigstore.mint_token(WHO, audience="sealgate"), key, algorithms=["ES256"], audience="sealgate", issuer=discovery["issuer"]
    )
    assert claims["sub"] == WHO


def test_a_signature_stamped_after_its_certificate_expired_is_refused(tmp_path):
    ahead = timedelta(0)
    with DevelopmentSigstore(tmp_path, clock=lambda: datetime.now(UTC) + ahead) as service, signer_of(service) as signer:
        ahead = timedelta(hours=1)
        bundle = signer.sign_artifact(b"data")
    with pytest.raises(VerificationError):
        verifier_of(service).verify_artifact(b"data", bundle, policy.Identity(identity=WHO, issuer=DEFAULT_ISSUER))


def test_an_entry_with_a_wrong_signature_is_not_logged(sigstore):
    with signer_of(sigstore) as signer:
        bundle = signer.sign_artifact(b"data")
    body = json.loads(bundle.log_entry._inner.canonicalized_body)["spec"]["hashedRekordV002"]
    request = {"digest": body["data"]["digest"], "signature": body["signature"]}
    answer = requests.post(f"{sigstore.url}/api/v2/log/entries", json={"hashedRekordRequestV002": request}, timeout=10)
    assert answer.status_code == 201
    request["digest"] = base64.b64encode(bytes(32)).decode()
    answer = requests.post(f"{sigstore.url}/api/v2/log/entries", json={"hashedRekordRequestV002": request}, timeout=10)
    assert answer.status_code == 400
    assert sigstore.log.size == 2


def test_a_torn_last_line_of_the_log_is_cut(tmp_path):
    with DevelopmentSigstore(tmp_path) as service, signer_of(service) as signer:
        signer.sign_artifact(b"data")
    with (tmp_path / "log-entries.jsonl").open("ab") as file:
        file.write(b'{"apiVersion":"0.0')
    with DevelopmentSigstore(tmp_path) as service, signer_of(service) as signer:
        bundle = signer.sign_artifact(b"more")
        assert bundle.log_entry._inner.log_index == 1
        verifier_of(service).verify_artifact(b"more", bundle, policy.Identity(identity=WHO, issuer=DEFAULT_ISSUER))


@pytest.mark.parametrize("service", ["ca", "log", "tsa"])
def test_an_outage_of_one_service_stops_signing(sigstore, service):
    def sign():
        with signer_of(sigstore) as signer:
            return signer.sign_artifact(b"data")

    with sigstore.outage(service), pytest.raises(Exception, match=r".*"):
        sign()
    verifier_of(sigstore).verify_artifact(b"data", sign(), policy.Identity(identity=WHO, issuer=DEFAULT_ISSUER))


def test_oversized_requests_are_refused(sigstore):
    answer = requests.post(f"{sigstore.url}/api/v1/timestamp", data=bytes(65 * 1024), timeout=10)
    assert answer.status_code == 413
    assert requests.post(f"{sigstore.url}/api/v1/timestamp", data=b"\x30\x03abc", timeout=10).status_code == 400
    assert requests.get(f"{sigstore.url}/anything", timeout=10).status_code == 404


@given(st.binary(max_size=200))
def test_the_timestamp_parser_returns_a_digest_or_refuses(data):
    try:
        imprint, _ = parse_request(data)
    except ValueError:
        return
    assert len(imprint) == 32


@given(st.binary(max_size=70_000), st.sampled_from([der.OCTET_STRING, der.SEQUENCE]))
def test_der_reads_what_it_writes(body, tag):
    assert der.only(der.encode(tag, body), tag) == body


def test_der_refuses_indefinite_and_padded_lengths():
    for bad in (b"\x30\x80\x00\x00", b"\x04\x81\x05hello", b"\x04\x82\x00\x90" + bytes(144), b"\x04\x05hell", b"\x04"):
        with pytest.raises(ValueError, match="DER"):
            list(der.elements(bad))


@given(st.integers(1, 70), st.data())
def test_inclusion_proofs_lead_to_the_root(size, data):
    tree = Tree()
    for index in range(size):
        tree.append(str(index).encode())
    wanted = data.draw(st.integers(0, size - 1))
    assert _root_from_proof(str(wanted).encode(), wanted, size, tree.proof(wanted)) == tree.root()


def _root_from_proof(leaf, index, size, proof):
    """RFC 9162, section 2.1.3.2, as an independent check."""
    first, last, node = index, size - 1, hashlib.sha256(b"\x00" + leaf).digest()
    for sibling in proof:
        if first % 2 == 1 or first == last:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while first % 2 == 0 and first:
                first, last = first >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        first, last = first >> 1, last >> 1
    assert last == 0
    return node
