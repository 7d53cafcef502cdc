"""TLS both ways: the gateway's certificate toward agents, and how a target's certificate is checked."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, Literal

from gateway.errors import ConfigError, TargetError

TlsMode = Literal["disable", "require", "verify-ca", "verify-full"]

MINIMUM_VERSION: Final = ssl.TLSVersion.TLSv1_2
"""Every supported client and server speaks at least TLS 1.2; older versions are broken."""

POSTGRES_ALPN: Final = ["postgresql"]
"""What a PostgreSQL client that begins with TLS at once must ask for, so that no other protocol's bytes are taken for it."""


class ServerTls:
    """The listener's certificate; a renewed file is used by the next connection, without a restart.

    Args:
        cert_file: PEM chain, the gateway's own certificate first.
        key_file: PEM private key, unencrypted.
    """

    def __init__(self, cert_file: Path, key_file: Path, *, alpn: list[str] | None = None) -> None:
        self._cert_file = cert_file
        self._key_file = key_file
        self._alpn = alpn
        self._stamp: tuple[int, int] | None = None
        self._context: ssl.SSLContext | None = None
        self.context()

    def context(self) -> ssl.SSLContext:
        """The context for the next connection. Raises ConfigError when there never was a usable certificate."""
        try:
            stamp = (self._cert_file.stat().st_mtime_ns, self._key_file.stat().st_mtime_ns)
            if self._context is not None and stamp == self._stamp:
                return self._context
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = MINIMUM_VERSION
            context.load_cert_chain(self._cert_file, self._key_file)
            if self._alpn:
                context.set_alpn_protocols(self._alpn)
        except (OSError, ssl.SSLError) as error:
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


def client_context(mode: TlsMode, ca_file: Path | None, own: tuple[Path, Path] | None = None) -> ssl.SSLContext | None:
    """How to encrypt toward a target: None for "disable"; the other modes mean what libpq's sslmode of that name means.

    Args:
        mode: what is checked of the target's certificate.
        ca_file: the authority; None for the system's.
        own: PEM files of the gateway's certificate and key, for targets that ask for one.

    Raises:
        TargetError: one of the files cannot be used.
    """
    if mode == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = MINIMUM_VERSION
    context.check_hostname = mode == "verify-full"
    if own is not None:
        _show(context, own)
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TargetError(
            "the CA file for the target cannot be used", why=f"{ca_file}: {error}", fix="give a readable PEM file"
        ) from error
    return context


def _show(context: ssl.SSLContext, own: tuple[Path, Path]) -> None:
    try:
        context.load_cert_chain(*own)
    except (OSError, ssl.SSLError) as error:
        fix = "give a PEM chain and its unencrypted PEM key, readable by the gateway"
        raise TargetError("the gateway's certificate for the target cannot be used", why=f"{own[0]}: {error}", fix=fix) from error
