"""What of the site's data says how results are masked and bounded, checked before it is deployed.

At run time whatever cannot be read withholds the result. The shapes are those of `schemas/postgres/site.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.decision import STRATEGY_ORDER
from gateway.paths import parse_path

NAME_PARTS: Final = 3
"""schema, table, column."""

PARAMS: Final = frozenset({"keep_last", "keep_first", "email"})
EXCESS: Final = frozenset({"block", "truncate"})


def find_site_problems(data: Mapping[str, Any]) -> list[str]:
    """Every problem of `data.site.postgres` that concerns masks and row limits, as sentences."""
    site = data.get("site", {})
    postgres = site.get("postgres", {}) if isinstance(site, Mapping) else {}
    if not isinstance(postgres, Mapping):
        return ["site/data.json: postgres is not an object"]
    return [f"site/data.json: {problem}" for problem in _find(postgres)]


def _find(postgres: Mapping[str, Any]) -> Iterator[str]:
    strategies, paths = postgres.get("strategies", {}), postgres.get("paths", {})
    for name, chosen in _members(strategies):
        yield from _check_column("strategies", name)
        yield from _check_strategy(f"strategies of {name}", chosen, is_required=True)
    for name, listed in _members(paths):
        yield from _check_column("paths", name)
        if not isinstance(listed, Mapping) or not listed:
            yield f"paths of {name}: not an object with a path in it, so the whole column is masked"
        for path, chosen in _members(listed):
            try:
                parse_path(path)
            except ValueError as error:
                yield f"paths of {name}: {path}: {error}"
            yield from _check_strategy(f"paths of {name}: {path}", chosen, is_required=False)
    if postgres.get("export_excess", "block") not in EXCESS:
        yield f"export_excess is none of {', '.join(sorted(EXCESS))}"


def _members(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _check_column(where: str, name: str) -> Iterator[str]:
    parts = name.split(".")
    if len(parts) != NAME_PARTS or not all(parts):
        yield f"{where}: {name} is not schema.table.column"


def _check_strategy(where: str, chosen: object, *, is_required: bool) -> Iterator[str]:
    if not isinstance(chosen, Mapping):
        yield f"{where}: not an object with a strategy"
        return
    strategy, params = chosen.get("strategy"), chosen.get("params", {})
    if strategy is None and not is_required:
        if chosen:
            yield f"{where}: without a strategy nothing else can be said"
        return
    if strategy not in STRATEGY_ORDER:
        yield f"{where}: strategy is none of {', '.join(STRATEGY_ORDER)}"
    elif not isinstance(params, Mapping) or len(params) != (strategy == "partial") or not params.keys() <= PARAMS:
        yield f"{where}: partial takes one of {', '.join(sorted(PARAMS))}, other strategies take nothing"
