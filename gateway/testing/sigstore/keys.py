"""Keys and certificates of the development Sigstore, kept in one directory so that its trust survives restarts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evidence.development import DEVELOPMENT_OPERATOR

AUTHORITY_LIFETIME = timedelta(days=3650)  # evidence made today must stay verifiable for the years an examiner may ask about
BACKDATE = timedelta(minutes=5)  # a client whose clock is slightly behind must still accept the authority

type SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Keys:
    """Everything the development Sigstore signs with. All ECDSA keys are P-256."""

    root: x509.Certificate
    issuing: x509.Certificate
    issuing_key: ec.EllipticCurvePrivateKey
    ct_key: ec.EllipticCurvePrivateKey
    log_key: ed25519.Ed25519PrivateKey
    tsa_root: x509.Certificate
    tsa: x509.Certificate
    tsa_key: ec.EllipticCurvePrivateKey
    oidc_key: ec.EllipticCurvePrivateKey

    @property
    def valid_from(self) -> datetime:
        """When this trust begins, taken from the root so that it is the same after every restart."""
        return self.root.not_valid_before_utc


def load_or_create(directory: Path, moment: datetime) -> Keys:
    """The keys in `directory`, made once with validity from `moment`."""
    marker = directory / "complete"
    if not marker.exists():
        _create(directory, moment)
        marker.write_text(f"{DEVELOPMENT_OPERATOR}\n")
    return Keys(
        root=_certificate(directory, "ca-root"),
        issuing=_certificate(directory, "ca-issuing"),
        issuing_key=_ec_key(directory, "ca-issuing"),
        ct_key=_ec_key(directory, "ct"),
        log_key=_ed_key(directory, "log"),
        tsa_root=_certificate(directory, "tsa-root"),
        tsa=_certificate(directory, "tsa"),
        tsa_key=_ec_key(directory, "tsa"),
        oidc_key=_ec_key(directory, "oidc"),
    )


def _create(directory: Path, moment: datetime) -> None:
    start = (moment - BACKDATE).replace(microsecond=0)
    root_key, issuing_key, tsa_root_key, tsa_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    root = _issue("root", root_key, None, root_key, start, path_length=1)
    issuing = _issue("issuing", issuing_key, root, root_key, start, path_length=0, usage=ExtendedKeyUsageOID.CODE_SIGNING)
    tsa_root = _issue("time-stamping root", tsa_root_key, None, tsa_root_key, start, path_length=0)
    tsa = _issue(
        "time-stamping", tsa_key, tsa_root, tsa_root_key, start, path_length=None, usage=ExtendedKeyUsageOID.TIME_STAMPING
    )
    for name, certificate in (("ca-root", root), ("ca-issuing", issuing), ("tsa-root", tsa_root), ("tsa", tsa)):
        (directory / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    keys: dict[str, SigningKey] = {
        "ca-issuing": issuing_key,
        "ct": ec.generate_private_key(ec.SECP256R1()),
        "log": ed25519.Ed25519PrivateKey.generate(),
        "tsa": tsa_key,
        "oidc": ec.generate_private_key(ec.SECP256R1()),
    }
    for name, key in keys.items():
        _write_private(directory / f"{name}.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _issue(
    role: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    start: datetime,
    *,
    path_length: int | None,
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    """One authority certificate; `path_length` None makes an end-entity certificate."""
    is_ca = path_length is not None
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, DEVELOPMENT_OPERATOR),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{DEVELOPMENT_OPERATOR}: {role}"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
        .add_extension(key_usage(certificates=is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if usage is not None:
        # sigstore refuses a critical usage on an issuing certificate; RFC 3161 demands a critical one on the time-stamper's.
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=not is_ca)
    return builder.sign(issuer_key, hashes.SHA256())


def key_usage(*, certificates: bool) -> x509.KeyUsage:
    """Key usage of an authority (signs certificates) or of an end entity (signs data)."""
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _certificate(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())


def _ec_key(directory: Path, name: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{name}.key is not an elliptic curve key")
    return key


def _ed_key(directory: Path, name: str) -> ed25519.Ed25519PrivateKey:
    key = load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise TypeError(f"{name}.key is not an Ed25519 key")
    return key
