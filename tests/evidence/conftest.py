"""Shared parts of the evidence tests: keys, a log in a temporary directory, records that pass the checks."""

import hypothesis
import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.log import Log, LogSettings

# Tests judge results, never the speed of the machine they happen to run on.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ORIGIN = "gw-a/2026h2/w0"


@pytest.fixture
def log_key():
    return Ed25519PrivateKey.generate()


@pytest.fixture
def reader_identity():
    """Age identity of whoever may read transcripts."""
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def auditor_identity():
    """Age identity of whoever may open commitments."""
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def settings():
    # Checkpoints on demand only, unless a test wants them by time: nothing then happens behind a test's back.
    return LogSettings(segment_bytes=1 << 20, checkpoint_interval_s=60, ballast_bytes=64 << 10)


@pytest.fixture
def open_log(tmp_path, log_key, reader_identity, auditor_identity, settings):
    """Opens the same log as often as wanted; closes what a test leaves open."""
    opened = []

    def open_(directory=tmp_path, **options):
        log = Log.open(
            directory,
            **{
                "origin": ORIGIN,
                "log_key": log_key,
                "recipients": [str(reader_identity.to_public())],
                "openings_recipients": [str(auditor_identity.to_public())],
                "settings": settings,
                **options,
            },
        )
        opened.append(log)
        return log

    yield open_
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log):
    return open_log()


@pytest.fixture
def log_path(tmp_path):
    return tmp_path / ORIGIN


@pytest.fixture
def decision():
    """Makes the fields of a decision record."""

    def make(decision_id="d1", **changes):
        return {
            "decision_id": decision_id,
            "phase": "request",
            "action": {"protocol": "postgres", "name": "postgres.query", "effects": ["read"]},
            "subject": "bank/agent-7",
            "connection": "ledger",
            "digest": "a" * 64,
            "facts": {"statement_count": 1},
            "input": {"n": 0, "sha256": "b" * 64, "bytes": 2},
            "decision": {"schema": "sealgate.decision/1", "effect": "allow", "reasons": [], "masks": [], "obligations": []},
            "bundle": "c" * 64,
            "engine": "regorus",
            "duration_ns": 1000,
            "cached": False,
            "release": "b",
            "replay": "exact",
            **changes,
        }

    return make
