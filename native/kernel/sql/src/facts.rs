//! What one statement is and touches: structure only, never literals.

use std::collections::BTreeSet;

use crate::effects::EffectSet;

/// How a relation is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Its definition is created, changed or dropped, or rights on it change.
    Define,
    /// It is locked explicitly.
    Lock,
    /// Its rows are read.
    Read,
    /// Its rows change.
    Write,
}

impl Access {
    /// The name in the facts.
    pub fn name(self) -> &'static str {
        match self {
            Access::Define => "define",
            Access::Lock => "lock",
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// A relation as the text names it. CTE names are not relations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// As written; absent when the search path decides.
    pub schema: Option<String>,
    /// The relation's name, folded as PostgreSQL folds it.
    pub name: String,
    /// How it is touched.
    pub access: Access,
}

/// What a column's value can influence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Anything else: an argument, a computed output, a value that is copied elsewhere.
    Other,
    /// The same, where the server's work depends on the value: what it evaluates, how large the result is. It is `Other` as well.
    Computed,
    /// Delivered as it is in an output column.
    Output,
    /// It decides which rows, in which order or grouping.
    Predicate,
}

impl Usage {
    /// The name in the facts.
    pub fn name(self) -> &'static str {
        match self {
            Usage::Other => "other",
            Usage::Computed => "computed",
            Usage::Output => "output",
            Usage::Predicate => "predicate",
        }
    }
}

/// A column as far as the text tells: `table` is absent when more than one relation could have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    /// Schema of `table`, as written.
    pub schema: Option<String>,
    /// The relation, aliases resolved.
    pub table: Option<String>,
    /// The column; `*` stands for every column of the relation.
    pub name: String,
}

/// A function called by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// As written, or `pg_catalog` for SQL syntax that stands for a function.
    pub schema: Option<String>,
    /// The function's name.
    pub name: String,
    /// How many arguments are given.
    pub args: usize,
}

/// A possibly qualified name of an operator or type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// As written.
    pub schema: Option<String>,
    /// The last part.
    pub name: String,
}

/// What one output column is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// A column as it is.
    Column,
    /// Computed from the columns named.
    Expression,
    /// Every column of the relations named.
    Star,
    /// Cannot be told from the text.
    Unknown,
}

impl OutputKind {
    /// The name in the facts.
    pub fn name(self) -> &'static str {
        match self {
            OutputKind::Column => "column",
            OutputKind::Expression => "expression",
            OutputKind::Star => "star",
            OutputKind::Unknown => "unknown",
        }
    }
}

/// One entry of the output list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The result column's name where the text fixes it.
    pub name: Option<String>,
    /// What it is.
    pub kind: OutputKind,
    /// The columns it is made of, as far as known.
    pub columns: Vec<Column>,
}

/// Details of COPY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// FROM (into a relation) rather than TO.
    pub is_from: bool,
    /// "stdin", "stdout", "file" or "program".
    pub source: &'static str,
    /// The relation, when it is not a query.
    pub relation: Option<Name>,
    /// Whether a query is copied.
    pub query: bool,
    /// The column list as written; empty means all.
    pub columns: Vec<String>,
    /// "text", "csv", "binary", or whatever the text asks for.
    pub format: String,
    /// Options as written.
    pub delimiter: Option<String>,
    /// The null marker as written.
    pub null: Option<String>,
    /// Whether a header line is asked for ("match" counts).
    pub header: bool,
    /// The quote character as written.
    pub quote: Option<String>,
    /// The escape character as written.
    pub escape: Option<String>,
    /// The encoding as written.
    pub encoding: Option<String>,
}

/// Rows of a relation that have certain values in some of its columns: one for each combination of values, where the columns hold a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The relation as written.
    pub table: Name,
    /// The columns.
    pub columns: BTreeSet<String>,
    /// How many combinations of values.
    pub times: u64,
    /// Of columns that are compared with one value each: which.
    pub said: Vec<(String, Said)>,
}

/// A value as a text has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A constant: the text of a number or string.
    Constant(String),
    /// The number of a parameter, from 1.
    Parameter(i32),
}

/// One statement.
#[derive(Clone, Debug, Default)]
pub struct Statement {
    /// What kind of statement, such as "select" or "create_table".
    pub verb: &'static str,
    /// The kind of object an ALTER, DROP, GRANT or COMMENT is about.
    pub object: Option<&'static str>,
    /// The statement's own slice of the source.
    pub text: String,
    /// Never empty.
    pub effects: EffectSet,
    /// Every relation anywhere in the statement.
    pub tables: BTreeSet<Table>,
    /// Every column referenced anywhere, with what it is used for.
    pub columns: BTreeSet<(Column, Usage)>,
    /// Those whose values stand where the server gives several one type: arms of a UNION, elements of an array, results of a CASE.
    pub blended: BTreeSet<Column>,
    /// Columns that are assigned to.
    pub assigned: BTreeSet<Column>,
    /// Of a body of PL/pgSQL, the columns of `new` that it gives a value; `*` for every one.
    pub filled: BTreeSet<String>,
    /// Columns that ON CONFLICT DO UPDATE sets, which are among those that are assigned.
    pub reassigned: BTreeSet<String>,
    /// How many rows its INSERTs and UPDATEs write at most, beside those of `keyed_rows` and, with the flag `open_ended`, more.
    pub stated_rows: u64,
    /// A value that is assigned, or an argument of EXECUTE, is not simply there in the text or its parameters.
    pub makes_values: bool,
    /// It has numbers such as `1_000` or `0x1F`, which servers before 15 read as a number and an alias.
    pub has_new_numbers: bool,
    /// What names rows by values.
    pub keyed_rows: Vec<Keyed>,
    /// Every function called by name anywhere.
    pub functions: BTreeSet<Function>,
    /// Names used as a field of a row, which PostgreSQL takes for a function when the row has no such field.
    pub attributes: BTreeSet<String>,
    /// Every operator used.
    pub operators: BTreeSet<Name>,
    /// Every type cast to or declared.
    pub types: BTreeSet<Name>,
    /// Every UPDATE and DELETE has a WHERE; without any, whether the main query has one.
    pub has_where: bool,
    /// Whether the main query has a row limit.
    pub has_limit: bool,
    /// Settings that are set or reset, lower case; "all" for every one.
    pub set_vars: BTreeSet<String>,
    /// EXPLAIN that runs what it explains.
    pub is_explain_analyze: bool,
    /// Equal for statements that differ in literals only.
    pub fingerprint: String,
    /// Notable constructs.
    pub flags: BTreeSet<&'static str>,
    /// Details of COPY.
    pub copy: Option<Copy>,
    /// The output list of the statement, where it has one.
    pub outputs: Vec<Output>,
    /// The name PREPARE gives or EXECUTE uses.
    pub prepared_name: Option<String>,
    /// The cursor DECLARE makes, or FETCH, MOVE and CLOSE use; none for CLOSE ALL.
    pub cursor_name: Option<String>,
    /// Bare names under which relations are made, or come to stand by RENAME.
    pub new_names: BTreeSet<String>,
    /// The relation that ALTER TABLE or CREATE INDEX is about; the others it names are referred to.
    pub altered: Option<String>,
    /// Names that indexes and sequences of columns get: they are names of relations like any other.
    pub index_names: BTreeSet<String>,
    /// Columns that ALTER TABLE adds.
    pub added_columns: BTreeSet<String>,
    /// The verb of the statement inside PREPARE, EXPLAIN, DECLARE CURSOR, CREATE TABLE AS or COPY.
    pub nested: Option<&'static str>,
}
