"""The settings described: JSON Schema for editors, and docs/configuration.md for people, both made from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.config.listeners import ListenerConfig
from gateway.config.load import Config

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_INTRODUCTION: Final = """# Configuration

<!-- Made by `sealgate config docs` from the models in gateway/config; a test compares it. -->

The gateway reads one file, `sealgate.yaml`. It is strict: an unknown key, a key given twice or a value of the wrong kind stops the start, and
`sealgate validate -c sealgate.yaml` names every problem with its line. Relative paths are relative to the folder of the file.

YAML is read as YAML 1.2: only `true` and `false` are booleans, so `no`, `on` and `22:30` are text. Aliases work, tags and merge keys do not.

Secrets are never written into the file. A setting of type *secret* takes a reference, which is read again at every use:

| reference | where the secret is |
|---|---|
| `env:NAME` | the environment variable NAME of the gateway's process |
| `file:PATH` | a file only the gateway's user may read (mode 600); one line break at its end is not part of the secret |
| `file:PATH.age` | a file encrypted with age, opened with `gateway.age_identity` |
| `vault:…`, `aws-sm:…`, `k8s:…` | a provider registered for the scheme; refused where none is |

`sealgate config schema` prints the JSON Schema for editors.
"""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of sealgate.yaml. It cannot say what only the whole file shows; `sealgate validate` does."""
    return {"$schema": SCHEMA_DIALECT, **Config.model_json_schema(), "title": "sealgate.yaml"}


def render_reference() -> str:
    """docs/configuration.md."""
    parts = [_INTRODUCTION]
    for path, model in _walk("", Config, set()):
        parts.append(f"## {path or 'Top level'}\n\n{_first_line(model)}\n\n{_render_table(model)}")
    return "\n".join(parts)


def _walk(path: str, model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every group of settings once, where it occurs first."""
    if model in seen:
        return
    seen.add(model)
    if path or model is Config:
        yield path, model
    for name, field in model.model_fields.items():
        inner, suffix = _inner_models(field.annotation)
        place = f"{path}.{name}" if path else name
        for kind in inner:
            which = _name_alternative(kind) if len(inner) > 1 else suffix
            shared = "listeners.*" if path == "listeners" and kind is ListenerConfig else f"{place}{which}"
            yield from _walk(shared, kind, seen)


def _name_alternative(kind: type[BaseModel]) -> str:
    """What tells one model of several apart: its `type`, or its `kind`."""
    name = "type" if "type" in kind.model_fields else "kind"
    return f"[{name}: {get_args(kind.model_fields[name].annotation)[0]}]"


def _inner_models(annotation: Any) -> tuple[list[type[BaseModel]], str]:
    """The groups of settings a field may hold, and how the path goes on: nothing, [] for lists, .NAME for mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], ""
    origin = get_origin(annotation)
    found = [inner for argument in get_args(annotation) for inner in _inner_models(argument)[0]]
    return found, "[]" if origin is tuple and found else ".NAME" if origin is dict and found else ""


def _render_table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    rows = ["| setting | type | default | what it is |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        kind = _describe_type(schema["properties"][name], schema.get("$defs", {}))
        default = "required" if field.is_required() else _describe_default(field.get_default(call_default_factory=True))
        description = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {kind} | {default} | {description} |")
    return "\n".join(rows) + "\n"


def _describe_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_describe_type(option, definitions) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return " \\| ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = "settings" if "$ref" in schema or "oneOf" in schema else schema.get("type")
    if kind == "array":
        items = schema.get("items", {})
        return "list of " + (_describe_type(items, definitions).replace(" \\| ", ", "))
    if kind in {"integer", "number"}:
        return _describe_number(schema, "whole number" if kind == "integer" else "number")
    return _TYPE_WORDS.get(str(kind), str(kind)) if kind != "string" else _describe_text(schema)


_TYPE_WORDS: Final = {"object": "mapping from names", "boolean": "true or false"}


def _describe_text(schema: Mapping[str, Any]) -> str:
    if schema.get("format") == "path":
        return "path"
    return "secret" if str(schema.get("pattern", "")).startswith("^(env|") else "text"


def _describe_number(schema: Mapping[str, Any], name: str) -> str:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is None or high is None:
        return name
    above = "above " if "exclusiveMinimum" in schema else ""
    return f"{name}, {above}{low:,} to {high:,}"


def _describe_default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, BaseModel):
        return "the defaults below"
    if isinstance(value, tuple | dict):
        return ", ".join(f"`{item}`" for item in value) or "none"
    return f"`{json.dumps(value) if not isinstance(value, str | Path) else value}`"


def _first_line(model: type[BaseModel]) -> str:
    return re.split(r"\n\n", (model.__doc__ or "").strip())[0]
