"""What a PostgreSQL statement can do, read from PostgreSQL's own grammar (libpg_query 18)."""

from typing import Literal, NotRequired, TypedDict

class Name(TypedDict):
    """A possibly qualified name, as written. `schema` is absent where the search path decides."""

    schema: NotRequired[str]
    name: str

class Table(Name):
    """A relation and how it is touched. CTE names are not relations."""

    access: Literal["read", "write", "define", "lock"]

class Column(TypedDict):
    """A column as far as the text tells: `table` is absent when more than one relation could have it; name "*" is every column."""

    schema: NotRequired[str]
    table: NotRequired[str]
    name: str

class ColumnUse(Column):
    """A referenced column: "output" only when delivered as it is, "predicate" when it decides which rows or their order."""

    use: Literal["output", "predicate", "other"]

class Function(Name):
    """A function called by name, with the number of arguments given."""

    args: int

class Copy(TypedDict):
    """Details of COPY, options as written."""

    direction: Literal["to", "from"]
    source: Literal["stdin", "stdout", "file", "program"]
    relation: NotRequired[Name]
    query: bool
    columns: list[str]
    format: str
    header: bool
    delimiter: NotRequired[str]
    null: NotRequired[str]
    quote: NotRequired[str]
    escape: NotRequired[str]
    encoding: NotRequired[str]

class Output(TypedDict):
    """One entry of the output list: what it is, and the columns it is made of as far as the text tells."""

    name: NotRequired[str]
    kind: Literal["column", "expression", "star", "unknown"]
    columns: list[Column]

class Keyed(TypedDict):
    """Rows of a relation with certain values in `columns`: one for each of `times` combinations, where the columns hold a key.

    `said` has the value of each column that is compared with one: the text of a constant, or the number of a parameter from 1.
    """

    schema: NotRequired[str]
    name: str
    columns: list[str]
    times: int
    said: dict[str, str | int]

class Statement(TypedDict):
    """One statement. Facts of statements inside it (CTE, EXPLAIN, PREPARE, cursor, COPY query) are merged in.

    `attributes` are names used as a field of a row, which PostgreSQL takes for a function when the row has no such field.
    `assigned` are columns written to. `nested` is the verb of the statement inside, `object` what an ALTER, DROP or GRANT is about.
    `blended` are columns whose values stand where the server gives several one type: arms of a UNION, elements of an array, results of a
    CASE. `reassigned` are those that ON CONFLICT DO UPDATE sets. `filled` are the columns of `new` that a body of PL/pgSQL gives a value, `*` for every one.
    `stated_rows` is how many rows its INSERTs and UPDATEs write at most, beside those of `keyed_rows` and, with the flag `open_ended`, more.
    `makes_values` says that a value that is assigned, or an argument of EXECUTE, is not simply there in the text or its parameters.
    `has_new_numbers` says that there are numbers such as `1_000` or `0x1F`, which servers before 15 read as a number and an alias.
    `has_where` says of UPDATE and DELETE whether every one has a WHERE, else whether the main query has one.
    """

    verb: str
    text: str
    effects: list[str]
    tables: list[Table]
    columns: list[ColumnUse]
    blended: list[Column]
    assigned: list[Column]
    filled: list[str]
    reassigned: list[str]
    makes_values: bool
    has_new_numbers: bool
    stated_rows: int
    keyed_rows: list[Keyed]
    functions: list[Function]
    attributes: list[str]
    operators: list[Name]
    types: list[Name]
    has_where: bool
    has_limit: bool
    set_vars: list[str]
    is_explain_analyze: bool
    fingerprint: str
    flags: list[str]
    new_names: list[str]
    index_names: list[str]
    altered: str | None
    added_columns: list[str]
    outputs: list[Output]
    copy: NotRequired[Copy]
    object: NotRequired[str]
    prepared_name: NotRequired[str]
    cursor_name: NotRequired[str]
    nested: NotRequired[str]

class Analysis(TypedDict):
    """The outcome. After "failed" nothing may be assumed about the text; `reason` never quotes it."""

    status: Literal["ok", "failed"]
    reason: NotRequired[str]
    statement_count: int
    statements: list[Statement]

def analyze(sql: str, *, max_bytes: int = 1048576, max_depth: int = 256) -> Analysis:
    """Says what every statement of a text can do.

    Bad SQL, a text over `max_bytes`, nesting over `max_depth`, NUL characters and lone surrogates give status "failed", never an
    exception. The interpreter's lock is released while the text is parsed.
    """

def uses_whole_row(source: str) -> bool:
    """Whether the body of a trigger or rule uses the row it runs for as one value, as `to_jsonb(new)` does; also where it cannot be told."""

def find_row_fields(source: str) -> list[str]:
    """The fields of the row it runs for that the body of a trigger or rule names."""
