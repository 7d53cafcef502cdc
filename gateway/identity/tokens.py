"""Verifies OpenID Connect access tokens: a token in, a subject out.

    open ▶ pick the issuer ▶ check the header ▶ find the key ▶ verify the signature ▶ check the claims ▶ build the subject

The unverified `iss` picks among configured issuers and does nothing else; keys come only from that issuer's own configuration, never
from the token (`jku`, `jwk`, `x5u` and `x5c` are not looked at).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import jwt

from gateway.action import Subject
from gateway.config import IdentitySection, IssuerConfig
from gateway.errors import IdentityError
from gateway.identity.claims import build_subject, check_claims
from gateway.identity.envelope import Envelope, open_envelope, refuse_token
from gateway.identity.fetch import KeyFetcher
from gateway.identity.keys import IssuerKeys

MAX_REMEMBERED: Final = 10_000
"""Verified tokens remembered, about 1 kB each. Verifying takes 0.1 ms, so forgetting one costs little."""

DEFAULT_TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt"})
"""RFC 9068 access tokens and plain tokens. Logout tokens, DPoP proofs and others have types of their own and are refused."""

_JWS: Final = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token whose signature was found good once, and the key it was good under."""

    subject: Subject
    issuer: IssuerConfig
    algorithm: str
    key_id: str | None
    key_document: str


class TokenVerifier:
    """Says who a token speaks for. Build it inside the event loop that uses it; many may verify at once.

    Args:
        issuers: the only issuers that are believed.
        settings: ages, intervals and limits; those of the identity section.
        now: seconds since the epoch, for the times in tokens.
        clock: seconds that only go forward, for the age of keys.
    """

    def __init__(
        self,
        issuers: Sequence[IssuerConfig],
        *,
        settings: IdentitySection | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = IdentitySection(issuers=tuple(issuers)) if settings is None else settings
        self._now = now
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._fetchers = {url: KeyFetcher(item, timeout_s=self._settings.fetch_timeout_s) for url, item in self._issuers.items()}
        self._keys = {url: IssuerKeys(fetcher, self._settings, clock) for url, fetcher in self._fetchers.items()}
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    async def verify(self, token: str) -> Subject:
        """The subject a token proves.

        A remembered token skips only the signature: its times, and that its key is still published, are checked again every time.

        Raises:
            IdentityError: the token is not good, or the issuer's keys cannot be had. Never contains the token.
        """
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        verified = self._remembered.pop(name, None)
        if verified is None or not await self._is_still_good(verified):
            verified = await self._verify(token)
        self._remembered[name] = verified
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return verified.subject

    async def check_issuers(self) -> dict[str, IdentityError | None]:
        """Read every issuer's keys now; by alias None, or why they cannot be had."""
        urls = list(self._issuers)
        results = await asyncio.gather(*(self._fetchers[url].fetch_keys() for url in urls), return_exceptions=True)
        return {
            self._issuers[url].alias: result if isinstance(result, IdentityError) else None
            for url, result in zip(urls, results, strict=True)
        }

    async def aclose(self) -> None:
        """Close the connections to all issuers."""
        for url, keys in self._keys.items():
            await keys.aclose()
            await self._fetchers[url].aclose()

    async def _is_still_good(self, known: _Verified) -> bool:
        check_live(known.subject, int(self._now() * 1_000_000_000))
        key = await self._keys[known.issuer.issuer].find(known.key_id, known.algorithm)
        return key.document == known.key_document

    async def _verify(self, token: str) -> _Verified:
        envelope = open_envelope(token, max_bytes=self._settings.max_token_bytes)
        issuer = self._pick_issuer(envelope)
        _check_header(envelope, issuer)
        key = await self._keys[issuer.issuer].find(envelope.key_id, envelope.algorithm)
        try:
            _JWS.decode_complete(token, key=key.key, algorithms=[envelope.algorithm])
        except jwt.PyJWTError:
            refuse_token("its signature does not fit its content")
        check_claims(envelope.claims, issuer, self._now())
        subject = build_subject(envelope.claims, issuer)
        return _Verified(subject, issuer, envelope.algorithm, envelope.key_id, key.document)

    def _pick_issuer(self, envelope: Envelope) -> IssuerConfig:
        name = envelope.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            aliases = ", ".join(sorted(item.alias for item in self._issuers.values()))
            refuse_token("its issuer is not configured here", fix=f"use a token of one of: {aliases}")
        return issuer


def check_live(subject: Subject, now_ns: int) -> None:
    """Refuse a subject whose proof of identity has ended; to be asked before every action of a long session.

    Raises:
        IdentityError: the token has expired since it was verified.
    """
    if now_ns >= subject.expires_ns:
        raise IdentityError(
            f"the token of {subject.id} has expired",
            why="a session lasts no longer than the proof of identity it began with",
            fix="get a new token and connect again",
        )


def _check_header(envelope: Envelope, issuer: IssuerConfig) -> None:
    if envelope.algorithm not in issuer.algorithms:
        refuse_token(
            f"its signature algorithm is not one of {', '.join(issuer.algorithms)}",
            fix=f"sign with one of these, or extend identity.issuers[{issuer.alias}].algorithms",
        )
    kind = envelope.header.get("typ")
    accepted = {_shorten_type(name) for name in issuer.token_types} or DEFAULT_TOKEN_TYPES
    if kind is None and not issuer.token_types:
        return
    if not isinstance(kind, str) or _shorten_type(kind) not in accepted:
        refuse_token(f"it is not a token of type {' or '.join(sorted(accepted))}")


def _shorten_type(kind: str) -> str:
    """RFC 7515, 4.1.9: the prefix application/ may be left out, and letter case does not count."""
    return kind.lower().removeprefix("application/")
