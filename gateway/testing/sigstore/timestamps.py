"""An RFC 3161 time-stamp authority: one request in, one granted response out."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.testing.sigstore import der

OID_SHA256 = "2.16.840.1.101.3.4.2.1"
OID_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
OID_SIGNED_DATA = "1.2.840.113549.1.7.2"
OID_TST_INFO = "1.2.840.113549.1.9.16.1.4"
OID_CONTENT_TYPE = "1.2.840.113549.1.9.3"
OID_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
OID_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
OID_POLICY = "1.3.6.1.4.1.57264.2"  # the policy identifier of Sigstore time-stamp authorities

EXPLICIT_0 = 0xA0
SHA256_BYTES = 32
SERIAL_BITS = 64  # unique without a counter that would have to survive restarts

ALGORITHM_SHA256 = der.sequence(der.oid(OID_SHA256))
ALGORITHM_ECDSA = der.sequence(der.oid(OID_ECDSA_SHA256))


class Timestamper:
    """Signs time-stamp tokens with one P-256 key whose certificate carries the critical time-stamping usage."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._certificate_der = certificate.public_bytes(Encoding.DER)
        self._key = key

    def answer(self, request: bytes, moment: datetime) -> bytes:
        """The DER TimeStampResp for a DER TimeStampReq; ValueError when the request is not one with SHA-256."""
        imprint, nonce = parse_request(request)
        info = der.sequence(
            der.integer(1),
            der.oid(OID_POLICY),
            der.sequence(ALGORITHM_SHA256, der.octets(imprint)),
            der.integer(secrets.randbits(SERIAL_BITS)),
            der.generalized_time(moment),
            *([] if nonce is None else [der.encode(der.INTEGER, nonce)]),
        )
        granted = der.sequence(der.integer(0))
        return der.sequence(granted, der.sequence(der.oid(OID_SIGNED_DATA), der.encode(EXPLICIT_0, self._signed_data(info))))

    def _signed_data(self, info: bytes) -> bytes:
        content = der.sequence(der.oid(OID_TST_INFO), der.encode(EXPLICIT_0, der.octets(info)))
        return der.sequence(
            der.integer(3),
            der.set_of(ALGORITHM_SHA256),
            content,
            der.encode(EXPLICIT_0, self._certificate_der),
            der.set_of(self._signer_info(info)),
        )

    def _signer_info(self, info: bytes) -> bytes:
        certificate_id = der.sequence(der.octets(hashlib.sha256(self._certificate_der).digest()))
        attributes = der.set_of(
            _attribute(OID_CONTENT_TYPE, der.oid(OID_TST_INFO)),
            _attribute(OID_MESSAGE_DIGEST, der.octets(hashlib.sha256(info).digest())),
            _attribute(OID_SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(certificate_id))),
        )
        issuer_and_serial = der.sequence(self._certificate.issuer.public_bytes(), der.integer(self._certificate.serial_number))
        return der.sequence(
            der.integer(1),
            issuer_and_serial,
            ALGORITHM_SHA256,
            # The same bytes are signed under the SET tag and sent under the implicit [0] tag (RFC 5652, 5.4).
            bytes((EXPLICIT_0,)) + attributes[1:],
            ALGORITHM_ECDSA,
            der.octets(self._key.sign(attributes, ec.ECDSA(hashes.SHA256()))),
        )


def parse_request(request: bytes) -> tuple[bytes, bytes | None]:
    """The message imprint (32 bytes) and the nonce's INTEGER content, if any, of a TimeStampReq."""
    fields = list(der.elements(der.only(request, der.SEQUENCE)))
    if [tag for tag, _ in fields[:2]] != [der.INTEGER, der.SEQUENCE] or fields[0][1] != b"\x01":
        raise ValueError("not a version 1 time-stamp request")
    imprint = list(der.elements(fields[1][1]))
    if [tag for tag, _ in imprint] != [der.SEQUENCE, der.OCTET_STRING] or len(imprint[1][1]) != SHA256_BYTES:
        raise ValueError("the message imprint is not a SHA-256 digest")
    if next(der.elements(imprint[0][1]), None) != (der.OBJECT_IDENTIFIER, der.oid(OID_SHA256)[2:]):
        raise ValueError("only SHA-256 is time-stamped")
    nonce = next((content for tag, content in fields[2:] if tag == der.INTEGER), None)
    return imprint[1][1], nonce


def _attribute(kind: str, value: bytes) -> bytes:
    return der.sequence(der.oid(kind), der.set_of(value))
