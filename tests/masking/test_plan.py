"""Masks of decisions become column indexes, or an error that withholds the result."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.mask import DETECTORS, RowPlan

from gateway.decision import STRATEGY_ORDER, Mask
from gateway.errors import PolicyError
from gateway.masking import MaskPlan, UnenforceableMaskError, compile_plan
from gateway.masking.plan import ARRAY_OIDS

COLUMNS = [
    {"index": 0, "name": "id", "lineage": "known", "origin": {"schema": "public", "table": "people", "column": "id"}},
    {"index": 1, "name": "n", "lineage": "known", "origin": [{"schema": "public", "table": "people", "column": "ssn"}]},
    {"index": 2, "name": "length", "lineage": "unknown"},
    {"index": 3, "name": "const", "lineage": "known"},
]


def build(*masks, always=()):
    return compile_plan(masks, COLUMNS, known_detectors=DETECTORS, always=always)


def entry(index, strategy="redact", rule="r", apply="both", params=None):
    computed = {"fills_null": True} if index else {}
    return {"index": index, "strategy": strategy, "rule": rule, "apply": apply, "params": params or {}, **computed}


def test_nothing_asked_gives_the_configured_detectors_only():
    assert build(always=("ssn", "email")) == MaskPlan((), ("email", "ssn"))


def test_an_index_is_taken_as_it_is():
    assert build(Mask("r", {"index": 3}, "redact")).masks == (entry(3),)


@pytest.mark.parametrize(
    "wanted", [{"schema": "public", "table": "people", "column": "ssn"}, {"table": "people", "column": "ssn"}]
)
def test_a_column_is_masked_where_it_comes_from_there_or_may(wanted):
    assert build(Mask("r", {"column": wanted}, "redact")).masks == (entry(1), entry(2))


def test_a_column_of_another_table_masks_only_what_may_hold_it():
    assert build(Mask("r", {"column": {"table": "orders", "column": "ssn"}}, "redact")).masks == (entry(2),)


def test_a_column_that_is_not_in_the_result_is_no_error():
    known = [column for column in COLUMNS if column["lineage"] == "known"]
    wanted = {"column": {"table": "orders", "column": "x"}}
    assert compile_plan([Mask("r", wanted, "null")], known, known_detectors=DETECTORS).masks == ()


def test_detectors_of_policy_join_those_of_the_configuration():
    assert build(Mask("r", {"detector": "email"}, "redact"), always=("ssn",)).detectors == ("email", "ssn")


@pytest.mark.parametrize(
    ("selector", "strategy"),
    [
        ({"index": 4}, "redact"),
        ({"index": -1}, "redact"),
        ({"index": True}, "redact"),
        ({"index": "1"}, "redact"),
        ({"column": {"column": "ssn"}}, "redact"),
        ({"column": "ssn"}, "redact"),
        ({"column": {"table": "t", "column": "c", "database": "d"}}, "redact"),
        ({"detector": "nothing"}, "redact"),
        ({"detector": "ssn"}, "hash"),
        ({"json_path": "$.a"}, "redact"),
        ({"header": "x"}, "redact"),
        ({"index": 0, "detector": "ssn"}, "redact"),
        ({"index": 0, "path": "card"}, "redact"),
        ({"index": 0, "path": "$..card"}, "redact"),
        ({"index": 0, "path": 3}, "redact"),
        ({"detector": "ssn", "path": "$.a"}, "redact"),
        ({"column": {"table": "t", "column": "c", "path": "$."}}, "redact"),
        ({"path": "$.a"}, "redact"),
        ({}, "redact"),
    ],
)
def test_a_selector_that_cannot_be_placed_is_an_error(selector, strategy):
    with pytest.raises(UnenforceableMaskError, match="rule odd") as caught:
        build(Mask("odd", selector, strategy))
    assert isinstance(caught.value, PolicyError)
    assert caught.value.fix


def test_a_path_leads_into_columns_that_are_delivered_as_they_are_stored():
    path = {"path": ["a", 0, None]}
    assert build(Mask("r", {"index": 0, "path": "$.a[0][*]"}, "redact")).masks == ({**entry(0), **path},)
    assert build(Mask("r", {"column": {"table": "people", "column": "id"}, "path": "$.a[0][*]"}, "redact")).masks == (
        {**entry(0), **path},
        entry(2),
    )
    for index in (1, 2, 3):  # computed, unknown, constant: masked whole
        assert build(Mask("r", {"index": index, "path": "$.a"}, "redact")).masks == (entry(index),)


def test_a_null_that_was_computed_is_masked_as_any_value():
    """Whether `case when … then 'x' end` is null is the answer to its condition; a stored null says that there is nothing."""
    masks = [Mask("r", {"index": index}, "redact") for index in range(4)]
    row, redacted = b"\x00\x01" + b"\xff" * 4, b"\x00\x00\x00\x0a[redacted]"
    for index, each in enumerate(build(*masks).masks):
        for type_oid, shown in ((25, redacted), (23, b"\xff" * 4)):
            plan = RowPlan([(type_oid, 0)], [{**each, "index": 0}], None, bytes(32))
            for target in ("delivered", "record"):
                assert plan.apply(row, target)[0] == b"\x00\x01" + (shown if index else b"\xff" * 4)


def test_masks_of_different_parts_stay_apart_and_those_of_one_part_merge():
    masks = [
        Mask("a", {"index": 0, "path": "$.a"}, "partial", params={"keep_last": 4}),
        Mask("b", {"index": 0, "path": "$['a']"}, "null", "record"),
        Mask("c", {"index": 0, "path": "$.b"}, "hash"),
    ]
    assert [(each["path"], each["strategy"], each["apply"]) for each in build(*masks).masks] == [
        (["a"], "partial", "delivered"),
        (["a"], "null", "record"),
        (["b"], "hash", "both"),
    ]


def test_shapes_are_asked_for_by_type():
    columns = [{**COLUMNS[0], "type": 70_000}, COLUMNS[1]]
    masks = [Mask("r", {"index": 0}, "redact"), Mask("r", {"index": 1}, "redact")]
    plan = compile_plan(masks, columns, known_detectors=(), find_shape=lambda oid: ("opaque", oid))
    assert plan.masks == ({**entry(0), "shape": ("opaque", 70_000)}, entry(1))


@pytest.mark.parametrize(
    "shape", [("array", 70_000, ",", ("own", 25)), ("composite", 70_000, [("a", ("own", 25))]), ("own", 1009)]
)
def test_arrays_and_composites_that_are_computed_are_masked_whole(shape):
    """Their elements could be the letters of a value: how many there are tells its length."""
    oid = shape[1]
    masks = [Mask("r", {"index": index}, "redact") for index in range(4)]
    plan = compile_plan(masks, [{**column, "type": oid} for column in COLUMNS], known_detectors=(), find_shape=lambda _: shape)
    assert [each["shape"] for each in plan.masks] == [shape, *[("opaque", oid)] * 3]
    body = b"\x00\x01\x00\x00\x00\x03{a}"
    assert RowPlan([(oid, 0)], [{**plan.masks[1], "index": 0}], None, bytes(32)).apply(body, "delivered")[0][2:] == b"\xff" * 4


def test_the_kernels_own_arrays_are_known():
    def is_masked_by_element(oid):
        row = b"\x00\x01\x00\x00\x00\x03{a}"
        return RowPlan([(oid, 0)], [entry(0)], None, bytes(32)).apply(row, "delivered")[0][6:7] == b"{"

    assert {oid for oid in range(16_384) if is_masked_by_element(oid)} == ARRAY_OIDS


def test_targets_are_merged_apart():
    plan = build(Mask("a", {"index": 0}, "null", "record"), Mask("b", {"index": 0}, "hash", "both"))
    assert plan.masks == (entry(0, "hash", "b", "delivered"), entry(0, "null", "a", "record"))
    assert build(Mask("a", {"index": 0}, "null", "record")).masks == (entry(0, "null", "a", "record"),)


PARAMS = {"partial": [{"keep_last": 2}, {"keep_last": 3}, {"email": True}]}
MASKS = st.builds(
    lambda chosen, rule, apply: Mask(rule, {"index": 0}, chosen[0], apply, chosen[1]),
    st.sampled_from([(name, params) for name in STRATEGY_ORDER for params in PARAMS.get(name, [{}])]),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["delivered", "record", "both"]),
)


@given(st.lists(MASKS, min_size=1, max_size=4))
def test_the_kernel_merges_as_the_plan_does(masks):
    """Two independent merges, here and in Rust, give the same bytes for both targets."""
    body = b"\x00\x01\x00\x00\x00\x10someone@mail.org"
    merged = compile_plan(masks, COLUMNS, known_detectors=()).masks
    plain = [entry(0, mask.strategy, mask.rule, mask.apply, dict(mask.params)) for mask in masks]
    for target, order in itertools.product(("delivered", "record"), (plain, plain[::-1])):
        ours = RowPlan([(25, 0)], merged, None, bytes(32)).apply(body, target)
        assert RowPlan([(25, 0)], order, None, bytes(32)).apply(body, target) == ours
