"""What the pipeline's records hold: effects by name, facts that fit, how an action ended; and the wait until a record is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.action import Action
from gateway.errors import EvidenceUnavailableError, LimitExceededError
from gateway.messages import Outcome
from gateway.parts import Receipt

MAX_RECORDED_FACTS_BYTES: Final = 24_576
"""Facts larger than this stay in the encrypted input only: a leaf of the log must fit 64 KiB whole."""

MAX_RECORDED_INPUT_BYTES: Final = 16 << 20
"""The largest input document: what one sealed chunk of evidence holds (`evidence.keys.MAX_BLOB_BYTES`)."""


def name_effects(action: Action) -> dict[str, Any]:
    """The `action` member of a record."""
    return {"protocol": action.protocol, "name": action.name, "effects": sorted(action.effects)}


def fit_facts(action: Action) -> dict[str, Any]:
    """The facts where a leaf can hold them; larger ones stay in the encrypted input."""
    size = len(orjson.dumps([action.facts, action.response]))
    return dict(action.facts) if size <= MAX_RECORDED_FACTS_BYTES else {"omitted_bytes": size}


def write_input(document: Mapping[str, Any]) -> bytes:
    """An input document as its chunk holds it. Raises LimitExceededError where none does."""
    written = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    if len(written) > MAX_RECORDED_INPUT_BYTES:
        raise LimitExceededError(
            "the action is too large to be recorded",
            why=f"its description has {len(written)} bytes; a record holds {MAX_RECORDED_INPUT_BYTES}",
            fix="send less at once, for instance with COPY",
        )
    return written


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """The members of an `outcome` record, except its transcript and the decision it belongs to; what is empty is absent."""
    optional = {
        "tag": outcome.tag,
        "error_code": outcome.error_code,
        "rows": outcome.rows,
        "bytes": outcome.bytes_out,
        "masked": dict(outcome.masked),
        "detected": dict(outcome.detected),
        "stream": dict(outcome.stream),
        "rows_cut": outcome.rows_cut,
        "cut_by": outcome.cut_by,
    }
    return {"status": outcome.status, **{name: value for name, value in optional.items() if value}}


def is_durable(record: asyncio.Future[Any]) -> bool:
    """Whether a queued record is on the disk."""
    return record.done() and not record.cancelled() and record.exception() is None


def describe_loss(error: BaseException | None) -> EvidenceUnavailableError:
    """What is raised where a queued record cannot be made durable."""
    fix = "check space and health of the evidence store, then restart the gateway"
    why = "the wait for it was given up" if error is None else str(error)
    return EvidenceUnavailableError("the record cannot be made durable", why=why, fix=fix)


async def wait_until_durable(future: asyncio.Future[Receipt]) -> None:
    """Wait for a queued record; a cancelled wait leaves it queued. Raises EvidenceUnavailableError."""
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        raise describe_loss(error) from error
