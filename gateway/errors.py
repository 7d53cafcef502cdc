"""The exception tree of the gateway: every error says what happened, why, and what to do next.

    SealgateError                what / why / fix, and a stable `code`
    ├── ConfigError              sealgate.yaml or a setting; carries every problem at once
    ├── SecretError              a secret reference that cannot be resolved
    ├── IdentityError            a token that does not prove an identity
    ├── ProtocolError            bytes that do not follow their protocol
    │   └── LimitExceededError   well-formed but larger or deeper than allowed
    ├── PolicyError              a bundle that cannot be loaded or an engine that cannot answer
    ├── ApprovalError            an approval that cannot be asked for, given or used
    ├── TargetError              the target cannot be reached, refuses us, or breaks off
    └── EvidenceUnavailableError the record cannot be made durable, so nothing may happen

Errors of the evidence package (`evidence.errors`) stand alone, because an auditor runs that package without the gateway.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def suggest_name(name: str, known: Iterable[str]) -> str:
    """What ends an error about an unknown name: `; is hold_s meant?`, or nothing where no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; is {close[0]} meant?" if close else ""


class SealgateError(Exception):
    """Base of every error raised by the gateway on purpose.

    Args:
        what: what could not be done, in one short sentence without a full stop.
        why: the cause, with the offending value where it is not secret.
        fix: what the reader can do next.
    """

    code = "sealgate.error"

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        parts = [self.what, *(f"{label}: {text}" for label, text in (("why", self.why), ("what to do", self.fix)) if text)]
        return "; ".join(parts)


class ConfigError(SealgateError):
    """A configuration that cannot be used; `problems` lists every one as "line N, path: text"."""

    code = "config.invalid"

    def __init__(self, what: str, *, problems: Sequence[str] = (), why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why or "; ".join(problems), fix=fix)
        self.problems = tuple(problems)


class SecretError(SealgateError):
    """A secret reference that cannot be resolved. Never carries any part of the secret."""

    code = "secret.unavailable"


class IdentityError(SealgateError):
    """A token that does not prove an identity. Never carries the token."""

    code = "identity.refused"


class ProtocolError(SealgateError):
    """Bytes that do not follow their protocol; the parser that raised it stays in error."""

    code = "protocol.malformed"


class LimitExceededError(ProtocolError):
    """Input that is well-formed but larger, longer or deeper than a limit allows."""

    code = "limit.exceeded"


class PolicyError(SealgateError):
    """A policy bundle that cannot be loaded, or an engine that cannot answer."""

    code = "policy.unavailable"


class ApprovalError(SealgateError):
    """An approval that cannot be requested, given or used."""

    code = "approval.refused"


class TargetError(SealgateError):
    """The target cannot be reached, refuses the gateway, or breaks off. Never carries a credential."""

    code = "target.unavailable"


class TargetUnprovenError(TargetError):
    """The target does not prove that it is the machine it should be: somebody else may answer there."""

    code = "target.unproven"


class EvidenceUnavailableError(SealgateError):
    """The record of an action cannot be made durable, so the action must not happen."""

    code = "evidence.unavailable"
