"""What the gateway asks of each protocol's host, and what it gives every host to work with.

A protocol adds one host: a folder `gateway/serve/<protocol>/` whose `start.py` has a function that turns `Parts` and a listener's settings into a
`Host` that already accepts, and two lines in `gateway.serve.run.Gateway._start_hosts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.action import Subject
from gateway.config import Config
from gateway.identity import TokenVerifier
from gateway.pipeline import Pipeline
from gateway.secrets import SecretResolver
from gateway.serve.cell_masking import CellMasking
from gateway.serve.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Parts:
    """What every host of one worker shares."""

    config: Config
    pipeline: Pipeline
    verifier: TokenVerifier
    secrets: SecretResolver
    masking: CellMasking
    evidence: Evidence


class Host(Protocol):
    """One protocol's listener with its sessions, while it runs."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it accepts."""

    @property
    def session_count(self) -> int:
        """Sessions open now."""

    def count(self) -> Mapping[str, float]:
        """Numbers for the metrics page, without the protocol's name."""

    def for_clients(self, subject: Subject) -> Mapping[str, Any]:
        """What a subject's machine must know to use this listener: ports, public keys, and the names open to the subject. JSON-able.

        Never a secret, and never the name of a system the subject may not use.
        """

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, give what is under way `grace_s` seconds, end every session with its record, release everything."""
