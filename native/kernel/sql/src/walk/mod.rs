//! The walk over one statement's tree.
//!
//! `visit` names every kind of node PostgreSQL's grammar knows, without a catch-all: a new kind does not compile, and a kind that
//! a raw tree cannot hold (the planner's and the rewriter's) has the effect `unknown`.

mod alter;
mod change;
mod code;
mod command;
mod copy;
mod definition;
mod expression;
mod filled;
mod implied;
mod names;
mod outs;
mod plain;
mod query;
mod quiet;
mod rows;
mod scope;
mod setting;
mod sources;
mod types;
mod visit;
mod with;

use std::collections::BTreeSet;

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use crate::effects::Effect;
use crate::facts::{Access, Column, Function, Name, Output, OutputKind, Statement, Table, Usage};
use crate::parse::{MAX_WORK, TOO};
use outs::Outs;
use scope::{resolve, Frame, Meaning};

#[cfg(test)]
mod tests;

/// Walks one statement. `work` counts steps over the whole text.
///
/// # Errors
/// The reason, when the tree is nested deeper or larger than allowed.
pub(crate) fn statement(
    node: Option<&pb::Node>,
    max_depth: usize,
    work: &mut usize,
) -> Result<Statement, String> {
    let mut walker = Walker {
        max_depth,
        work: *work,
        ..Walker::default()
    };
    match node.and_then(|node| node.node.as_ref()) {
        Some(node) => walker.top(node),
        None => walker.unknown(),
    }
    *work = walker.work;
    walker.finish()
}

/// The state of one walk.
#[derive(Default)]
struct Walker {
    statement: Statement,
    frames: Vec<Frame>,
    /// Column sets that collect what the expression being walked refers to, innermost last.
    taps: Vec<BTreeSet<Column>>,
    recursion: Option<with::Recursion>,
    /// Common table expressions seen, to number those that are recursive.
    recursions: usize,
    /// The next query's VALUES are stored by an INSERT.
    stores_values: bool,
    /// Calls of functions that return several rows, so far.
    set_calls: usize,
    /// Parameters are declared with types in which different keys may be equal.
    has_inexact_params: bool,
    /// How many of the expressions being walked give several values one type.
    blending: usize,
    depth: usize,
    max_depth: usize,
    work: usize,
    failure: Option<String>,
    /// UPDATE and DELETE statements seen, and how many of them have a WHERE.
    changes: usize,
    filtered: usize,
    /// Digits of how many combinations of rows the planner may take the statement to look at.
    digits: u32,
}

/// Digits of the rows of one relation; PostgreSQL's largest table has a few more, and no join of 28 of them.
const TABLE_DIGITS: u32 = 10;

/// Those of `generate_series`, whose bounds the planner believes: a bigint's.
const SERIES_DIGITS: u32 = 19;

/// Those of `unnest`: an array has at most 134,217,727 elements.
const ARRAY_DIGITS: u32 = 9;

/// Those of other functions that return sets, and of VALUES: a thousand, or as many as the text has room for.
const SET_DIGITS: u32 = 7;

/// Those of a SELECT by itself, which is a row where it has no FROM.
const QUERY_DIGITS: u32 = 1;

/// Those of ROLLUP, CUBE and GROUPING SETS: PostgreSQL takes 4,096 sets.
const GROUPING_DIGITS: u32 = 4;

/// Those of any other function: it may return a set, which counts as a thousand rows.
const CALL_DIGITS: u32 = 3;

/// From here on a plan can seem dearer than what costs of `1e-300` of the usual leave below those of a scan that is switched off (1e10).
const VAST_DIGITS: u32 = 280;

impl Walker {
    /// The statement itself: its outputs are delivered, and its main query decides `has_where` and `has_limit`.
    fn top(&mut self, node: &N) {
        let outs = self.deliver(node, Usage::Output);
        if plain::is_plain(node) {
            self.flag("plain_definition");
        }
        self.statement.outputs = outs.entries;
        if outs.merged {
            // The order is unsure: say what may be in there, not where.
            let columns = Outs {
                entries: std::mem::take(&mut self.statement.outputs),
                ..Outs::default()
            }
            .all_columns();
            self.statement.outputs = vec![Output {
                name: None,
                kind: OutputKind::Unknown,
                columns,
            }];
        }
    }

    /// Walks a statement whose rows go where `bare` says, and returns its output list.
    fn deliver(&mut self, node: &N, bare: Usage) -> Outs {
        match node {
            N::SelectStmt(select) => {
                self.verb("select");
                self.main_query(select);
                self.select(select, bare)
            }
            N::InsertStmt(_) => self.change_as("insert", node, bare),
            N::UpdateStmt(_) => self.change_as("update", node, bare),
            N::DeleteStmt(_) => self.change_as("delete", node, bare),
            N::MergeStmt(_) => self.change_as("merge", node, bare),
            N::CopyStmt(copy) => self.copy(copy),
            N::ExplainStmt(explain) => self.explain(explain),
            N::PrepareStmt(prepare) => self.prepare(prepare),
            N::DeclareCursorStmt(cursor) => self.declare_cursor(cursor),
            other => {
                self.visit(other, Usage::Other);
                Outs {
                    entries: Vec::new(),
                    positional: true,
                    merged: false,
                }
            }
        }
    }

    fn change_as(&mut self, verb: &'static str, node: &N, bare: Usage) -> Outs {
        self.verb(verb);
        self.change(node, bare)
    }

    /// The query whose rows the statement is about.
    fn main_query(&mut self, select: &pb::SelectStmt) {
        self.statement.has_where = select.where_clause.is_some();
        // LIMIT ALL and LIMIT NULL are no limit.
        self.statement.has_limit = match select.limit_count.as_deref().map(|limit| &limit.node) {
            Some(Some(N::AConst(constant))) => !constant.isnull,
            Some(Some(_)) => true,
            _ => false,
        };
    }

    fn finish(mut self) -> Result<Statement, String> {
        if let Some(reason) = self.failure {
            return Err(reason);
        }
        self.statement
            .columns
            .retain(|(column, _)| !with::is_marker(column));
        self.statement
            .blended
            .retain(|column| !with::is_marker(column));
        for output in &mut self.statement.outputs {
            output.columns.retain(|column| !with::is_marker(column));
        }
        if self.changes > 0 {
            self.statement.has_where = self.filtered == self.changes;
        }
        if self.statement.verb.is_empty() {
            self.statement.verb = "unknown";
        }
        if self.statement.effects.is_empty() {
            self.statement.effects.add(Effect::Unknown);
        }
        Ok(self.statement)
    }

    /// Goes one level deeper; false when that is not allowed any more.
    fn enter(&mut self) -> bool {
        self.work += 1;
        if self.failure.is_some() {
            return false;
        }
        if self.depth >= self.max_depth {
            self.failure = Some(format!(
                "{TOO}deeply nested: more than {} levels",
                self.max_depth
            ));
            return false;
        }
        if !self.has_work_left() {
            return false;
        }
        self.depth += 1;
        true
    }

    /// Whether the walk may go on; a statement that takes too long is not judged at all.
    fn has_work_left(&mut self) -> bool {
        if self.work > MAX_WORK {
            self.failure = Some(format!("{TOO}complex: more than {MAX_WORK} steps"));
        }
        self.failure.is_none()
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn effect(&mut self, effect: Effect) {
        self.statement.effects.add(effect);
    }

    fn effects(&mut self, effects: &[Effect]) {
        self.statement.effects.merge(effects.into());
    }

    fn unknown(&mut self) {
        self.effect(Effect::Unknown);
    }

    /// Not understood for a reason that who wrote the statement can do something about; the flag says which.
    fn unclear(&mut self, flag: &'static str) {
        self.unknown();
        self.flag(flag);
    }

    fn flag(&mut self, flag: &'static str) {
        self.statement.flags.insert(flag);
    }

    /// Names the statement, unless an outer one already did; the inner one is then noted. Of three, EXECUTE is: all else is in the text.
    fn verb(&mut self, verb: &'static str) {
        if self.statement.verb.is_empty() {
            self.statement.verb = verb;
        } else if self.statement.nested.is_none() || verb == "execute" {
            self.statement.nested = Some(verb);
        }
    }

    fn table(&mut self, range: &pb::RangeVar, access: Access) {
        self.work += 1;
        let Name { schema, name } = names::range(range);
        self.statement.tables.insert(Table {
            schema,
            name,
            access,
        });
    }

    fn table_name(&mut self, parts: &[String], access: Access) {
        if let Some(Name { schema, name }) = names::qualified(parts) {
            self.statement.tables.insert(Table {
                schema,
                name,
                access,
            });
        }
    }

    fn columns(&mut self, columns: &[Column], usage: Usage) {
        self.work += columns.len();
        for column in columns {
            if let Some(tap) = self.taps.last_mut() {
                tap.insert(column.clone());
            }
            if usage == Usage::Computed {
                self.statement
                    .columns
                    .insert((column.clone(), Usage::Other));
            }
            self.statement.columns.insert((column.clone(), usage));
            if self.blending > 0 && matches!(usage, Usage::Output | Usage::Other) {
                self.statement.blended.insert(column.clone());
            }
        }
    }

    /// Walks values; `blends` where the server gives several of them one type, and casts those of another without being told.
    fn blended<T>(&mut self, blends: bool, walk: impl FnOnce(&mut Self) -> T) -> T {
        self.blending += usize::from(blends);
        let result = walk(self);
        self.blending -= usize::from(blends);
        result
    }

    /// Runs a part of the walk and returns the columns it referred to.
    fn tapped(&mut self, walk: impl FnOnce(&mut Self)) -> Vec<Column> {
        self.taps.push(BTreeSet::new());
        walk(self);
        let found = self.taps.pop().unwrap_or_default();
        self.work += found.len();
        if let Some(outer) = self.taps.last_mut() {
            outer.extend(found.iter().cloned());
        }
        found.into_iter().collect()
    }

    /// Records a column reference and says what it means.
    fn reference(&mut self, fields: &[String], usage: Usage) -> Meaning {
        self.work += self
            .frames
            .iter()
            .map(|frame| frame.sources.len())
            .sum::<usize>();
        if fields
            .first()
            .is_some_and(|name| name.starts_with('*') || name == sources::UNNAMED)
        {
            // Whether names the server makes reach what they name depends on its version.
            self.unclear("generated_name");
        }
        let meaning = resolve(&self.frames, fields);
        let decides = meaning.call.as_deref().is_some_and(names::returns_set);
        let usage = if decides { Usage::Predicate } else { usage };
        // A whole row is one composite value, and what a subquery computed is no longer the column.
        let usage = if usage == Usage::Output
            && (meaning.whole_row || meaning.kind != OutputKind::Column)
        {
            Usage::Other
        } else {
            usage
        };
        let usage = if meaning.computes {
            quiet::computed(usage)
        } else {
            usage
        };
        self.columns(&meaning.columns, usage);
        if meaning.whole_row {
            self.flag("whole_row");
        }
        if let Some(name) = &meaning.call {
            self.attribute(name);
        }
        meaning
    }

    /// A field of a row, or a call of a function with the row.
    fn attribute(&mut self, name: &str) {
        self.flag("attribute_call");
        self.set_calls += usize::from(names::returns_rows(name));
        self.statement.attributes.insert(name.to_owned());
    }

    fn function(&mut self, name: &[pb::Node], args: usize) {
        match names::qualified(&names::strings(name)) {
            Some(Name { schema, name }) => {
                self.statement
                    .functions
                    .insert(Function { schema, name, args });
            }
            None => self.unknown(),
        }
    }

    fn operator_names(&mut self, name: &[pb::Node]) {
        if let Some(name) = names::qualified(&names::strings(name)) {
            if name
                .schema
                .as_deref()
                .is_some_and(|schema| schema != "pg_catalog")
            {
                self.flag("qualified_operator");
            }
            self.statement.operators.insert(name);
        }
    }

    /// The statement looks at so many more rows for each it looked at so far.
    fn multiply(&mut self, digits: u32) {
        self.digits = self.digits.saturating_add(digits);
        if self.digits > VAST_DIGITS {
            self.flag("vast");
        }
    }

    fn type_name(&mut self, name: &pb::TypeName) {
        let parts = names::strings(&name.names);
        if name.pct_type {
            // relation.column%TYPE
            if let [.., _, _] = parts.as_slice() {
                self.table_name(&parts[..parts.len() - 1], Access::Read);
            }
        } else if let Some(name) = names::qualified(&parts) {
            self.statement.types.insert(name);
        }
        self.list(&name.typmods, Usage::Other);
        self.list(&name.array_bounds, Usage::Other);
    }

    fn list(&mut self, nodes: &[pb::Node], usage: Usage) {
        for node in nodes {
            self.node(node, usage);
        }
    }

    fn optional(&mut self, node: Option<&pb::Node>, usage: Usage) {
        if let Some(node) = node {
            self.node(node, usage);
        }
    }

    fn node(&mut self, node: &pb::Node, usage: Usage) {
        match &node.node {
            Some(node) => self.visit(node, usage),
            None => self.unknown(),
        }
    }
}
