"""What the site says to its policies (`data.site`), checked before it decides anything.

Rego takes a key that is not there for a rule that does not fire, and a text for a list without members, so a misspelt
`ledger_tables` would let ledgers be written without a reviewer. A bundle is therefore loaded only with data that follows the
schemas: `schemas/<protocol>/site.json`, `schemas/site/exceptions.json` and `schemas/site/functions.json`. What policies of a
site's own read stands under `data.site.own`, which nothing here looks into.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft4Validator, Draft7Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

import gateway
from gateway.errors import suggest_name
from gateway.paths import parse_path

SCHEMAS: Final = Path(gateway.__file__).resolve().parent.parent / "schemas"

SECTIONS: Final = ("postgres", "http", "ssh", "git")
"""What has to be whole wherever a policy reads them."""

OWN: Final = "own"
"""The key of `data.site` for policies of a site's own."""

EXCEPTIONS: Final = "exceptions"
FUNCTIONS: Final = "functions"
KEYS: Final = (*SECTIONS, EXCEPTIONS, FUNCTIONS, OWN)

_TYPES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "an object",
    "string": "text",
}

_FORMATS: Final = FormatChecker(formats=())
_FORMATS.checks("sealgate-path", raises=ValueError)(lambda path: parse_path(path) is not None)

# 10000.0 is no integer: what carries a limit out asks for one that is written as such.
_VALIDATOR: Final = extend(Draft7Validator, type_checker=Draft4Validator.TYPE_CHECKER)


def find_site_problems(
    data: Mapping[str, Any], reads: Iterable[tuple[str, ...]] = (), *, detectors: Collection[str] | None = None
) -> list[str]:
    """Every problem of `data.site` but those of its exceptions, as sentences that begin with the key.

    Args:
        data: the data document of a bundle.
        reads: what the modules of the bundle read of it, as paths from `data`; a section that is read has to be there.
        detectors: names of detectors that exist; None where the patterns of the configuration are not known.
    """
    site = data.get("site", {})
    if not isinstance(site, Mapping):
        return ["data.site is not an object"]
    wanted = {path[1] for path in reads if len(path) > 1 and path[0] == "site"} & {*SECTIONS, FUNCTIONS}
    problems = [_name_unknown(("site", key), KEYS) for key in site if key not in KEYS]
    for section in (*SECTIONS, FUNCTIONS):
        if section in site:
            problems += _check(section, site[section])
            problems += _check_names(section, site[section], detectors)
        elif section in wanted:
            problems.append(f"data.site.{section} is missing, and policies of the bundle read it")
    return problems


def find_exception_problems(data: Mapping[str, Any]) -> list[str]:
    """Every problem of the form of `data.site.exceptions`, as sentences."""
    site = data.get("site", {})
    return _check(EXCEPTIONS, site[EXCEPTIONS]) if isinstance(site, Mapping) and EXCEPTIONS in site else []


@cache
def read_schema(section: str) -> Mapping[str, Any]:
    """The JSON Schema (draft 7) of a section of `data.site`: a protocol, `exceptions` or `functions`."""
    path = SCHEMAS / section / "site.json" if section in SECTIONS else SCHEMAS / "site" / f"{section}.json"
    schema: dict[str, Any] = json.loads(path.read_bytes())
    return schema


def _check(section: str, said: object) -> list[str]:
    found = _VALIDATOR(read_schema(section), format_checker=_FORMATS).iter_errors(said)
    return [problem for error in sorted(found, key=lambda error: error.json_path) for problem in _explain(section, error)]


def _explain(section: str, error: ValidationError) -> Iterator[str]:
    """The sentences for what one keyword of a schema found."""
    path = ("site", section, *error.absolute_path)
    where, schema, value, rule = _render(path), error.schema, error.instance, error.validator_value
    match error.validator:
        case "additionalProperties":
            known = schema.get("properties", {})
            yield from (_name_unknown((*path, name), known) for name in value if name not in known)
        case "required":
            missing = error.message.split("'")[1]
            purpose = schema.get("properties", {}).get(missing, {}).get("description")
            yield f"{_render((*path, missing))} is missing" + (f": {purpose}" if purpose else "")
        case "type":
            yield f"{where} is {_show(value)}, where {_TYPES.get(rule, rule)} is wanted"
        case "enum":
            yield f"{where} is {_show(value)}, which is none of {', '.join(map(_show, rule))}"
        case "pattern":
            yield f"{where} has {_show(value)}, which is not {schema.get('title', rule)}"
        case "format":
            yield f"{where} has {_show(value)}: {error.cause}"
        case "minimum" | "maximum":
            yield f"{where} is {_show(value)}, where at {'least' if error.validator == 'minimum' else 'most'} {rule} is wanted"
        case "minItems" | "minLength" | "minProperties":
            yield f"{where} is empty"
        case "maxProperties":
            yield f"{where} has {len(value)} members, where at most {rule} are wanted"
        case _:
            yield f"{where}: {error.message}"


def _check_names(section: str, said: object, detectors: Collection[str] | None) -> Iterator[str]:
    """What a schema cannot say: names that stand somewhere else."""
    if not isinstance(said, Mapping):
        return
    listed = said.get("detectors")
    for name in listed if isinstance(listed, list) and detectors is not None else ():
        if isinstance(name, str) and name not in (detectors or ()):
            why = "which is neither a built-in detector nor a pattern of the configuration"
            yield f"data.site.{section}.detectors has {_show(name)}, {why}{suggest_name(name, detectors or ())}"
    held, ledger = said.get("held_tables"), said.get("ledger_tables")
    if isinstance(held, list) and isinstance(ledger, list):
        for name in held:
            if name not in ledger:
                yield f"data.site.{section}.held_tables has {_show(name)}, which is none of ledger_tables, so nothing is held"


def _name_unknown(path: tuple[str | int, ...], known: Iterable[str]) -> str:
    guess = suggest_name(str(path[-1]), known)
    return (
        f"{_render(path)} is no key of the policies, so nothing reads it{guess or f'; keys of your own go below data.site.{OWN}'}"
    )


def _render(path: Iterable[str | int]) -> str:
    """`data.site.postgres.strategies["public.orders.payload"]`: as Rego would write it."""
    text = "data"
    for step in path:
        text += f".{step}" if isinstance(step, str) and step.replace("_", "a").isalnum() else f"[{_show(step)}]"
    return text


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 -- enough to find it
