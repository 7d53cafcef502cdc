"""An issuer, a clock that is moved by hand, and verifiers over them."""

import contextlib
import time

import pytest

from gateway.config import IdentitySection, IssuerConfig
from gateway.identity import TokenVerifier
from gateway.testing.oidc import DevelopmentIssuer


class Clock:
    """Time as the tests set it, for tokens and for the age of keys."""

    def __init__(self):
        self.elapsed_s = 0.0
        self.start_s = time.time()

    def now(self):
        return self.start_s + self.elapsed_s

    def monotonic(self):
        return self.elapsed_s

    def advance(self, seconds):
        self.elapsed_s += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def shared_issuer():
    with DevelopmentIssuer() as issuer:
        yield issuer


@pytest.fixture
def issuer():
    with DevelopmentIssuer() as issuer:
        yield issuer


@pytest.fixture
async def make_verifier(clock):
    """Makes verifiers and closes them: make_verifier(issuer or config…, **settings)."""
    async with contextlib.AsyncExitStack() as stack:

        def make(*issuers, **settings):
            configs = [item if isinstance(item, IssuerConfig) else configure(item) for item in issuers]
            section = IdentitySection(issuers=tuple(configs), **settings)
            verifier = TokenVerifier(configs, settings=section, now=clock.now, clock=clock.monotonic)
            stack.push_async_callback(verifier.aclose)
            return verifier

        yield make


def configure(source, /, alias="bank", **settings):
    return IssuerConfig(**{"alias": alias, "issuer": source.url, "audience": ("sealgate",)} | settings)


@pytest.fixture(name="configure")
def configure_fixture():
    return configure
