"""How the gateway proves itself to HTTP services: what it adds to a request, and what must therefore never come back."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import quote

import httpx

from gateway.config import (
    BasicCredential,
    BearerCredential,
    HeaderCredential,
    HttpCredential,
    MtlsCredential,
    OAuth2Credential,
    QueryCredential,
)
from gateway.errors import SecretError, TargetError
from gateway.secrets import SecretResolver
from gateway.serve.http.tls import ClientCertificate, trust_authorities

logger = logging.getLogger(__name__)

RENEW_BEFORE_S: Final = 30.0
"""A token that ends sooner is renewed first: the request must arrive before its end."""

RENEW_EARLY: Final = 0.8
"""Part of a token's life after which it is renewed, so that a slow token endpoint delays nobody."""

DEFAULT_TOKEN_LIFE_S: Final = 300.0
"""What a token endpoint that says nothing is taken to mean (expires_in is only recommended, RFC 6749 5.1)."""

TOKEN_TIMEOUT_S: Final = 5.0
MAX_TOKEN_RESPONSE_BYTES: Final = 65_536

SECRET_AGE_S: Final = 5.0
"""How long a read secret is used before its source is read again: rotation needs no restart, and a busy service no file access each time."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What proves the gateway for one request.

    Attributes:
        headers: set on the request, over whatever the agent sent under these names.
        query: added to the query, percent-encoded.
        secrets: what must not come back to the agent in any form.
        certificate: shown in the TLS handshake.
    """

    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    secrets: tuple[bytes, ...] = ()
    certificate: ClientCertificate | None = None


NOTHING: Final = Proof()


class CredentialSource(Protocol):
    """Gives the proof for the next request."""

    async def read(self) -> Proof:
        """The current proof. Raises TargetError when it cannot be had."""

    async def renew(self) -> None:
        """The service did not accept the last proof: get a new one where that is possible."""


class StoredCredential:
    """A credential that is kept as a secret.

    Args:
        config: which one.
        secrets: reads it.
    """

    def __init__(self, config: HttpCredential, secrets: SecretResolver) -> None:
        self._config = config
        self._secrets = secrets
        self._proof: Proof | None = None
        self._read_at = 0.0

    async def read(self) -> Proof:
        """The current proof, at most `SECRET_AGE_S` old. Raises TargetError."""
        now = time.monotonic()
        if self._proof is None or now - self._read_at > SECRET_AGE_S:
            try:
                self._proof = await self._make()
            except (SecretError, OSError, UnicodeDecodeError) as error:
                raise TargetError("the credential of this connection cannot be read", why=str(error)) from error
            self._read_at = now
        return self._proof

    async def renew(self) -> None:
        """Read the source again at the next use."""
        self._read_at = 0.0

    async def _make(self) -> Proof:
        match self._config:
            case BearerCredential(token=reference):
                secret = await self._text(reference)
                return Proof((("authorization", f"Bearer {secret}"),), secrets=(secret.encode(),))
            case BasicCredential(user=user, password=reference):
                secret = await self._text(reference)
                pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
                return Proof((("authorization", f"Basic {pair}"),), secrets=(secret.encode(), pair.encode()))
            case HeaderCredential(name=name, value=reference):
                secret = await self._text(reference)
                return Proof(((name.lower(), secret),), secrets=(secret.encode(),))
            case QueryCredential(name=name, value=reference):
                secret = await self._text(reference)
                return Proof(query=f"{name}={quote(secret, safe='')}", secrets=(secret.encode(),))
            case MtlsCredential(cert_file=cert_file, key=reference):
                key = await self._secrets.resolve_async(reference)
                return Proof(certificate=ClientCertificate(await asyncio.to_thread(cert_file.read_bytes), key))
            case _:
                raise TargetError("the credential of this connection cannot be used", why=self._config.kind)

    async def _text(self, reference: str) -> str:
        secret = (await self._secrets.resolve_async(reference)).decode()
        if not secret.isprintable() or not secret.isascii():
            raise TargetError("the credential of this connection cannot be used", why="it is not one printable line of ASCII")
        return secret


class OAuth2Tokens:
    """Tokens of the client-credentials grant, renewed before they end; one request for them at a time.

    Args:
        config: endpoint and client.
        secrets: reads the client secret.
    """

    def __init__(self, config: OAuth2Credential, secrets: SecretResolver) -> None:
        self._config = config
        self._secrets = secrets
        self._token = ""
        self._older: tuple[bytes, ...] = ()
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._lock = asyncio.Lock()
        self._client: httpx.AsyncClient | None = None

    async def read(self) -> Proof:
        """A token that still lives. Raises TargetError."""
        now = time.monotonic()
        if now >= self._renew_at:
            async with self._lock:
                if time.monotonic() >= self._renew_at:
                    await self._fetch(must=time.monotonic() >= self._ends_at - RENEW_BEFORE_S)
        return Proof((("authorization", f"Bearer {self._token}"),), secrets=(self._token.encode(), *self._older))

    async def renew(self) -> None:
        """The service refused the token: fetch another at the next use."""
        self._renew_at = self._ends_at = 0.0

    async def aclose(self) -> None:
        """Close the connection to the token endpoint."""
        if self._client is not None:
            await self._client.aclose()

    async def _fetch(self, *, must: bool) -> None:
        try:
            document, secret = await self._ask()
            token, life_s = str(document["access_token"]), float(document.get("expires_in", DEFAULT_TOKEN_LIFE_S))
            if not token.isascii() or not token.isprintable():
                raise ValueError("the token is not one printable line")
        except (httpx.HTTPError, SecretError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not must:
                logger.warning("a token cannot be renewed yet: %s", type(error).__name__)
                return
            # The answer may hold anything, so only the kind of error is told.
            why = f"{self._config.token_url}: {type(error).__name__}"
            raise TargetError("the gateway cannot get a token for this service", why=why) from None
        if self._token and self._token != token:
            self._older = (self._token.encode(), secret)
        else:
            self._older = (secret,)
        now = time.monotonic()
        self._token, self._ends_at = token, now + life_s
        self._renew_at = now + min(life_s * RENEW_EARLY, max(life_s - RENEW_BEFORE_S, 0))

    async def _ask(self) -> tuple[Mapping[str, Any], bytes]:
        secret = await self._secrets.resolve_async(self._config.client_secret)
        if self._client is None:
            context = trust_authorities(self._config.ca_file)
            self._client = httpx.AsyncClient(verify=context, timeout=TOKEN_TIMEOUT_S, trust_env=False, follow_redirects=False)
        form = {"grant_type": "client_credentials"}
        form |= {name: value for name, value in (("scope", self._config.scope), ("audience", self._config.audience)) if value}
        # Client id and secret are form-encoded before they become Basic (RFC 6749 2.3.1).
        pair = base64.b64encode(f"{quote(self._config.client_id, safe='')}:{quote(secret.decode(), safe='')}".encode()).decode()
        request = self._client.build_request(
            "POST", self._config.token_url, data=form, headers={"authorization": f"Basic {pair}"}
        )
        response = await self._client.send(request)
        response.raise_for_status()
        if len(response.content) > MAX_TOKEN_RESPONSE_BYTES:
            raise ValueError("the answer is too long")
        document = response.json()
        if not isinstance(document, dict):
            raise TypeError("the answer is no object")
        return document, secret


@dataclass(slots=True)
class NoCredential:
    """A service that asks for nothing."""

    proof: Proof = field(default_factory=Proof)

    async def read(self) -> Proof:
        """Nothing."""
        return self.proof

    async def renew(self) -> None:
        """Nothing to renew."""


def make_credential(config: HttpCredential | None, secrets: SecretResolver) -> CredentialSource:
    """What proves the gateway on one connection."""
    if config is None:
        return NoCredential()
    if isinstance(config, OAuth2Credential):
        return OAuth2Tokens(config, secrets)
    return StoredCredential(config, secrets)
