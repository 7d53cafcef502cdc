"""TLS of the HTTPS proxy: certificates minted for the hosts agents ask for, and how services' own certificates are checked.

OpenSSL by way of pyOpenSSL, because mitmproxy's layers drive that. Files are read again when they change, so that an authority or a
client certificate is replaced without a restart.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from gateway.errors import ConfigError, TargetError

LEAF_LIFETIME: Final = dt.timedelta(hours=24)
"""Certificates for hosts are minted on demand, so a short life costs nothing and limits what a stolen one is good for."""

RENEW_BEFORE: Final = dt.timedelta(hours=2)
BACKDATED: Final = dt.timedelta(minutes=10)
"""Clocks of clients differ a little."""

MAX_LEAVES: Final = 1_000
"""Hosts whose certificate is kept; each takes about 2 kB."""

CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Forward secrecy and authenticated encryption only, for TLS 1.2; TLS 1.3 has its own."""

HTTP1: Final = b"http/1.1"
HTTP2: Final = b"h2"

IssuerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: IssuerKey


class HostCertificates:
    """Mints certificates for hosts, signed by the configured authority.

    Args:
        cert_file: PEM file with the authority's certificate; read again when it changes.
        read_key: gives its private key as PEM.
        trust_files: further certificates clients are told to trust.

    Raises:
        ConfigError: certificate and key cannot be used together.
    """

    def __init__(self, cert_file: Path, read_key: Callable[[], bytes], trust_files: Sequence[Path] = ()) -> None:
        self._cert_file = cert_file
        self._read_key = read_key
        self._trust_files = tuple(trust_files)
        self._stamp = 0
        self._authority: _Authority | None = None
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaves: OrderedDict[str, tuple[SSL.Context, dt.datetime]] = OrderedDict()
        self.authority()

    def authority(self) -> x509.Certificate:
        """The certificate clients must trust now. Raises ConfigError where there never was a usable one."""
        return self._load().certificate

    def trusted_pem(self) -> str:
        """Every certificate clients should trust, as PEM: the authority, and those that come next or came before."""
        extra = [path.read_text() for path in self._trust_files]
        return self.authority().public_bytes(Encoding.PEM).decode() + "".join(extra)

    def context(self, host: str) -> SSL.Context:
        """The server-side context for one host. Raises ValueError for a host no certificate can name."""
        self._load()
        now = dt.datetime.now(dt.UTC)
        kept = self._leaves.get(host)
        if kept is None or kept[1] - now < RENEW_BEFORE:
            kept = self._leaves[host] = self._mint(host, now)
            if len(self._leaves) > MAX_LEAVES:
                self._leaves.popitem(last=False)
        self._leaves.move_to_end(host)
        return kept[0]

    def _load(self) -> _Authority:
        try:
            stamp = self._cert_file.stat().st_mtime_ns
            if self._authority is not None and stamp == self._stamp:
                return self._authority
            certificate = x509.load_pem_x509_certificate(self._cert_file.read_bytes())
            key = load_pem_private_key(self._read_key(), password=None)
            if (
                not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
                or key.public_key() != certificate.public_key()
            ):
                raise ValueError("the key is not that of the certificate")
            if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise ValueError("the certificate is not that of an authority")
        except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:
            # Files that are just being replaced must not stop the proxy: the last authority serves until both fit.
            if self._authority is not None:
                return self._authority
            fix = "make an authority with `sealgate keygen --kind http-ca`, and give its certificate and key"
            raise ConfigError("listeners.http.ca cannot be used", why=f"{self._cert_file}: {error}", fix=fix) from error
        self._authority, self._stamp = _Authority(certificate, key), stamp
        self._leaves.clear()
        return self._authority

    def _mint(self, host: str, now: dt.datetime) -> tuple[SSL.Context, dt.datetime]:
        authority = self._load()
        end = min(now + LEAF_LIFETIME, authority.certificate.not_valid_after_utc)
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) < 64 else []  # noqa: PLR2004 - the limit of X.520
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(authority.certificate.subject)
            .public_key(self._leaf_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, authority.certificate.not_valid_before_utc))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([name]), critical=not subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_find_authority_key(authority.certificate), critical=False)
        )
        certificate = builder.sign(authority.key, hashes.SHA256())
        context = make_server_context()
        context.use_certificate(certificate)
        context.use_privatekey(self._leaf_key)
        context.add_extra_chain_cert(authority.certificate)
        return context, end


def _find_authority_key(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    except x509.ExtensionNotFound:
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise ConfigError("listeners.http.ca cannot be used", why="its key is neither ECDSA nor RSA") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def make_server_context(cert_file: Path | None = None, key_file: Path | None = None, *, http2: bool = True) -> SSL.Context:
    """A context toward clients: TLS 1.2 or newer, HTTP/2 where the client offers it. Raises OSError or SSL.Error for bad files."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_cipher_list(CIPHERS)
    offered = (HTTP2, HTTP1) if http2 else (HTTP1,)

    def select(_: SSL.Connection, wanted: list[bytes]) -> Any:
        return next((name for name in offered if name in wanted), SSL.NO_OVERLAPPING_PROTOCOLS)

    context.set_alpn_select_callback(select)
    if cert_file is not None and key_file is not None:
        context.use_certificate_chain_file(str(cert_file))
        context.use_privatekey_file(str(key_file))
    return context


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The gateway's own certificate toward one service: a PEM chain and its key."""

    chain: bytes
    key: bytes


def make_target_context(ca_file: Path | None, certificate: ClientCertificate | None = None) -> SSL.Context:
    """A context toward a service; its certificate is always checked. Raises TargetError for files that cannot be used."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER)
    try:
        if ca_file is not None:
            context.load_verify_locations(str(ca_file))
        else:
            paths = ssl.get_default_verify_paths()
            context.load_verify_locations(paths.cafile or paths.openssl_cafile, paths.capath)
        if certificate is not None:
            first, *rest = x509.load_pem_x509_certificates(certificate.chain)
            context.use_certificate(first)
            for intermediate in rest:
                context.add_extra_chain_cert(intermediate)
            key = load_pem_private_key(certificate.key, password=None)
            if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
                raise ValueError("the key is neither ECDSA nor RSA")
            context.use_privatekey(key)
    except (OSError, SSL.Error, ValueError) as error:
        raise TargetError("the certificates for this service cannot be used", why=str(error)) from error
    return context


def trust_authorities(ca_file: Path | None) -> ssl.SSLContext:
    """For the gateway's own HTTPS requests: these authorities, or the system's. Raises TargetError for a file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
    except OSError as error:  # ssl.SSLError is one
        fix = "give a readable PEM file"
        raise TargetError("the CA file for the target cannot be used", why=f"{ca_file}: {error}", fix=fix) from error
    return context


_HOST_FLAGS: Final = 0x4 | 0x20
"""X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS and NEVER_CHECK_SUBJECT (x509v3.h)."""


def open_target_tls(context: SSL.Context, server_name: str, alpn: Sequence[bytes]) -> SSL.Connection:
    """A connection object that checks the service's certificate for this name."""
    connection = SSL.Connection(context)
    lib: Any = SSL._lib  # type: ignore[attr-defined] # noqa: SLF001 - pyOpenSSL gives no other way to have OpenSSL check the name
    parameters = lib.SSL_get0_param(connection._ssl)  # noqa: SLF001 - as above
    lib.X509_VERIFY_PARAM_set_hostflags(parameters, _HOST_FLAGS)
    try:
        address = ipaddress.ip_address(server_name).packed
    except ValueError:
        name = server_name.encode("idna")
        connection.set_tlsext_host_name(name)
        done = lib.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
    else:
        done = lib.X509_VERIFY_PARAM_set1_ip(parameters, address, len(address))
    if done != 1:
        raise TargetError("the name of the service cannot be checked", why=server_name[:100])
    if alpn:
        connection.set_alpn_protos(list(alpn))
    connection.set_connect_state()
    return connection
