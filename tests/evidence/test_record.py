"""Record types: required fields, closed values, reserved names, times and origins."""

import typing

import pytest

from evidence.errors import RecordError
from evidence.record import (
    ENVELOPE,
    REQUIRED,
    DecisionFields,
    OutcomeFields,
    check,
    expects_outcome,
    format_time,
    half_year,
    make_origin,
)

SAMPLE = {str: "x", int: 1, bool: True, dict: {}, list: [], (str, dict): "x"}
CLOSED = {"phase": "request", "release": "a", "replay": "exact", "status": "sent", "transcript": "head"}


def sample(kind):
    return {name: CLOSED.get(name, SAMPLE[expected]) for name, expected in REQUIRED[kind].items()}


@pytest.mark.parametrize("kind", REQUIRED)
def test_every_required_field_is_required(kind):
    check(kind, sample(kind))
    for name in REQUIRED[kind]:
        fields = sample(kind)
        del fields[name]
        with pytest.raises(RecordError, match=repr(name)):
            check(kind, fields)
        with pytest.raises(RecordError, match=repr(name)):
            check(kind, {**sample(kind), name: object()})


@pytest.mark.parametrize("name", sorted(ENVELOPE))
def test_the_envelope_is_the_logs_own(name):
    with pytest.raises(RecordError, match=name):
        check("heartbeat", {name: 1})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("decision", "phase"),
        ("decision", "release"),
        ("decision", "replay"),
        ("outcome", "status"),
        ("session.open", "transcript"),
    ],
)
def test_closed_values(kind, name):
    with pytest.raises(RecordError, match="'other'"):
        check(kind, {**sample(kind), name: "other"})


def test_unknown_type_is_refused():
    with pytest.raises(RecordError, match="'decisions'"):
        check("decisions", {})


def test_boolean_is_no_integer():
    with pytest.raises(RecordError, match="duration_ns"):
        check("decision", {**sample("decision"), "duration_ns": True})


@pytest.mark.parametrize(("kind", "fields"), [("decision", DecisionFields), ("outcome", OutcomeFields)])
def test_typed_fields_and_table_agree(kind, fields):
    hints = typing.get_type_hints(fields, include_extras=True)
    required = {name for name, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired}
    assert set(REQUIRED[kind]) == required
    assert not ENVELOPE & hints.keys()


@pytest.mark.parametrize(
    ("phase", "effect", "expected"),
    [
        ("request", "allow", True),
        ("request", "mask", True),
        ("request", "block", False),
        ("request", "require_approval", False),
        ("response", "mask", False),
    ],
)
def test_which_decisions_need_an_outcome(phase, effect, expected):
    assert expects_outcome({"phase": phase, "decision": {"effect": effect}}) is expected


def test_times():
    assert format_time(1_795_233_599_999_999_999) == "2026-11-21T03:59:59.999999Z"
    assert half_year(1_795_233_599_000_000_000) == "2026h2"
    assert half_year(1_780_000_000_000_000_000) == "2026h1"
    assert make_origin("gw-a", 1_795_233_599_000_000_000, 3) == "gw-a/2026h2/w3"
