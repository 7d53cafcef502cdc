"""The detectors and the key that the configuration names (`masking` in sealgate.yaml)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Final

from sealgate_native.mask import Detectors

from gateway.errors import ConfigError

MIN_KEY_BYTES: Final = 32
"""A shorter secret could be searched for: equal values give equal tokens, so guesses can be checked."""

_KEY_DOMAIN: Final = b"sealgate.mask.key/1"


def build_detectors(enabled: Iterable[str], patterns: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> Detectors:
    """The compiled detectors, in one set.

    Args:
        enabled: names of built-in detectors; repeats count once.
        patterns: own patterns, name to regular expression.

    Raises:
        ConfigError: an unknown name, or a pattern that cannot be used.
    """
    pairs = list(patterns.items()) if isinstance(patterns, Mapping) else list(patterns)
    try:
        return Detectors(list(dict.fromkeys(enabled)), pairs)
    except ValueError as error:
        raise ConfigError(
            "the detectors cannot be built", why=str(error), fix="correct masking.detectors and masking.patterns"
        ) from None


def derive_key(secret: bytes | None) -> bytes:
    """The 32 bytes that key tokens and hashes.

    Args:
        secret: the configured secret, at least 32 bytes; None for a random key that ends with the process.
    """
    if secret is None:
        return secrets.token_bytes(MIN_KEY_BYTES)
    if len(secret) < MIN_KEY_BYTES:
        why = f"it has {len(secret)} bytes and needs at least {MIN_KEY_BYTES}"
        raise ConfigError("masking.key cannot be used", why=why, fix="make one with `openssl rand -hex 32`")
    return hashlib.sha256(_KEY_DOMAIN + secret).digest()
