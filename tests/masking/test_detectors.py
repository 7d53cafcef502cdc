"""Detectors and key out of the configuration."""

import pytest

from gateway.errors import ConfigError
from gateway.masking import build_detectors, derive_key


def test_detectors_and_patterns_are_one_set():
    detectors = build_detectors(["ssn", "email", "ssn"], {"case": r"CASE-\d{4}"})
    assert detectors.names == ["ssn", "email", "case"]
    assert detectors.mask(b"CASE-1234 123-45-6789")[0] == b"[masked:case] [masked:ssn]"


@pytest.mark.parametrize(
    ("enabled", "patterns"), [(["nothing"], {}), ([], {"own": r"a+"}), ([], {"own": "("}), ([], {"ssn": "a"})]
)
def test_what_cannot_be_built_is_a_configuration_error(enabled, patterns):
    with pytest.raises(ConfigError, match=r"masking\.detectors"):
        build_detectors(enabled, patterns)


def test_a_key_follows_from_its_secret_and_is_not_the_secret():
    secret = b"s" * 32
    assert derive_key(secret) == derive_key(secret) != derive_key(b"t" * 32)
    assert derive_key(secret) != secret
    assert len(derive_key(secret)) == 32


def test_without_a_secret_every_key_is_new():
    assert derive_key(None) != derive_key(None)


def test_a_short_secret_is_refused():
    with pytest.raises(ConfigError, match="at least 32"):
        derive_key(b"short")
