//! FROM, USING and joins: what each brings into scope.

use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use super::outs::{Outs, IF_THERE};
use super::scope::{Frame, Relation, Source};
use super::{names, Walker};
use crate::facts::{Access, Column, Output, OutputKind, Usage};

/// What the server calls a subquery in FROM that has no alias, from version 16 on.
pub(super) const UNNAMED: &str = "unnamed_subquery";

/// What it calls the rows of VALUES.
pub(super) const VALUES: &str = "*VALUES*";

impl Walker {
    pub(super) fn sources(&mut self, items: &[pb::Node]) {
        for item in items {
            self.source_item(item);
        }
    }

    /// One entry of FROM, USING or a join; adds what it brings into scope.
    pub(super) fn source_item(&mut self, item: &pb::Node) {
        if !self.enter() {
            return;
        }
        match &item.node {
            Some(NodeEnum::RangeVar(range)) => self.range(range),
            Some(NodeEnum::RangeSubselect(subselect)) => {
                let outs = match subselect
                    .subquery
                    .as_deref()
                    .and_then(|query| query.node.as_ref())
                {
                    Some(NodeEnum::SelectStmt(select)) => {
                        self.subquery_source(select, subselect.lateral)
                    }
                    _ => {
                        self.unknown();
                        Outs::default()
                    }
                };
                self.derived_as(subselect.alias.as_ref(), UNNAMED, outs);
            }
            Some(NodeEnum::JoinExpr(join)) => self.join(join),
            Some(NodeEnum::RangeFunction(function)) => self.range_function(function),
            Some(NodeEnum::RangeTableFunc(table)) => {
                self.multiply(super::SET_DIGITS);
                let columns = self.tapped(|walker| walker.range_table_func(table));
                self.derived_as(table.alias.as_ref(), "xmltable", Outs::opaque(columns));
            }
            Some(NodeEnum::JsonTable(table)) => {
                self.multiply(super::SET_DIGITS);
                let columns = self.tapped(|walker| walker.json_table(table));
                self.derived_as(table.alias.as_ref(), "json_table", Outs::opaque(columns));
            }
            Some(NodeEnum::RangeTableSample(sample)) => {
                if let Some(relation) = sample.relation.as_deref() {
                    self.source_item(relation);
                }
                if !matches!(
                    names::strings(&sample.method).as_slice(),
                    [name] if matches!(name.as_str(), "system" | "bernoulli")
                ) {
                    self.function(&sample.method, sample.args.len());
                }
                // What is sampled is told from outside: neither it nor its neighbours can be named.
                self.without_sources(usize::MAX, |walker| {
                    walker.list(&sample.args, Usage::Predicate);
                    walker.optional(sample.repeatable.as_deref(), Usage::Predicate);
                });
            }
            _ => self.unknown(),
        }
        self.leave();
    }

    /// A subquery in FROM sees its neighbours only when it is LATERAL.
    pub(super) fn subquery_source(&mut self, select: &pb::SelectStmt, lateral: bool) -> Outs {
        let hidden = if lateral { 0 } else { usize::MAX };
        self.without_sources(hidden, |walker| walker.select(select, Usage::Output))
    }

    /// Runs a part of the walk that does not see the first `count` sources of this query.
    fn without_sources<T>(&mut self, count: usize, walk: impl FnOnce(&mut Self) -> T) -> T {
        let seen = self.frames.last_mut().map_or_else(Vec::new, |frame| {
            frame.sources.split_off(count.min(frame.sources.len()))
        });
        let hidden = self.frames.last_mut().map_or_else(Vec::new, |frame| {
            std::mem::replace(&mut frame.sources, seen)
        });
        let result = walk(self);
        if let Some(frame) = self.frames.last_mut() {
            frame.sources.splice(0..0, hidden);
        }
        result
    }

    pub(super) fn range(&mut self, range: &pb::RangeVar) {
        let alias = range.alias.as_ref();
        let name = alias
            .map_or(&range.relname, |alias| &alias.aliasname)
            .clone();
        let renamed = alias
            .map(|alias| names::strings(&alias.colnames))
            .unwrap_or_default();
        if range.schemaname.is_empty() {
            if let Some(outs) = self.cte(&range.relname) {
                let outs = outs.as_ref().clone().renamed(&renamed);
                self.source(name, Relation::Derived(Rc::new(outs)), false);
                return;
            }
        }
        self.multiply(super::TABLE_DIGITS);
        self.table(range, Access::Read);
        self.source(
            name,
            Relation::Table {
                table: names::range(range),
                renamed,
            },
            false,
        );
    }

    pub(super) fn cte(&mut self, name: &str) -> Option<Rc<Outs>> {
        let found = self
            .frames
            .iter_mut()
            .rev()
            .find_map(|frame| frame.ctes.iter_mut().rev().find(|cte| cte.name == name))?;
        found.used_early |= found.outs.is_none();
        let (outs, digits) = (found.outs.clone(), found.digits);
        // One that reads from itself is taken for ten times what it began with.
        self.multiply(digits.unwrap_or(self.digits + 1));
        Some(outs.unwrap_or_else(|| Rc::new(Outs::opaque(Vec::new()))))
    }

    pub(super) fn derived(&mut self, alias: Option<&pb::Alias>, outs: Outs) {
        self.derived_as(alias, "", outs);
    }

    /// A source that the server calls `name` where it has no alias.
    fn derived_as(&mut self, alias: Option<&pb::Alias>, name: &str, outs: Outs) {
        let outs = outs.renamed(
            &alias
                .map(|alias| names::strings(&alias.colnames))
                .unwrap_or_default(),
        );
        self.source(
            alias.map_or_else(|| name.to_owned(), |alias| alias.aliasname.clone()),
            Relation::Derived(Rc::new(outs)),
            false,
        );
    }

    pub(super) fn source(&mut self, alias: String, relation: Relation, hidden: bool) {
        self.work += 1;
        if let Some(frame) = self.frames.last_mut() {
            frame.sources.push(Source {
                alias,
                relation,
                hidden,
                called: None,
            });
        }
    }

    pub(super) fn range_function(&mut self, function: &pb::RangeFunction) {
        let columns = self.tapped(|walker| {
            for item in &function.functions {
                // Each item is a list of the call and its column definitions, which may be missing.
                match &item.node {
                    Some(NodeEnum::List(list)) => {
                        for part in list.items.iter().filter(|part| part.node.is_some()) {
                            walker.node(part, Usage::Other);
                        }
                    }
                    _ => walker.node(item, Usage::Other),
                }
            }
            walker.list(&function.coldeflist, Usage::Other);
        });
        let alias = function.alias.as_ref();
        let name = alias
            .map(|alias| alias.aliasname.clone())
            .or_else(|| function.functions.first().and_then(names::call_of));
        if name.is_none() {
            // The server names it after what it is, and that may be the name of another relation.
            self.unclear("unnamed_source");
        }
        self.source(
            name.unwrap_or_default(),
            Relation::Derived(Rc::new(Outs::opaque(columns))),
            false,
        );
        if let Some(source) = self
            .frames
            .last_mut()
            .and_then(|frame| frame.sources.last_mut())
        {
            source.called = Some(columns_of(function));
        }
    }

    pub(super) fn join(&mut self, join: &pb::JoinExpr) {
        let before = self.frames.last().map_or(0, |frame| frame.sources.len());
        for side in [join.larg.as_deref(), join.rarg.as_deref()]
            .into_iter()
            .flatten()
        {
            self.source_item(side);
        }
        let sides: Vec<Source> = self
            .frames
            .last()
            .map(|frame| frame.sources[before..].to_vec())
            .unwrap_or_default();
        let merged = names::strings(&join.using_clause);
        if join.is_natural || !merged.is_empty() {
            self.implied_operator("=");
        }
        for side in &sides {
            if join.is_natural {
                let columns: Vec<Column> = side
                    .star()
                    .into_iter()
                    .flat_map(|entry| entry.columns)
                    .collect();
                self.columns(&columns, Usage::Predicate);
            }
            for name in &merged {
                let mut found = side.find(name).unwrap_or_default();
                if let Relation::Table { renamed, .. } = &side.relation {
                    if !renamed.contains(name) {
                        // Of a chain of joins, only some relations have the column.
                        for column in &mut found.columns {
                            column.name.insert_str(0, IF_THERE);
                        }
                    }
                }
                self.columns(&found.columns, Usage::Predicate);
            }
        }
        // A condition sees the two sides of its join, and the queries around.
        self.without_sources(before, |walker| {
            walker.optional(join.quals.as_deref(), Usage::Predicate);
        });
        if join.is_natural || !merged.is_empty() {
            if let Some(frame) = self.frames.last_mut() {
                frame.merges = true;
            }
        }
        if let Some(alias) = &join.join_using_alias {
            let merge = |name: &String| Output {
                name: Some(name.clone()),
                kind: OutputKind::Column,
                columns: sides
                    .iter()
                    .filter_map(|side| side.find(name))
                    .flat_map(|found| found.columns)
                    .collect(),
            };
            let outs = Outs {
                entries: merged.iter().map(merge).collect(),
                positional: true,
                merged: false,
            };
            self.source(
                alias.aliasname.clone(),
                Relation::Derived(Rc::new(outs)),
                true,
            );
        }
        if let Some(alias) = &join.alias {
            let whole = Frame {
                sources: sides,
                ..Frame::default()
            }
            .star();
            let merges = join.is_natural || !merged.is_empty();
            let outs = Outs {
                positional: whole.positional && !merges,
                merged: whole.merged || merges,
                ..whole
            };
            if let Some(frame) = self.frames.last_mut() {
                frame.sources.truncate(before);
            }
            self.derived(Some(alias), outs);
        }
    }
}

/// The names a call in FROM may give its columns: those of its alias, of its column definitions, or the functions' own.
fn columns_of(function: &pb::RangeFunction) -> Vec<String> {
    let listed = function
        .alias
        .as_ref()
        .map(|alias| names::strings(&alias.colnames))
        .unwrap_or_default();
    let calls = function.functions.iter().filter_map(names::call_of);
    let mut found: Vec<String> = if function.functions.len() > 1 {
        // Those behind the listed ones are called as their functions are.
        let is_short = listed.len() < function.functions.len();
        calls.filter(|_| is_short).collect()
    } else if listed.is_empty() && function.coldeflist.is_empty() {
        match &function.alias {
            Some(alias) => vec![alias.aliasname.clone()],
            None => calls.collect(),
        }
    } else {
        Vec::new() // a listed name takes the place of the alias as a name of the column
    };
    found.extend(listed);
    found.extend(
        function
            .coldeflist
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::ColumnDef(column)) => Some(column.colname.clone()),
                _ => None,
            }),
    );
    found
}
