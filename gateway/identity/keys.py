"""An issuer's signing keys: which of them may be used (pure), and when they are read again.

A key set is used for `keys_max_age_s`, then read again. While the issuer cannot be reached the old set stays in use for `keys_stale_s` more.
A token that names an unknown key causes a reading at most once per `refresh_interval_s`, so that made-up names cannot flood the issuer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.config import IdentitySection
from gateway.errors import IdentityError
from gateway.identity.fetch import KeyFetcher

MAX_KEYS: Final = 100
"""Large public issuers list about ten."""

MIN_RSA_BITS: Final = 2048
"""NIST SP 800-131A: shorter RSA keys must not be used."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key bound to one algorithm. `document` is its JWK in canonical form: two equal documents are the same key."""

    key_id: str | None
    algorithm: str
    document: str
    key: jwt.PyJWK


class KeySet:
    """The usable keys of one JWKS document.

    Args:
        document: a JWK Set (RFC 7517, section 5). Keys for encryption, symmetric keys, keys whose private part is published, short RSA keys
            and unknown kinds are left out.
        algorithms: the algorithms the issuer's configuration allows.

    Raises:
        IdentityError: the document is not a key set, or has more than `MAX_KEYS` keys.
    """

    def __init__(self, document: object, algorithms: Sequence[str]) -> None:
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise IdentityError("the issuer's key set cannot be used", why=f"it is not a list of at most {MAX_KEYS} keys")
        self._keys = tuple(key for item in keys for key in _read_key(item, algorithms))

    def __len__(self) -> int:
        return len({key.document for key in self._keys})

    def find(self, key_id: str | None, algorithm: str) -> VerifyingKey | None:
        """The one key that fits, or None when none or more than one does. A token without a key id fits only if a single key does."""
        fitting = [key for key in self._keys if key.algorithm == algorithm and (key_id is None or key.key_id == key_id)]
        return fitting[0] if len(fitting) == 1 else None


def _read_key(item: object, allowed: Sequence[str]) -> list[VerifyingKey]:
    """The key once for each algorithm it may verify."""
    if not isinstance(item, dict) or not _is_for_signatures(item) or not _PRIVATE_MEMBERS.isdisjoint(item):
        return []
    key_id = item.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        return []
    fits: tuple[str, ...] = _RSA if item.get("kty") == "RSA" else _CURVES.get((str(item.get("kty")), str(item.get("crv"))), ())
    if "alg" in item:
        fits = tuple(name for name in fits if name == item["alg"])
    document = json.dumps(item, sort_keys=True)
    keys = []
    for algorithm in fits:
        if algorithm not in allowed:
            continue
        try:
            key = jwt.PyJWK(dict(item), algorithm)
        except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
            return []
        if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
            return []
        keys.append(VerifyingKey(key_id, algorithm, document, key))
    return keys


def _is_for_signatures(item: Mapping[str, Any]) -> bool:
    """RFC 7517, 4.2 and 4.3: `use` must be sig where given; `key_ops`, where given, must contain verify."""
    operations = item.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return False
    return bool(item.get("use", "sig") == "sig")


class IssuerKeys:
    """The keys of one issuer over time. For one event loop.

    Args:
        fetcher: reads the issuer's documents.
        settings: ages and intervals.
        clock: seconds that only ever go forward.
    """

    def __init__(self, fetcher: KeyFetcher, settings: IdentitySection, clock: Callable[[], float]) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._clock = clock
        self._keys: KeySet | None = None
        self._read_at = 0.0
        self._tried_at: float | None = None
        self._failure: IdentityError | None = None
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> VerifyingKey:
        """The key that must have signed a token.

        Raises:
            IdentityError: the issuer has no such key, or its keys cannot be had.
        """
        if not self._is_fresh() and (self._may_retry() or self._reading is not None):
            await self._read()
        keys = self._usable_keys()
        key = keys.find(key_id, algorithm)
        if key is None and (self._may_retry() or self._reading is not None):
            await self._read()
            key = self._usable_keys().find(key_id, algorithm)
        if key is None:
            raise IdentityError(
                "the token was refused",
                why=f"issuer {self._fetcher.alias} has no usable key that fits its header",
                fix="get a new token; keys withdrawn by the issuer end the tokens they signed",
            )
        return key

    async def aclose(self) -> None:
        """End a reading under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _is_fresh(self) -> bool:
        return self._keys is not None and self._clock() - self._read_at < self._settings.keys_max_age_s

    def _may_retry(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= self._settings.refresh_interval_s

    def _usable_keys(self) -> KeySet:
        longest = self._settings.keys_max_age_s + self._settings.keys_stale_s
        if self._keys is not None and self._clock() - self._read_at < longest:
            return self._keys
        failure = self._failure
        if failure is None:
            raise IdentityError(f"the keys of issuer {self._fetcher.alias} are too old to be believed")
        raise IdentityError(
            failure.what, why=failure.why, fix=failure.fix
        )  # anew: each raise would lengthen the kept one's traceback

    async def _read(self) -> None:
        """Read the keys; callers that come meanwhile wait for the same reading. A failure is kept, not raised."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_once())
            self._reading.add_done_callback(self._forget_reading)
        # One caller's cancellation must not end the reading the others wait for.
        await asyncio.shield(self._reading)

    async def _read_once(self) -> None:
        self._tried_at = self._clock()
        try:
            keys = KeySet(await self._fetcher.fetch_keys(), self._fetcher.algorithms)
        except IdentityError as error:
            self._failure = error
            return
        self._keys, self._read_at, self._failure = keys, self._clock(), None

    def _forget_reading(self, _task: asyncio.Task[None]) -> None:
        self._reading = None
