"""For whom and when a token was made, and the subject it proves."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.action import Subject
from gateway.config import IssuerConfig
from gateway.errors import IdentityError
from gateway.identity.claims import MAX_ACTORS, MAX_GROUPS, MAX_TEXT_CHARS, build_subject, check_claims

NOW = 1_800_000_000.0
ISSUER = IssuerConfig(alias="bank", issuer="https://id.example.com", audience=("sealgate", "gateway"))
CLAIMS = {"iss": "https://id.example.com", "sub": "a", "aud": "sealgate", "exp": NOW + 600, "iat": NOW, "jti": "t1"}
VECTORS = Path(__file__).parents[1] / "vectors" / "identity"


def issuer(**settings):
    return ISSUER.model_copy(update=settings)


def prove(claims, config):
    check_claims(claims, config, NOW)
    return build_subject(claims, config)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.json")), ids=lambda path: path.stem)
def test_vectors(path):
    """Each file: settings of the issuer, claims over the usual ones (null removes one), and the subject or the refusal."""
    case = json.loads(path.read_text())
    config = IssuerConfig(**{**ISSUER.model_dump(), **case.get("issuer", {})})
    claims = {name: value for name, value in {**CLAIMS, **case["claims"]}.items() if value is not None}
    if "refused" in case:
        with pytest.raises(IdentityError) as caught:
            prove(claims, config)
        assert caught.value.why == case["refused"]
        return
    subject = prove(claims, config)
    for name, value in case["subject"].items():
        found = getattr(subject, name)
        assert (list(found) if isinstance(found, tuple) else found) == value, name


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "sub"])
def test_claims_that_must_be_there(name):
    claims = {key: value for key, value in CLAIMS.items() if key != name}
    with pytest.raises(IdentityError):
        prove(claims, ISSUER)


@given(st.integers(-400, 400), st.integers(0, 300))
def test_expiry_is_exact_to_the_leeway(offset, leeway):
    config = issuer(leeway_s=leeway, max_lifetime_s=31_536_000)
    claims = {**CLAIMS, "exp": NOW + offset, "iat": NOW + offset - 1}
    live = offset + leeway > 0 and offset - 1 <= leeway
    try:
        check_claims(claims, config, NOW)
        passed = True
    except IdentityError:
        passed = False
    assert passed == live


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "groups", "act", "kind", "email", "email_verified", "azp"]), JSON))
def test_any_claims_give_a_subject_or_a_refusal(claims):
    config = issuer(kind_claim="kind", claims_allow=("azp",), person_claim="azp")
    try:
        check_claims({**CLAIMS, **claims}, config, NOW)
        subject = build_subject({**CLAIMS, **claims}, config)
    except IdentityError:
        return
    assert isinstance(subject, Subject)
    assert subject.id.startswith("bank/")
    assert subject.id.isprintable()
    assert subject.expires_ns > NOW * 1e9


def test_limits():
    def subject(**claims):
        return build_subject({**CLAIMS, **claims}, issuer(claims_allow=("note",)))

    subject(groups=[f"g{number}" for number in range(MAX_GROUPS)], sub="x" * MAX_TEXT_CHARS, note="x" * 4_000)
    for claims in (
        {"groups": [f"g{number}" for number in range(MAX_GROUPS + 1)]},
        {"groups": ["x" * (MAX_TEXT_CHARS + 1)]},
        {"sub": "x" * (MAX_TEXT_CHARS + 1)},
        {"note": "x" * 4_200},
        {"note": 2**53},
    ):
        with pytest.raises(IdentityError):
            subject(**claims)


def nest(depth):
    actor = {"sub": f"agent-{depth}"}
    for number in range(depth - 1, 0, -1):
        actor = {"sub": f"agent-{number}", "act": actor}
    return actor


def test_actors_nest_to_a_limit():
    subject = build_subject({**CLAIMS, "act": nest(MAX_ACTORS)}, ISSUER)
    assert (subject.id, subject.on_behalf_of) == ("bank/agent-1", "bank/a")
    with pytest.raises(IdentityError, match="nests"):
        build_subject({**CLAIMS, "act": nest(MAX_ACTORS + 1)}, ISSUER)
    with pytest.raises(IdentityError, match="nests"):
        build_subject({**CLAIMS, "act": nest(200)}, ISSUER)
