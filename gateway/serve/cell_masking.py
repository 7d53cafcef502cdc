"""What every session of a worker masks cells with: the configured detectors, compiled once per set, and the key of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sealgate_native.mask import DETECTORS, Detectors

from gateway.masking import build_detectors


@dataclass(frozen=True, slots=True)
class CellMasking:
    """The masking every session shares.

    Attributes:
        key: 32 bytes that key hash and tokenize.
        enabled: built-in detectors that read every result.
        patterns: own detectors, (name, regular expression); they read every result too.
        record_detectors: what texts and parameters are read with before they are recorded; None where each must go the slow path.
    """

    key: bytes
    enabled: tuple[str, ...]
    patterns: tuple[tuple[str, str], ...] = ()
    record_detectors: Detectors | None = None
    _compiled: dict[tuple[str, ...], Detectors] = field(default_factory=dict)

    @property
    def always(self) -> tuple[str, ...]:
        """Names of the detectors that read every result, whatever policy says."""
        return tuple(sorted({*self.enabled, *(name for name, _ in self.patterns)}))

    @property
    def known(self) -> frozenset[str]:
        """Names policy may ask for."""
        return frozenset(DETECTORS) | {name for name, _ in self.patterns}

    def find_detectors(self, names: Sequence[str]) -> Detectors | None:
        """The compiled detectors of these names; None for none. Raises ConfigError for an unknown name."""
        wanted = tuple(sorted(set(names)))
        if not wanted:
            return None
        if wanted not in self._compiled:
            patterns = dict(self.patterns)
            own = {name: pattern for name, pattern in patterns.items() if name in wanted}
            self._compiled[wanted] = build_detectors([name for name in wanted if name not in patterns], own)
        return self._compiled[wanted]

    def mask_always(self, data: bytes) -> bytes:
        """Bytes with everything masked that the detectors of every result find."""
        detectors = self.find_detectors(self.always)
        return data if detectors is None else detectors.mask(data)[0]
