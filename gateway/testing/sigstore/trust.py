"""The ClientTrustConfig (v0.1) that lets any Sigstore client sign against and verify the development Sigstore."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from evidence.development import DEVELOPMENT_OPERATOR
from gateway.testing.sigstore.keys import Keys

MEDIA_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
TRUSTED_ROOT_MEDIA_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SIGNING_CONFIG_MEDIA_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.2+json"


def trust_config(keys: Keys, *, log_origin: str, log_key_id: bytes, url: str) -> str:
    """The trust configuration as JSON text; only the signing part depends on `url`, where the services listen now."""
    root = trusted_root(keys, log_origin=log_origin, log_key_id=log_key_id)
    return json.dumps({"mediaType": MEDIA_TYPE, "trustedRoot": root, "signingConfig": _signing_config(keys, url)}, indent=2)


def trusted_root(keys: Keys, *, log_origin: str, log_key_id: bytes) -> dict[str, Any]:
    """What verifiers need: certificate authority, certificate log, transparency log and time-stamp authority."""
    valid = {"start": _start(keys)}
    tlog = _log(f"https://{log_origin}", keys.log_key.public_key(), valid, log_key_id)
    ct_key = keys.ct_key.public_key()
    ct_id = hashlib.sha256(ct_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return {
        "mediaType": TRUSTED_ROOT_MEDIA_TYPE,
        "tlogs": [tlog],
        "certificateAuthorities": [_authority([keys.issuing, keys.root], valid)],
        "ctlogs": [_log(f"https://ct.{log_origin}", ct_key, valid, ct_id)],
        "timestampAuthorities": [_authority([keys.tsa, keys.tsa_root], valid)],
    }


def _signing_config(keys: Keys, url: str) -> dict[str, Any]:
    def service(path: str, version: int) -> list[dict[str, Any]]:
        valid = {"start": _start(keys)}
        return [{"url": url + path, "majorApiVersion": version, "validFor": valid, "operator": DEVELOPMENT_OPERATOR}]

    return {
        "mediaType": SIGNING_CONFIG_MEDIA_TYPE,
        "caUrls": service("", 1),
        "oidcUrls": service("", 1),
        "rekorTlogUrls": service("", 2),
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": service("/api/v1/timestamp", 1),
        "tsaConfig": {"selector": "ANY"},
    }


def _log(
    url: str, key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey, valid: dict[str, str], key_id: bytes
) -> dict[str, Any]:
    details = "PKIX_ED25519" if isinstance(key, ed25519.Ed25519PublicKey) else "PKIX_ECDSA_P256_SHA_256"
    raw = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": _b64(raw), "keyDetails": details, "validFor": valid},
        "logId": {"keyId": _b64(key_id)},
        "operator": DEVELOPMENT_OPERATOR,
    }


def _authority(chain: list[x509.Certificate], valid: dict[str, str]) -> dict[str, Any]:
    names = chain[-1].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return {
        "subject": {"organization": DEVELOPMENT_OPERATOR, "commonName": str(names[0].value)},
        "uri": "https://ca.development.sealgate.invalid",
        "certChain": {"certificates": [{"rawBytes": _b64(each.public_bytes(Encoding.DER))} for each in chain]},
        "validFor": valid,
        "operator": DEVELOPMENT_OPERATOR,
    }


def _start(keys: Keys) -> str:
    return keys.valid_from.strftime("%Y-%m-%dT%H:%M:%SZ")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
