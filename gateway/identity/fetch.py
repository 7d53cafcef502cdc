"""Reads an issuer's discovery document and key set over HTTPS, with limits on size, time and where the answer may come from.

No redirect is followed, no proxy of the environment used, no encoded body accepted: an issuer's documents are small, and whoever could
redirect the gateway could give it their own keys.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any, Final

import httpx

from gateway.config import IssuerConfig, is_safe_url
from gateway.errors import IdentityError

MAX_DOCUMENT_BYTES: Final = 262_144
"""Key sets with certificate chains stay below 50 kB."""

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
"""OpenID Connect Discovery 1.0, section 4."""

_HTTP_OK: Final = 200


class KeyFetcher:
    """Where one issuer's keys come from.

    Args:
        issuer: its configuration.
        timeout_s: for each document, from connecting to the last byte.
    """

    def __init__(self, issuer: IssuerConfig, *, timeout_s: float) -> None:
        self._issuer = issuer
        self._timeout_s = timeout_s
        self._http: httpx.AsyncClient | None = None
        self.alias = issuer.alias
        self.algorithms = issuer.algorithms

    async def fetch_keys(self) -> object:
        """The issuer's JWK Set as plain values, unchecked. Raises IdentityError."""
        url = self._issuer.jwks_url or await self._discover()
        return await self._read_json(url)

    async def aclose(self) -> None:
        """Close the connections to the issuer."""
        if self._http is not None:
            await self._http.aclose()

    async def _discover(self) -> str:
        document = await self._read_json(self._issuer.issuer.rstrip("/") + DISCOVERY_PATH)
        members = document if isinstance(document, dict) else {}
        if members.get("issuer") != self._issuer.issuer:
            raise self._fail(
                "its discovery document names another issuer",
                fix=f"set identity.issuers[{self.alias}].issuer to the exact `issuer` of that document",
            )
        url = members.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url):
            raise self._fail("its discovery document names no https address for its keys")
        return url

    async def _read_json(self, url: str) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._read(url)
        except TimeoutError:
            raise self._fail(f"{url} did not answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise self._fail(f"{url} cannot be read ({_describe(error)})") from None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self._fail(f"{url} did not answer with JSON") from None

    async def _read(self, url: str) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._client().stream("GET", url, headers=headers) as response:
            if response.status_code != _HTTP_OK:
                raise self._fail(f"{url} answered with status {response.status_code}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise self._fail(f"{url} answered with an encoded body")
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > MAX_DOCUMENT_BYTES:
                    raise self._fail(f"{url} answered with more than {MAX_DOCUMENT_BYTES} bytes")
            return bytes(data)

    def _client(self) -> httpx.AsyncClient:
        """Made at first use: reading an authority's file may fail, and must then fail as an identity error."""
        if self._http is None:
            try:
                authorities = None if self._issuer.ca_file is None else str(self._issuer.ca_file)
                context = ssl.create_default_context(cafile=authorities)
            except (OSError, ssl.SSLError) as error:
                raise self._fail(f"{self._issuer.ca_file} cannot be used as an authority ({_describe(error)})") from None
            self._http = httpx.AsyncClient(verify=context, follow_redirects=False, trust_env=False, timeout=self._timeout_s)
        return self._http

    def _fail(self, why: str, *, fix: str = "") -> IdentityError:
        return IdentityError(
            f"the keys of issuer {self.alias} cannot be read",
            why=why,
            fix=fix or "check that the gateway reaches the issuer; `sealgate doctor -c FILE` tries every issuer",
        )


def _describe(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
