"""Masks of a decision compiled for one described result: selectors become column indexes.

Policy speaks of columns by index, by origin or of findings of a detector (design section 4), and of parts of their values by path:
{"index": 3, "path": "$.card.number"}. The kernel knows indexes and steps only.
Whatever cannot be placed is an error, and the host withholds the result: a mask that silently covers nothing would deliver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.decision import Mask, pick_strategy
from gateway.errors import PolicyError
from gateway.paths import Step, parse_path


class UnenforceableMaskError(PolicyError):
    """A mask that this result cannot carry; nothing of the result may be delivered."""

    code = "policy.mask"


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """What the kernel does with one result.

    Attributes:
        masks: {index, strategy, params, rule, apply, path?, shape?, fills_null?} for `sealgate_native.mask.RowPlan`, at most one per index, path and
            target.
        detectors: names of the detectors that read every cell no mask covers, sorted.
    """

    masks: tuple[dict[str, Any], ...] = ()
    detectors: tuple[str, ...] = ()


ARRAY_OIDS: Final = frozenset({143, 199, 1003, 1009, 1014, 1015, 3807})
"""PostgreSQL's own array types whose elements the kernel masks one by one: of xml, json, name, text, char, varchar, jsonb."""

type FindShape = Callable[[int], tuple[Any, ...]]
"""What is known of a type by its OID, as the kernel takes it."""


def compile_plan(
    masks: Sequence[Mask],
    columns: Sequence[Mapping[str, Any]],
    *,
    known_detectors: Iterable[str],
    always: Iterable[str] = (),
    find_shape: FindShape | None = None,
) -> MaskPlan:
    """The plan for one result.

    Args:
        masks: every mask that binds this result: the request decision's and the response decision's.
        columns: `response.columns` of the input document: {index, name, type?, origin?, lineage, sensitive?}, one per result column.
            `origin` is one {schema, table, column}; `origins` is a list of them, for a column that is computed.
        known_detectors: detectors and patterns that exist.
        always: detectors the configuration runs over every result.
        find_shape: what a column's type is made of; without it only types of PostgreSQL's own are known.

    Raises:
        UnenforceableMaskError: a selector that this result cannot be read with.
    """
    known, detectors = frozenset(known_detectors), set(always)
    by_place: dict[_Place, list[Mask]] = {}
    for mask in masks:
        kind, wanted, path = _read_selector(mask)
        if kind == "detector":
            detectors.add(_detector(mask, wanted, known))
        elif kind == "index":
            index = _index(mask, wanted, len(columns))
            by_place.setdefault((index, _path_into(columns[index], path)), []).append(mask)
        elif kind == "column":
            for index in _holding(mask, wanted, columns):
                by_place.setdefault((index, _path_into(columns[index], path)), []).append(mask)
        else:
            raise _refuse(mask, f"a result has no {kind!r} to select by")
    entries = [
        {**entry, **_describe(place, columns, find_shape)} for place, met in by_place.items() for entry in _entries(place[0], met)
    ]
    return MaskPlan(tuple(sorted(entries, key=lambda entry: int(entry["index"]))), tuple(sorted(detectors)))


type _Place = tuple[int, tuple[Step, ...]]


def _read_selector(mask: Mask) -> tuple[str, Any, tuple[Step, ...]]:
    """What is selected, by what, and the path into its values."""
    members = dict(mask.selector)
    path = members.pop("path", None)
    if path is None and "column" in members and isinstance(members["column"], Mapping):
        members["column"] = wanted = dict(members["column"])
        path = wanted.pop("path", None)
    if len(members) != 1:
        raise _refuse(mask, "its selector needs exactly one member besides a path")
    kind, selected = next(iter(members.items()))
    if path is None:
        return kind, selected, ()
    if not isinstance(path, str) or kind == "detector":
        raise _refuse(mask, "a path is text, and leads into a column")
    try:
        return kind, selected, parse_path(path)
    except ValueError as error:
        raise _refuse(mask, str(error)) from error


def _path_into(column: Mapping[str, Any], path: tuple[Step, ...]) -> tuple[Step, ...]:
    """The path, where the column is delivered as it is stored; what is computed may be made otherwise and is masked whole."""
    return path if _is_stored(column) else ()


def _is_stored(column: Mapping[str, Any]) -> bool:
    return column.get("lineage") == "known" and isinstance(column.get("origin"), Mapping)


def _describe(place: _Place, columns: Sequence[Mapping[str, Any]], find_shape: FindShape | None) -> dict[str, Any]:
    """The part of an entry that says where in the column it is, and what the column's values are made of."""
    index, path = place
    type_oid = columns[index].get("type")
    described: dict[str, Any] = {"path": list(path)} if path else {}
    if not _is_stored(columns[index]):
        described["fills_null"] = True  # whether a computed value is null is the answer to what it was computed from
    if find_shape is not None and isinstance(type_oid, int):
        shape = find_shape(type_oid)
        # How many elements an array of computed values has, and which are null, may tell what it was computed from.
        has_parts = shape[0] in {"array", "composite"} or type_oid in ARRAY_OIDS
        described["shape"] = ("opaque", type_oid) if has_parts and not _is_stored(columns[index]) else shape
    return described


def _detector(mask: Mask, name: Any, known: frozenset[str]) -> str:
    if name not in known:
        raise _refuse(mask, f"there is no detector {name!r}")
    # A finding is a part of a value and is replaced by its token; null or a kept part are said of a whole cell.
    if mask.strategy != "redact":
        raise _refuse(mask, f"findings of a detector can be redacted, not masked by {mask.strategy}")
    return str(name)


def _index(mask: Mask, index: Any, count: int) -> int:
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise _refuse(mask, f"the result has {count} columns and no column {index!r}")
    return index


def _holding(mask: Mask, wanted: Any, columns: Sequence[Mapping[str, Any]]) -> list[int]:
    """Columns that hold the wanted one, or may: where the origin is not known the mask applies as well."""
    names = ("schema", "table", "column")
    if not isinstance(wanted, Mapping) or not {"table", "column"} <= wanted.keys() <= set(names):
        raise _refuse(mask, "a column selector has table, column and at most a schema")
    return [number for number, column in enumerate(columns) if column.get("lineage") != "known" or _is_from(column, wanted)]


def _is_from(column: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    origin = column.get("origin")
    origins = [origin] if isinstance(origin, Mapping) else list(origin or ())
    origins += column.get("origins", ())
    return any(all(item.get(name) == value for name, value in wanted.items()) for item in origins)


def _entries(index: int, masks: Sequence[Mask]) -> list[dict[str, Any]]:
    """One entry per target that is masked; one for both where the same mask wins in both."""
    winners = {}
    for target in ("delivered", "record"):
        met = tuple(mask for mask in masks if mask.apply in {target, "both"})
        if met:
            winners[target] = pick_strategy(met)
    delivered, record = winners.get("delivered"), winners.get("record")
    if delivered is not None and delivered == record:
        return [_entry(index, delivered, "both")]
    return [_entry(index, mask, target) for target, mask in winners.items()]


def _entry(index: int, mask: Mask, apply: str) -> dict[str, Any]:
    return {"index": index, "strategy": mask.strategy, "params": dict(mask.params), "rule": mask.rule, "apply": apply}


def _refuse(mask: Mask, why: str) -> UnenforceableMaskError:
    return UnenforceableMaskError(
        f"a mask of rule {mask.rule} cannot be carried out on this result", why=why, fix="correct the rule's selector or strategy"
    )
