"""What the site says of masks and row limits is checked before it is deployed, and the library's own follows its schema."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from gateway.policy.checks import check_bundle
from gateway.policy.site_data import find_site_problems
from gateway.testing.policy import add_topic

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schemas/postgres/site.json").read_text())
COLUMN = "public.orders.payload"

GOOD = [
    {},
    {"strategies": {COLUMN: {"strategy": "partial", "params": {"keep_last": 4}}}, "export_excess": "truncate"},
    {"strategies": {COLUMN: {"strategy": "hash"}}, "export_excess": "block"},
    {
        "paths": {
            COLUMN: {"$": {}, "$.a['b c'][*][0]": {"strategy": "null"}, "$.e": {"strategy": "partial", "params": {"email": True}}}
        }
    },
]
BAD = [
    ({"strategies": {"orders.payload": {"strategy": "hash"}}}, "orders.payload is not schema.table.column"),
    ({"strategies": {COLUMN: {}}}, "strategy is none of"),
    ({"strategies": {COLUMN: {"strategy": "blur"}}}, "strategy is none of"),
    ({"strategies": {COLUMN: "hash"}}, "not an object with a strategy"),
    ({"strategies": {COLUMN: {"strategy": "partial"}}}, "partial takes one of"),
    ({"strategies": {COLUMN: {"strategy": "hash", "params": {"keep_last": 4}}}}, "other strategies take nothing"),
    ({"strategies": {COLUMN: {"strategy": "partial", "params": {"keep": 4}}}}, "partial takes one of"),
    ({"paths": {"public..payload": {"$.a": {}}}}, "is not schema.table.column"),
    ({"paths": {COLUMN: {"card": {}}}}, "begins with $"),
    ({"paths": {COLUMN: {"$..card": {}}}}, "more than children"),
    ({"paths": {COLUMN: {}}}, "the whole column is masked"),
    ({"paths": {COLUMN: "$.card"}}, "the whole column is masked"),
    ({"paths": {COLUMN: {"$.a": "redact"}}}, "not an object with a strategy"),
    ({"paths": {COLUMN: {"$.a": {"params": {"keep_last": 4}}}}}, "nothing else can be said"),
    ({"export_excess": "cut"}, "export_excess is none of"),
]


@pytest.mark.parametrize("said", GOOD, ids=str)
def test_what_can_be_read_has_no_problem(said):
    assert find_site_problems({"site": {"postgres": said}}) == []
    jsonschema.validate(said, SCHEMA)


@pytest.mark.parametrize(("said", "problem"), BAD, ids=str)
def test_what_cannot_be_read_is_named(said, problem):
    (found,) = find_site_problems({"site": {"postgres": said}})
    assert problem in found
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(said, SCHEMA)


def test_the_librarys_own_site_follows_the_schema():
    site = json.loads((ROOT / "rego/site/data.json").read_text())
    jsonschema.validate(site["postgres"], SCHEMA)
    assert find_site_problems({"site": site}) == []
    assert find_site_problems({}) == []
    assert find_site_problems({"site": {"postgres": []}}) == ["site/data.json: postgres is not an object"]


def test_the_check_of_a_bundle_names_it(tmp_path):
    shutil.copytree(ROOT / "rego/sealgate/main", tmp_path / "sealgate/main")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/data.json").write_text(json.dumps({"postgres": {"paths": {COLUMN: {"card": {}}}}}))
    add_topic(tmp_path, "postgres/reads", 'allow contains {"rule": "t.reads", "effects": ["read"]}')
    assert any("begins with $" in problem for problem in check_bundle(tmp_path))
