"""Sign in-toto statements with Sigstore: short-lived certificates for an identity token, one certificate for many signatures.

sigstore's clients for the certificate authority and the log wait for ever, so each signature runs in its own thread behind a
deadline, and its connections carry timeouts of their own so that an abandoned thread ends.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from sigstore.dsse import Statement
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import Signer, SigningContext

from evidence.errors import EvidenceError

DEFAULT_TIMEOUT_S: Final = 30.0
"""For one signature: a certificate, a timestamp, and a log entry that Rekor v2 answers after its next checkpoint (1 to 2 s)."""

RENEW_BEFORE_EXPIRY: Final = timedelta(minutes=1)
"""A signature is stamped some seconds after it is begun; the certificate must still be valid then."""

ASSUMED_LIFETIME: Final = timedelta(minutes=5)
"""Until the first signature shows the certificate's end: half of what Fulcio grants."""


class SigningError(EvidenceError):
    """A statement could not be signed; the next attempt starts with a fresh certificate. Never carries the token."""

    code = "evidence.signing"


class KeylessSigner:
    """Signs statements as the identity its token source proves. Safe to use from several threads; they take turns.

    Args:
        trust_config: JSON of the ClientTrustConfig whose services sign.
        token: returns a fresh identity token (audience `sigstore`) whenever a certificate is needed; may block.
        timeout_s: for one signature, the token included.
    """

    def __init__(self, trust_config: str, token: Callable[[], str], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._trust_config = trust_config
        self._token = token
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._signer: Signer | None = None
        self._renew_at = datetime.min.replace(tzinfo=UTC)

    def sign(self, statement: bytes) -> str:
        """The bundle (JSON) of a DSSE envelope around these exact statement bytes.

        Raises:
            SigningError: a service refused, failed, or did not answer in time.
        """
        answers: queue.SimpleQueue[tuple[str, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put((self._sign(statement), None))
            except Exception as error:  # noqa: BLE001 - whatever the libraries raise is handed to the waiting caller
                answers.put(("", error))

        threading.Thread(target=work, name="keyless-signer", daemon=True).start()
        try:
            bundle, error = answers.get(timeout=self._timeout_s)
        except queue.Empty:
            self._forget()
            raise _failed(f"no answer within {self._timeout_s:g} s") from None
        if error is not None:
            self._forget()
            raise _failed(_describe(error)) from error
        return bundle

    def _sign(self, statement: bytes) -> str:
        content = Statement(statement)
        with self._lock:
            signer = self._current()
        bundle: Bundle = signer.sign_dsse(content)
        with self._lock:
            if self._signer is signer:
                self._renew_at = bundle.signing_certificate.not_valid_after_utc - RENEW_BEFORE_EXPIRY
        return bundle.to_json()

    def _current(self) -> Signer:
        if self._signer is None or datetime.now(UTC) >= self._renew_at:
            self._signer = Signer(IdentityToken(self._token()), self._context())
            self._renew_at = datetime.now(UTC) + ASSUMED_LIFETIME
        return self._signer

    def _context(self) -> SigningContext:
        config = ClientTrustConfig.from_json(self._trust_config).signing_config
        authority, log = config.get_fulcio(), config.get_tlogs()[0]
        _bound(authority.session, self._timeout_s)
        # Rekor's client makes one session per thread, so the bound is set where that session is made.
        _BoundedSessions(log, self._timeout_s).install()
        root = ClientTrustConfig.from_json(self._trust_config).trusted_root
        return SigningContext(fulcio=authority, rekor=log, trusted_root=root, tsa_clients=config.get_tsas())

    def _forget(self) -> None:
        # A thread that hangs may hold the lock; the next signature then needs a lock of its own.
        self._lock = threading.Lock()
        self._signer = None


class _BoundedSessions(threading.local):
    """Stands in for the log client's thread-local store, and bounds every session put into it."""

    def __init__(self, client: Any, timeout_s: float) -> None:
        self.__dict__["_client"] = client
        self.__dict__["_timeout_s"] = timeout_s

    def install(self) -> None:
        """Replace the client's store."""
        if hasattr(self._client, "_thread_local"):
            self._client._thread_local = self  # noqa: SLF001 - sigstore offers no way to bound these requests

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, requests.Session):
            _bound(value, self._timeout_s)
        super().__setattr__(name, value)


class _TimeoutAdapter(HTTPAdapter):
    """Gives every request that has no timeout the one of its session."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._timeout_s = timeout_s

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send with a timeout, always."""
        options["timeout"] = options.get("timeout") or self._timeout_s
        return super().send(request, **options)


def _bound(session: requests.Session, timeout_s: float) -> None:
    for scheme in ("http://", "https://"):
        session.mount(scheme, _TimeoutAdapter(timeout_s))


def _describe(error: BaseException) -> str:
    cause = error.__cause__ if error.__cause__ is not None else error
    return f"{type(error).__name__}: {cause}"[:300] if isinstance(error, (SigstoreError, OSError)) else f"{type(error).__name__}"


def _failed(why: str) -> SigningError:
    return SigningError(
        "a statement could not be signed", why=why, fix="check the Sigstore services and the identity token source"
    )
