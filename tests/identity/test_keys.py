"""Which keys may verify, and how they are read, renewed, withdrawn and missed."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gateway.config import SIGNATURE_ALGORITHMS, IssuerConfig
from gateway.errors import IdentityError
from gateway.identity.fetch import MAX_DOCUMENT_BYTES
from gateway.identity.keys import MAX_KEYS, KeySet
from gateway.testing.oidc import DevelopmentIssuer, make_key

KEY = make_key(key_id="k1")
RSA_KEY = make_key("RS256", key_id="r1")


def key_set(*documents, algorithms=SIGNATURE_ALGORITHMS):
    return KeySet({"keys": list(documents)}, algorithms)


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


@pytest.mark.parametrize(
    ("changes", "usable"),
    [
        ({}, True),
        ({"use": "enc"}, False),
        ({"use": ["sig"]}, False),
        ({"use": None}, False),
        ({"key_ops": ["verify"]}, True),
        ({"key_ops": ["sign"]}, False),
        ({"key_ops": ["encrypt"]}, False),
        ({"key_ops": "verify"}, False),
        ({"alg": "ES384"}, False),
        ({"alg": "HS256"}, False),
        ({"crv": "P-384"}, False),
        ({"crv": "secp256k1"}, False),
        ({"kty": "oct", "k": "c2VjcmV0"}, False),
        ({"kty": "RSA"}, False),
        ({"d": "AAAA"}, False),
        ({"x": "AAAA"}, False),
        ({"kid": 7}, False),
    ],
)
def test_which_keys_may_verify(changes, usable):
    assert (key_set({**KEY.public, **changes}).find("k1", "ES256") is not None) == usable


def test_use_and_algorithm_may_be_missing():
    assert key_set(without(KEY.public, "use", "alg")).find("k1", "ES256") is not None
    assert key_set({**without(KEY.public, "use"), "key_ops": ["sign"]}).find("k1", "ES256") is None


def test_an_rsa_key_without_algorithm_verifies_what_is_allowed():
    keys = key_set(without(RSA_KEY.public, "alg"), algorithms=("RS256", "PS512"))
    assert keys.find("r1", "RS256") is not None
    assert keys.find("r1", "PS512") is not None
    assert keys.find("r1", "RS512") is None
    assert len(keys) == 1


def test_short_rsa_keys_are_left_out():
    short = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
    document = {**RSAAlgorithm.to_jwk(short.public_key(), as_dict=True), "kid": "short", "use": "sig"}
    document.pop("key_ops", None)
    assert key_set(document).find("short", "RS256") is None


def test_a_key_id_given_twice_fits_nothing():
    twin = {**make_key().public, "kid": "k1"}
    assert key_set(KEY.public, twin).find("k1", "ES256") is None


def test_without_a_key_id_only_a_single_key_fits():
    assert key_set(KEY.public, RSA_KEY.public).find(None, "ES256") is not None
    assert key_set(KEY.public, make_key().public).find(None, "ES256") is None


def test_the_number_of_keys_is_limited():
    key_set(*[KEY.public] * MAX_KEYS)
    with pytest.raises(IdentityError):
        key_set(*[KEY.public] * (MAX_KEYS + 1))


@pytest.mark.parametrize("document", [None, [], {}, {"keys": None}, {"keys": {}}, "keys"])
def test_what_is_no_key_set(document):
    with pytest.raises(IdentityError):
        KeySet(document, SIGNATURE_ALGORITHMS)


@pytest.mark.parametrize("item", [None, [], "k", {}, {"kty": ["RSA"]}, {"kty": "EC", "crv": {}}, {"kty": "RSA", "n": 1, "e": 2}])
def test_what_is_no_key_is_left_out(item):
    assert len(key_set(item, KEY.public)) == 1


async def test_a_new_key_is_found_at_once_and_the_old_one_still_works(issuer, make_verifier, clock):
    verifier = make_verifier(issuer)
    old = issuer.mint("agent")
    await verifier.verify(old)
    issuer.rotate()
    clock.advance(11)
    await verifier.verify(issuer.mint("agent"))
    await verifier.verify(old)
    assert issuer.reads["/jwks"] == 2


async def test_a_withdrawn_key_ends_remembered_tokens_too(issuer, make_verifier, clock):
    verifier = make_verifier(issuer)
    old = issuer.mint("agent", ttl_s=80_000)
    await verifier.verify(old)
    issuer.rotate(keep_old=False)
    clock.advance(299)
    await verifier.verify(old)  # the keys are not old enough to be read again
    clock.advance(2)
    with pytest.raises(IdentityError, match="no usable key"):
        await verifier.verify(old)
    await verifier.verify(issuer.mint("agent"))


async def test_a_key_id_with_another_key_behind_it_ends_remembered_tokens(issuer, make_verifier, clock):
    verifier = make_verifier(issuer)
    old = issuer.mint("agent", ttl_s=80_000)
    await verifier.verify(old)
    issuer._keys = [make_key(key_id=issuer.key.key_id)]
    clock.advance(301)
    with pytest.raises(IdentityError, match="refused"):
        await verifier.verify(old)


async def test_unknown_keys_cause_one_reading_per_interval(issuer, make_verifier, clock):
    verifier = make_verifier(issuer, refresh_interval_s=10)
    await verifier.verify(issuer.mint("agent"))
    clock.advance(11)
    forged = [issuer.mint("agent", key=make_key()) for _ in range(20)]
    results = await asyncio.gather(*(verifier.verify(token) for token in forged), return_exceptions=True)
    assert all(isinstance(result, IdentityError) for result in results)
    assert issuer.reads["/jwks"] == 2
    clock.advance(11)
    with pytest.raises(IdentityError):
        await verifier.verify(forged[0])
    assert issuer.reads["/jwks"] == 3


async def test_old_keys_serve_while_the_issuer_is_away_but_not_for_ever(issuer, make_verifier, clock):
    verifier = make_verifier(issuer, keys_max_age_s=300, keys_stale_s=600)
    token = issuer.mint("agent", ttl_s=80_000)
    await verifier.verify(token)
    issuer.unavailable = True
    clock.advance(301)
    await verifier.verify(token)
    clock.advance(590)
    await verifier.verify(token)
    clock.advance(20)
    with pytest.raises(IdentityError, match="status 503"):
        await verifier.verify(token)
    issuer.unavailable = False
    clock.advance(11)
    await verifier.verify(token)


async def test_an_issuer_that_is_away_at_first_is_asked_again_after_the_interval(issuer, make_verifier, clock):
    verifier = make_verifier(issuer)
    issuer.unavailable = True
    token = issuer.mint("agent")
    for _ in range(5):
        with pytest.raises(IdentityError, match="503"):
            await verifier.verify(token)
    assert issuer.reads["/.well-known/openid-configuration"] == 1
    issuer.unavailable = False
    clock.advance(11)
    await verifier.verify(token)


async def test_the_end_of_one_caller_does_not_end_the_reading_of_the_others(issuer, make_verifier):
    verifier = make_verifier(issuer)
    calls = [asyncio.create_task(verifier.verify(issuer.mint(f"a{number}"))) for number in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [result.sub for result in results[1:]] == ["a1", "a2"]


async def test_check_issuers_names_each(issuer, make_verifier, configure):
    with DevelopmentIssuer() as other:
        other.unavailable = True
        found = await make_verifier(configure(issuer, alias="good"), configure(other, alias="bad")).check_issuers()
    assert found["good"] is None
    assert "503" in found["bad"].why


class RawIssuer:
    """Answers every path with bytes a test chose; for answers no well-behaved issuer gives."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.asked.append(self.path)
                status, headers, body = owner.answers[self.path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *args):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def discover(self, document, status=200, **headers):
        self.answers["/.well-known/openid-configuration"] = (status, headers, json.dumps(document).encode())


@pytest.fixture
def raw():
    with RawIssuer() as server:
        yield server


async def refuse_keys(raw, make_verifier, issuer, match):
    config = IssuerConfig(alias="raw", issuer=raw.url, audience=("sealgate",))
    with pytest.raises(IdentityError, match=match):
        await make_verifier(config).verify(issuer.mint("a", claims={"iss": raw.url}))


async def test_discovery_must_name_exactly_this_issuer(raw, make_verifier, shared_issuer):
    for name in (raw.url + "/", raw.url.upper(), "https://evil.example.com", None, [raw.url]):
        raw.discover({"issuer": name, "jwks_uri": raw.url + "/jwks"})
        await refuse_keys(raw, make_verifier, shared_issuer, "names another issuer")


@pytest.mark.parametrize("url", ["http://keys.example.com/jwks", "file:///etc/passwd", "ftp://x/y", "", None, 7, "http://[::1"])
async def test_keys_must_be_at_a_safe_address(raw, make_verifier, shared_issuer, url):
    raw.discover({"issuer": raw.url, "jwks_uri": url})
    await refuse_keys(raw, make_verifier, shared_issuer, "no https address")


async def test_redirects_are_not_followed(raw, make_verifier, shared_issuer, issuer):
    raw.discover({}, status=302, Location=issuer.url + "/.well-known/openid-configuration")
    await refuse_keys(raw, make_verifier, shared_issuer, "status 302")
    assert issuer.reads == {}


async def test_large_encoded_and_garbled_answers_are_refused(raw, make_verifier, shared_issuer):
    path = "/.well-known/openid-configuration"
    raw.answers[path] = (200, {}, b"[" + b" " * MAX_DOCUMENT_BYTES + b"]")
    await refuse_keys(raw, make_verifier, shared_issuer, "more than")
    raw.answers[path] = (200, {"Content-Encoding": "gzip"}, b"x")
    await refuse_keys(raw, make_verifier, shared_issuer, "encoded")
    for body in (b"", b"\xff", b"{", b"[" * 100_000, b"1" * 10_000):
        raw.answers[path] = (200, {}, body)
        await refuse_keys(raw, make_verifier, shared_issuer, "JSON|another issuer")


async def test_an_issuer_that_does_not_answer_is_given_up(make_verifier, shared_issuer):
    server = await asyncio.start_server(lambda _reader, _writer: asyncio.Event().wait(), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        config = IssuerConfig(alias="mute", issuer=url, audience=("sealgate",))
        with pytest.raises(IdentityError, match=r"within 0.2 s|cannot be read"):
            await make_verifier(config, fetch_timeout_s=0.2).verify(shared_issuer.mint("a", claims={"iss": url}))
    finally:
        server.close()


async def test_a_missing_authority_file_is_an_identity_error(make_verifier, issuer, configure, tmp_path):
    verifier = make_verifier(configure(issuer, ca_file=tmp_path / "missing.pem"))
    with pytest.raises(IdentityError, match="cannot be used as an authority"):
        await verifier.verify(issuer.mint("a"))


async def test_a_key_address_of_its_own_needs_no_discovery(make_verifier, issuer, configure):
    verifier = make_verifier(configure(issuer, issuer="https://id.example.com", jwks_url=issuer.jwks_url))
    subject = await verifier.verify(issuer.mint("a", claims={"iss": "https://id.example.com"}))
    assert subject.issuer == "https://id.example.com"
    assert issuer.reads == {"/jwks": 1}
