"""The text of statements for the record: literals that hold findings go, however they are spelt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.mask import DETECTORS, Detectors

from gateway.masking.sql import mask_sql, read_tokens

ALL = Detectors(DETECTORS)
SSN = "123-45-6789"

SQL = st.text(alphabet="aeExXuU&nN$tag'\"\\-/*() ,;=019.\n\té", max_size=80)


@given(SQL)
def test_tokens_joined_are_the_text(text):
    assert "".join(token.text for token in read_tokens(text)) == text


@given(SQL)
def test_a_text_without_findings_is_recorded_as_it_is(text):
    assert mask_sql(text, Detectors([])) == (text, {})


@pytest.mark.parametrize(
    ("sql", "masked"),
    [
        (f"SELECT '{SSN}'", "SELECT '[masked:ssn]'"),
        (f"SELECT * FROM t WHERE a = 'it''s {SSN}' AND b = 'x'", "SELECT * FROM t WHERE a = '[masked:ssn]' AND b = 'x'"),
        (r"SELECT E'12\063-45\x2d6789'", "SELECT '[masked:ssn]'"),
        (r"SELECT U&'\0031\+0000323-45-6789'", "SELECT '[masked:ssn]'"),
        (f"SELECT X'{SSN.encode().hex()}'", "SELECT '[masked:ssn]'"),
        (f"SELECT $$ {SSN} $$, $a$x$a$", "SELECT '[masked:ssn]', $a$x$a$"),
        (f"SELECT $a$ it''s {SSN} $a$", "SELECT '[masked:ssn]'"),
        (f"SELECT '{SSN}", "SELECT '[masked:ssn]'"),
        ("SELECT '123-45'\n  '-6789', 'x'", "SELECT '[masked:ssn]', 'x'"),
        ("SELECT U&'!0031!00323-45-6789' UESCAPE '!'", "SELECT '[masked:generic_secret]' UESCAPE '!'"),
        (f"SELECT 1 -- {SSN}", "SELECT 1 -- [masked:ssn]"),
        (f"SELECT 1 /* /* */ {SSN} */", "SELECT 1 /* /* */ [masked:ssn] */"),
        (f'SELECT "{SSN}"', 'SELECT "[masked:ssn]"'),
        ("SELECT 1 WHERE ssn = 123456789", "SELECT 1 WHERE ssn = [masked:ssn]"),
        ("ALTER ROLE ann PASSWORD 'short'", "ALTER ROLE ann PASSWORD '[masked:generic_secret]'"),
        ("ALTER ROLE ann password /* x */ E'sh\\x6frt'", "ALTER ROLE ann password /* x */ '[masked:generic_secret]'"),
        ("SELECT 'ann@example.com'", "SELECT '[masked:email]'"),
    ],
)
def test_findings_leave_the_text(sql, masked):
    text, counts = mask_sql(sql, ALL)
    assert text == masked
    assert sum(counts.values()) == 1


def test_hiding_literals_keeps_structure_only():
    sql = "SELECT a, 'x', 1.5e3, $$body$$ FROM t1 -- note\nWHERE b = E'y' /* more */ LIMIT 10"
    assert mask_sql(sql, ALL, hide_literals=True)[0] == (
        "SELECT a, '[redacted]', 0, '[redacted]' FROM t1 /* */\nWHERE b = '[redacted]' /* */ LIMIT 0"
    )


@given(SQL, st.sampled_from(["'{}'", "E'{}'", "$q${}$q$", "X'{:x}'", "-- {}\n", "{}"]), SQL)
def test_hidden_literals_never_survive_between_statements(before, form, after):
    """Wherever the lexer puts the value (literal, comment, bare), the detectors or the hiding take it away."""
    value = SSN.encode().hex() if ":x" in form else SSN
    sql = f"{before} ; {form.replace(':x', '').format(value)} ; {after}"
    text, _ = mask_sql(sql, ALL, hide_literals=True)
    assert SSN not in text


@given(SQL, SQL)
def test_a_planted_value_never_survives(before, after):
    assert SSN not in mask_sql(f"{before} {SSN} {after}", ALL)[0]
