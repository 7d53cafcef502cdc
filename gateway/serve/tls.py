"""TLS both ways: the gateway's certificate toward agents, and how a target's certificate is checked."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Final, Literal

from sealgate_native.tls import ClientContext, ServerContext

from gateway.errors import ConfigError, TargetError

Checks = Literal["require", "verify-ca", "verify-full"]
TlsMode = Literal["disable"] | Checks

POSTGRES_ALPN: Final = "postgresql"
"""What a PostgreSQL client that begins with TLS at once must ask for, so that no other protocol's bytes are taken for it."""


MAX_CONTEXTS: Final = 64
"""Contexts toward targets that are kept: one for each way that connections are checked."""

SYSTEM_CONTEXT_S: Final = 600.0
"""How long one that trusts the system's authorities is kept: which files those are is the library's knowledge."""


class ServerTls:
    """The listener's certificate; a renewed file is used by the next connection, without a restart.

    Args:
        cert_file: PEM chain, the gateway's own certificate first.
        key_file: PEM private key, unencrypted.
        alpn: the one protocol name (RFC 7301) it agrees to.
    """

    def __init__(self, cert_file: Path, key_file: Path, *, alpn: str | None = None) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self._alpn = alpn
        self._stamp: tuple[int, int] | None = None
        self._context: ServerContext | None = None
        self.context()

    def context(self) -> ServerContext:
        """What the next connection is accepted with. Raises ConfigError when there never was a usable certificate."""
        try:
            stamp = (self._cert_file.stat().st_mtime_ns, self._key_file.stat().st_mtime_ns)
            if self._context is not None and stamp == self._stamp:
                return self._context
            context = ServerContext(self._cert_file.read_bytes(), self._key_file.read_bytes(), self._alpn)
        except OSError as error:  # TlsError is one
            # A certificate that is just being replaced must not stop the listener: the old one serves until both files fit.
            if self._context is not None:
                return self._context
            raise ConfigError(
                "the listener's certificate cannot be used",
                why=f"{self._cert_file}, {self._key_file}: {error}",
                fix="give a PEM chain and its unencrypted PEM key, readable by the gateway",
            ) from error
        self._context, self._stamp = context, stamp
        return context


def client_context(mode: TlsMode, ca_file: Path | None, own: tuple[Path, Path] | None = None) -> ClientContext | None:
    """How to encrypt toward a target: None for "disable"; the other modes mean what libpq's sslmode of that name means.

    Connections share it until a file changes: what one holds of its own is 17 kB.

    Args:
        mode: what is checked of the target's certificate.
        ca_file: the authority; None for the system's.
        own: PEM files of the gateway's certificate and key, for targets that ask for one.

    Raises:
        TargetError: one of the files cannot be used.
    """
    if mode == "disable":
        return None
    period = int(time.monotonic() / SYSTEM_CONTEXT_S) if ca_file is None else 0
    authorities = None if ca_file is None else _stamp(ca_file)
    return _make_context(mode, authorities, None if own is None else (_stamp(own[0]), _stamp(own[1])), period)


Stamped = tuple[Path, int, int]
"""A file with the time of its last change and its size; another one of these is another file."""


def _stamp(path: Path) -> Stamped:
    try:
        found = path.stat()
    except OSError:
        return path, 0, 0  # reading it says what is wrong
    return path, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=MAX_CONTEXTS)
def _make_context(
    checks: Checks, authorities: Stamped | None, own: tuple[Stamped, Stamped] | None, _period: int
) -> ClientContext:
    shown = None if own is None else _read_own(own[0][0], own[1][0])
    ca_file = None if authorities is None else authorities[0]
    try:
        return ClientContext(checks, None if ca_file is None else ca_file.read_bytes(), shown)
    except OSError as error:
        raise TargetError(
            "the CA file for the target cannot be used", why=f"{ca_file}: {error}", fix="give a readable PEM file"
        ) from error


def _read_own(cert_file: Path, key_file: Path) -> tuple[bytes, bytes]:
    try:
        own = cert_file.read_bytes(), key_file.read_bytes()
        ClientContext("require", None, own)  # so that what is wrong with these is not taken for the authority's
    except OSError as error:
        fix = "give a PEM chain and its unencrypted PEM key, readable by the gateway"
        raise TargetError(
            "the gateway's certificate for the target cannot be used", why=f"{cert_file}: {error}", fix=fix
        ) from error
    return own
