"""Canonical bytes equal RFC 8785 within the profile, and everything outside the profile is refused."""

import math
import tracemalloc
from enum import IntEnum

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from evidence.canonical import MAX_DEPTH, MAX_LEAF_BYTES, decode, encode, encode_leaf
from evidence.errors import CanonicalError, RecordTooLargeError

KEYS = st.text(st.characters(max_codepoint=127), max_size=12)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=6)


@given(DOCUMENTS)
def test_profile_encodes_as_rfc_8785(document):
    assert encode(document) == rfc8785.dumps(document)


@given(DOCUMENTS)
def test_decode_returns_what_was_encoded(document):
    assert decode(encode(document)) == document


@given(DOCUMENTS, st.floats(), st.lists(st.sampled_from(["a", "b", 0]), max_size=4))
def test_float_anywhere_is_refused(document, number, path):
    value = number
    for step in path:
        value = [value] if step == 0 else {step: value, "z": "text, with 1.5, in it"}
    with pytest.raises(CanonicalError, match="is a float"):
        encode({**document, "float": value})


@given(TEXT)
def test_text_that_looks_like_a_float_is_accepted(text):
    for disguise in (f"{text}.,", f"{text}e+,", "1.5", "null,", "on, off", "[1.0]", text):
        assert decode(encode({"a": disguise, "b": [disguise, -5]})) == {"a": disguise, "b": [disguise, -5]}


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**64, 1 << 200])
def test_integer_beyond_53_bits_is_refused(number):
    with pytest.raises(CanonicalError, match="2\\^53"):
        encode({"a": [{"b": number}]})


@pytest.mark.parametrize("key", ["é", "\ud800", "名", 1, None])
def test_key_that_is_not_ascii_text_is_refused(key):
    with pytest.raises(CanonicalError, match="not ASCII text"):
        encode({"outer": {key: 1}})


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), math.nan, type("S", (str,), {})("x"), 1j])
def test_other_kinds_are_refused(value):
    with pytest.raises(CanonicalError):
        encode({"a": value})


def test_lone_surrogate_is_refused():
    with pytest.raises(CanonicalError):
        encode({"a": "\ud800"})


def test_depth_is_limited():
    value = []
    for _ in range(300):
        value = [value]
    with pytest.raises(CanonicalError):
        encode({"a": value})
    assert MAX_DEPTH < 300


@pytest.mark.parametrize("length", [10, 1_000, 10_000])
def test_encoded_bytes_take_no_more_room_than_they_need(length):
    """A record is kept until it is published, and the last 256 are until their tile is full."""
    encode_leaf({"text": "x" * length})
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [encode_leaf({"number": number, "text": "x" * length}) for number in range(100)]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100 * (len(kept[-1]) + 200)


def test_leaf_limit_names_the_largest_field():
    room = MAX_LEAF_BYTES - len(encode({"small": 1, "text": ""}))
    assert len(encode_leaf({"small": 1, "text": "x" * room})) == MAX_LEAF_BYTES
    with pytest.raises(RecordTooLargeError, match="'text'") as caught:
        encode_leaf({"small": 1, "text": "x" * (room + 1)})
    assert "put_blob" in caught.value.fix


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"1", b'{"a":1 }', b'{"b":1,"a":2}', b'{"a":1.0}', b'{"a":1,"a":1}', b'{"a":"\\u0041"}', b"\xff"]
)
def test_decode_refuses_what_is_not_canonical(data):
    with pytest.raises(CanonicalError):
        decode(data)
