"""YAML as plain values with lines, within limits."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.source import MAX_BYTES, MAX_VALUES, read_source, show_path

# No digits: the writer follows YAML 1.1, where fewer texts look like numbers.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text("abcxyz :#-_'\"{}[]*&!|>%@,?\n", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", min_size=1, max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), VALUES, min_size=1, max_size=4), st.booleans())
def test_what_was_written_is_read(document, flow):
    source = read_source(yaml.safe_dump(document, default_flow_style=flow).encode())
    assert source.problems == []
    assert source.value == document


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), VALUES, min_size=1, max_size=4))
def test_every_key_has_the_line_it_stands_on(document):
    text = yaml.safe_dump(document, default_flow_style=False)
    source = read_source(text.encode())
    lines = text.splitlines()
    for location, line in source.key_lines.items():
        assert str(location[-1]) in lines[line - 1]


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not():
    start = b"a: 1\n#"
    assert read_source(start + b"x" * (MAX_BYTES - len(start))).problems == []
    assert "bytes" in str(read_source(start + b"x" * (MAX_BYTES - len(start) + 1)).problems[0])


def test_as_many_values_as_allowed_are_read_and_one_more_is_not():
    def file(count):
        return b"a: [" + b"1," * (count - 2) + b"]"  # the mapping and the list are values too

    assert read_source(file(MAX_VALUES)).problems == []
    assert "values" in str(read_source(file(MAX_VALUES + 1)).problems[0])


def test_scalars_are_those_of_yaml_1_2():
    text = b"a: no\nb: 0o17\nc: 1e3\nd: 2001-01-01\ne: ~\nf: 'true'\ng: 0x10\nh: 1_000\ni: 012\nj: .5\n"
    assert read_source(text).value == {
        "a": "no", "b": "0o17", "c": 1000.0, "d": "2001-01-01", "e": None, "f": "true", "g": "0x10", "h": "1_000", "i": 12, "j": 0.5,
    }  # fmt: skip


def test_bytes_that_are_not_utf8_name_their_line():
    assert str(read_source(b"a: 1\nb: \xff\n").problems[0]) == "line 2: the file is not UTF-8 text"


def test_paths_are_written_as_people_write_them():
    assert show_path(("connections", 0, "target", "host")) == "connections[0].target.host"
    assert show_path(()) == ""
