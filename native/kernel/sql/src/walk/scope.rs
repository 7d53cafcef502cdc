//! Names in scope: which relations a query reads from, what its subqueries deliver, and what a column reference can mean.
//!
//! Where the text alone does not decide, the answer is the larger set: a column that could be one of several is reported
//! without a relation, and a column of a subquery that cannot be matched by name is reported as all of them.

use std::rc::Rc;

use super::outs::{worse, Found, Outs, MAX_OUTPUTS};
use crate::facts::{Column, Name, Output, OutputKind};

/// Something a FROM list, a target or a join brings into scope.
#[derive(Clone, Debug)]
pub(super) enum Relation {
    /// A relation of the database; `renamed` holds the names an alias gives to its first columns.
    Table { table: Name, renamed: Vec<String> },
    /// A subquery, CTE, function, VALUES list or aliased join.
    Derived(Rc<Outs>),
}

/// A relation under the name it is visible by.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub alias: String,
    pub relation: Relation,
    /// Reachable with its alias only: not part of `*`, nor of unqualified names (`excluded`, `old`, `new`, join aliases).
    pub hidden: bool,
    /// Names of its columns, where it is a call in FROM: any other name behind its alias is a call with its value, or a cast of it.
    pub called: Option<Vec<String>>,
}

impl Source {
    /// What `alias.name` reaches; `None` when there can be no such column.
    pub fn find(&self, name: &str) -> Option<Found> {
        match &self.relation {
            Relation::Table { table, renamed } if renamed.iter().any(|alias| alias == name) => {
                Some(Found {
                    columns: positions_of(table, renamed, name),
                    kind: OutputKind::Column,
                    is_certain: true,
                })
            }
            Relation::Table { table, .. } => {
                let column = Column {
                    schema: table.schema.clone(),
                    table: Some(table.name.clone()),
                    name: name.to_owned(),
                };
                Some(Found {
                    columns: vec![column],
                    kind: OutputKind::Column,
                    is_certain: false,
                })
            }
            Relation::Derived(outs) => outs.find(name),
        }
    }

    fn find_either(&self, name: &str) -> Option<Vec<Column>> {
        match &self.relation {
            Relation::Derived(outs) => outs.find_either(name),
            Relation::Table { .. } => None,
        }
    }

    /// Whether `alias.name` may be no column but a call of the function `name`; of a relation the catalogue tells.
    pub fn may_lack(&self, name: &str) -> bool {
        matches!(&self.relation, Relation::Derived(outs) if outs.may_lack(name))
    }

    /// What `alias.*` expands to.
    pub fn star(&self) -> Vec<Output> {
        match &self.relation {
            Relation::Table { table, renamed } => {
                let kind = if renamed.is_empty() {
                    OutputKind::Star
                } else {
                    OutputKind::Unknown
                };
                vec![Output {
                    name: None,
                    kind,
                    columns: vec![star_of(table)],
                }]
            }
            Relation::Derived(outs) => outs.entries.clone(),
        }
    }

    /// Whether a join below moved the columns of `alias.*`.
    pub fn is_merged(&self) -> bool {
        matches!(&self.relation, Relation::Derived(outs) if outs.merged)
    }

    /// Whether `alias.*` has known positions.
    pub fn is_positional(&self) -> bool {
        matches!(&self.relation, Relation::Derived(outs) if outs.positional)
    }
}

/// The columns an alias list gives a name to, by their place in the relation: only the catalogue knows what they are called.
fn positions_of(table: &Name, renamed: &[String], name: &str) -> Vec<Column> {
    renamed
        .iter()
        .enumerate()
        .filter(|(_, alias)| *alias == name)
        .map(|(index, _)| Column {
            name: format!("{POSITION}{}", index + 1),
            ..star_of(table)
        })
        .collect()
}

/// What a column's name begins with when it is a place, counted from one. No name of a column holds a NUL.
const POSITION: char = '\0';

/// Every column of a relation.
pub(super) fn star_of(table: &Name) -> Column {
    Column {
        schema: table.schema.clone(),
        table: Some(table.name.clone()),
        name: "*".to_owned(),
    }
}

/// A CTE by name.
#[derive(Clone, Debug)]
pub(super) struct Cte {
    pub name: String,
    /// Absent while its own body or one before it is walked.
    pub outs: Option<Rc<Outs>>,
    /// It was referenced while `outs` was absent, so every use of it must be assumed.
    pub used_early: bool,
    /// See `Walker::digits`; each use looks at its rows again. Absent while its own body or one before it is walked.
    pub digits: Option<u32>,
}

/// One level of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub sources: Vec<Source>,
    pub ctes: Vec<Cte>,
    /// A NATURAL or USING join merges columns, so star positions are unsure.
    pub merges: bool,
}

impl Frame {
    /// What `*` expands to.
    pub fn star(&self) -> Outs {
        let visible: Vec<&Source> = self
            .sources
            .iter()
            .filter(|source| !source.hidden)
            .collect();
        let positional = !self.merges && visible.iter().all(|source| source.is_positional());
        let merged = self.merges || visible.iter().any(|source| source.is_merged());
        let mut entries = Vec::new();
        for source in visible {
            entries.extend(source.star());
            if entries.len() > MAX_OUTPUTS {
                return Outs::opaque(
                    Outs {
                        entries,
                        positional,
                        merged,
                    }
                    .all_columns(),
                );
            }
        }
        Outs {
            entries,
            positional,
            merged,
        }
    }
}

/// What a column reference can mean.
#[derive(Debug)]
pub(super) struct Meaning {
    pub columns: Vec<Column>,
    /// It is a relation or may be one, so its value may be the whole row.
    pub whole_row: bool,
    /// No column can have that name: PostgreSQL would call a function of that name with the row.
    pub call: Option<String>,
    /// That function is given a value, not a row.
    pub computes: bool,
    /// What the value is: a column as it is, computed from columns, or not known.
    pub kind: OutputKind,
}

impl Default for Meaning {
    fn default() -> Self {
        Meaning {
            columns: Vec::new(),
            whole_row: false,
            call: None,
            computes: false,
            kind: OutputKind::Column,
        }
    }
}

/// Resolves a reference through the frames, innermost last.
pub(super) fn resolve(frames: &[Frame], fields: &[String]) -> Meaning {
    match fields {
        [] => Meaning::default(),
        [name] => unqualified(frames, name),
        [qualifier, name] => qualified(frames, qualifier, name),
        [.., schema, table, name] => dotted(frames, schema, table, name),
    }
}

fn unqualified(frames: &[Frame], name: &str) -> Meaning {
    let mut meaning = Meaning::default();
    if let Some(source) = visible(frames, name) {
        // PostgreSQL prefers a column of that name and takes the whole row otherwise.
        meaning.whole_row = true;
        meaning
            .columns
            .extend(source.star().into_iter().flat_map(|entry| entry.columns));
    }
    column_named(frames, name, meaning)
}

/// What a name means besides, where it is that of a column.
pub(super) fn column_named(frames: &[Frame], name: &str, mut meaning: Meaning) -> Meaning {
    let tables = frames
        .iter()
        .flat_map(|frame| &frame.sources)
        .filter(|source| !source.hidden)
        .collect::<Vec<_>>();
    for (level, frame) in frames.iter().enumerate().rev() {
        let mut is_certain = false;
        for source in frame.sources.iter().filter(|source| !source.hidden) {
            if let (Relation::Derived(_), Some(reached)) = (&source.relation, source.find(name)) {
                meaning.columns.extend(reached.columns);
                meaning.kind = worse(meaning.kind, reached.kind);
                is_certain |= reached.is_certain;
            }
        }
        let only_derived = frame
            .sources
            .iter()
            .all(|source| matches!(source.relation, Relation::Derived(_)));
        // A source that only may have the column leaves it to the queries around to have it.
        if is_certain && level + 1 == frames.len() && only_derived && !meaning.whole_row {
            return meaning;
        }
    }
    match tables.as_slice() {
        [only] => {
            // A name that cannot be there is the server's error, or something this walk does not foresee.
            let reached = only.find(name).unwrap_or_else(|| Found {
                columns: only
                    .star()
                    .into_iter()
                    .flat_map(|entry| entry.columns)
                    .collect(),
                kind: OutputKind::Unknown,
                is_certain: false,
            });
            meaning.columns.extend(reached.columns);
            meaning.kind = worse(meaning.kind, reached.kind);
        }
        _ => meaning.columns.push(Column {
            schema: None,
            table: None,
            name: name.to_owned(),
        }),
    }
    // A renamed column of a table can be meant by any unqualified name.
    for source in tables {
        if let Relation::Table { table, renamed } = &source.relation {
            if renamed.iter().any(|alias| alias == name) {
                meaning.columns.extend(positions_of(table, renamed, name));
            }
        }
    }
    meaning
}

fn qualified(frames: &[Frame], qualifier: &str, name: &str) -> Meaning {
    let Some(source) = visible(frames, qualifier) else {
        // Not a relation in scope: a field of a composite column, or an error of the server's.
        let mut meaning = unqualified(frames, qualifier);
        meaning.kind = OutputKind::Unknown;
        meaning.columns.push(Column {
            schema: None,
            table: Some(qualifier.to_owned()),
            name: name.to_owned(),
        });
        return meaning;
    };
    let computes = source
        .called
        .as_ref()
        .is_some_and(|columns| !columns.iter().any(|column| column == name));
    match source.find(name) {
        Some(mut found) => {
            if let Some(columns) = source.find_either(name) {
                found.columns = columns;
                found.kind = if source.may_lack(name) {
                    OutputKind::Unknown
                } else {
                    found.kind
                };
            }
            let call = source.may_lack(name).then(|| name.to_owned());
            if call.is_some() {
                let row = source.star().into_iter().flat_map(|entry| entry.columns);
                found.columns.extend(row);
                found.kind = OutputKind::Unknown;
            }
            Meaning {
                columns: found.columns,
                kind: found.kind,
                call,
                computes,
                ..Meaning::default()
            }
        }
        None => Meaning {
            columns: source
                .star()
                .into_iter()
                .flat_map(|entry| entry.columns)
                .collect(),
            whole_row: true,
            call: Some(name.to_owned()),
            computes,
            kind: OutputKind::Unknown,
        },
    }
}

fn dotted(frames: &[Frame], schema: &str, table: &str, name: &str) -> Meaning {
    // Where a bare name in FROM is a relation of another schema, the server knows none of this name.
    let in_scope = !in_schema(frames, schema, table).is_empty();
    let mut columns = vec![Column {
        schema: Some(schema.to_owned()),
        table: Some(table.to_owned()),
        name: name.to_owned(),
    }];
    if !in_scope {
        // relation.column.field: the column is the middle part.
        columns.extend(qualified(frames, schema, table).columns);
    }
    Meaning {
        columns,
        kind: if in_scope {
            OutputKind::Column
        } else {
            OutputKind::Unknown
        },
        ..Meaning::default()
    }
}

/// The relations `schema.table` can mean: PostgreSQL looks for the relation itself, whatever else has its name as an alias.
pub(super) fn in_schema<'a>(frames: &'a [Frame], schema: &str, table: &str) -> Vec<&'a Source> {
    frames
        .iter()
        .flat_map(|frame| &frame.sources)
        .filter(|source| {
            matches!(&source.relation, Relation::Table { table: known, .. } if known.name == table
                && source.alias == known.name
                && known.schema.as_deref().is_none_or(|known| known == schema))
        })
        .collect()
}

/// Whether a column that is written with its table, and maybe its schema, is that of a relation in scope, which may be written without.
pub(super) fn is_of(frames: &[Frame], target: &Name, column: &Column) -> bool {
    if column.table.as_ref() != Some(&target.name) {
        return false;
    }
    match (&column.schema, &target.schema) {
        (Some(schema), None) => in_schema(frames, schema, &target.name)
            .iter()
            .all(|source| matches!(&source.relation, Relation::Table { table, .. } if table.schema.is_none())),
        (named, own) => named == own,
    }
}

/// The innermost source visible under a name.
pub(super) fn visible<'a>(frames: &'a [Frame], alias: &str) -> Option<&'a Source> {
    frames.iter().rev().find_map(|frame| {
        frame
            .sources
            .iter()
            .rev()
            .find(|source| source.alias == alias)
    })
}
