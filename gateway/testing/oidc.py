"""An OpenID Connect issuer in this process, for tests and the demonstration. It proves nothing: whoever runs it can be anyone.

It serves a discovery document and a key set on 127.0.0.1, and makes tokens on request. Its key set also lists a key for encryption, as those
of real issuers do.

    with DevelopmentIssuer() as issuer:
        token = issuer.mint("agent-7", audience=["sealgate"], groups=["agents"])
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

DEFAULT_AUDIENCE: Final = "sealgate"
DEFAULT_TTL_S: Final = 3_600
RSA_BITS: Final = 2_048
RSA_EXPONENT: Final = 65_537


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of the issuer. `public` is its JWK as published."""

    key_id: str
    algorithm: str
    private: PrivateKeyTypes = field(repr=False)
    public: Mapping[str, Any]


def make_key(algorithm: str = "ES256", *, key_id: str | None = None, use: str = "sig") -> SigningKey:
    """A new key. `use` enc makes one that must not be used for signatures."""
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
        document = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    else:
        private = rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=RSA_BITS)
        document = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
    name = uuid.uuid4().hex if key_id is None else key_id
    document.pop("key_ops", None)
    published = {**document, "kid": name, "use": use, "alg": algorithm if use == "sig" else "RSA-OAEP"}
    return SigningKey(name, algorithm, private, published)


class DevelopmentIssuer:
    """An issuer on 127.0.0.1; use as a context manager, or call `start` and `stop`.

    Attributes:
        reads: how often each path was asked for.
        unavailable: while true, every request is answered with status 503.

    Args:
        algorithm: of its signatures, ES256 or RS256.
        port: 0 lets the kernel choose.
        key: its first signing key; a new one when None.
    """

    def __init__(self, *, algorithm: str = "ES256", port: int = 0, key: SigningKey | None = None) -> None:
        self._algorithm = algorithm
        self._keys = [make_key(algorithm) if key is None else key]
        self._encryption_key = make_key("RS256", use="enc")
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _make_handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.reads: dict[str, int] = {}
        self.unavailable = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and give the port back."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port it serves on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The issuer: what `iss` says, and where discovery starts."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def jwks_url(self) -> str:
        """Where its keys are."""
        return f"{self.url}/jwks"

    @property
    def key(self) -> SigningKey:
        """The key that signs now."""
        return self._keys[-1]

    @property
    def encryption_key(self) -> SigningKey:
        """The published key that is not for signatures."""
        return self._encryption_key

    def mint(
        self,
        sub: str,
        *,
        audience: Sequence[str] = (DEFAULT_AUDIENCE,),
        groups: Sequence[str] = (),
        ttl_s: float = DEFAULT_TTL_S,
        act: Mapping[str, Any] | None = None,
        claims: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        now_s: float | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """A signed access token.

        Args:
            sub: who it is for.
            audience: for whom it is made.
            groups: the claim `groups`; left out when empty.
            ttl_s: seconds until it expires.
            act: the party that acts for `sub` (RFC 8693).
            claims: further claims; a value of None removes a claim.
            headers: further header members.
            now_s: when it is made, seconds since the epoch; now when None.
            key: signs instead of the current key.
        """
        issued_s = int(time.time() if now_s is None else now_s)
        content: dict[str, Any] = {
            "iss": self.url,
            "sub": sub,
            "aud": list(audience),
            "iat": issued_s,
            "exp": int(issued_s + ttl_s),
            "jti": uuid.uuid4().hex,
        }
        content |= ({"groups": list(groups)} if groups else {}) | ({"act": dict(act)} if act is not None else {})
        content |= dict(claims or {})
        content = {name: value for name, value in content.items() if value is not None}
        signing = self.key if key is None else key
        header = {"typ": "at+jwt", "kid": signing.key_id, **(headers or {})}
        private: Any = signing.private
        # PyJWS rather than PyJWT, which would refuse the wrong types that tests need.
        return jwt.PyJWS().encode(json.dumps(content).encode(), private, algorithm=signing.algorithm, headers=header)

    def rotate(self, *, keep_old: bool = True) -> SigningKey:
        """Sign with a new key from now on; `keep_old` leaves the earlier ones published."""
        new = make_key(self._algorithm)
        with self._lock:
            self._keys = [*self._keys, new] if keep_old else [new]
        return new

    def answer(self, path: str) -> bytes | None:
        """The document at a path, or None where there is none."""
        with self._lock:
            self.reads[path] = self.reads.get(path, 0) + 1
            keys = [key.public for key in (*self._keys, self._encryption_key)]
        documents: dict[str, Mapping[str, Any]] = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": self.jwks_url},
            "/jwks": {"keys": keys},
        }
        document = documents.get(path)
        return None if document is None else json.dumps(document).encode()


def _make_handler(issuer: DevelopmentIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET with the issuer's documents."""

        def do_GET(self) -> None:
            body = issuer.answer(self.path)
            status = 503 if issuer.unavailable else 404 if body is None else 200
            content = body if status == 200 and body is not None else b"{}"  # noqa: PLR2004 # the status line above
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Say nothing on standard error."""

    return Handler
