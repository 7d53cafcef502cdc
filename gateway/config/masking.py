"""The section `masking` of sealgate.yaml: which detectors run, and the site's own patterns, which are compiled as the file is read."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from gateway.config.values import Many, SecretRef, Settings, Text

DETECTORS: Final = (
    "payment_card", "ssn", "iban", "aba_routing", "account_number", "email", "phone", "aws_key", "jwt", "pem_key", "generic_secret",
)  # fmt: skip
"""The detectors of sensitive data that come with the gateway."""

Detector = Literal[
    "payment_card",
    "ssn",
    "iban",
    "aba_routing",
    "account_number",
    "email",
    "phone",
    "aws_key",
    "jwt",
    "pem_key",
    "generic_secret",
]

MAX_PATTERNS: Final = 64
"""Own patterns run over every delivered byte beside the built-in ones; more than this costs visible time."""


class PatternConfig(Settings):
    """An own detector."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = Field(
        description="Name of the detector in policy and records; not one of the built-in names."
    )
    pattern: Text = Field(description="Regular expression in Rust's syntax, which has no backtracking.")

    @field_validator("name")
    @classmethod
    def _refuse_builtin(cls, name: str) -> str:
        if name in DETECTORS:
            raise ValueError(f"{name} is a built-in detector; give the pattern another name")
        return name

    @field_validator("pattern")
    @classmethod
    def _compile(cls, pattern: str, info: ValidationInfo) -> str:
        _compile_patterns([(info.data.get("name", "pattern"), pattern)])
        return pattern


def _check_patterns(patterns: tuple[PatternConfig, ...]) -> tuple[PatternConfig, ...]:
    names = [pattern.name for pattern in patterns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"named twice: {', '.join(repeated)}")
    _compile_patterns([(pattern.name, pattern.pattern) for pattern in patterns])  # together they have a bound too
    return patterns


def _compile_patterns(patterns: list[tuple[str, str]]) -> None:
    """Raise ValueError where the detectors could not be built from them, as `sealgate serve` would find."""
    if not patterns:
        return
    from sealgate_native.mask import Detectors  # noqa: PLC0415 - `sealgate doctor` has to run where the native module does not load

    try:
        Detectors([], patterns)
    except ValueError as error:
        fix = "correct the regular expression (Rust's syntax, bounded, no look-around); a backslash makes a sign stand for itself"
        raise ValueError(f"{error}; {fix}") from None


class MaskingSection(Settings):
    """How sensitive data is found and replaced."""

    detectors: Many[Detector] = Field(
        default=("payment_card", "ssn", "iban", "aws_key", "jwt", "pem_key"),
        description="Detectors that run over delivered text. Default: those with a check digit or a fixed shape, which rarely err.",
    )
    patterns: Annotated[tuple[PatternConfig, ...], AfterValidator(_check_patterns)] = Field(
        default=(), max_length=MAX_PATTERNS, strict=False, description="Own detectors, added to the built-in ones."
    )
    key: SecretRef | None = Field(
        default=None,
        description="Secret of at least 32 bytes that keys hash and tokenize. None: a new random key at each start, so tokens of two starts never match.",
    )

    @property
    def known_detectors(self) -> frozenset[str]:
        """Names of detectors policy may give: the built-in ones, enabled here or not, and the patterns."""
        return frozenset({*DETECTORS, *(pattern.name for pattern in self.patterns)})
