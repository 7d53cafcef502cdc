"""The documentation and the schema say what the models say."""

import ast
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel, ValidationError

import gateway.config.connections as connections_module
import gateway.config.http_connections as http_connections_module
import gateway.config.load as load_module
import gateway.config.sections as sections_module
import gateway.config.ssh_connections as ssh_connections_module
from gateway.config import DETECTORS, Config, json_schema, parse_config, render_reference
from gateway.config.masking import Detector
from gateway.config.sections import SIGNATURE_ALGORITHMS, Algorithm
from gateway.config.source import read_source
from gateway.config.values import Settings

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "config"

MODELS = sorted(
    {
        value
        for module in (sections_module, connections_module, http_connections_module, ssh_connections_module, load_module)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Settings) and value is not Settings
    },
    key=lambda model: model.__name__,
)


def test_the_document_is_up_to_date():
    written = (ROOT / "docs" / "configuration.md").read_text()
    assert written == render_reference(), "run: sealgate config docs > docs/configuration.md"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_setting_is_described_and_documented(model: type[BaseModel]):
    text = render_reference()
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, name
        assert f"| `{name}` |" in text


ONLY_CHECKED = {"workers"}
"""Settings with one legal value; the configuration itself refuses any other."""


def read_attributes():
    """Names of attributes the serving code reads; commands, checks and the demonstration do not make a setting work."""
    names = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        if path.relative_to(ROOT / "gateway").parts[0] not in {"config", "cli", "demo", "testing", "doctor.py"}:
            names |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    return names


def test_every_setting_has_an_effect():
    settings = {name for model in MODELS for name in model.model_fields}
    unread = settings - read_attributes() - ONLY_CHECKED
    # A connection's own methods read these two.
    assert unread == {"allow_groups", "databases"} - read_attributes()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_group_of_settings_refuses_unknown_keys(model: type[BaseModel]):
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"no_such_setting": 1})
    assert "extra_forbidden" in {detail["type"] for detail in caught.value.errors()}


def test_the_schema_accepts_what_is_valid():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in sorted(VECTORS.glob("*.txt")):
        text, _, problems = path.read_text().partition("-----\n")
        if not problems:
            jsonschema.validate(parse_plain(text), schema)


def parse_plain(text):
    return read_source(text.encode()).value


@pytest.mark.parametrize("name", ["unknown-section", "plain-password", "port-too-high", "algorithm-symmetric", "section-missing"])
def test_the_schema_refuses_what_an_editor_should_mark(name):
    text = (VECTORS / f"{name}.txt").read_text().partition("-----\n")[0]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(parse_plain(text), json_schema())


def test_names_and_types_agree():
    assert Algorithm.__args__ == SIGNATURE_ALGORITHMS
    assert Detector.__args__ == DETECTORS


def test_the_native_module_knows_every_detector():
    mask = pytest.importorskip("sealgate_native").mask
    mask.Detectors(list(DETECTORS), [])


def test_lists_may_be_given_as_lists_or_tuples():
    text = (VECTORS / "minimal.txt").read_text().partition("-----\n")[0]
    config = parse_config(text.encode(), base_folder=Path("/"))
    assert Config.model_validate(config.model_dump()) == config
