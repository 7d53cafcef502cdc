"""Tokens of configured issuers become subjects; everything else is refused, and no refusal shows the token."""

import asyncio
import base64
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.config import IssuerConfig
from gateway.errors import IdentityError
from gateway.identity import TokenVerifier, check_live
from gateway.testing.oidc import DevelopmentIssuer, make_key


async def refuse(verifier, token):
    with pytest.raises(IdentityError) as caught:
        await verifier.verify(token)
    text = str(caught.value)
    for part in token.split("."):
        assert len(part) < 12 or part not in text
    return text


def encode(value):
    return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).rstrip(b"=").decode()


def forge(issuer, *, header=None, key=None):
    """A token with any header, whose signature is that of the key all the same."""
    key = issuer.key if key is None else key
    now_s = int(time.time())
    content = {"iss": issuer.url, "sub": "a", "aud": "sealgate", "exp": now_s + 600, "iat": now_s}
    parts = f"{encode({'alg': key.algorithm, 'kid': key.key_id, **(header or {})})}.{encode(content)}"
    signer = jwt.PyJWS().get_algorithm_by_name(key.algorithm)
    return f"{parts}.{encode(signer.sign(parts.encode(), key.private))}"


async def test_a_token_becomes_a_subject(shared_issuer, make_verifier, configure):
    verifier = make_verifier(configure(shared_issuer, claims_allow=("azp", "missing"), person_claim="owner", run_claim="run"))
    claims = {
        "azp": "client-7",
        "owner": "alice",
        "run": "run-1",
        "email": "a@example.com",
        "email_verified": True,
        "secret": "x",
    }
    subject = await verifier.verify(shared_issuer.mint("agent-7", groups=["z", "a", "z"], claims=claims))
    assert subject.id == "bank/agent-7"
    assert subject.kind == "agent"
    assert subject.issuer == shared_issuer.url
    assert subject.groups == ("a", "z")
    assert subject.person == "alice"
    assert subject.claims == {"azp": "client-7"}
    assert subject.run_id == "run-1"
    assert subject.email == "a@example.com"
    assert subject.on_behalf_of is None


async def test_the_whole_token_counts(shared_issuer, make_verifier, clock):
    """Any flipped bit anywhere is refused: there is one spelling of a token, and its signature covers it."""
    token = shared_issuer.mint("agent", now_s=clock.now())
    verifier = make_verifier(shared_issuer)
    await verifier.verify(token)
    for position in range(len(token)):
        for bit in (1, 2, 4, 32):
            changed = token[:position] + chr(ord(token[position]) ^ bit) + token[position + 1 :]
            with pytest.raises(IdentityError):
                await verifier.verify(changed)


@given(st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_edit_of_a_token_is_refused(shared_issuer, configure, data):
    token = shared_issuer.mint("agent")
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, min(len(token), start + 8)))
    text = data.draw(st.text(st.characters(codec="utf-8", max_codepoint=300) | st.sampled_from("._-A="), max_size=8))
    changed = token[:start] + text + token[end:]
    if changed == token:
        return

    async def attempt():
        verifier = TokenVerifier([configure(shared_issuer)])
        try:
            await refuse(verifier, changed)
        finally:
            await verifier.aclose()

    asyncio.run(attempt())


@given(st.text(max_size=200))
@example("")
@example("..")
@example("a.b.c")
@settings(deadline=None)
def test_any_text_is_refused(text):
    async def attempt():
        verifier = TokenVerifier([IssuerConfig(alias="x", issuer="https://id.example.com", audience=("sealgate",))])
        with pytest.raises(IdentityError):
            await verifier.verify(text)

    asyncio.run(attempt())


@pytest.mark.parametrize("name", ["none", "None", "HS256", "HS512", "RS256", "ES512", "EdDSA", "ES256K", "dir", ""])
async def test_an_algorithm_outside_the_list_is_refused(shared_issuer, make_verifier, configure, name):
    verifier = make_verifier(configure(shared_issuer, algorithms=("ES256",)))
    assert "algorithm" in await refuse(verifier, forge(shared_issuer, header={"alg": name}))


async def test_the_public_key_as_a_shared_secret_is_refused(shared_issuer, make_verifier):
    """The classic confusion: HS256 keyed with the published key."""
    public = shared_issuer.key.private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    content = {"iss": shared_issuer.url, "sub": "a", "aud": "sealgate", "exp": int(time.time()) + 600}
    parts = f"{encode({'alg': 'HS256', 'kid': shared_issuer.key.key_id})}.{encode(content)}"
    token = f"{parts}.{encode(hmac.digest(pem, parts.encode(), 'sha256'))}"
    assert "algorithm" in await refuse(make_verifier(shared_issuer), token)


async def test_an_unsigned_token_is_refused(shared_issuer, make_verifier):
    parts = forge(shared_issuer, header={"alg": "none"}).split(".")
    verifier = make_verifier(shared_issuer)
    await refuse(verifier, f"{parts[0]}.{parts[1]}.")
    await refuse(verifier, f"{parts[0]}.{parts[1]}")


async def test_a_key_in_the_token_is_not_used(shared_issuer, make_verifier):
    attacker = make_key(key_id="attacker")
    verifier = make_verifier(shared_issuer)
    jwks = f"data:application/json,{json.dumps({'keys': [dict(attacker.public)]})}"
    for header in (
        {"jwk": dict(attacker.public)},
        {"jku": jwks},
        {"x5u": jwks},
        {"kid": shared_issuer.key.key_id, "jwk": dict(attacker.public)},
    ):
        await refuse(verifier, forge(shared_issuer, header=header, key=attacker))


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "' OR 1=1 --", "/proc/self/environ", "\u0000", "x" * 10_000, "", None, 7, ["a"], {"a": 1}]
)
async def test_a_key_id_only_ever_names_a_published_key(shared_issuer, make_verifier, kid):
    attacker = make_key()
    await refuse(make_verifier(shared_issuer), forge(shared_issuer, header={"kid": kid}, key=attacker))


async def test_the_published_encryption_key_signs_nothing(shared_issuer, make_verifier):
    assert shared_issuer.encryption_key.public["use"] == "enc"
    token = forge(shared_issuer, key=shared_issuer.encryption_key)
    assert "no usable key" in await refuse(make_verifier(shared_issuer), token)


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": False, "crit": ["b64"]}, {"typ": "dpop+jwt"},
                                    {"typ": "logout+jwt"}, {"typ": 1}, {"alg": None}, {"alg": ["ES256"]}])  # fmt: skip
async def test_headers_that_are_refused(shared_issuer, make_verifier, header):
    await refuse(make_verifier(shared_issuer), forge(shared_issuer, header=header))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", None])
async def test_types_that_are_accepted(shared_issuer, make_verifier, kind):
    await make_verifier(shared_issuer).verify(forge(shared_issuer, header={} if kind is None else {"typ": kind}))


async def test_token_types_can_be_narrowed(shared_issuer, make_verifier, configure):
    verifier = make_verifier(configure(shared_issuer, token_types=("application/at+jwt",)))
    await verifier.verify(forge(shared_issuer, header={"typ": "at+jwt"}))
    await refuse(verifier, forge(shared_issuer, header={"typ": "JWT"}))
    await refuse(verifier, forge(shared_issuer))


async def test_repeated_members_are_refused(shared_issuer, make_verifier):
    key, now_s = shared_issuer.key, int(time.time())
    header = encode({"alg": "ES256", "kid": key.key_id})
    claims = f'{{"iss":"{shared_issuer.url}","sub":"a","sub":"admin","aud":"sealgate","exp":{now_s + 600}}}'
    parts = f"{header}.{encode(claims.encode())}"
    signer = jwt.PyJWS().get_algorithm_by_name("ES256")
    token = f"{parts}.{encode(signer.sign(parts.encode(), key.private))}"
    assert "unambiguous" in await refuse(make_verifier(shared_issuer), token)


async def test_another_issuer_is_refused_and_never_asked(shared_issuer, make_verifier):
    with DevelopmentIssuer() as foreign:
        verifier = make_verifier(shared_issuer)
        assert "not configured" in await refuse(verifier, foreign.mint("agent"))
        # Signed by the foreign issuer, claiming to come from ours.
        await refuse(verifier, foreign.mint("agent", claims={"iss": shared_issuer.url}))
        # Claims of ours with a trailing slash, or in other letter case, are another issuer's.
        await refuse(verifier, shared_issuer.mint("agent", claims={"iss": shared_issuer.url + "/"}))
        assert foreign.reads == {}


async def test_tokens_too_large_are_refused_before_they_are_read(shared_issuer, make_verifier):
    verifier = make_verifier(shared_issuer, max_token_bytes=2_048)
    await verifier.verify(shared_issuer.mint("agent"))
    assert "too large" in await refuse(verifier, shared_issuer.mint("agent", claims={"pad": "x" * 2_048}))


async def test_a_token_ends_with_its_expiry_also_when_remembered(shared_issuer, make_verifier, clock):
    verifier = make_verifier(shared_issuer)
    token = shared_issuer.mint("agent", ttl_s=60, now_s=clock.now())
    subject = await verifier.verify(token)
    clock.advance(60 + 28)  # within the leeway of 30 s
    assert await verifier.verify(token) == subject
    check_live(subject, int(clock.now() * 1e9))
    clock.advance(3)
    assert "expired" in await refuse(verifier, token)
    with pytest.raises(IdentityError, match="expired"):
        check_live(subject, int(clock.now() * 1e9))
    assert "expired" in await refuse(verifier, token)


async def test_many_issuers_and_agents_at_once(make_verifier, configure):
    issuers = [DevelopmentIssuer(algorithm=name) for name in ("ES256", "RS256", "ES256")]
    for item in issuers:
        item.start()
    try:
        verifier = make_verifier(*(configure(item, alias=f"i{index}") for index, item in enumerate(issuers)))
        wanted = [
            (f"i{index}/agent-{number}", item.mint(f"agent-{number}"))
            for number in range(40)
            for index, item in enumerate(issuers)
        ]
        subjects = await asyncio.gather(*(verifier.verify(token) for _, token in wanted))
        assert [subject.id for subject in subjects] == [name for name, _ in wanted]
        # However many arrived together, each issuer was read once.
        assert [item.reads for item in issuers] == [{"/.well-known/openid-configuration": 1, "/jwks": 1}] * 3
    finally:
        for item in issuers:
            item.stop()


async def test_one_subject_of_two_issuers_is_two_subjects(issuer, shared_issuer, make_verifier, configure):
    verifier = make_verifier(configure(issuer, alias="a"), configure(shared_issuer, alias="b"))
    ids = {(await verifier.verify(item.mint("root"))).id for item in (issuer, shared_issuer)}
    assert ids == {"a/root", "b/root"}


async def test_memory_of_tokens_is_bounded(shared_issuer, make_verifier, monkeypatch):
    monkeypatch.setattr("gateway.identity.tokens.MAX_REMEMBERED", 3)
    verifier = make_verifier(shared_issuer)
    tokens = [shared_issuer.mint(f"a{number}") for number in range(5)]
    for token in tokens:
        await verifier.verify(token)
    assert len(verifier._remembered) == 3
    assert (await verifier.verify(tokens[0])).sub == "a0"
