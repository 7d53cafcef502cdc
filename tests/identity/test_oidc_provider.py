"""Tokens of oidc-provider, a certified issuer, through the whole path: discovery, keys, signature, claims, rotation."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import httpx
import pytest
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from gateway.config import IssuerConfig
from gateway.errors import IdentityError
from gateway.testing.oidc import make_key

FOLDER = Path(__file__).parent / "oidc-provider"
VERSION = json.loads((FOLDER / "package.json").read_text())["dependencies"]["oidc-provider"]
INSTALL_TIMEOUT_S = 300
CLIENTS = {"agent-7": {"secret": "s" * 32, "groups": ["agents", "dba"]}, "agent-8": {"secret": "t" * 32, "groups": []}}


@pytest.fixture(scope="session")
def package():
    """The folder with the installed package, installed on demand and kept outside the tree, one for each version."""
    cache = Path(os.environ.get("SEALGATE_CACHE", Path.home() / ".cache" / "sealgate")) / "npm"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"oidc-provider-{VERSION}"
    with (cache / f"oidc-provider-{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once
        if not folder.exists():
            fresh = Path(tempfile.mkdtemp(dir=cache))
            shutil.copy(FOLDER / "package.json", fresh)
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            subprocess.run(command, cwd=fresh, check=True, timeout=INSTALL_TIMEOUT_S, stdin=subprocess.DEVNULL)
            fresh.rename(folder)
    return folder


def private_jwk(key):
    algorithm = RSAAlgorithm if key.algorithm == "RS256" else ECAlgorithm
    document = algorithm.to_jwk(key.private, as_dict=True)
    document.pop("key_ops", None)
    return {**document, "kid": key.key_id, "use": "sig", "alg": key.algorithm}


@contextlib.contextmanager
def serve(package, *keys, port=0):
    """The issuer in a process of its own; yields its address. It ends when its standard input is closed."""
    settings = json.dumps({"port": port, "keys": [private_jwk(key) for key in keys], "clients": CLIENTS})
    command = ["node", str(FOLDER / "server.mjs"), str(package), settings]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read().decode()
        yield json.loads(line)["issuer"]
    finally:
        process.communicate(timeout=30)


def ask_token(issuer, client="agent-7", audience="sealgate"):
    """An access token by the client_credentials grant."""
    endpoint = httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).json()["token_endpoint"]
    form = {"grant_type": "client_credentials", "resource": f"urn:{audience}", "scope": "act"}
    answer = httpx.post(endpoint, data=form, auth=(client, CLIENTS[client]["secret"]), trust_env=False)
    answer.raise_for_status()
    return answer.json()["access_token"]


def port_of(issuer):
    return int(issuer.rpartition(":")[2])


def config(issuer, **settings):
    return IssuerConfig(alias="op", issuer=issuer, audience=("sealgate",), claims_allow=("client_id",), **settings)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_an_access_token_becomes_a_subject(package, make_verifier, algorithm):
    with serve(package, make_key(algorithm)) as issuer:
        verifier = make_verifier(config(issuer))
        subject = await verifier.verify(ask_token(issuer))
        other = await verifier.verify(ask_token(issuer, "agent-8"))
        foreign = ask_token(issuer, audience="elsewhere")
        with pytest.raises(IdentityError, match="another audience"):
            await verifier.verify(foreign)
    assert (subject.id, subject.groups, subject.kind) == ("op/agent-7", ("agents", "dba"), "agent")
    assert subject.claims == {"client_id": "agent-7"}
    assert subject.run_id
    assert (other.id, other.groups) == ("op/agent-8", ())


async def test_rotation_overlap_and_withdrawal(package, make_verifier, clock):
    old, new = make_key(), make_key()
    with serve(package, old) as issuer:
        verifier = make_verifier(config(issuer))
        first = ask_token(issuer)
        await verifier.verify(first)
    with serve(package, new, old, port=port_of(issuer)) as again:
        assert again == issuer
        clock.advance(11)  # the earliest moment an unknown key causes a reading
        await verifier.verify(ask_token(issuer))
        await verifier.verify(first)
    with serve(package, new, port=port_of(issuer)):
        await verifier.verify(first)  # the keys are still believed
        clock.advance(301)
        with pytest.raises(IdentityError, match="no usable key"):
            await verifier.verify(first)
        await verifier.verify(ask_token(issuer))


async def test_a_key_replaced_under_its_own_name_ends_the_old_tokens(package, make_verifier, clock):
    old, new = make_key(key_id="main"), make_key(key_id="main")
    with serve(package, old) as issuer:
        verifier = make_verifier(config(issuer))
        first = ask_token(issuer)
        await verifier.verify(first)
    with serve(package, new, port=port_of(issuer)):
        clock.advance(301)
        await verifier.verify(ask_token(issuer))
        with pytest.raises(IdentityError, match="the token was refused"):
            await verifier.verify(first)


async def test_a_token_outlives_a_restart_of_its_issuer(package, make_verifier, clock):
    with serve(package, make_key()) as issuer:
        verifier = make_verifier(config(issuer))
        token = ask_token(issuer)
        await verifier.verify(token)
    clock.advance(305)
    await verifier.verify(token)
    clock.advance(330)
    with pytest.raises(IdentityError, match="expired"):
        await verifier.verify(token)
