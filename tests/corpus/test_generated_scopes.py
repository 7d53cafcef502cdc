"""Names nobody wrote, in scopes nobody wrote: whatever a name leads to, its value is known by where the server takes it from.

Queries are drawn whose sources hide, rename, merge and half-know their columns, and run in both worlds past the gateway. What the facts
call not sensitive must be the same in both, unless the query was found to search by a sensitive column.
"""

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.protocols.postgres.actions import CATALOG, SqlSettings, Statement, describe
from gateway.protocols.postgres.catalog_answers import build_snapshot
from gateway.protocols.postgres.catalog_queries import QUERIES
from gateway.protocols.postgres.results import describe_rows
from tests.corpus.conftest import SENSITIVE

LAW = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
SETTINGS = SqlSettings("plum", "plum", "gateway", tuple(SENSITIVE))
TABLES = {
    "customers": ["id", "name", "city", "ssn", "motto"],
    "notes": ["id", "author", "body"],
    "inbox": ["id", "body"],
    "contacts": ["id", "name", "number"],
    "tree": ["id", "parent", "label"],
}
NAMES = ["ssn", "motto", "id", "name", "body", "number", "x"]
DEPTH = 3


class Scopes:
    """Draws a query. A scope is a list of levels, innermost last, each a list of (alias, names of columns)."""

    def __init__(self, draw):
        self._draw = draw
        self._aliases = 0

    def pick(self, items):
        return self._draw(st.sampled_from(list(items)))

    def chance(self, percent):
        return self._draw(st.integers(0, 99)) < percent

    def alias(self):
        self._aliases += 1
        return self.pick(["customers", "notes", "ssn"]) if self.chance(15) else f"q{self._aliases}"

    def column(self, levels):
        """A reference, which may lead out of its level."""
        sources = [source for level in levels for source in level if source[1]]
        if not sources or self.chance(5):
            return "'z'"
        alias, names = self.pick(sources)
        name = self.pick(names)
        # A bare name is looked for level by level; where one has it twice, the server refuses it.
        counts = (sum(columns.count(name) for _, columns in level) for level in reversed(levels))
        if next(count for count in counts if count) == 1 and self.chance(50):
            return name
        return self.pick([f"{alias}.{name}", f"{alias}.{name}", f"({alias}).{name}"])

    def expression(self, levels, depth):
        kinds = {
            "upper": lambda: f"upper(({self.expression(levels, depth - 1)})::text)",
            "pair": lambda: f"concat({self.expression(levels, depth - 1)}, {self.column(levels)})",
            "case": lambda: f"case when {self.condition(levels, depth - 1)} then {self.column(levels)}::text else 'k' end",
            "scalar": lambda: f"({self.query(levels, depth - 1, width=1)[0]} limit 1)",
            "nested": lambda: f"(select {self.expression([*levels, []], depth - 1)})",
            "array": lambda: f"array_to_string(array({self.query(levels, depth - 1, width=1)[0]}), ',')",
            "row": lambda: f"row({self.column(levels)}, {self.column(levels)})::text",
            "column": lambda: self.column(levels),
        }
        return kinds[self.pick([*kinds, "column"]) if depth else "column"]()

    def condition(self, levels, depth):
        if depth and self.chance(30):
            return f"exists ({self.query(levels, depth - 1, width=1)[0]})"
        return self.pick(["true", f"{self.column(levels)} is not null", f"({self.column(levels)})::text < 'h'"])

    def renamed(self, alias, names):
        """An alias, with other names for the first columns now and then."""
        if not names or self.chance(60):
            return alias, [(alias, names)]
        new = [self.pick(NAMES) for _ in range(self._draw(st.integers(1, len(names))))]
        return f"{alias}({', '.join(new)})", [(alias, new + names[len(new) :])]

    def source(self, levels, before, depth):
        """An entry of FROM, and what it brings into scope; `before` are its neighbours to the left."""
        kind = self.pick(["table", "table", "query", "lateral", "function", "values", "join", "join"]) if depth else "table"
        if kind == "join":
            return self.join(levels, before, depth)
        if kind == "function":
            return self.function([*levels, before])
        if kind == "table":
            text, names = self.pick(list(TABLES.items()))
            if self.chance(30) and all(alias != text for alias, _ in before):
                return self.pick([text, f"public.{text}"]), [(text, names)]
        elif kind == "values":
            text, names = f"(values ({self.column(levels)}), (null))", ["column1"]
        else:
            text, names = self.query([*levels, before] if kind == "lateral" else levels, depth - 1)
            text = f"{'lateral ' if kind == 'lateral' else ''}({text})"
        written, brought = self.renamed(self.alias(), names)
        return f"{text} as {written}", brought

    def join(self, levels, before, depth):
        """Two sources, merged by a column or by a condition that sees only the two."""
        left, left_brings = self.source(levels, before, depth - 1)
        right, right_brings = self.source(levels, before + left_brings, depth - 1)
        both = left_brings + right_brings
        shared = {name for _, names in left_brings for name in names} & {name for _, names in right_brings for name in names}
        if shared and self.chance(40):
            merged = self.pick(sorted(shared))
            if self.chance(30):
                alias = self.alias()  # of the merged column alone; the two stay visible
                return f"{left} join {right} using ({merged}) as {alias}", [*both, (alias, [merged])]
            return f"({left} join {right} using ({merged}))", both
        if self.chance(25):
            alias, names = self.alias(), [name for _, columns in both for name in columns]  # hides the two
            return f"({left} cross join {right}) as {alias}", [(alias, names)]
        return f"({left} {self.pick(['join', 'left join'])} {right} on {self.condition([*levels, both], depth - 1)})", both

    def function(self, levels):
        alias, name, value = self.alias(), self.pick(NAMES), self.column(levels)
        written = self.pick(
            [
                "generate_series(1, 2) as {a}",
                "unnest(array[({v})::text, 'k']) as {a}({n})",
                "unnest(array[({v})::text]) with ordinality as {a}",
                "json_to_record(json_build_object('{n}', {v})) as {a}({n} text)",
                "upper(({v})::text) as {a}",
                "xmltable('/a' passing xmlelement(name a, {v}) columns {n} text path '.') as {a}",
            ]
        )
        return written.format(a=alias, n=name, v=value), [(alias, [name, alias])]

    def query(self, levels, depth, width=None):
        """A query and the names of its outputs as far as they are given."""
        brought, sources = [], []
        for _ in range(self.pick([1, 1, 2])):
            text, more = self.source(levels, brought, depth)
            sources.append(text)
            brought = brought + more
        targets, names = [], []
        for _ in range(width or self.pick([1, 2, 3])):
            if width is None and self.chance(20):
                alias, columns = self.pick(brought)
                targets.append(f"{alias}.*")
                names += columns
                continue
            name = self.pick(NAMES)
            targets.append(f"{self.expression([*levels, brought], depth)} as {name}")
            names.append(name)
        where = f" where {self.condition([*levels, brought], depth)}" if self.chance(25) else ""
        return f"select {', '.join(targets)} from {', '.join(sources)}{where}", names


@st.composite
def queries(draw):
    return Scopes(draw).query([], DEPTH)[0]


ITEMS = {
    "upper({v})": "upper",
    "concat({v}, 'k')": "concat",
    "cast({v} as text)": "ssn",
    "cast(('k' || {v}) as text)": "text",
    "coalesce({v}, 'k')": '"coalesce"',
    "nullif({v}, 'k')": '"nullif"',
    "greatest({v}, 'k')": '"greatest"',
    "(array[{v}])[1]": '"array"',
    "rows from (upper({v}), concat('k', {v}))": "upper",
    "rows from (concat('k', {v}), upper({v}))": "concat",
    "xmltable('/a' passing xmlelement(name a, {v}) columns {x} text path '.')": "xmltable",
    "upper({v}) as {t}({x})": "upper",
    "upper({v}) with ordinality as {t}({x})": "upper",
    "concat({v}, 'k') as {t}": "concat",
    "jsonb_array_elements_text(jsonb_build_array({v})) as {t}": "text",
    "json_to_record(json_build_object('{x}', {v})) as {t}({x} text)": "concat",
    "(select {v} as {x}) as {t}": "text",
    "(tree as {t} cross join upper({v}) as u) as j": "text",
    "(tree as u cross join upper({v}) as w) as {t}": "text",
    "(select 2 as id, 'm' as {x}) as u join (select 2 as id, {v} as {x}) as w using (id) as {t}": "text",
    "(select {v} as {x}) as {t} natural join (select 'm' as {x}) as u": "text",
    "(select {v} as {x})": "unnamed_subquery",
    "(values ({v}), ('m'))": '"*VALUES*"',
    "lateral (values ({v}), ('m') order by column1 || '' limit 1) as {t}({x})": "column1",
    "lateral (values ({v}), ('m') order by {t}.column1 limit 1) as w({x})": '"*VALUES*"',
}
"""What can stand in FROM over a value, and what the server may call it."""


@st.composite
def met_names(draw):
    """A query in which a relation outside has the name of an item of FROM, or nearly."""
    item, called = draw(st.sampled_from(sorted(ITEMS.items())))
    taken = draw(st.sampled_from([called, called, called, "c", "ssn", "upper"]))
    field = draw(st.sampled_from([taken, taken, "ssn", "id", "column1", "upper", "ascii", "text", "x"]))
    value = draw(st.sampled_from(["c.ssn", "c.ssn", "c.motto", "c.name"]))
    outer = draw(st.sampled_from(["tree", "orders", "customers"]))
    alias = draw(st.sampled_from([taken, f"{taken}({field})", f"{taken}({field})"]))
    written = item.format(v=value, x=field.strip('"*'), t=taken)
    shown = draw(st.sampled_from([f"{taken}.{field}", f"{taken}.{field}", f"({taken}).{field}", field, f"{taken}::text"]))
    inner = f"select ({shown})::text as v from customers c, {written} where c.id = 2"
    return f"select y.v from {outer} as {alias}, lateral ({inner}) as y"


@pytest.fixture(scope="module")
def snapshot(world):
    for database in ("plum", "kiwi"):
        world.restore(database)  # other cases have written to it
    return build_snapshot({name: world.ask("plum", sql) for name, sql in QUERIES.items()})


def run_past(world, database, sql):
    """Rows and description of a query, without the gateway; None where the server refuses it."""
    try:
        return world.describe(database, f"{sql} limit 60")
    except psycopg.Error:
        return None


@LAW
@given(sql=queries() | met_names())
def test_what_is_shown_is_the_same_whatever_the_sensitive_values_are(world, snapshot, sql):
    answers = [run_past(world, database, sql) for database in ("plum", "kiwi")]
    if None in answers or len(answers[0][1]) == 60:
        return
    facts = {CATALOG: snapshot}
    action = describe(Statement(sql), facts, SETTINGS)
    used = [column for statement in action.facts["statements"] for column in statement["columns"]]
    is_stopped = any(column["sensitive"] and column["use"] in {"predicate", "computed"} for column in used)
    if action.parse_status != "ok" or "unknown" in action.effects or is_stopped:
        return
    shown = describe_rows(action, answers[0][0], facts, SETTINGS).response["columns"]
    plum, kiwi = (
        sorted(repr([None if column["sensitive"] else cell for column, cell in zip(shown, row, strict=True)]) for row in rows)
        for _, rows in answers
    )
    assert plum == kiwi, sql
