"""What a verification found: findings, counts, assurance, and the exit code they add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Severity = Literal["tampered", "untrusted", "incomplete", "note"]
"""Changed or contradictory; not covered by the pinned trust; something is missing; worth knowing, no objection."""

EXIT_VERIFIED: Final = 0
EXIT_TAMPERED: Final = 1
EXIT_INCOMPLETE: Final = 2
EXIT_UNTRUSTED: Final = 3
EXIT_USAGE: Final = 4

MAX_FINDINGS: Final = 1_000
"""Findings kept in full; a log damaged throughout would otherwise fill memory. The rest is counted."""

NOT_CHECKED: Final = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `code` is stable; `where` is a path, record or statement; `message` is for people."""

    severity: Severity
    code: str
    where: str
    message: str

    def as_record(self) -> dict[str, str]:
        """The finding as JSON."""
        return {"severity": self.severity, "code": self.code, "where": self.where, "message": self.message}


@dataclass(frozen=True, slots=True)
class Assurance:
    """How far the verification carries.

    Attributes:
        identity: who vouches for the checkpoints, `<identity> by <issuer>`; `none` when no bundle verified.
        time: whose clock dates them: `rfc3161`, or `none`.
        fork: what would show a second history: `witnessed` (a quorum cosigned), `known-checkpoint` (continues one the auditor
            kept), `sigstore-log` (statements are in that log, for whoever reads it), or `none`.
        development: whether the trust is for development only and proves nothing to anybody else.
    """

    identity: str = "none"
    time: str = "none"
    fork: str = "none"
    development: bool = False

    def as_record(self) -> dict[str, Any]:
        """The assurance as JSON."""
        return {"identity": self.identity, "time": self.time, "fork": self.fork, "development": self.development}


@dataclass(slots=True)
class Report:
    """The result of one verification; filled by the passes, read through `exit_code` and `as_record`."""

    directory: str = ""
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    checks: dict[str, str] = field(default_factory=dict)
    logs: dict[str, dict[str, Any]] = field(default_factory=dict)
    assurance: Assurance = field(default_factory=Assurance)
    _severities: Counter[str] = field(default_factory=Counter)

    def add(self, severity: Severity, code: str, where: str, message: str) -> None:
        """Note a finding."""
        self._severities[severity] += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(severity, code, where, message))

    def has(self, severity: Severity) -> bool:
        """Whether anything of this severity was found."""
        return self._severities[severity] > 0

    @property
    def exit_code(self) -> int:
        """1 when anything was tampered with, else 3 when trust is missing, else 2 when something is missing, else 0.

        Tampering comes first because a contradiction in the evidence needs no trust to be one.
        """
        order = ((EXIT_TAMPERED, "tampered"), (EXIT_UNTRUSTED, "untrusted"), (EXIT_INCOMPLETE, "incomplete"))
        return next((code for code, severity in order if self._severities[severity]), EXIT_VERIFIED)

    @property
    def verdict(self) -> str:
        """The exit code in a word."""
        return ("verified", "tampered", "incomplete", "untrusted")[self.exit_code]

    def as_record(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "schema": "sealgate.verification/1",
            "directory": self.directory,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "assurance": self.assurance.as_record(),
            "logs": self.logs,
            "checks": self.checks,
            "counts": dict(sorted(self.counts.items())),
            "findings": [finding.as_record() for finding in self.findings],
            "findings_total": self._severities.total(),
        }
