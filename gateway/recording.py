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
from gateway.policy.verdicts import digest_decision

MAX_RECORDED_FACTS_BYTES: Final = 24_576
"""Facts larger than this stay in the encrypted input only: a leaf of the log must fit 64 KiB whole."""

MAX_RECORDED_DECISION_BYTES: Final = 57_344
"""A decision record beyond it is cut: it must fit a leaf together with its envelope."""

MAX_OUTLINED: Final = 20
"""Reasons, masks and obligations that a cut decision still shows, each of another rule."""

MAX_OUTLINED_CHARS: Final = 500
"""The longest message it shows."""

MAX_RECORDED_INPUT_BYTES: Final = 16 << 20
"""The largest input document: what one sealed chunk of evidence holds (`evidence.keys.MAX_BLOB_BYTES`)."""


def name_effects(action: Action) -> dict[str, Any]:
    """The `action` member of a record."""
    return {"protocol": action.protocol, "name": action.name, "effects": sorted(action.effects)}


def fit_facts(action: Action) -> dict[str, Any]:
    """The facts where a leaf can hold them; larger ones stay in the encrypted input."""
    size = len(orjson.dumps([action.facts, action.response]))
    return dict(action.facts) if size <= MAX_RECORDED_FACTS_BYTES else {"omitted_bytes": size}


def fit_decision(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `decision` record as a leaf can hold them.

    A result may have 1,664 columns, each with a mask, and a text may be refused for thousands of reasons. The columns are in the
    encrypted input; what policy said of them is shown in outline, with a digest by which recomputing it still proves it.
    """
    if _measure(fields) > MAX_RECORDED_DECISION_BYTES and "response" in fields:
        fields = {**fields, "response": {"omitted_bytes": _measure(fields["response"])}}
    if _measure(fields) > MAX_RECORDED_DECISION_BYTES:
        fields = {**fields, "decision": _outline(fields["decision"])}
    return fields


def _outline(decision: Mapping[str, Any]) -> dict[str, Any]:
    omitted: dict[str, Any] = {"bytes": _measure(decision), "sha256": digest_decision(decision)}
    outlined = dict(decision)
    for name in ("reasons", "masks", "obligations"):
        first = {each.get("rule"): each for each in reversed(decision[name])}
        shown = [_shorten(each) for each in list(reversed(first.values()))[:MAX_OUTLINED]]
        outlined[name], omitted[name] = shown, len(decision[name]) - len(shown)
    return {**outlined, "omitted": omitted}


def _shorten(member: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[:MAX_OUTLINED_CHARS] if isinstance(value, str) else value for name, value in member.items()}


def _measure(value: object) -> int:
    return len(orjson.dumps(value))


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
