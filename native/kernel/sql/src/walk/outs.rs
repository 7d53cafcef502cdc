//! What a query delivers: the entries of its output list, and what a name reaches among them.
//!
//! Where a row holds the columns of stars, only the catalogue knows what they are called; the names of such columns begin with a
//! mark that says so (`rows.py` reads them). Every mark begins with a NUL, which no name of a column can hold.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::with::is_marker;
use crate::facts::{Column, Output, OutputKind};

/// Begins the name of a column that one of several stars of a row may have: then the number of the row, and the name.
const STAR_OF_ROW: &str = "\0\u{1}";

/// Begins the name of a column of the same row beside the stars: the number of the row, the name that was looked for, the column's own.
const REST_OF_ROW: &str = "\0\u{2}";

/// Begins the name of a column that counts only where the relation has it.
pub(super) const IF_THERE: &str = "\0\u{3}";

/// PostgreSQL allows no more entries in an output list (`MaxTupleAttributeNumber`).
pub(super) const MAX_OUTPUTS: usize = 1_664;

/// What a subquery, CTE or function delivers.
#[derive(Clone, Debug, Default)]
pub(super) struct Outs {
    pub entries: Vec<Output>,
    /// Entry n is result column n; false once a star or a merged join column makes the positions unsure.
    pub positional: bool,
    /// A NATURAL or USING join below moved columns, so not even the order of the entries is that of the result.
    pub merged: bool,
}

impl Outs {
    /// One entry of which nothing but its origin is known.
    pub fn opaque(columns: Vec<Column>) -> Outs {
        Outs {
            entries: vec![Output {
                name: None,
                kind: OutputKind::Unknown,
                columns,
            }],
            positional: false,
            merged: false,
        }
    }

    /// Every column in any entry.
    pub fn all_columns(&self) -> Vec<Column> {
        let mut columns: Vec<Column> = self
            .entries
            .iter()
            .flat_map(|entry| entry.columns.iter().cloned())
            .collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Adds columns that whatever is computed here depends on.
    pub fn compute_from(&mut self, columns: &[Column]) {
        for entry in &mut self.entries {
            if matches!(entry.kind, OutputKind::Expression | OutputKind::Unknown) {
                entry.columns.extend_from_slice(columns);
                entry.columns.sort_unstable();
                entry.columns.dedup();
            }
        }
    }

    /// The same, under the column names an alias gives.
    pub fn renamed(mut self, names: &[String]) -> Outs {
        if names.is_empty() {
            return self;
        }
        let starred = self
            .entries
            .iter()
            .take(names.len())
            .any(|entry| matches!(entry.kind, OutputKind::Star | OutputKind::Unknown));
        if !self.positional || starred || names.len() > self.entries.len() {
            return Outs::opaque(self.all_columns());
        }
        for (entry, name) in self.entries.iter_mut().zip(names) {
            entry.name = Some(name.clone());
        }
        self
    }

    /// What a set operation delivers of this and another arm.
    pub fn unite(self, right: &Outs) -> Outs {
        if !self.is_exact() || !right.is_exact() || self.entries.len() != right.entries.len() {
            let mut columns = self.all_columns();
            columns.extend(right.all_columns());
            columns.sort_unstable();
            columns.dedup();
            return Outs::opaque(columns);
        }
        let mut entries = self.entries;
        for (entry, other) in entries.iter_mut().zip(&right.entries) {
            if entry.kind != other.kind {
                entry.kind = OutputKind::Expression;
            }
            entry.columns.extend(other.columns.iter().cloned());
            entry.columns.sort_unstable();
            entry.columns.dedup();
        }
        Outs {
            entries,
            positional: true,
            merged: false,
        }
    }

    /// Whether each entry is one column, in its place.
    fn is_exact(&self) -> bool {
        self.positional
            && self
                .entries
                .iter()
                .all(|entry| !matches!(entry.kind, OutputKind::Star | OutputKind::Unknown))
    }

    /// Whether `name` may be none of the columns, so that PostgreSQL takes it for a function of the row. A star stands for columns of
    /// a relation, of which the catalogue says whether it has that one.
    pub fn may_lack(&self, name: &str) -> bool {
        let mut entries = self.entries.iter();
        !entries.any(|entry| entry.name.as_deref() == Some(name))
            && self
                .entries
                .iter()
                .any(|entry| entry.name.is_none() && entry.kind != OutputKind::Star)
    }

    /// What `row.name` reaches besides, where stars stand beside other columns: whether one of their relations has such a column is the
    /// catalogue's to say, and if none has, PostgreSQL takes the name for a function of the whole row. `None` where that is not so.
    pub fn find_either(&self, name: &str) -> Option<Vec<Column>> {
        let is_called = self
            .entries
            .iter()
            .any(|entry| entry.name.as_deref() == Some(name));
        let has_star = self
            .entries
            .iter()
            .any(|entry| entry.kind == OutputKind::Star);
        if is_called || !has_star || self.entries.len() < 2 {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        for entry in &self.entries {
            entry.columns.hash(&mut hasher);
            (entry.kind == OutputKind::Star).hash(&mut hasher);
        }
        let row = hasher.finish();
        let mut found = Vec::new();
        for entry in &self.entries {
            for column in &entry.columns {
                found.push(if is_marker(column) {
                    column.clone()
                } else if entry.kind == OutputKind::Star {
                    Column {
                        name: format!("{STAR_OF_ROW}{row:x}{STAR_OF_ROW}{name}"),
                        ..column.clone()
                    }
                } else {
                    Column {
                        name: format!(
                            "{REST_OF_ROW}{row:x}{REST_OF_ROW}{name}{REST_OF_ROW}{}",
                            column.name
                        ),
                        ..column.clone()
                    }
                });
            }
        }
        Some(found)
    }

    /// What a reference by name reaches; `None` when no entry can have that name.
    pub fn find(&self, name: &str) -> Option<Found> {
        let exact: Vec<&Output> = self
            .entries
            .iter()
            .filter(|entry| entry.name.as_deref() == Some(name))
            .collect();
        if !exact.is_empty() {
            return Some(Found {
                columns: exact
                    .iter()
                    .flat_map(|entry| entry.columns.iter().cloned())
                    .collect(),
                kind: exact
                    .iter()
                    .fold(OutputKind::Column, |kind, entry| worse(kind, entry.kind)),
                is_certain: true,
            });
        }
        let mut found = None;
        let stars = self
            .entries
            .iter()
            .filter(|entry| entry.kind == OutputKind::Star)
            .count();
        for entry in self.entries.iter().filter(|entry| entry.name.is_none()) {
            let found = found.get_or_insert(Found::default());
            if entry.kind == OutputKind::Star {
                found.columns.extend(entry.columns.iter().map(|star| {
                    if is_marker(star) {
                        return star.clone(); // a column of a recursion, whatever it is called
                    }
                    Column {
                        schema: star.schema.clone().filter(|_| stars == 1),
                        table: star.table.clone().filter(|_| stars == 1),
                        name: name.to_owned(),
                    }
                }));
            } else {
                found.kind = worse(found.kind, entry.kind);
                found.columns.extend(entry.columns.iter().cloned());
            }
        }
        found
    }
}

/// The columns behind a name, and what their value is by then.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub columns: Vec<Column>,
    pub kind: OutputKind,
    /// There is a column of that name, so the name is not looked for further out.
    pub is_certain: bool,
}

impl Default for Found {
    fn default() -> Self {
        Found {
            columns: Vec::new(),
            kind: OutputKind::Column,
            is_certain: false,
        }
    }
}

/// The one of two kinds that says less.
pub(super) fn worse(one: OutputKind, other: OutputKind) -> OutputKind {
    let rank = |kind| match kind {
        OutputKind::Column | OutputKind::Star => 0,
        OutputKind::Expression => 1,
        OutputKind::Unknown => 2,
    };
    if rank(other) > rank(one) {
        other
    } else {
        one
    }
}
