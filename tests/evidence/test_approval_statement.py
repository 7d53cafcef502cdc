"""Approval statements: what is signed, who signed it, and every way they are refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.approval_statement import ApprovalTerms, build_statement, sign_statement, verify_statement
from evidence.keyless import KeylessSigner
from evidence.trust import IdentityRule, SigstoreTrust, TrustError
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore

ANN = IdentityRule("ann@example.com", DEFAULT_ISSUER)
TERMS = ApprovalTerms(
    action_digest="ab" * 32,
    ticket="tk-1",
    decision="approve",
    policy_digest="cd" * 32,
    nonce="n-1",
    expires=datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=10),
    connection="ledger",
    note="checked with the owner",
)


@pytest.fixture(scope="module")
def sigstore():
    with DevelopmentSigstore() as service:
        yield service


@pytest.fixture(scope="module")
def trust(sigstore):
    return SigstoreTrust(sigstore.trust_config)


def sign(sigstore, terms=TERMS, who="ann@example.com"):
    return sign_statement(KeylessSigner(sigstore.trust_config, lambda: sigstore.mint_token(who)), terms)


@pytest.fixture(scope="module")
def signed(sigstore):
    return sign(sigstore).encode()


def test_an_approval_gives_back_its_terms_and_its_signer(sigstore, trust):
    answer = verify_statement(sign(sigstore), trust, [ANN])
    assert answer.terms == TERMS
    assert (answer.reviewer, answer.issuer) == ("ann@example.com", DEFAULT_ISSUER)
    assert abs(answer.signed_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer.statement == build_statement(TERMS)


def test_a_denial_is_an_answer_too(sigstore, trust):
    terms = replace(TERMS, decision="deny", note="")
    assert verify_statement(sign(sigstore, terms), trust, [ANN]).terms == terms


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        (IdentityRule("*@example.com", DEFAULT_ISSUER), True),
        (IdentityRule("*", DEFAULT_ISSUER), True),
        (IdentityRule("bob@example.com", DEFAULT_ISSUER), False),
        (IdentityRule("ann@example.com", "https://idp.example.com"), False),
        (IdentityRule("*@ample.com", DEFAULT_ISSUER), False),
    ],
)
def test_only_the_expected_identity_counts(sigstore, trust, rule, accepted):
    bundle = sign(sigstore)
    if accepted:
        assert verify_statement(bundle, trust, [rule]).reviewer == "ann@example.com"
        return
    with pytest.raises(TrustError) as caught:
        verify_statement(bundle, trust, [rule])
    assert caught.value.fault == "identity"


def test_nobody_expected_means_nobody_accepted(sigstore, trust):
    with pytest.raises(TrustError) as caught:
        verify_statement(sign(sigstore), trust, [])
    assert caught.value.fault == "identity"


def test_expiry_is_checked_against_the_stamp_and_against_now(sigstore, trust):
    with pytest.raises(TrustError, match="after its own expiry"):
        verify_statement(sign(sigstore, replace(TERMS, expires=TERMS.expires - timedelta(hours=1))), trust, [ANN])
    bundle = sign(sigstore)
    verify_statement(bundle, trust, [ANN], now=TERMS.expires - timedelta(seconds=1))
    with pytest.raises(TrustError, match="expired"):
        verify_statement(bundle, trust, [ANN], now=TERMS.expires)


@pytest.mark.parametrize(
    "change",
    [
        {"action_digest": "AB" * 32},
        {"action_digest": ""},
        {"policy_digest": "cd"},
        {"ticket": ""},
        {"nonce": "n" * 201},
        {"decision": "maybe"},
        {"note": "x" * 2001},
    ],
)
def test_terms_outside_their_form_are_not_signed(change):
    with pytest.raises(ValueError, match=r"."):
        build_statement(replace(TERMS, **change))


def test_another_statement_is_not_an_approval(sigstore, trust):
    other = build_statement(TERMS).replace(b"attestation/approval/v1", b"attestation/checkpoint/v1")
    bundle = KeylessSigner(sigstore.trust_config, lambda: sigstore.mint_token("ann@example.com")).sign(other)
    with pytest.raises(TrustError, match="predicate type"):
        verify_statement(bundle, trust, [ANN])


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[]", b"null", b"not json", b'{"mediaType": 1}', b"{" * 5000])
def test_garbage_is_malformed_not_a_crash(trust, garbage):
    with pytest.raises(TrustError) as caught:
        verify_statement(garbage, trust, [ANN])
    assert caught.value.fault == "malformed"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_changed_bundle_is_refused_or_says_the_same(signed, trust, data):
    bundle = bytearray(signed)
    for _ in range(data.draw(st.integers(1, 3))):
        bundle[data.draw(st.integers(0, len(bundle) - 1))] ^= data.draw(st.sampled_from([1, 2, 8, 64]))
    try:
        answer = verify_statement(bytes(bundle), trust, [ANN])
    except TrustError:
        return
    assert answer.terms == TERMS
