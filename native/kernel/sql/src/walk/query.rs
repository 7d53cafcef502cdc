//! SELECT: clauses, set operations, output lists.

use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use super::implied::{leading_targets, may_be_called};
use super::outs::{Outs, MAX_OUTPUTS};
use super::quiet::computed;
use super::scope::{in_schema, Frame, Relation};
use super::sources::VALUES;
use super::with::Recursion;
use super::{names, Walker};
use crate::effects::Effect;
use crate::facts::{Column, Output, OutputKind, Usage};

impl Walker {
    /// Walks a query; `bare` is what its bare output columns are used for.
    pub(super) fn select(&mut self, select: &pb::SelectStmt, bare: Usage) -> Outs {
        let recursion = self.recursion.take();
        let stored = std::mem::take(&mut self.stores_values);
        if !self.enter() {
            return Outs::default();
        }
        self.frames.push(Frame::default());
        self.with_clause(select.with_clause.as_ref());
        let outs = if select.larg.is_some() || select.rarg.is_some() {
            self.set_operation(select, bare, recursion)
        } else {
            self.simple_select(select, bare, stored)
        };
        self.frames.pop();
        self.leave();
        outs
    }

    pub(super) fn simple_select(
        &mut self,
        select: &pb::SelectStmt,
        bare: Usage,
        stored: bool,
    ) -> Outs {
        // Arms of a UNION have their rows one after the other.
        self.multiply(super::QUERY_DIGITS);
        // The VALUES of an INSERT are not delivered to anybody.
        if select.values_lists.is_empty() || !stored {
            self.effect(Effect::Read);
        }
        if let Some(into) = select.into_clause.as_deref() {
            self.flag("select_into");
            self.effects(&[Effect::Define, Effect::Write]);
            self.select_target(into);
        }
        // A query that fills a relation delivers nothing.
        let bare = if select.into_clause.is_some() {
            Usage::Other
        } else {
            bare
        };
        self.sources(&select.from_clause);
        let mut outs = if select.values_lists.is_empty() {
            self.targets(&select.target_list, bare)
        } else {
            self.multiply(super::SET_DIGITS);
            let outs = self.values(&select.values_lists, bare);
            let rows = Relation::Derived(Rc::new(outs.clone()));
            self.source(VALUES.to_owned(), rows, false);
            outs
        };
        self.optional(select.where_clause.as_deref(), Usage::Predicate);
        self.grouping(&select.group_clause, &outs, select);
        self.optional(select.having_clause.as_deref(), Usage::Predicate);
        // A call names its window (WINDOW w AS ...), whichever it is: any output that is computed may be by one.
        let windows = self.tapped(|walker| walker.list(&select.window_clause, Usage::Predicate));
        outs.compute_from(&windows);
        if !select.distinct_clause.is_empty() {
            // Plain DISTINCT compares every output; DISTINCT ON its own list.
            self.grouping(&select.distinct_clause, &outs, select);
            if select
                .distinct_clause
                .iter()
                .all(|node| node.node.is_none())
            {
                self.columns(&outs.all_columns(), Usage::Predicate);
            }
        }
        self.tail(select, &outs);
        outs
    }

    /// ORDER BY, LIMIT and FOR UPDATE.
    pub(super) fn tail(&mut self, select: &pb::SelectStmt, outs: &Outs) {
        for node in &select.sort_clause {
            match &node.node {
                Some(NodeEnum::SortBy(sort)) => {
                    self.operator_names(&sort.use_op);
                    if let Some(key) = sort.node.as_deref() {
                        self.sort_key(key, outs, select);
                    }
                }
                _ => self.node(node, Usage::Predicate),
            }
        }
        // How many rows come is as telling as which.
        self.optional(select.limit_offset.as_deref(), Usage::Predicate);
        self.optional(select.limit_count.as_deref(), Usage::Predicate);
        if !select.locking_clause.is_empty() {
            self.list(&select.locking_clause, Usage::Other);
        }
    }

    pub(super) fn sort_key(&mut self, key: &pb::Node, outs: &Outs, select: &pb::SelectStmt) {
        if let Some(columns) = output_reference(key, outs, select) {
            self.columns(&columns, Usage::Predicate);
            return;
        }
        if select.larg.is_some() {
            // Behind a set operation there are outputs only, whatever they are called.
            self.columns(&outs.all_columns(), Usage::Predicate);
        }
        self.node(key, Usage::Predicate);
    }

    /// GROUP BY and DISTINCT ON: an input column is preferred to an output of that name, so both are taken.
    pub(super) fn grouping(&mut self, keys: &[pb::Node], outs: &Outs, select: &pb::SelectStmt) {
        for key in keys {
            match &key.node {
                // ROLLUP (1, 2), and the row (1, 2) as a key: each element may be a position.
                Some(NodeEnum::GroupingSet(set)) => {
                    self.multiply(super::GROUPING_DIGITS);
                    self.grouping(&set.content, outs, select);
                }
                Some(NodeEnum::RowExpr(row)) => self.grouping(&row.args, outs, select),
                _ => {}
            }
            if let Some(columns) = output_reference(key, outs, select) {
                self.columns(&columns, Usage::Predicate);
            }
            if key.node.is_some() {
                self.node(key, Usage::Predicate);
            }
        }
    }

    pub(super) fn set_operation(
        &mut self,
        select: &pb::SelectStmt,
        bare: Usage,
        recursion: Option<Recursion>,
    ) -> Outs {
        let mut arms = Vec::new();
        let mut compares = false;
        let mut current = select;
        loop {
            // Only UNION ALL delivers rows without comparing them.
            compares |= !(current.op == pb::SetOperation::SetopUnion as i32 && current.all);
            arms.extend(current.rarg.as_deref());
            match current.larg.as_deref() {
                Some(left) if is_plain_chain(left) => current = left,
                Some(left) => {
                    arms.push(left);
                    break;
                }
                None => break,
            }
        }
        let mut merged: Option<Outs> = None;
        for arm in arms.into_iter().rev() {
            let outs = self.blended(true, |walker| walker.select(arm, bare));
            if let (None, Some(recursion)) = (&merged, &recursion) {
                self.settle_recursion(recursion, &outs);
            }
            merged = Some(match merged {
                None => outs,
                Some(left) => left.unite(&outs),
            });
        }
        let mut outs = merged.unwrap_or_default();
        if let Some(recursion) = &recursion {
            self.work += outs.entries.len();
            self.close_recursion(&mut outs, recursion);
        }
        if compares {
            self.columns(&outs.all_columns(), Usage::Predicate);
        }
        self.tail(select, &outs);
        outs
    }

    pub(super) fn values(&mut self, rows: &[pb::Node], bare: Usage) -> Outs {
        let usage = made(bare);
        let mut columns: Vec<Vec<Column>> = Vec::new();
        for row in rows {
            let Some(NodeEnum::List(list)) = &row.node else {
                self.unknown();
                continue;
            };
            for (index, item) in list.items.iter().take(MAX_OUTPUTS).enumerate() {
                let found =
                    self.tapped(|walker| walker.blended(true, |walker| walker.node(item, usage)));
                if columns.len() <= index {
                    columns.push(Vec::new());
                }
                columns[index].extend(found);
            }
        }
        let entries = columns
            .into_iter()
            .enumerate()
            .map(|(index, columns)| Output {
                name: Some(format!("column{}", index + 1)),
                kind: OutputKind::Expression,
                columns,
            })
            .collect();
        Outs {
            entries,
            positional: true,
            merged: false,
        }
    }

    /// An output list; records what it uses and says what it delivers.
    pub(super) fn targets(&mut self, targets: &[pb::Node], bare: Usage) -> Outs {
        let mut outs = Outs {
            entries: Vec::with_capacity(targets.len()),
            positional: true,
            merged: false,
        };
        for node in targets {
            let Some(NodeEnum::ResTarget(target)) = &node.node else {
                self.unknown();
                continue;
            };
            let Some(value) = target.val.as_deref() else {
                continue;
            };
            let label = Some(target.name.clone()).filter(|name| !name.is_empty());
            self.target(value, label, bare, &mut outs);
            if outs.entries.len() > MAX_OUTPUTS {
                return Outs::opaque(outs.all_columns());
            }
        }
        outs
    }

    pub(super) fn target(
        &mut self,
        value: &pb::Node,
        label: Option<String>,
        bare: Usage,
        outs: &mut Outs,
    ) {
        if let Some(NodeEnum::ColumnRef(reference)) = &value.node {
            let (fields, star) = names::fields(&reference.fields);
            if star {
                let expanded = self.star(&fields);
                self.flag("star");
                for entry in &expanded.entries {
                    let as_is = matches!(entry.kind, OutputKind::Column | OutputKind::Star);
                    let usage = if as_is || bare != Usage::Output {
                        bare
                    } else {
                        Usage::Other
                    };
                    self.columns(&entry.columns, usage);
                }
                outs.positional &= expanded.positional;
                outs.merged |= expanded.merged;
                outs.entries.extend(expanded.entries);
                return;
            }
            let meaning = self.reference(&fields, bare);
            // A whole row, or a name that may be one, is still one output.
            let kind = if meaning.whole_row || meaning.kind == OutputKind::Unknown {
                OutputKind::Expression
            } else {
                meaning.kind
            };
            outs.entries.push(Output {
                name: label.or_else(|| fields.last().cloned()),
                kind,
                columns: meaning.columns,
            });
            return;
        }
        if let Some((columns, name)) = self.row_field(value, bare) {
            match name {
                Some(name) => outs.entries.push(Output {
                    name: label.or(Some(name)),
                    kind: OutputKind::Expression,
                    columns,
                }),
                None => {
                    outs.positional = false;
                    outs.entries.push(Output {
                        name: None,
                        kind: OutputKind::Unknown,
                        columns,
                    });
                }
            }
            return;
        }
        let columns = self.tapped(|walker| walker.node(value, made(bare)));
        // `(f(x)).*` becomes an unknown number of columns.
        let spread = matches!(&value.node, Some(NodeEnum::AIndirection(field)) if names::fields(&field.indirection).1);
        outs.positional &= !spread;
        let name = label.or_else(|| names::label_of(value));
        let kind = if spread {
            OutputKind::Unknown
        } else {
            OutputKind::Expression
        };
        outs.entries.push(Output {
            name: name.filter(|_| !spread),
            kind,
            columns,
        });
    }

    /// `(relation).field` and `(relation).*`: columns of a relation in scope, delivered as they are.
    pub(super) fn row_field(
        &mut self,
        value: &pb::Node,
        bare: Usage,
    ) -> Option<(Vec<Column>, Option<String>)> {
        let Some(NodeEnum::AIndirection(indirection)) = &value.node else {
            return None;
        };
        let Some(NodeEnum::ColumnRef(reference)) =
            indirection.arg.as_deref().and_then(|arg| arg.node.as_ref())
        else {
            return None;
        };
        let (row, false) = names::fields(&reference.fields) else {
            return None;
        };
        let [alias] = row.as_slice() else { return None };
        let (fields, star) = names::fields(&indirection.indirection);
        // `(relation).field.more`, with a star or without, is what is made of a field.
        if indirection.indirection.len() > 1 || fields.len() + usize::from(star) != 1 {
            return None;
        }
        super::scope::visible(&self.frames, alias)?;
        match fields.first() {
            Some(name) if !star => {
                let mut meaning = self.reference(&[alias.clone(), name.clone()], bare);
                // What stands behind a value is a field of it, or computed from it.
                let beside = self.column_beside_row(alias, computed(bare));
                meaning.columns.extend(beside);
                Some((meaning.columns, Some(name.clone())))
            }
            _ => {
                let expanded = self.star(&row);
                let mut columns = expanded.all_columns();
                self.flag("star");
                self.columns(&columns, bare);
                columns.extend(self.column_beside_row(alias, bare));
                Some((columns, None))
            }
        }
    }

    pub(super) fn star(&mut self, qualifier: &[String]) -> Outs {
        match qualifier {
            [] => self.frames.last().map(Frame::star).unwrap_or_default(),
            [.., schema, table] => {
                let found = in_schema(&self.frames, schema, table);
                let star = Column {
                    schema: Some(schema.clone()),
                    table: Some(table.clone()),
                    name: "*".to_owned(),
                };
                match found.as_slice() {
                    [only] if only.alias == *table => Outs {
                        entries: only.star(),
                        positional: only.is_positional(),
                        merged: only.is_merged(),
                    },
                    _ => Outs::opaque(
                        found
                            .iter()
                            .flat_map(|source| source.star())
                            .flat_map(|entry| entry.columns)
                            .chain([star])
                            .collect(),
                    ),
                }
            }
            [alias] => match super::scope::visible(&self.frames, alias) {
                Some(source) => Outs {
                    entries: source.star(),
                    positional: source.is_positional(),
                    merged: source.is_merged(),
                },
                None => Outs::opaque(vec![Column {
                    schema: None,
                    table: Some(alias.clone()),
                    name: "*".to_owned(),
                }]),
            },
        }
    }
}

/// How what an output is made of counts: what a subquery computes decides, or is computed with, as the subquery is.
fn made(bare: Usage) -> Usage {
    match bare {
        Usage::Output => Usage::Other,
        _ => bare,
    }
}

/// ORDER BY 2, ORDER BY name-of-an-output.
fn output_reference(key: &pb::Node, outs: &Outs, select: &pb::SelectStmt) -> Option<Vec<Column>> {
    match &key.node {
        Some(NodeEnum::AConst(constant)) => {
            let Some(pb::a_const::Val::Ival(number)) = &constant.val else {
                return None;
            };
            let index = usize::try_from(number.ival).ok()?.checked_sub(1)?;
            let starred = outs
                .entries
                .iter()
                .take(index + 1)
                .any(|entry| matches!(entry.kind, OutputKind::Star | OutputKind::Unknown));
            match outs.entries.get(index) {
                Some(entry) if outs.positional && !starred => Some(entry.columns.clone()),
                _ => Some(outs.all_columns()),
            }
        }
        Some(NodeEnum::ColumnRef(reference)) => {
            let (fields, false) = names::fields(&reference.fields) else {
                return None;
            };
            let [name] = fields.as_slice() else {
                return None;
            };
            let targets = leading_targets(select);
            let is_implied = |target: &pb::Node| match &target.node {
                Some(NodeEnum::ResTarget(target)) => {
                    target.name.is_empty() && may_be_called(target.val.as_deref(), name)
                }
                _ => true,
            };
            // Each output is one of the list, unless a star stands for several.
            let is_each = outs.positional && outs.entries.len() == targets.len();
            if !is_each
                && targets
                    .iter()
                    .any(|target| !is_star(target) && is_implied(target))
            {
                return Some(outs.all_columns());
            }
            let mut is_found = false;
            let mut named = Vec::new();
            for (index, entry) in outs.entries.iter().enumerate() {
                let is_called = entry.name.as_deref() == Some(name);
                if is_called || is_each && is_implied(&targets[index]) {
                    is_found = true;
                    named.extend(entry.columns.clone());
                }
            }
            is_found.then_some(named)
        }
        _ => None,
    }
}

fn is_star(target: &pb::Node) -> bool {
    match &target.node {
        Some(NodeEnum::ResTarget(target)) => {
            match target.val.as_deref().and_then(|value| value.node.as_ref()) {
                Some(NodeEnum::ColumnRef(reference)) => names::fields(&reference.fields).1,
                _ => false,
            }
        }
        _ => false,
    }
}

/// A set operation without clauses of its own is one more level of the same chain.
fn is_plain_chain(select: &pb::SelectStmt) -> bool {
    select.larg.is_some()
        && select.with_clause.is_none()
        && select.sort_clause.is_empty()
        && select.limit_count.is_none()
        && select.limit_offset.is_none()
        && select.locking_clause.is_empty()
}
