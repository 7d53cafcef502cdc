"""Code of a database that keeps its tables from being changed until a site lists it, for its operators to know beforehand. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sealgate_native import sql

from gateway.protocols.postgres.catalog import SYSTEM_SCHEMAS, CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Relation
from gateway.protocols.postgres.sensitivity import find_sensitive
from gateway.protocols.postgres.statements import describe_statement


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Code that runs with the rows of tables and that no list has.

    Attributes:
        name: as a site lists it: schema.function, or rule.name.
        why: what keeps it from running unasked.
        relations: with which it runs, as schema.name, sorted.
    """

    name: str
    why: str
    relations: tuple[str, ...]


def find_unlisted(snapshot: CatalogSnapshot, sensitive: tuple[str, ...], listed: Collection[str]) -> list[Unlisted]:
    """What `postgres.functions.hook` refuses, by name. Raises ConfigError for a sensitive column of another shape."""
    sensitivity = find_sensitive(snapshot, sensitive)
    found: dict[tuple[str, str], set[str]] = {}
    for relation in snapshot.relations.values():
        if relation.schema in SYSTEM_SCHEMAS or relation.kind == "S":
            continue
        for text in _write_statements(relation):
            analyzed = sql.analyze(text)["statements"][0]
            for table in describe_statement(analyzed, snapshot, sensitivity).facts["tables"]:
                for name, why in _find_refused(table.get("hooks", ())):
                    found.setdefault((name, why), set()).add(f"{relation.schema}.{relation.name}")
    return [Unlisted(name, why, tuple(sorted(found[name, why]))) for name, why in sorted(found) if name not in listed]


def _write_statements(relation: Relation) -> Iterator[str]:
    """One statement for each way of using a relation. They are read here, and run nowhere."""
    name = f"{_quote(relation.schema)}.{_quote(relation.name)}"
    columns = [_quote(column.name) for column in relation.columns.values()]
    yield f"table {name}"
    if relation.kind != "m" and columns:
        yield f"insert into {name} default values"
        yield f"update {name} set {', '.join(f'{column} = default' for column in columns)}"  # noqa: S608 - both are quoted
        yield f"delete from {name}"  # noqa: S608 - quoted


def _find_refused(hooks: Collection[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Name and reason of what the rule `postgres.functions.hook` refuses, in its words."""
    for hook in hooks:
        name = f"{hook.get('schema', hook['kind'])}.{hook['name']}"
        if hook["opaque"]:
            yield name, "cannot be judged"
        elif hook.get("reads_sensitive", False):
            yield name, "uses sensitive columns"
        elif hook["changes"] and hook["kind"] in {"policy", "view"}:
            yield name, "changes something where rows are read"


def _quote(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
