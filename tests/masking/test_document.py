"""The masked input document: payloads are read, facts are not, and what was planted is gone."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.mask import DETECTORS, Detectors

from gateway.errors import LimitExceededError
from gateway.masking import DocumentMasker
from gateway.masking.document import MAX_DEPTH

MASKER = DocumentMasker(Detectors(DETECTORS))
SSN = "123-45-6789"


def document(payload, protocol="postgres"):
    facts = {"statement_count": 1, "name": SSN}
    return {
        "schema": "sealgate.input/1",
        "protocol": protocol,
        "subject": {"id": "a/b"},
        protocol: {"facts": facts, "payload": payload},
    }


def masked(payload, protocol="postgres"):
    result, counts = MASKER(document(payload, protocol))
    return result[protocol]["payload"], counts


def test_statement_and_parameters():
    payload = {
        "text": f"SELECT '{SSN}', $1",
        "params": [
            None,
            {"format": 0, "type_oid": 25, "text": SSN},
            {"format": 1, "type_oid": 17, "hex": SSN.encode().hex()},
            SSN,
        ],
    }
    result, counts = masked(payload)
    assert result["text"] == "SELECT '[masked:ssn]', $1"
    assert result["params"] == [
        None,
        {"format": 0, "type_oid": 25, "text": "[masked:ssn]"},
        {"format": 1, "type_oid": 17, "hex": "[masked:ssn]"},
        "[masked:ssn]",
    ]
    assert counts == {"ssn": 4}


def test_facts_and_the_rest_stay():
    source = document({"text": SSN})
    before = copy.deepcopy(source)
    result, _ = MASKER(source)
    assert source == before
    assert result["postgres"]["facts"] == before["postgres"]["facts"]
    assert {name: value for name, value in result.items() if name != "postgres"} == {
        name: value for name, value in before.items() if name != "postgres"
    }


def test_names_of_fields_count():
    result, counts = masked({"body": {"password": "short", "account_number": 99887766, "note": "short"}}, "http")
    assert result == {
        "body": {"password": "[masked:generic_secret]", "account_number": "[masked:account_number]", "note": "short"}
    }
    assert counts == {"generic_secret": 1, "account_number": 1}


def test_numbers_and_names_are_read_too():
    result, _ = masked({"body": {"a": 4111111111111111, SSN: True, "987-65-4321": 1, "b": 1.5}}, "aws")
    assert result == {"body": {"a": "[masked:payment_card]", "[masked:ssn]": True, "987-65-4321": 1, "b": 1.5}}


def test_two_names_masked_alike_stay_two():
    result, _ = masked({"123-45-6789": 1, "123-45-6788": 2}, "http")
    assert sorted(result.values()) == [1, 2]


def test_a_document_without_payload_is_itself():
    source = {"schema": "sealgate.input/1", "protocol": "ssh", "ssh": {"facts": {"argv0": "ls"}}}
    assert MASKER(source) == (source, {})


def test_hidden_literals():
    masker = DocumentMasker(Detectors([]), hide_literals=True)
    assert masker(document({"text": "SELECT 'x'"}))[0]["postgres"]["payload"] == {"text": "SELECT '[redacted]'"}


def test_a_payload_too_deep_is_refused():
    deep = SSN
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(LimitExceededError, match="too deep"):
        MASKER(document(deep, "http"))


TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.just(f"x {SSN} y")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=12,
)


@given(TREES, st.sampled_from(["postgres", "ssh", "git", "kubernetes", "registry", "aws", "http"]))
def test_a_planted_value_never_survives_and_masking_twice_changes_nothing(payload, protocol):
    result, counts = masked(payload, protocol)
    assert SSN not in json.dumps(result)
    if f"x {SSN} y" in str(payload):
        assert counts.keys() & {"ssn", "generic_secret"}  # what stands under a key called "secret" is one as a whole
    else:
        assert "ssn" not in counts
    again, _ = masked(result, protocol)
    assert again == result
