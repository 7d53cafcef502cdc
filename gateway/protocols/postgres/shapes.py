"""What values of a database's own types are made of, for masks that look inside: arrays, composites, domains. Pure.

A shape is what `sealgate_native.mask` takes: ("own", oid) for a type of PostgreSQL's own, ("scalar", oid, base) for a domain over one,
("text", oid) for a type whose text form takes any text, ("array", oid, delimiter, element), ("composite", oid, fields) with the fields
that are there by name, and ("opaque", oid) for everything else: enumerations, ranges, types that came after the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gateway.protocols.postgres.catalog_objects import Relation

type Shape = tuple[Any, ...]

MAX_DEPTH: Final = 8
"""Types inside types that are followed; hand-written schemas stay below four. What lies deeper becomes null where it is masked."""

MAX_FIELDS: Final = 400
"""Fields of a composite that are followed, as many as of an output list."""

FIRST_USER_OID: Final = 16384


@dataclass(frozen=True, slots=True)
class UserType:
    """A type that is not PostgreSQL's own.

    Attributes:
        kind: pg_type.typtype; b base, c composite, d domain, e enumeration, m multirange, p pseudo, r range.
        element: of an array, else 0.
        base: of a domain, else 0.
        relation: whose row it is, else 0.
        bound: the type of the bounds of a range, else 0.
    """

    oid: int
    kind: str
    category: str
    element: int
    delimiter: str
    base: int
    relation: int
    bound: int


@dataclass(frozen=True, slots=True)
class UserTypes:
    """The types of one database by OID, fields of composites by relation: (name, type), OIDs by name: (schema, OID), and what is used.

    `parts` are the types that the definition, the checks and the default of a type name.
    """

    types: Mapping[int, UserType] = field(default_factory=dict)
    fields: Mapping[int, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    names: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    parts: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def within(self, oids: frozenset[int]) -> frozenset[int]:
        """These types, and all that their values are made of, PostgreSQL's own among them."""
        pending, seen = list(oids), set(oids)
        while pending:
            found = self.types.get(pending.pop())
            if found is None:
                continue
            fields = (oid for _, oid in self.fields.get(found.relation, ()))
            parts = {found.element, found.base, found.bound, *fields, *self.parts.get(found.oid, ())} - {0} - seen
            pending += parts
            seen |= parts
        return frozenset(seen)

    def is_domain(self, oid: int) -> bool:
        """Whether a type is a domain of somebody's own, whose checks its values fulfil."""
        found = self.types.get(oid)
        return found is not None and found.kind == "d"

    def find_shape(self, oid: int) -> Shape:
        """What is known of a type."""
        return self._find(oid, 0)

    def _find(self, oid: int, depth: int) -> Shape:
        if oid < FIRST_USER_OID:
            return ("own", oid)
        found = self.types.get(oid)
        if found is not None and depth < MAX_DEPTH:
            if found.element:
                return ("array", oid, found.delimiter, self._find(found.element, depth + 1))
            if found.base:
                return self._find_domain(oid, self._find(found.base, depth + 1))
            if 0 < len(fields := self.fields.get(found.relation, ())) <= MAX_FIELDS:
                return ("composite", oid, [(name, self._find(type_oid, depth + 1)) for name, type_oid in fields])
            if found.kind == "b" and found.category == "S":
                return ("text", oid)
        return ("opaque", oid)

    @staticmethod
    def _find_domain(oid: int, base: Shape) -> Shape:
        """A domain is written as its base type, under its own OID."""
        if base[0] == "own":
            return ("scalar", oid, base[1])
        return (base[0], oid, *base[2:])


def build_types(
    types: Iterable[Sequence[str]],
    fields: Iterable[Sequence[str]],
    relations: Iterable[Relation],
    parts: Iterable[Sequence[str]] = (),
) -> UserTypes:
    """The types out of the answers "shapes", "fields" and "type_parts"; rows of tables and views have the columns of these."""
    by_relation = {
        relation.oid: tuple((column.name, column.type_oid) for column in relation.columns.values()) for relation in relations
    }
    grouped: dict[int, list[tuple[int, str, int]]] = {}
    for relation, number, name, type_oid in fields:
        grouped.setdefault(int(relation), []).append((int(number), name, int(type_oid)))
    by_relation |= {oid: tuple((name, type_oid) for _, name, type_oid in sorted(found)) for oid, found in grouped.items()}
    found: list[UserType] = []
    names: dict[str, list[tuple[str, int]]] = {}
    for oid, kind, category, element, delimiter, base, relation, schema, name, bound in types:
        found.append(UserType(int(oid), kind, category, int(element), delimiter, int(base), int(relation), int(bound)))
        names.setdefault(name, []).append((schema, int(oid)))
    used: dict[int, set[int]] = {}
    for oid, part in parts:
        used.setdefault(int(oid), set()).add(int(part))
    return UserTypes(
        {each.oid: each for each in found},
        by_relation,
        {name: tuple(places) for name, places in names.items()},
        {oid: frozenset(each) for oid, each in used.items()},
    )
