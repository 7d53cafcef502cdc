"""Rows and COPY data: planted values never survive, formats stay readable, malformed data stops the stream for good."""

import csv
import io
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealgate_native.mask import DETECTORS, CopyPlan, Detectors, RowPlan

KEY = bytes(range(32))
ALL = Detectors(DETECTORS)

TEXT_OIDS = {"text": 25, "varchar": 1043, "bpchar": 1042, "name": 19, "xml": 142}
JSON_OIDS = {"json": 114, "jsonb": 3802}
OTHER_OIDS = {
    "bool": 16, "bytea": 17, "char": 18, "int8": 20, "int2": 21, "int4": 23, "oid": 26, "float8": 701, "numeric": 1700, "date": 1082,
    "timestamptz": 1184, "uuid": 2950, "inet": 869, "text[]": 1009, "int4range": 3904, "int4multirange": 4451,
    "int4[]": 1007, "record": 2249, "enumeration": 17000,
}  # fmt: skip
USER_OIDS = {"citext": 16999, "unknown in COPY": 0}
SHAPES = {16999: ("text", 16999)}
"""What the catalogue says of a type; the other one of a user is not known."""
EVERY_OID = {**TEXT_OIDS, **JSON_OIDS, **OTHER_OIDS, **USER_OIDS}

STRATEGIES = [
    ("drop", {}),
    ("null", {}),
    ("redact", {}),
    ("tokenize", {}),
    ("hash", {}),
    ("partial", {"keep_last": 4}),
    ("partial", {"keep_first": 4}),
    ("partial", {"email": True}),
]

PLANTED = b"Zq7-planted-value-9XyKpL"


def row(*cells):
    parts = [struct.pack("!H", len(cells))]
    parts += [struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell for cell in cells]
    return b"".join(parts)


def cells(body):
    (count,), at, found = struct.unpack_from("!H", body), 2, []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        found.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    assert at == len(body)
    return found


def mask(index, strategy, params=None, rule="rule", apply="both"):
    return {"index": index, "strategy": strategy, "params": params or {}, "rule": rule, "apply": apply}


def planted_for(oid):
    return json.dumps(PLANTED.decode()).encode() if oid in JSON_OIDS.values() else PLANTED


@pytest.mark.parametrize("fmt", [0, 1])
@pytest.mark.parametrize("oid", EVERY_OID.values(), ids=EVERY_OID.keys())
@pytest.mark.parametrize(("strategy", "params"), STRATEGIES, ids=str)
def test_a_planted_value_never_survives(strategy, params, oid, fmt):
    value = planted_for(oid)
    value = b"\x01" + value if (oid, fmt) == (JSON_OIDS["jsonb"], 1) else value
    shape = {"shape": SHAPES[oid]} if oid in SHAPES else {}
    plan = RowPlan([(25, 0), (oid, fmt), (25, 0)], [{**mask(1, strategy, params), **shape}], None, KEY)
    for target in ("delivered", "record"):
        body, counts = plan.apply(row(b"before", value, b"after"), target)
        before, masked, after = cells(body)
        assert (before, after) == (b"before", b"after")
        assert masked is None or PLANTED[5:-5] not in masked
        assert counts == {"masked": {"rule": 1}, "detected": {}}
        carries = oid in TEXT_OIDS.values() or oid in JSON_OIDS.values() or (oid in USER_OIDS.values() and fmt == 0)
        if strategy in ("drop", "null") or not carries:
            assert masked is None
        elif oid in JSON_OIDS.values():
            assert masked is None or isinstance(json.loads(masked.removeprefix(b"\x01")), str)
            assert masked is None or masked.startswith(b"\x01") == ((oid, fmt) == (JSON_OIDS["jsonb"], 1))
        else:
            assert masked is not None


def test_null_stays_null_and_is_not_counted():
    plan = RowPlan([(25, 0)], [mask(0, "redact")], ALL, KEY)
    assert plan.apply(row(None), "delivered") == (row(None), {"masked": {}, "detected": {}})


@given(st.binary(max_size=200), st.sampled_from(["tokenize", "hash"]))
@settings(deadline=None)
def test_keyed_strategies_are_deterministic_and_differ_by_key_and_rule(value, strategy):
    def of(key, rule):
        return RowPlan([(25, 0)], [mask(0, strategy, rule=rule)], None, key).apply(row(value), "delivered")[0]

    assert of(KEY, "one") == of(KEY, "one")
    assert len({of(KEY, "one"), of(KEY[::-1], "one"), of(KEY, "two")}) == 3


def test_equal_values_give_equal_tokens_in_either_format():
    plan = RowPlan([(25, 0), (1043, 1), (3802, 1), (3802, 0)], [mask(index, "tokenize") for index in range(4)], None, KEY)
    text, binary, binary_json, text_json = cells(plan.apply(row(b'"v"', b'"v"', b'\x01"v"', b'"v"'), "delivered")[0])
    assert text == binary
    assert text.startswith(b"tok_")
    assert binary_json == b'\x01"' + text + b'"'
    assert text_json == b'"' + text + b'"'


@given(st.text(max_size=60), st.integers(1, 16), st.sampled_from(["keep_last", "keep_first"]))
@settings(deadline=None)
def test_partial_keeps_at_most_half_and_whole_characters(value, count, kind):
    plan = RowPlan([(25, 0)], [mask(0, "partial", {kind: count})], None, KEY)
    (masked,) = cells(plan.apply(row(value.encode()), "delivered")[0])
    text = masked.decode()
    if len(value) < 2 * count:
        assert text == "****"
    else:
        assert text == ("****" + value[-count:] if kind == "keep_last" else value[:count] + "****")


@pytest.mark.parametrize(
    "bad",
    [
        {"index": 0, "strategy": "blur", "rule": "r"},
        {"index": 1, "strategy": "null", "rule": "r"},
        {"index": -1, "strategy": "null", "rule": "r"},
        {"index": 0, "strategy": "null"},
        {"index": 0, "strategy": "null", "rule": "r", "apply": "nobody"},
        {"index": 0, "strategy": "null", "rule": "r", "extra": 1},
        {"index": 0, "strategy": "partial", "rule": "r"},
        {"index": 0, "strategy": "partial", "rule": "r", "params": {"keep_last": 0}},
        {"index": 0, "strategy": "partial", "rule": "r", "params": {"keep_last": 17}},
        {"index": 0, "strategy": "partial", "rule": "r", "params": {"keep_last": 2, "keep_first": 2}},
        {"index": 0, "strategy": "redact", "rule": "r", "params": {"keep_last": 2}},
        {"index": 0, "strategy": "partial", "rule": "r", "params": {"keep": 2}},
    ],
)
def test_a_mask_that_cannot_be_read_is_refused(bad):
    with pytest.raises((ValueError, OverflowError)):
        RowPlan([(25, 0)], [bad], None, KEY)


def test_the_key_has_32_bytes():
    with pytest.raises(ValueError, match="32 bytes"):
        RowPlan([(25, 0)], [], None, b"short")


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_a_row_plan_panic(body):
    plan = RowPlan([(25, 0), (3802, 1), (20, 1), (17, 0)], [mask(0, "hash")], ALL, KEY)
    try:
        masked, _ = plan.apply(body, "delivered")
    except ValueError:
        return
    assert len(cells(masked)) == 4


@given(st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=8))
@settings(deadline=None)
def test_a_row_without_masks_passes_byte_for_byte(values):
    body = row(*values)
    assert RowPlan([(25, 0)] * len(values), [], None, KEY).apply(body, "delivered")[0] == body


@pytest.mark.parametrize(
    ("oid", "fmt", "value", "expected"),
    [
        (25, 0, b"x 123-45-6789", b"x [masked:ssn]"),
        (25, 1, b"x 123-45-6789", b"x [masked:ssn]"),
        (16999, 0, b"x 123-45-6789", b"x [masked:ssn]"),
        (16999, 1, b"x 123-45-6789", None),
        (114, 0, b'{"a":"123-45-6789","b":4111111111111111}', b'{"a":"[masked:ssn]","b":"[masked:payment_card]"}'),
        (3802, 1, b'\x01[-4111111111111111, "\\"123-45-6789"]', b'\x01["[masked:payment_card]", "\\"[masked:ssn]"]'),
        (20, 0, b"4111111111111111", None),
        (20, 1, struct.pack("!q", 4111111111111111), None),
        (20, 1, struct.pack("!q", 4111111111111112), struct.pack("!q", 4111111111111112)),
        (1009, 0, b"{123-45-6789,x}", None),
        (17, 0, b"\\x" + b"123-45-6789".hex().encode(), None),
        (17, 1, b"\x00123-45-6789\x00", None),
        (2950, 0, b"41111111-1111-1111-1111-111111111111", b"41111111-1111-1111-1111-111111111111"),
        (1184, 0, b"2024-01-01 10:00:00+00", b"2024-01-01 10:00:00+00"),
    ],
)
def test_detectors_read_cells_as_their_type_asks(oid, fmt, value, expected):
    plan = RowPlan([(oid, fmt)], [], ALL, KEY)
    assert cells(plan.apply(row(value), "delivered")[0]) == [expected]


def test_a_column_name_says_what_the_value_is():
    plan = RowPlan([(25, 0, "account_number"), (20, 1, "acct"), (25, 0, "note")], [], ALL, KEY)
    body, counts = plan.apply(row(b"99-8877", struct.pack("!q", 998877), b"99-8877"), "record")
    assert cells(body) == [b"[masked:account_number]", None, b"99-8877"]
    assert counts["detected"] == {"account_number": 2}


# COPY


def feed(plan, chunks):
    out = b"".join(plan.feed(chunk) for chunk in chunks)
    plan.finish()
    return out


VALUES = st.one_of(st.none(), st.text(alphabet="aé\t\n\r\\\",'N. ;|\x08x1", max_size=12))


def write_text(rows, delimiter="\t", null="\\N"):
    escapes = {
        "\\": "\\\\",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\x08": "\\b",
        delimiter: "\\" + ("t" if delimiter == "\t" else delimiter),
    }
    encode = lambda value: null if value is None else "".join(escapes.get(char, char) for char in value)  # noqa: E731
    return "".join(delimiter.join(map(encode, row)) + "\n" for row in rows).encode()


def read_text(data, delimiter="\t", null="\\N"):
    letters = {"n": "\n", "r": "\r", "t": "\t", "b": "\x08", "f": "\f", "v": "\v"}

    def decode(field):
        if field == null:
            return None
        chars = iter(field)
        return "".join(letters.get(after := next(chars), after) if char == "\\" else char for char in chars)

    rows, row_, field, escaped = [], [], "", False
    for char in data.decode():
        if escaped or char not in (delimiter, "\n"):
            escaped = char == "\\" and not escaped
            field += char
        else:
            row_.append(decode(field))
            field = ""
            if char == "\n":
                rows.append(row_)
                row_ = []
    assert (row_, field) == ([], "")
    return rows


def write_csv(rows, null=""):
    quote = lambda value: null if value is None else '"' + value.replace('"', '""') + '"'  # noqa: E731
    return "".join(",".join(map(quote, row)) + "\n" for row in rows).encode()


def write_binary(rows):
    head = b"PGCOPY\n\xff\r\n\0" + struct.pack("!II", 0, 0)
    return head + b"".join(row(*(None if v is None else v.encode() for v in values)) for values in rows) + struct.pack("!h", -1)


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=5), st.sampled_from(["\t", "|", ","]), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_text_copies_keep_every_other_value(rows, delimiter, size):
    data = write_text(rows, delimiter)
    plan = CopyPlan({"format": "text", "delimiter": delimiter}, [(25, 0)] * 3, [mask(1, "redact")], None, KEY)
    out = feed(plan, [data[at : at + size] for at in range(0, len(data), size)])
    assert read_text(out, delimiter) == [[a, None if b is None else "[redacted]", c] for a, b, c in rows]
    assert plan.rows == len(rows)
    assert plan.counts["masked"].get("rule", 0) == sum(b is not None for _, b, _ in rows)


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=5), st.booleans(), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_csv_copies_keep_every_other_value(rows, has_header, size):
    data = (b"a,b,c\n" if has_header else b"") + write_csv(rows)
    plan = CopyPlan({"format": "csv", "header": has_header}, [(25, 0)] * 3, [mask(1, "redact")], None, KEY)
    out = feed(plan, [data[at : at + size] for at in range(0, len(data), size)])
    expected = [(a, None if b is None else "[redacted]", c) for a, b, c in rows]
    assert out == (b"a,b,c\n" if has_header else b"") + write_csv(expected)
    read = list(csv.reader(io.StringIO(out.decode(), newline="")))[has_header:]
    assert read == [["" if value is None else value for value in values] for values in expected]
    assert plan.rows == len(rows)


@given(st.lists(st.tuples(VALUES, VALUES), max_size=5), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_binary_copies_keep_every_other_value(rows, size):
    data = write_binary(rows)
    plan = CopyPlan({"format": "binary"}, [(25, 1)] * 2, [mask(1, "redact")], None, KEY)
    out = feed(plan, [data[at : at + size] for at in range(0, len(data), size)])
    assert out == write_binary([(a, None if b is None else "[redacted]") for a, b in rows])


WRITERS = {"text": write_text, "csv": write_csv, "binary": write_binary}


@pytest.mark.parametrize("oid", EVERY_OID.values(), ids=EVERY_OID.keys())
@pytest.mark.parametrize("fmt", WRITERS)
@pytest.mark.parametrize(("strategy", "params"), STRATEGIES, ids=str)
def test_a_planted_value_never_survives_a_copy(strategy, params, fmt, oid):
    data = WRITERS[fmt]([("a", PLANTED.decode()), ("b", PLANTED.decode())])
    for size in (1, 7, len(data)):
        plan = CopyPlan({"format": fmt}, [(25, 0), (oid, 0)], [mask(1, strategy, params)], None, KEY)
        out = feed(plan, [data[at : at + size] for at in range(0, len(data), size)])
        assert PLANTED[5:-5] not in out
        assert plan.counts["masked"] == {"rule": 2}


@pytest.mark.parametrize(
    ("options", "data", "expected"),
    [
        ({"format": "text"}, b"123-45-6789\t\\N\n", b"[masked:ssn]\t\\N\n"),
        ({"format": "text"}, b"\\x31\\062\\x33-45-6789\tx\n", b"[masked:ssn]\tx\n"),
        ({"format": "csv"}, b'"a ""123-45-6789""\nb",x\n', b'"a ""[masked:ssn]""\nb",x\n'),
        ({"format": "csv"}, b"123-45-6789,\r\n", b'"[masked:ssn]",\r\n'),
        ({"format": "csv", "quote": "'", "escape": "\\"}, b"'it\\'s 123-45-6789',x\n", b"'it\\'s [masked:ssn]',x\n"),
        ({"format": "csv", "delimiter": ";", "null": "NULL"}, b'NULL;"NULL 123-45-6789"\n', b'NULL;"NULL [masked:ssn]"\n'),
    ],
)
def test_detectors_read_values_not_their_spelling(options, data, expected):
    for size in (1, 5, 100):
        plan = CopyPlan(options, [(0, 0)] * 2, [], ALL, KEY)
        assert feed(plan, [data[at : at + size] for at in range(0, len(data), size)]) == expected
        assert plan.counts["detected"] == {"ssn": 1}


@pytest.mark.parametrize(
    ("fmt", "data"),
    [
        ("text", b"a\n"),
        ("text", b"a\tb\tc\n"),
        ("text", b"\\.\na\tb\n"),
        ("csv", b"a\n"),
        ("csv", b"a,b,c\n"),
        ("binary", b"PGCOPX"),
        ("binary", b"PGCOPY\n\xff\r\n\0" + struct.pack("!II", 1 << 16, 0)),
        ("binary", write_binary([("a",)])),
        ("binary", write_binary([("a", "b")]) + b"x"),
        ("binary", write_binary([])[:-2] + struct.pack("!hi", 2, -2)),
        ("binary", write_binary([])[:-2] + struct.pack("!h", -2)),
    ],
)
def test_malformed_copy_data_stops_the_stream_for_good(fmt, data):
    plan = CopyPlan({"format": fmt}, [(25, 0)] * 2, [mask(1, "redact")], None, KEY)
    with pytest.raises(ValueError, match="malformed") as first:
        plan.feed(data)
    for again in (lambda: plan.feed(WRITERS[fmt]([("a", "b")])), plan.finish):
        with pytest.raises(ValueError, match="malformed") as later:
            again()
        assert str(later.value) == str(first.value)


@pytest.mark.parametrize(
    ("fmt", "data"), [("text", b"a\tb"), ("csv", b'"a\n'), ("binary", b""), ("binary", write_binary([("a", "b")])[:-2])]
)
def test_copy_data_that_ends_inside_a_row_is_malformed(fmt, data):
    plan = CopyPlan({"format": fmt}, [(25, 0)] * 2, [], None, KEY)
    plan.feed(data)
    with pytest.raises(ValueError, match="inside a row"):
        plan.finish()


def feed_until_refused(plan, data):
    out = b""
    try:
        for at in range(0, len(data), 100):
            out += plan.feed(data[at : at + 100])
    except ValueError:
        return out
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("fmt", WRITERS)
def test_a_row_larger_than_the_limit_is_refused_before_it_is_whole(fmt):
    data = WRITERS[fmt]([("a" * 4000, "b")])
    plan = CopyPlan({"format": fmt, "max_row_bytes": 1000}, [(25, 0)] * 2, [], None, KEY)
    assert len(feed_until_refused(plan, data)) < 100
    with pytest.raises(ValueError, match="larger than 1000 bytes"):
        plan.feed(b"")


def test_rows_before_an_error_of_another_call_have_left():
    plan = CopyPlan({"format": "text"}, [(25, 0)] * 2, [mask(1, "null")], None, KEY)
    assert plan.feed(b"a\tb\nc") == b"a\t\\N\n"
    with pytest.raises(ValueError, match="malformed"):
        plan.feed(b"\n")


@pytest.mark.parametrize(
    "options",
    [
        {"format": "xml"},
        {},
        {"format": "text", "delimiter": "\\"},
        {"format": "text", "delimiter": "ab"},
        {"format": "csv", "quote": ","},
        {"format": "csv", "null": 'a"b'},
        {"format": "text", "null": "a\tb"},
        {"format": "csv", "delimiter": "\n"},
        {"format": "csv", "force": True},
    ],
)
def test_copy_options_that_cannot_be_read_back_are_refused(options):
    with pytest.raises(ValueError, match=r"COPY|missing|unknown"):
        CopyPlan(options, [(25, 0)], [], None, KEY)


@given(st.sampled_from(["text", "csv", "binary"]), st.lists(st.binary(max_size=30), max_size=6))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_a_copy_plan_panic(fmt, chunks):
    plan = CopyPlan({"format": fmt, "max_row_bytes": 64}, [(25, 0)] * 2, [mask(0, "hash")], ALL, KEY)
    try:
        feed(plan, chunks)
    except ValueError:
        with pytest.raises(ValueError, match=r"malformed|larger"):
            plan.feed(b"a\tb\n")


@pytest.mark.parametrize(
    ("options", "row", "shown"),
    [
        ({"format": "text"}, b"\\N\tb\n", b"[redacted]\tb\n"),
        ({"format": "text", "null": "-"}, b"-\tb\n", b"[redacted]\tb\n"),
        ({"format": "csv", "delimiter": "\t"}, b"\tb\n", b'"[redacted]"\tb\n'),
    ],
)
def test_a_computed_null_is_masked_in_copy_too(options, row, shown):
    mask = {"index": 0, "strategy": "redact", "rule": "r", "fills_null": True}
    assert CopyPlan(options, [(0, 0), (0, 0)], [mask], None, bytes(32)).feed(row) == shown
    assert CopyPlan(options, [(0, 0), (0, 0)], [mask | {"fills_null": False}], None, bytes(32)).feed(row) == row
