"""A Fulcio-compatible certificate authority: identity token and CSR in, short-lived certificate with one embedded SCT out."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.testing.sigstore import der
from gateway.testing.sigstore.keys import Keys, key_usage

CERTIFICATE_LIFETIME = timedelta(minutes=10)  # what Fulcio issues: long enough to sign, too short to be worth stealing
OID_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
OID_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # raw text, the form old verifiers read
OID_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")  # DER UTF8String
UTF8_STRING = 0x0C
PRECERT_ENTRY = 1
ECDSA_SHA256 = b"\x04\x03"  # TLS HashAlgorithm sha256, SignatureAlgorithm ecdsa


@dataclass(frozen=True, slots=True)
class Identity:
    """What an identity token proved: a name and the issuer that vouches for it."""

    name: str
    issuer: str


class CertificateAuthority:
    """Issues code-signing certificates and plays the certificate-transparency log that vouches for them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._ct_log_id = hashlib.sha256(_spki(keys.ct_key.public_key())).digest()
        self._issuer_key_hash = hashlib.sha256(_spki(keys.issuing_key.public_key())).digest()

    def issue(self, request: x509.CertificateSigningRequest, identity: Identity, moment: datetime) -> list[str]:
        """PEM chain, leaf first, for a CSR whose signature proves possession; ValueError when it does not."""
        key = request.public_key()
        if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise ValueError("the certificate request does not prove possession of a P-256 key")
        builder = self._builder(key, identity, moment.replace(microsecond=0))
        # The log signs the certificate as it is without the SCT extension; that extension is then added last.
        draft = builder.sign(self._keys.issuing_key, hashes.SHA256())
        scts = self._sct_list(draft.tbs_certificate_bytes, moment)
        leaf = builder.add_extension(x509.UnrecognizedExtension(OID_SCT_LIST, der.octets(scts)), critical=False)
        chain = (leaf.sign(self._keys.issuing_key, hashes.SHA256()), self._keys.issuing, self._keys.root)
        return [certificate.public_bytes(Encoding.PEM).decode() for certificate in chain]

    def _builder(self, key: ec.EllipticCurvePublicKey, identity: Identity, start: datetime) -> x509.CertificateBuilder:
        issuing = self._keys.issuing
        issuer = identity.issuer.encode()
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuing.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + CERTIFICATE_LIFETIME)
            .add_extension(key_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._keys.issuing_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([alternative_name(identity.name)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(OID_ISSUER, issuer), critical=False)
            .add_extension(x509.UnrecognizedExtension(OID_ISSUER_V2, der.encode(UTF8_STRING, issuer)), critical=False)
        )

    def _sct_list(self, certificate: bytes, moment: datetime) -> bytes:
        """A SignedCertificateTimestampList with one entry over the to-be-signed `certificate` (RFC 6962, 3.2 and 3.3)."""
        stamp_ms = int(moment.timestamp() * 1000)
        entry = self._issuer_key_hash + len(certificate).to_bytes(3, "big") + certificate
        signed = struct.pack("!BBQH", 0, 0, stamp_ms, PRECERT_ENTRY) + entry + struct.pack("!H", 0)
        signature = self._keys.ct_key.sign(signed, ec.ECDSA(hashes.SHA256()))
        sct = b"\x00" + self._ct_log_id + struct.pack("!QH", stamp_ms, 0) + ECDSA_SHA256 + _vector(signature)
        return _vector(_vector(sct))


def alternative_name(name: str) -> x509.GeneralName:
    """The subject alternative name for an identity: a mail address or a URI, the two kinds every verifier compares alike."""
    if "://" in name or name.startswith("urn:"):
        return x509.UniformResourceIdentifier(name)
    if name.count("@") == 1 and not name.startswith("@") and not name.endswith("@"):
        return x509.RFC822Name(name)
    raise ValueError(f"identity {name!r} is neither a mail address nor a URI")


def _vector(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
