"""What an auditor pins, and the check of one Sigstore bundle against it: offline, nothing taken from the evidence itself.

`SigstoreTrust` adds to sigstore's own verification what the long life of evidence needs: every authority must have been valid, by
the trusted root's own windows, at the time the signature was stamped; the log must be one the trusted root names; and the caller
learns who signed, when, and whether any part of that trust is for development only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.x509.oid import NameOID
from rfc3161_client import TimeStampResponse, VerifierBuilder
from rfc3161_client import VerificationError as TimestampVerificationError
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore_models.common.v1 import TimeRange
from sigstore_models.trustroot.v1 import CertificateAuthority, ClientTrustConfig, TransparencyLogInstance
from sigstore_models.trustroot.v1 import TrustedRoot as TrustedRootModel

from evidence.development import DEVELOPMENT_OPERATOR
from evidence.errors import EvidenceError

MAX_TRUST_BYTES: Final = 1 << 20
"""A trusted root with decades of rotated keys is tens of kilobytes."""

MAX_BUNDLE_BYTES: Final = 1 << 20
"""A bundle is about 6 kB; a statement over hundreds of logs is still far below this."""

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
TRUST_CONFIG_PREFIX: Final = "application/vnd.dev.sigstore.clienttrustconfig"

_OID_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_OID_ISSUER_V2: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")

_MALFORMED: Final = (
    SigstoreError,
    InvalidSignature,
    TimestampVerificationError,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
)
"""What the libraries raise for a bundle that was changed; certificates are parsed piece by piece, when a piece is asked for."""

TrustFault = Literal["malformed", "tampered", "untrusted", "identity"]
"""Why a bundle is refused: not a bundle; changed; from authorities outside the pinned trust; by someone else than expected."""


class TrustError(EvidenceError):
    """Trust material that cannot be used, or a bundle that does not stand up to it; `fault` says which kind of refusal."""

    code = "evidence.trust"

    def __init__(self, what: str, *, fault: TrustFault, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.fault: TrustFault = fault


@dataclass(frozen=True, slots=True)
class IdentityRule:
    """Who may have signed. `identity` is exact, or `*@domain` for every mail address of a domain, or `*` for all of the issuer."""

    identity: str
    issuer: str

    def matches(self, identity: str, issuer: str) -> bool:
        """Whether a certificate's identity and issuer are covered."""
        if issuer != self.issuer:
            return False
        if self.identity.startswith("*@"):
            return identity.count("@") == 1 and identity.endswith(self.identity[1:])
        return self.identity in ("*", identity)


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """An in-toto statement whose signature, certificate, log entry and timestamp were verified.

    `signed_at` is the earliest verified timestamp: the signature existed then. `log_checkpoint` is the note of the Sigstore log
    that includes it.
    """

    identity: str
    issuer: str
    signed_at: datetime
    payload: bytes
    predicate_type: str
    subjects: tuple[tuple[str, str], ...]
    predicate: dict[str, Any]
    log_checkpoint: str
    log_index: int


class SigstoreTrust:
    """Verifies bundles against one pinned trusted root.

    Args:
        text: JSON of a ClientTrustConfig v0.1 or of a trusted root v0.1.
    """

    def __init__(self, text: str) -> None:
        self._model = _parse_trust(text)
        try:
            self._verifier = Verifier(trusted_root=TrustedRoot(self._model))
        except (SigstoreError, ValueError, x509.InvalidVersion) as error:
            raise _unusable(str(error)) from error
        self._authorities = [_Authority(each) for each in self._model.certificate_authorities]
        self._timestamp_authorities = [_Authority(each) for each in self._model.timestamp_authorities]
        self.development = _is_development(self._model, [*self._authorities, *self._timestamp_authorities])
        """Whether any part of this trust carries the development mark."""

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the log and authority operators, for reports."""
        found = {each.operator or each.base_url for each in self._model.tlogs}
        return tuple(sorted(found | {each.name for each in self._authorities}))

    def verify(self, bundle_json: str | bytes, rules: Sequence[IdentityRule]) -> SignedStatement:
        """The statement in a DSSE bundle, signed by someone one of `rules` covers.

        Raises:
            TrustError: it is not such a bundle; `fault` tells a change from foreign trust and from a wrong identity.
        """
        bundle = _parse_bundle(bundle_json)
        watch = _IdentityWatch(rules)
        try:
            return self._verify(bundle, watch)
        except _IdentityRefusedError as refusal:
            raise _not_expected(watch, rules) from refusal
        except _MALFORMED as error:
            raise _changed(f"{type(error).__name__}: {error}"[:300]) from error

    def _verify(self, bundle: Bundle, watch: _IdentityWatch) -> SignedStatement:
        self._refuse_foreign(bundle)
        payload_type, payload = self._verifier.verify_dsse(bundle, watch)
        if payload_type != PAYLOAD_TYPE:
            raise TrustError(f"the bundle holds {payload_type!r}, not an in-toto statement", fault="malformed", fix=_EXAMINE)
        moment = self._stamped_at(bundle)
        self._check_windows(bundle, moment)
        return _read_statement(bundle, payload, watch, moment)

    def _refuse_foreign(self, bundle: Bundle) -> None:
        """Tell apart, before the cryptography, material from authorities that are not in the trusted root."""
        certificate = bundle.signing_certificate
        if not any(each.may_have_issued(certificate) for each in self._authorities):
            issuer = certificate.issuer.rfc4514_string()
            raise _foreign(f"its certificate comes from {issuer!r}, which is not in the pinned trusted root")
        key_id = bundle.log_entry._inner.log_id.key_id  # noqa: SLF001 - the library shows the log id nowhere else
        if not any(key_id in _key_ids(each) for each in self._model.tlogs):
            raise _foreign(f"its log {key_id.hex()[:16]} is not in the pinned trusted root")
        stamps = bundle.verification_material.timestamp_verification_data
        if stamps is None or not stamps.rfc3161_timestamps:
            raise _changed("it carries no timestamp of an authority")
        known = {each.chain[0].serial_number for each in self._timestamp_authorities}
        signers = [info.serial_number for stamp in stamps.rfc3161_timestamps for info in stamp.signed_data.signer_infos]
        if not known.intersection(signers):
            raise _foreign("its timestamp comes from an authority that is not in the pinned trusted root")

    def _stamped_at(self, bundle: Bundle) -> datetime:
        stamps = bundle.verification_material.timestamp_verification_data
        responses = stamps.rfc3161_timestamps if stamps else []
        moments = [stamp.tst_info.gen_time for stamp in responses if self._is_good_stamp(stamp, bundle.signature)]
        if not moments:
            raise _changed("no timestamp in it verifies")
        return min(moments)

    def _is_good_stamp(self, stamp: TimeStampResponse, signature: bytes) -> bool:
        for authority in self._timestamp_authorities:
            builder = VerifierBuilder().tsa_certificate(authority.chain[0]).add_root_certificate(authority.chain[-1])
            for certificate in authority.chain[1:-1]:
                builder = builder.add_intermediate_certificate(certificate)
            try:
                builder.build().verify_message(stamp, signature)
            except TimestampVerificationError:
                continue
            return authority.was_valid(stamp.tst_info.gen_time)
        return False

    def _check_windows(self, bundle: Bundle, moment: datetime) -> None:
        """Every authority must have been in service, by the trusted root's windows, when the signature was stamped."""
        certificate = bundle.signing_certificate
        if not any(each.was_valid(moment) and each.issued(certificate) for each in self._authorities):
            raise _foreign(f"its certificate authority was not in service on {moment:%Y-%m-%d}")
        key_id = bundle.log_entry._inner.log_id.key_id  # noqa: SLF001 - the library shows the log id nowhere else
        if not any(key_id in _key_ids(log) and _covers(log.public_key.valid_for, moment) for log in self._model.tlogs):
            raise _foreign(f"its log key was not in service on {moment:%Y-%m-%d}")
        scts = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        logs = [each for each in self._model.ctlogs if _covers(each.public_key.valid_for, moment)]
        if not any(sct.log_id in _key_ids(log) for sct in scts for log in logs):
            raise _foreign(f"its certificate log was not in service on {moment:%Y-%m-%d}")


class _Authority:
    """A certificate or time-stamp authority of the trusted root: its chain, issuing certificate first, and its window."""

    def __init__(self, model: CertificateAuthority) -> None:
        self._window = model.valid_for
        self.operator = model.operator or ""
        try:
            self.chain = [x509.load_der_x509_certificate(each.raw_bytes) for each in model.cert_chain.certificates]
        except ValueError as error:
            raise _unusable(str(error)) from error
        if not self.chain:
            raise _unusable("an authority has no certificate")

    @property
    def name(self) -> str:
        """The operator, or else the issuing certificate's subject."""
        return self.operator or self.chain[0].subject.rfc4514_string()

    def was_valid(self, moment: datetime) -> bool:
        """Whether the window covers `moment`."""
        return _covers(self._window, moment)

    def may_have_issued(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate names this authority, by name and key identifier; its signature is not looked at."""
        if certificate.issuer != self.chain[0].subject:
            return False
        try:
            named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
            own = self.chain[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.key_identifier
        except (x509.ExtensionNotFound, ValueError):
            return True
        return named == own

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether this authority's key signed the certificate."""
        try:
            certificate.verify_directly_issued_by(self.chain[0])
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


class _IdentityRefusedError(SigstoreError):
    """The certificate's identity is none of those expected."""


class _IdentityWatch:
    """A sigstore verification policy that remembers who the certificate names, and demands that a rule covers them."""

    def __init__(self, rules: Sequence[IdentityRule]) -> None:
        self._rules = rules
        self.identity = ""
        self.issuer = ""

    def verify(self, cert: x509.Certificate) -> None:
        """Called by sigstore once the certificate's chain and SCT are verified."""
        self.identity, self.issuer = read_identity(cert)
        if not any(rule.matches(self.identity, self.issuer) for rule in self._rules):
            raise _IdentityRefusedError


def read_identity(certificate: x509.Certificate) -> tuple[str, str]:
    """The one identity (mail address or URI) and the token issuer that a Fulcio certificate states."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [*names.get_values_for_type(x509.RFC822Name), *names.get_values_for_type(x509.UniformResourceIdentifier)]
    if len(found) != 1:
        raise _IdentityRefusedError(f"the certificate states {len(found)} identities")
    values = {extension.oid: extension.value for extension in certificate.extensions}
    second, first = values.get(_OID_ISSUER_V2), values.get(_OID_ISSUER)
    if isinstance(second, x509.UnrecognizedExtension):
        return found[0], asn1.decode_der(str, second.value)
    if isinstance(first, x509.UnrecognizedExtension):
        return found[0], first.value.decode()
    raise _IdentityRefusedError("the certificate states no issuer")


def _parse_trust(text: str) -> TrustedRootModel:
    if len(text) > MAX_TRUST_BYTES:
        raise _unusable(f"it is larger than {MAX_TRUST_BYTES:,} bytes")
    try:
        document = json.loads(text)
        if str(document.get("mediaType", "")).startswith(TRUST_CONFIG_PREFIX):
            return ClientTrustConfig.from_json(text).trusted_root
        return TrustedRootModel.from_json(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise _unusable(str(error)[:200]) from error


def _parse_bundle(bundle_json: str | bytes) -> Bundle:
    if len(bundle_json) > MAX_BUNDLE_BYTES:
        raise TrustError("a bundle is too large", fault="malformed", why=f"over {MAX_BUNDLE_BYTES:,} bytes", fix=_EXAMINE)
    try:
        return Bundle.from_json(bundle_json)
    except (SigstoreError, ValueError, TypeError, AttributeError, x509.InvalidVersion) as error:
        raise TrustError("a file is not a Sigstore bundle", fault="malformed", why=str(error)[:200], fix=_EXAMINE) from error


def _read_statement(bundle: Bundle, payload: bytes, watch: _IdentityWatch, moment: datetime) -> SignedStatement:
    try:
        document = json.loads(payload)
        subjects = tuple((str(each["name"]), str(each["digest"]["sha256"])) for each in document["subject"])
        predicate_type, predicate = document["predicateType"], document["predicate"]
        if document["_type"] != STATEMENT_TYPE or not isinstance(predicate_type, str) or not isinstance(predicate, dict):
            raise ValueError("not a statement of version 1 with a predicate")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"[:200]
        raise TrustError("a signed payload is not an in-toto statement", fault="malformed", why=why, fix=_EXAMINE) from error
    entry = bundle.log_entry._inner  # noqa: SLF001 - the library shows the log entry nowhere else
    proof = entry.inclusion_proof
    checkpoint = proof.checkpoint.envelope if proof is not None and proof.checkpoint is not None else ""
    return SignedStatement(
        watch.identity, watch.issuer, moment, payload, predicate_type, subjects, predicate, checkpoint, entry.log_index
    )


def _key_ids(log: TransparencyLogInstance) -> list[bytes]:
    ids = [log.log_id.key_id]
    return [*ids, log.checkpoint_key_id.key_id] if log.checkpoint_key_id else ids


def _covers(window: TimeRange | None, moment: datetime) -> bool:
    if window is None:
        return True
    return window.start <= moment and (window.end is None or moment <= window.end)


def _is_development(model: TrustedRootModel, authorities: Iterable[_Authority]) -> bool:
    if any(each.operator == DEVELOPMENT_OPERATOR for each in (*model.tlogs, *model.ctlogs)):
        return True
    for authority in authorities:
        names = [each for certificate in authority.chain for each in (certificate.subject, certificate.issuer)]
        organisations = {str(a.value) for name in names for a in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
        if authority.operator == DEVELOPMENT_OPERATOR or DEVELOPMENT_OPERATOR in organisations:
            return True
    return False


_EXAMINE: Final = "treat it as damaged or forged, and compare with another copy of the evidence"


def _unusable(why: str) -> TrustError:
    fix = "give a Sigstore ClientTrustConfig v0.1 or trusted root v0.1 that you obtained apart from the evidence"
    return TrustError("the pinned Sigstore trust cannot be used", fault="untrusted", why=why, fix=fix)


def _foreign(why: str) -> TrustError:
    fix = "if the authority is yours, add it to the trusted root with its window; otherwise the evidence is not what you expect"
    return TrustError("a bundle is not covered by the pinned trust", fault="untrusted", why=why, fix=fix)


def _changed(why: str) -> TrustError:
    return TrustError("a bundle does not verify", fault="tampered", why=why, fix=_EXAMINE)


def _not_expected(watch: _IdentityWatch, rules: Sequence[IdentityRule]) -> TrustError:
    expected = ", ".join(f"{rule.identity} by {rule.issuer}" for rule in rules) or "nobody"
    why = f"signed by {watch.identity or 'an unreadable identity'} of {watch.issuer or 'no issuer'}, expected {expected}"
    return TrustError(
        "a bundle is signed by someone else", fault="identity", why=why, fix="check the expected identity and issuer"
    )
