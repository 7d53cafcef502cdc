"""DevelopmentSigstore: a whole Sigstore in one process, for demonstrations and tests. NOT FOR PRODUCTION.

It plays a Fulcio certificate authority with its certificate log, a Rekor v2 log, an RFC 3161 time-stamp authority and an
OpenID Connect issuer on one loopback port. Real cryptography and the real protocols: stock `sigstore` signs against it and
verifies its bundles offline. What it lacks is everything that makes such services trustworthy: its keys lie unencrypted in
a directory, one process holds all of them, and nobody else watches the log. Therefore every certificate and every service
entry carries the name in `evidence.development.DEVELOPMENT_OPERATOR`, and verifiers refuse it unless told otherwise.
"""

from __future__ import annotations

import base64
import fcntl
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.testing.sigstore.authority import CertificateAuthority
from gateway.testing.sigstore.issuer import AUDIENCE, DEVELOPMENT_DOMAIN, TokenError, TokenIssuer, TrustedIssuer
from gateway.testing.sigstore.keys import load_or_create
from gateway.testing.sigstore.log import TransparencyLog
from gateway.testing.sigstore.server import Answer, LoopbackServer, RefusalError, Service, as_json
from gateway.testing.sigstore.timestamps import Timestamper
from gateway.testing.sigstore.trust import trust_config

__all__ = ["DEFAULT_ISSUER", "DevelopmentSigstore", "TrustedIssuer"]

DEFAULT_ISSUER = f"https://issuer.{DEVELOPMENT_DOMAIN}"  # a name, not an address: it stays the same whatever port is used
LOG_ORIGIN = f"log.{DEVELOPMENT_DOMAIN}"
TOKEN_LIFETIME = timedelta(minutes=10)


class DevelopmentSigstore:
    """An in-process Sigstore; use it as a context manager.

    Args:
        directory: where keys and log entries live; the same directory gives the same trust again. None: a temporary one.
        issuers: further issuers whose identity tokens (audience `sigstore`) are accepted.
        clock: the present moment, for certificates, timestamps and tokens.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        issuers: Sequence[TrustedIssuer] = (),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="sealgate-sigstore-") if directory is None else None
        self.directory = directory or Path(self._temporary.name if self._temporary else "")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = (self.directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise RuntimeError(f"{self.directory} is in use by another development Sigstore; two would fork its log") from None
        self._clock = clock
        self._keys = load_or_create(self.directory, clock())
        self._authority = CertificateAuthority(self._keys)
        self._tokens = TokenIssuer(self._keys.oidc_key, issuers)
        self._timestamper = Timestamper(self._keys.tsa, self._keys.tsa_key)
        self.log = TransparencyLog(self.directory / "log-entries.jsonl", self._keys.log_key, LOG_ORIGIN)
        self._server = LoopbackServer(
            {
                ("POST", "/api/v2/signingCert"): ("ca", self._certify),
                ("GET", "/api/v2/trustBundle"): ("ca", self._trust_bundle),
                ("POST", "/api/v2/log/entries"): ("log", self._log_entry),
                ("GET", "/checkpoint"): ("log", self._checkpoint),
                ("POST", "/api/v1/timestamp"): ("tsa", self._timestamp),
                ("GET", "/.well-known/openid-configuration"): ("issuer", self._discovery),
                ("GET", "/jwks.json"): ("issuer", self._jwks),
            }
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to serve and write `trust_config.json`."""
        self._server.start()
        self.trust_config_path.write_text(self.trust_config)

    def stop(self) -> None:
        """Stop serving; keys and log stay in the directory unless it was temporary."""
        self._server.stop()
        self.log.close()
        self._lock.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def url(self) -> str:
        """Base address of all services on this machine."""
        return self._server.url

    @property
    def issuer(self) -> str:
        """The issuer name in tokens and certificates unless another is asked for."""
        return DEFAULT_ISSUER

    @property
    def jwks_url(self) -> str:
        """Where the key set of the development issuer is served now."""
        return f"{self.url}/jwks.json"

    @property
    def trust_config(self) -> str:
        """ClientTrustConfig v0.1 (trusted root and signing configuration) as JSON text."""
        return trust_config(self._keys, log_origin=LOG_ORIGIN, log_key_id=self.log.key_id, url=self.url)

    @property
    def trust_config_path(self) -> Path:
        """The file that holds `trust_config`."""
        return self.directory / "trust_config.json"

    def mint_token(
        self,
        identity: str,
        *,
        issuer: str = DEFAULT_ISSUER,
        audience: str = AUDIENCE,
        lifetime: timedelta = TOKEN_LIFETIME,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """A signed identity token.

        Args:
            identity: subject, a mail address or URI when it shall be certified.
            issuer: a name below https://*.development.sealgate.invalid.
            audience: `sigstore` for signing; anything else for other uses of the same issuer.
            lifetime: from now to expiry.
            claims: further claims, such as groups; they may replace the standard ones.
        """
        return self._tokens.mint(identity, issuer, audience, self._clock(), lifetime, claims)

    def outage(self, service: Service) -> AbstractContextManager[None]:
        """While the returned block runs, the service (ca, log, tsa, issuer) answers 503."""
        return self._server.outage(service)

    def stalled(self, service: Service) -> AbstractContextManager[None]:
        """While the returned block runs, requests to the service are accepted and not answered."""
        return self._server.stalled(service)

    def _certify(self, headers: Mapping[str, str], body: bytes) -> Answer:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            identity = self._tokens.verify(token)
        except TokenError as error:
            raise RefusalError(HTTPStatus.UNAUTHORIZED, str(error)) from error
        try:
            # Fulcio's API carries the PEM request in base64, as any protobuf bytes field in JSON.
            pem = base64.b64decode(json.loads(body)["certificateSigningRequest"], validate=True)
            chain = self._authority.issue(x509.load_pem_x509_csr(pem), identity, self._clock())
        except (KeyError, TypeError, ValueError) as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, f"the certificate request was refused: {error}") from error
        return as_json({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}, HTTPStatus.CREATED)

    def _trust_bundle(self, _headers: Mapping[str, str], _body: bytes) -> Answer:
        chain = [each.public_bytes(Encoding.PEM).decode() for each in (self._keys.issuing, self._keys.root)]
        return as_json({"chains": [{"certificates": chain}]})

    def _log_entry(self, _headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            return as_json(self.log.add(json.loads(body)), HTTPStatus.CREATED)
        except (TypeError, ValueError) as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, str(error)) from error

    def _checkpoint(self, _headers: Mapping[str, str], _body: bytes) -> Answer:
        return HTTPStatus.OK, "text/plain; charset=utf-8", self.log.checkpoint().encode()

    def _timestamp(self, _headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            return HTTPStatus.CREATED, "application/timestamp-reply", self._timestamper.answer(body, self._clock())
        except ValueError as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, str(error)) from error

    def _discovery(self, _headers: Mapping[str, str], _body: bytes) -> Answer:
        return as_json(
            {
                "issuer": self.issuer,
                "jwks_uri": self.jwks_url,
                # Clients insist on both addresses; tokens come from `mint_token` only, so that no local process can ask for one.
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        )

    def _jwks(self, _headers: Mapping[str, str], _body: bytes) -> Answer:
        return as_json(self._tokens.jwks)
