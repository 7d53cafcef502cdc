"""Which rows of a transaction are told apart by the values that statements name them by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgres.changed_rows import MAX_PINNED, ChangedRows, Pin, read_pins

TABLE = ("public", "clients")
INT4, INT8, FLOAT4, NUMERIC, TEXT, UUID = 23, 20, 700, 1700, 25, 2950

values = st.integers(0, 2)
rows = st.fixed_dictionaries({"a": values, "b": values, "c": values})
pins = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(table=st.lists(rows, max_size=6), sent=st.lists(pins, max_size=6), last=pins)
def test_rows_that_are_said_to_be_others_are_others(table, sent, last):
    """Whatever is sent: no row that an earlier statement names has the values of one that is said to name others."""
    changed, touched = ChangedRows(), []
    for pinned in sent:
        if not changed.may_hold(TABLE, pinned):
            touched += [row for row in table if pinned.items() <= row.items()]
            changed.note(TABLE, pinned)
    assert len({id(row) for row in touched}) == len(touched)
    if not changed.may_hold(TABLE, last):
        assert not any(last.items() <= row.items() for row in touched)


def test_each_table_is_its_own():
    changed = ChangedRows()
    changed.note(TABLE, {})
    assert changed.may_hold(TABLE, {"id": 1})
    assert not changed.may_hold(("public", "firms"), {})


def test_rows_beyond_the_limit_are_not_told_apart():
    changed = ChangedRows()
    for number in range(MAX_PINNED):
        assert not changed.may_hold(TABLE, {"id": number})
        changed.note(TABLE, {"id": number})
    assert not changed.may_hold(TABLE, {"id": -1})
    changed.note(TABLE, {"id": MAX_PINNED})
    assert changed.may_hold(TABLE, {"id": -1})


@pytest.mark.parametrize(
    ("column", "said", "value"),
    [
        (INT4, "7", 7),
        (INT8, "-9000000000", -9000000000),
        (INT4, "007", None),
        (INT4, "-0", None),
        (INT4, "0", 0),
        (INT4, "7.0", None),
        (INT4, " 7", None),
        (INT4, "7e0", None),
        (INT4, "\u0667", None),
        (INT8, "9" * 19, None),
        (UUID, "6F9619FF-8B86-D011-B42D-00C04FC964FF", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        (UUID, "{6f9619ff-8b86-d011-b42d-00c04fc964ff}", None),
        (UUID, "6f9619ff8b86d011b42d00c04fc964ff", None),
    ],
)
def test_constants_are_read_where_equal_ones_are_written_alike(column, said, value):
    assert read_pins({"id": Pin(column, said)}, (), ()).get("id") == value


@pytest.mark.parametrize(
    ("column", "type_oid", "param", "value"),
    [
        (INT4, INT8, "7", 7),
        (INT4, 0, "7", 7),
        (INT8, 0, str(1 << 24), 1 << 24),
        (INT8, 0, str((1 << 24) + 1), None),  # as float4 it would be the one before
        (INT8, 0, "-1", None),  # as oid it would be 4294967295
        (INT8, INT8, str((1 << 24) + 1), (1 << 24) + 1),
        (INT4, 0, "010", None),  # as xid it would be 8
        (INT4, FLOAT4, "7", None),
        (INT4, NUMERIC, "7", None),
        (INT4, TEXT, "7", None),
        (INT4, INT4, {"type_oid": INT4, "hex": "fffffff9"}, -7),
        (INT4, 0, {"type_oid": 0, "hex": "fffffff9"}, None),
        (INT4, INT4, None, None),
        (UUID, UUID, {"type_oid": UUID, "hex": "6f9619ff8b86d011b42d00c04fc964ff"}, "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        (UUID, INT4, {"type_oid": INT4, "hex": "fffffff9"}, None),
        (INT4, UUID, {"type_oid": UUID, "hex": "6f9619ff8b86d011b42d00c04fc964ff"}, None),
        (UUID, UUID, {"type_oid": UUID, "hex": "6f96"}, None),
        (INT4, INT4, {"type_oid": INT4, "hex": ""}, None),
    ],
)
def test_parameters_are_read_where_their_type_is_known(column, type_oid, param, value):
    assert read_pins({"id": Pin(column, 1)}, (param,), (type_oid,)).get("id") == value


def test_a_parameter_that_is_not_there_says_nothing():
    assert read_pins({"a": Pin(INT4, 2), "b": Pin(INT4, 0)}, ("7",), ()) == {}
    assert read_pins({"a": Pin(INT4, 1)}, ("7",), ()) == {"a": 7}
