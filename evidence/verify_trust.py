"""The pins of a verification: everything it trusts, given by the auditor, nothing from the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from evidence.note import VerifierKey
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.witness import WitnessPolicy

DEFAULT_MAX_SILENCE_S: Final = 150.0
"""An idle log writes a heartbeat every 60 s; two missed and some slack is silence that wants an explanation."""

DEFAULT_MAX_SKEW_S: Final = 60.0
"""How far the gateway's clock may be from the time-stamp authority's before record times are called false."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """What the auditor knows before opening the evidence.

    Attributes:
        sigstore: the pinned trusted root.
        log_keys: verifier keys of the logs to verify; a log without one is not verified.
        gateway: who may attest checkpoints.
        reviewers: who may approve; empty: no approval is accepted.
        witnesses: the quorum that must have cosigned every attested checkpoint.
        sigstore_witnesses: the same for the checkpoints of the Sigstore log inside the bundles: such a log may go on without
            its witness, and clients do not notice.
        last_seen: notes of checkpoints the auditor kept from earlier; each log must continue them.
        accept_development: whether trust marked for development may verify.
        accept_gaps: whether losses the log itself admits are noted only; otherwise they make the evidence incomplete.
        live: whether the log is still being written, so that open sessions and records not yet attested are noted only.
        max_silence_s: longest time without a record while the log is open.
        max_skew_s: largest difference between record times and stamped times.
    """

    sigstore: SigstoreTrust
    log_keys: tuple[VerifierKey, ...]
    gateway: tuple[IdentityRule, ...]
    reviewers: tuple[IdentityRule, ...] = ()
    witnesses: WitnessPolicy | None = None
    sigstore_witnesses: WitnessPolicy | None = None
    last_seen: tuple[bytes, ...] = ()
    accept_development: bool = False
    accept_gaps: bool = False
    live: bool = False
    max_silence_s: float = DEFAULT_MAX_SILENCE_S
    max_skew_s: float = DEFAULT_MAX_SKEW_S

    def key_of(self, origin: str) -> VerifierKey | None:
        """The pinned key of a log."""
        return next((key for key in self.log_keys if key.name == origin), None)
