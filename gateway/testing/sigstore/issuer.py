"""Identity tokens: a small OpenID Connect issuer, and the check of tokens from it and from configured issuers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.testing.sigstore.authority import Identity

AUDIENCE = "sigstore"  # what every Sigstore client asks for
DEVELOPMENT_DOMAIN = "development.sealgate.invalid"  # RFC 2606: can never be a real issuer
ALGORITHM = "ES256"
LEEWAY_S = 30  # clock difference tolerated between this machine and a configured issuer
FETCH_TIMEOUT_S = 5  # for the key set of a configured issuer: shorter than any signing deadline


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """A further issuer whose tokens are accepted; `claim` names the identity as Fulcio's issuer types do."""

    issuer: str
    jwks_url: str
    claim: Literal["sub", "email"] = "sub"
    algorithms: tuple[str, ...] = ("ES256", "RS256", "EdDSA")


class TokenError(ValueError):
    """An identity token that proves nothing. Never carries the token."""


class TokenIssuer:
    """Mints tokens under names in the development domain and verifies identity tokens for the certificate authority."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, trusted: Sequence[TrustedIssuer] = ()) -> None:
        self._key = key
        self._trusted = {each.issuer: each for each in trusted}
        self._key_sets = {each.issuer: jwt.PyJWKClient(each.jwks_url, timeout=FETCH_TIMEOUT_S) for each in trusted}
        numbers = key.public_key().public_numbers()
        point = {"x": _b64url(numbers.x.to_bytes(32, "big")), "y": _b64url(numbers.y.to_bytes(32, "big"))}
        self.key_id = hashlib.sha256(f"{point['x']}.{point['y']}".encode()).hexdigest()[:16]
        self.jwks = {"keys": [{"kty": "EC", "crv": "P-256", "alg": ALGORITHM, "use": "sig", "kid": self.key_id, **point}]}

    def mint(
        self, identity: str, issuer: str, audience: str, moment: datetime, lifetime: timedelta, claims: Mapping[str, Any] | None
    ) -> str:
        """A signed token for `identity`; `issuer` must be a name in the development domain."""
        if not is_development_issuer(issuer):
            raise ValueError(f"{issuer!r} is not below https://*.{DEVELOPMENT_DOMAIN}: this issuer speaks for no other name")
        issued = int(moment.timestamp())
        expires = issued + int(lifetime.total_seconds())
        payload = {
            "iss": issuer,
            "sub": identity,
            "aud": audience,
            "iat": issued,
            "nbf": issued,
            "exp": expires,
            "jti": uuid4().hex,
        }
        if "@" in identity:
            payload |= {"email": identity, "email_verified": True}
        return jwt.encode(payload | dict(claims or {}), self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    def verify(self, token: str) -> Identity:
        """The identity a token for audience `sigstore` proves; raises TokenError."""
        try:
            issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
            if is_development_issuer(issuer):
                claims = _decode(token, self._key.public_key(), [ALGORITHM], issuer)
                return Identity(str(claims["sub"]), issuer)
            trusted = self._trusted.get(issuer)
            if trusted is None:
                raise TokenError("the token's issuer is not one of those accepted here")
            key = self._key_sets[issuer].get_signing_key_from_jwt(token).key
            claims = _decode(token, key, list(trusted.algorithms), issuer)
        except jwt.PyJWTError as error:
            raise TokenError(f"the identity token was refused: {type(error).__name__}") from error
        if trusted.claim == "email" and claims.get("email_verified") is not True:
            raise TokenError("the token's mail address is not verified by its issuer")
        name = claims.get(trusted.claim)
        if not isinstance(name, str) or not name:
            raise TokenError(f"the token has no {trusted.claim} claim")
        return Identity(name, issuer)


def is_development_issuer(issuer: str) -> bool:
    """Whether `issuer` is a name that only the development issuer can speak for."""
    return issuer.startswith("https://") and issuer.endswith(f".{DEVELOPMENT_DOMAIN}")


def _decode(token: str, key: Any, algorithms: list[str], issuer: str) -> dict[str, Any]:
    required = ["aud", "sub", "iat", "exp", "iss"]
    return jwt.decode(
        token, key, algorithms=algorithms, audience=AUDIENCE, issuer=issuer, leeway=LEEWAY_S, options={"require": required}
    )


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
