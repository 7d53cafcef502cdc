"""The keys of `data.site` as a page for people, made from their schemas, the shipped data and the rules that read them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.policy.bundle import Bundle
from gateway.policy.rego_text import ModuleText, read_module
from gateway.policy.site_data import EXCEPTIONS, FUNCTIONS, SECTIONS, read_schema

MAX_SHOWN_CHARS: Final = 100
"""Longest default that is shown whole."""

_HEAD: Final = """\
# Data of the site

What differs between sites stands in `rego/site/data.json`, which rules read as `data.site`. This page is made by `make docs` from `schemas/*/site.json`,
from the data as shipped and from the rules that read each key; [policies.md](policies.md) says what these do.

Rego takes a key that is not there for a rule that does not fire. So a section a policy reads has to be there with every key below, and unknown keys and values
of another type are problems: `sealgate policy check`, `sealgate validate` and `sealgate doctor` name them, and `sealgate serve` does not start with such a bundle.
A gateway that runs keeps the bundle it started with. `sealgate policy check -c sealgate.yaml` also knows the detectors of `masking.patterns`; without a
configuration only the built-in ones are known.

Keys for policies of your own go below `data.site.own`, which is not checked: `{"own": {"pii_tables": ["public.people"]}}` is read as
`data.site.own.pii_tables`. A missing key there silences the rule that reads it; give it a test beside the rule.

After a change: `sealgate policy check rego`, `sealgate policy bundle rego`, then start the gateway again.
"""

_EXCEPTIONS: Final = """
## exceptions

`data.site.exceptions` is a list. Each exception keeps one rule silent for one connection until it ends, and every decision it changed says so in a warning. Rules
that cannot be switched off keep speaking; `sealgate policy check` names exceptions for these, and for rules that do not exist.

    {"exceptions": [{"rule": "postgres.schema_changes.production", "connection": "ledger", "owner": "dba",
                     "reason": "migration of the ledger", "ticket": "CHG-1042", "expires_ns": 1798761600000000000}]}

Seconds since 1970 of a date in UTC are printed by `date -u -d 2027-01-01 +%s`.
"""


def render_site_reference(bundle: Bundle) -> str:
    """docs/site-data.md: a table for each protocol, then exceptions and the groups of functions."""
    modules = [read_module(module.path, module.text) for module in bundle.modules]
    parts = [_HEAD]
    for section in SECTIONS:
        schema, shipped = read_schema(section), bundle.data["site"][section]
        rows = [_render_row(("site", section, *path), key, default, modules) for path, key, default in _walk((), schema, shipped)]
        purpose = schema["title"].partition(": ")[2]
        parts.append(f"\n## {section}\n\n`data.site.{section}` is {purpose}.\n\n{_TABLE}{''.join(rows)}")
    items = read_schema(EXCEPTIONS)["items"]["properties"]
    parts.append(_EXCEPTIONS + "\n| member | type | what for |\n|---|---|---|\n")
    parts += [f"| `{name}` | {_describe_type(key)} | {key['description']} |\n" for name, key in items.items()]
    functions, readers = bundle.data["site"][FUNCTIONS], _find_readers(("site", FUNCTIONS), modules)
    parts.append(
        f"\n## functions\n\n`data.site.functions` (`rego/site/functions/data.json`) is {read_schema(FUNCTIONS)['title'].partition(': ')[2]}: "
        f"{len(functions)} names. It comes with the library and is not for a site to change; `function_groups` chooses among its groups. "
        f"Read by {readers}.\n"
    )
    return "".join(parts)


_TABLE: Final = "| key | type | as shipped | what for | read by |\n|---|---|---|---|---|\n"


def _walk(
    path: tuple[str, ...], schema: Mapping[str, Any], shipped: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any], Any]]:
    """Every key with its schema and default; an object with keys of its own is given as these, with its purpose before each."""
    for name, key in schema["properties"].items():
        if "properties" in key:
            yield from _walk((*path, name), key, shipped[name])
        else:
            yield (*path, name), key, shipped[name]


def _render_row(path: tuple[str, ...], key: Mapping[str, Any], default: object, modules: list[ModuleText]) -> str:
    name = ".".join(path[2:])
    purpose = key["description"].replace("|", "\\|")
    return f"| `{name}` | {_describe_type(key)} | {_describe_default(default)} | {purpose} | {_find_readers(path, modules)} |\n"


def _describe_type(key: Mapping[str, Any]) -> str:
    if "enum" in key:
        return " or ".join(f"`{value}`" for value in key["enum"])
    match key["type"]:
        case "array":
            items = key["items"]
            what = items.get("title", "").removeprefix("a ") or ("names below" if "enum" in items else "text")
            what = f"one of {', '.join(items['enum'])}" if "enum" in items else what
            return f"list: {what if '$ref' not in items else items['$ref'].rpartition('/')[2]}" + (
                ", at least one" * ("minItems" in key)
            )
        case "object":
            by = key.get("propertyNames", {}).get("title", "name")
            return f"object by {by.removeprefix('a ')}"
        case "integer":
            most = f" to {key['maximum']}" if "maximum" in key else " or more"
            return f"whole number, {key['minimum']}{most}"
        case "boolean":
            return "true or false"
    return "text"


def _describe_default(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= MAX_SHOWN_CHARS:
        return f"`{text}`"
    return f"{len(value)} entries" if isinstance(value, list | dict) else text


def _find_readers(path: tuple[str, ...], modules: list[ModuleText]) -> str:
    """The rules that read a key, by id, or by topic where a rule has no id."""
    found = {
        _name_rule(module, read.line)
        for module in modules
        for read in module.data_reads
        if read.path[:1] == ("site",) and len(read.path) > 1 and all(a == b for a, b in zip(read.path, path, strict=False))
    }
    return ", ".join(f"`{name}`" for name in sorted(found))


def _name_rule(module: ModuleText, line: int) -> str:
    head = next((head for head in reversed(module.heads) if head.line <= line), None)
    lines = {each.line for each in module.heads if head is not None and each.name == head.name}
    # Bodies of one rule may carry different ids: the annotation that stands last before the line is the one meant.
    ids = [
        block["custom"]["id"]
        for at, block in module.annotations
        if at in lines and at <= line and "id" in block.get("custom", {})
    ]
    return str(ids[-1]) if ids else ".".join(module.package[2:])
