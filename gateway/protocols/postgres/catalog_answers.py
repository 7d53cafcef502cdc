"""Answers to the questions of `catalog_queries.py`, made into a snapshot (`catalog.py`). Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

from gateway.errors import ProtocolError
from gateway.protocols.postgres.catalog import CatalogSnapshot
from gateway.protocols.postgres.catalog_objects import Column, Condition, Function, Index, KeyAction, Relation, View
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.protocols.postgres.functions import HARMLESS_EXTENSIONS, RANDOM_EXTENSIONS
from gateway.protocols.postgres.hooks import COMPILED, build_cast, build_hooks
from gateway.protocols.postgres.login import read_search_path
from gateway.protocols.postgres.shapes import build_types

Row = Sequence[str | int | bool | None]


def build_snapshot(rows: Mapping[str, Sequence[Row]]) -> CatalogSnapshot:
    """The snapshot for the answers to `QUERIES`, by the same names.

    Raises:
        ProtocolError: an answer is missing or not what its query asks for; there is no snapshot then.
    """
    try:
        return _build({name: sorted(tuple(_text(value) for value in row) for row in rows[name]) for name in QUERIES})
    except (KeyError, ValueError, TypeError) as error:
        raise ProtocolError("the target's catalogue answer cannot be read", why=f"{type(error).__name__}: {error}") from error


def _build(texts: Mapping[str, list[tuple[str, ...]]]) -> CatalogSnapshot:
    ((database, role, path, version, path_setting),) = texts["session"]
    relations = _relations(texts["relations"], texts["columns"])
    languages = {row[0]: row[3] for row in texts["functions"]}
    known = [_function(row) for row in texts["functions"]]
    functions = [function for function in known if not _is_harmless(function)]
    harmless = {function.oid: function for function in known if _is_harmless(function)}
    links = [(int(child), int(parent)) for child, parent in texts["parents"]]
    casts = [build_cast(row) for row in texts["casts"]]
    shapes = build_types(texts["shapes"], texts["fields"], relations.values(), texts["type_parts"])
    checks = [
        (int(relation), kind, cast)
        for relation, kind, oid in texts["type_hooks"]
        for cast in casts
        if cast.is_of_domain and cast.language not in COMPILED and cast.type_oid in shapes.within(frozenset({int(oid)}))
    ]
    hooks = [row for row in texts["hooks"] if int(row[2]) not in harmless]
    return CatalogSnapshot(
        database=database,
        role=role,
        search_path=tuple(json.loads(path)),
        path_names=read_search_path(path_setting),
        server_version=int(version),
        relations=MappingProxyType(relations),
        views=MappingProxyType(_views(texts["views"], texts["dependencies"], harmless)),
        parents=MappingProxyType(_group(links)),
        functions=MappingProxyType(_group((function.name, function) for function in functions)),
        harmless_functions=MappingProxyType(_group((function.name, function) for function in harmless.values())),
        # An operator of its own over one of PostgreSQL's functions runs nothing new.
        operators=MappingProxyType(
            _group((name, (schema, languages.get(code, "internal"))) for schema, name, code, _ in texts["operators"])
        ),
        reading_operators=frozenset((schema, name) for schema, name, _, reads in texts["operators"] if reads == "1"),
        types=MappingProxyType(_group((name, (schema, kind)) for schema, name, kind in texts["types"])),
        hooks=MappingProxyType(build_hooks(hooks, texts["rules"], checks)),
        casts=MappingProxyType(_group((cast.name, cast) for cast in casts)),
        key_actions=MappingProxyType(_group(_key_action(row) for row in texts["keys"])),
        primary_keys=MappingProxyType({int(oid): tuple(json.loads(numbers)) for oid, numbers in texts["primary_keys"]}),
        costs=MappingProxyType({name: float(value) for name, value in texts["costs"]}),
        indexes=tuple(_index(row) for row in texts["indexes"]),
        foreign_keys=tuple((_reference(row), frozenset(key for key, _ in _referenced(row))) for row in texts["references"]),
        references=MappingProxyType(_group(pair for row in texts["references"] for pair in _referenced(row))),
        partition_keys=MappingProxyType({int(oid): frozenset(json.loads(numbers)) for oid, numbers in texts["partition_keys"]}),
        conditions=MappingProxyType(_group(_condition(row) for row in texts["conditions"])),
        policies=MappingProxyType(_group((int(oid), (int(other), int(number))) for oid, other, number, _ in texts["policies"])),
        reading_policies=MappingProxyType(
            _group((int(oid), (int(other), int(number))) for oid, other, number, reads in texts["policies"] if reads == "1")
        ),
        shapes=shapes,
        digest=hashlib.sha256(json.dumps(texts, sort_keys=True, separators=(",", ":")).encode()).hexdigest(),
        _generated=MappingProxyType(_group(((int(oid), int(number)), int(source)) for oid, number, source in texts["generated"])),
        _children=MappingProxyType(_group((parent, child) for child, parent in links)),
        _functions_by_oid=MappingProxyType({function.oid: function for function in functions}),
        _by_name=MappingProxyType({(relation.schema, relation.name): relation for relation in relations.values()}),
    )


def _text(value: str | int | bool | None) -> str:
    """A value as PostgreSQL prints it, whichever way the driver delivered it."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _relations(relations: Iterable[Sequence[str]], columns: Iterable[Sequence[str]]) -> dict[int, Relation]:
    by_relation: dict[int, dict[int, Column]] = {}
    for oid, number, name, type_oid, *says in columns:
        generated, computed, filled = (said == "1" for said in says)
        column = Column(int(number), name, int(type_oid), generated, computed, filled)
        by_relation.setdefault(int(oid), {})[column.number] = column
    return {
        int(oid): Relation(
            int(oid),
            schema,
            name,
            kind,
            security == "1",
            MappingProxyType(dict(sorted(by_relation.get(int(oid), {}).items()))),
            is_owned == "1",
        )
        for oid, schema, name, kind, security, is_owned in relations
    }


def _views(
    definitions: Iterable[Sequence[str]], dependencies: Iterable[Sequence[str]], harmless: Container[int]
) -> dict[int, View]:
    columns: dict[int, set[tuple[int, int]]] = {}
    others: dict[str, dict[int, set[int]]] = {"function": {}, "type": {}}
    for view, kind, oid, number in dependencies:
        if kind == "relation":
            columns.setdefault(int(view), set()).add((int(oid), int(number)))
        elif kind != "function" or int(oid) not in harmless:
            others[kind].setdefault(int(view), set()).add(int(oid))

    def build(oid: int, definition: str) -> View:
        functions, types = (frozenset(others[kind].get(oid, ())) for kind in ("function", "type"))
        return View(definition or None, frozenset(columns.get(oid, ())), functions, types)

    return {int(oid): build(int(oid), definition) for oid, definition in definitions}


def _function(row: Sequence[str]) -> Function:
    oid, schema, name, language, volatility, definer, args, variadic, defaults, returns_set, extension = row
    names: dict[str, Literal["immutable", "stable", "volatile"]] = {"i": "immutable", "s": "stable", "v": "volatile"}
    most = _ANY_ARGS if variadic == "1" else int(args)
    least = max(0, int(args) - int(defaults) - (variadic == "1"))
    return Function(
        int(oid), schema, name, language, names[volatility], definer == "1", least, most, returns_set == "1", extension
    )


def _is_harmless(function: Function) -> bool:
    """Whether a function does no more than PostgreSQL's own harmless ones: its extension is known, and it keeps no state."""
    return function.extension in (HARMLESS_EXTENSIONS if function.volatility != "volatile" else RANDOM_EXTENSIONS)


def _index(row: Sequence[str]) -> Index:
    """Columns that are only included (INCLUDE) stand behind the keys; a key that is an expression is number 0 among them."""
    name, relation, keys, partial, numbers, within, is_key, method, refuses, condition, compares_nulls, deferrable = row
    listed = [int(number) for number in numbers.split()]
    plain, carried = listed[: int(keys)], frozenset(listed[int(keys) :])
    columns = frozenset({*filter(None, plain), *map(int, json.loads(within))})
    is_ranging = int(keys) > 1 or partial == "1"
    key = frozenset(plain) if is_key == "1" else frozenset[int]()
    mixed = frozenset(map(int, json.loads(within)))
    is_plural = method not in {"btree", "hash"}
    condition_columns = frozenset(map(int, json.loads(condition))) if refuses == "1" else frozenset[int]()
    last = {"compares_nulls": compares_nulls == "1", "is_deferrable": deferrable == "1"}
    return Index(name, int(relation), columns, is_ranging, key, carried, mixed, is_plural, condition_columns, **last)


def _reference(row: Sequence[str]) -> Index:
    """A foreign key as an index: whether a row may have a value tells whether the other table has it."""
    name, relation, numbers, _, _, deferrable = row
    nothing = frozenset[int]()
    columns = frozenset[int](json.loads(numbers))
    return Index(
        name,
        int(relation),
        columns,
        is_ranging=False,
        key=nothing,
        carried=nothing,
        mixed=nothing,
        is_plural=False,
        condition=nothing,
        is_deferrable=deferrable == "1",
    )


def _referenced(row: Sequence[str]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The columns of a foreign key under those they have the values of."""
    _, relation, numbers, other, keys, _ = row
    for number, key in zip(json.loads(numbers), json.loads(keys), strict=True):
        yield (int(other), key), (int(relation), number)


def _condition(row: Sequence[str]) -> tuple[int, Condition]:
    relation, of_change, numbers, opened = row
    columns = frozenset(map(int, json.loads(numbers)))
    return int(relation), Condition(int(relation), columns, is_of_change=of_change == "1", is_open=opened == "1")


def _key_action(row: Sequence[str]) -> tuple[int, KeyAction]:
    """A foreign key that does something to its own table when the other one changes, under the OID of the other."""
    other, own, numbers, keys, on_delete, on_update = row
    writes = bool({on_delete, on_update} & {"n", "d"}) or on_update == "c"
    followed = tuple(json.loads(keys)) if on_update in _ACTIONS else ()
    written = tuple(json.loads(numbers)) if writes else ()
    return int(other), KeyAction(int(own), written, on_delete in _ACTIONS, followed, removes=on_delete == "c")


_ACTIONS: Final = frozenset("cnd")
"""CASCADE, SET NULL and SET DEFAULT (confdeltype, confupdtype)."""


_ANY_ARGS: Final = 1 << 16


def _group[K, V](pairs: Iterable[tuple[K, V]]) -> dict[K, tuple[V, ...]]:
    grouped: dict[K, list[V]] = {}
    for key, value in pairs:
        grouped.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in grouped.items()}
