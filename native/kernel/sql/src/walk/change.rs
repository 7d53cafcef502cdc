//! INSERT, UPDATE, DELETE and MERGE: what they change, read on the way, and return.

use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use super::outs::Outs;
use super::scope::{Frame, Relation};
use super::{names, Walker};
use crate::effects::Effect;
use crate::facts::{Access, Column, Name, Table, Usage};

impl Walker {
    /// INSERT, UPDATE, DELETE or MERGE; the outputs are those of RETURNING.
    pub(super) fn change(&mut self, statement: &NodeEnum, bare: Usage) -> Outs {
        if !self.enter() {
            return Outs::default();
        }
        self.frames.push(Frame::default());
        self.effect(Effect::Write);
        let outs = match statement {
            NodeEnum::InsertStmt(insert) => self.insert(insert, bare),
            NodeEnum::UpdateStmt(update) => self.update(update, bare),
            NodeEnum::DeleteStmt(delete) => self.delete(delete, bare),
            NodeEnum::MergeStmt(merge) => self.merge(merge, bare),
            _ => {
                self.unknown();
                Outs::default()
            }
        };
        self.frames.pop();
        self.leave();
        outs
    }

    pub(super) fn insert(&mut self, insert: &pb::InsertStmt, bare: Usage) -> Outs {
        self.with_clause(insert.with_clause.as_ref());
        let query = match insert
            .select_stmt
            .as_deref()
            .and_then(|it| it.node.as_ref())
        {
            Some(NodeEnum::SelectStmt(select)) => Some(select.as_ref()),
            _ => None,
        };
        let set_calls = self.set_calls;
        if let Some(select) = query {
            if select.values_lists.is_empty() {
                self.flag("insert_select");
            }
            self.stores_values = true;
            // What is selected is stored elsewhere, so no output column is merely delivered.
            self.select(select, Usage::Other);
        }
        self.note_stored(query);
        self.count_stored(query, self.set_calls > set_calls);
        let target = self.change_target(insert.relation.as_ref());
        if insert.cols.is_empty() && insert.select_stmt.is_some() {
            self.assign_all(target.as_ref());
        }
        self.assignments(&insert.cols, target.as_ref());
        if let Some(conflict) = insert.on_conflict_clause.as_deref() {
            let before = self.frames.last().map_or(0, |frame| frame.sources.len());
            self.source(
                "excluded".to_owned(),
                Relation::Derived(Rc::new(Outs::opaque(Vec::new()))),
                true,
            );
            if let Some(infer) = conflict.infer.as_deref() {
                self.list(&infer.index_elems, Usage::Predicate);
                self.optional(infer.where_clause.as_deref(), Usage::Predicate);
            }
            if !conflict
                .infer
                .as_deref()
                .is_some_and(|infer| infer.conname.is_empty())
            {
                // Any unique column, or one the text does not name, decides whether a row is new.
                self.flag("compares_assigned");
            }
            if conflict.action == pb::OnConflictAction::OnconflictUpdate as i32 {
                self.flag("on_conflict_update");
                let is_filtered = conflict.where_clause.as_deref().is_some_and(selects);
                if !is_filtered && self.reads_all(query, target.as_ref()) {
                    self.flag("unfiltered_write"); // every row of it conflicts with itself
                }
            }
            self.assignments(&conflict.target_list, target.as_ref());
            let changed = conflict
                .target_list
                .iter()
                .filter_map(|node| match &node.node {
                    Some(NodeEnum::ResTarget(target)) => Some(target.name.clone()),
                    _ => None,
                });
            self.statement.reassigned.extend(changed);
            self.optional(conflict.where_clause.as_deref(), Usage::Predicate);
            // RETURNING knows nothing of it, and the target itself can be called so.
            if let Some(frame) = self.frames.last_mut() {
                frame.sources.truncate(before);
            }
        }
        self.returning(insert.returning_clause.as_ref(), target.as_ref(), bare)
    }

    pub(super) fn update(&mut self, update: &pb::UpdateStmt, bare: Usage) -> Outs {
        self.with_clause(update.with_clause.as_ref());
        let target = self.change_target(update.relation.as_ref());
        self.reads_also(&update.from_clause);
        self.assignments(&update.target_list, target.as_ref());
        self.count_updated(update);
        self.filter(update.where_clause.as_deref(), target.as_ref());
        self.returning(update.returning_clause.as_ref(), target.as_ref(), bare)
    }

    pub(super) fn delete(&mut self, delete: &pb::DeleteStmt, bare: Usage) -> Outs {
        self.with_clause(delete.with_clause.as_ref());
        let target = self.change_target(delete.relation.as_ref());
        self.reads_also(&delete.using_clause);
        self.filter(delete.where_clause.as_deref(), target.as_ref());
        self.returning(delete.returning_clause.as_ref(), target.as_ref(), bare)
    }

    pub(super) fn merge(&mut self, merge: &pb::MergeStmt, bare: Usage) -> Outs {
        self.with_clause(merge.with_clause.as_ref());
        let target = self.change_target(merge.relation.as_ref());
        self.effect(Effect::Read);
        self.flag("open_ended");
        if let Some(source) = merge.source_relation.as_deref() {
            self.source_item(source);
        }
        if let Some(condition) = merge.join_condition.as_deref() {
            self.selection(condition, target.as_ref());
        }
        for node in &merge.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = &node.node else {
                self.unknown();
                continue;
            };
            self.merge_when(when, target.as_ref());
        }
        if let Some(frame) = self.frames.last_mut() {
            // RETURNING * delivers the columns of the source before those of the target.
            frame.merges = true;
        }
        self.returning(merge.returning_clause.as_ref(), target.as_ref(), bare)
    }

    pub(super) fn merge_when(&mut self, when: &pb::MergeWhenClause, target: Option<&Name>) {
        let unmatched = pb::MergeMatchKind::MergeWhenNotMatchedBySource as i32;
        if when.match_kind == unmatched && when.condition.is_none() {
            self.flag("unfiltered_write"); // whatever the join leaves over, which may be every row
        }
        self.optional(when.condition.as_deref(), Usage::Predicate);
        if when.target_list.is_empty() && !when.values.is_empty() {
            self.assign_all(target);
        }
        self.assignments(&when.target_list, target);
        self.list(&when.values, Usage::Other);
    }

    pub(super) fn reads_also(&mut self, items: &[pb::Node]) {
        if !items.is_empty() {
            self.effect(Effect::Read);
        }
        self.sources(items);
    }

    /// The WHERE of an UPDATE or DELETE. One that names no column of the relation selects all of its rows or none.
    pub(super) fn filter(&mut self, filter: Option<&pb::Node>, target: Option<&Name>) {
        self.changes += 1;
        let Some(filter) = filter else {
            return self.flag("unfiltered_write");
        };
        self.filtered += 1;
        if !matches!(filter.node, Some(NodeEnum::CurrentOfExpr(_))) {
            self.selection(filter, target);
        }
    }

    /// Whether a query that was walked reads a relation without any condition.
    fn reads_all(&self, query: Option<&pb::SelectStmt>, relation: Option<&Name>) -> bool {
        let is_filtered = query
            .and_then(|query| query.where_clause.as_deref())
            .is_some_and(selects);
        let is_it = |table: &Table| {
            table.access == Access::Read && relation.is_none_or(|it| it.name == table.name)
        };
        !is_filtered && self.statement.tables.iter().any(is_it)
    }

    fn selection(&mut self, condition: &pb::Node, target: Option<&Name>) {
        let used = self.tapped(|walker| walker.node(condition, Usage::Predicate));
        if used.is_empty() {
            self.flag("where_without_column");
        }
        let names_target = used.iter().any(|column| {
            target.is_none_or(|target| {
                column.table.is_none() || super::scope::is_of(&self.frames, target, column)
            })
        });
        if !names_target || !selects(condition) {
            self.flag("unfiltered_write");
        }
    }

    /// The relation that changes: always a relation, even where a CTE has its name.
    pub(super) fn change_target(&mut self, range: Option<&pb::RangeVar>) -> Option<Name> {
        let Some(range) = range else {
            self.unknown();
            return None;
        };
        self.multiply(super::TABLE_DIGITS);
        self.table(range, Access::Write);
        let name = range
            .alias
            .as_ref()
            .map_or(&range.relname, |alias| &alias.aliasname)
            .clone();
        let table = names::range(range);
        self.source(
            name,
            Relation::Table {
                table: table.clone(),
                renamed: Vec::new(),
            },
            false,
        );
        Some(table)
    }

    /// Values without names of columns go into the columns in their order.
    fn assign_all(&mut self, table: Option<&Name>) {
        if let Some(table) = table {
            self.statement.assigned.insert(super::scope::star_of(table));
        }
    }

    pub(super) fn assignments(&mut self, targets: &[pb::Node], table: Option<&Name>) {
        for node in targets {
            let Some(NodeEnum::ResTarget(target)) = &node.node else {
                self.unknown();
                continue;
            };
            self.work += 1;
            self.statement.assigned.insert(Column {
                schema: table.and_then(|table| table.schema.clone()),
                table: table.map(|table| table.name.clone()),
                name: target.name.clone(),
            });
            if !target.indirection.is_empty() {
                // The rest of the value stays, beside what is new: how both are stored depends on both.
                let column = Column {
                    schema: table.and_then(|table| table.schema.clone()),
                    table: table.map(|table| table.name.clone()),
                    name: target.name.clone(),
                };
                self.columns(&[column], Usage::Computed);
            }
            self.list(&target.indirection, Usage::Other);
            if let Some(value) = target.val.as_deref() {
                self.note_values(&[value]);
            }
            self.optional(target.val.as_deref(), Usage::Other);
        }
    }

    pub(super) fn returning(
        &mut self,
        clause: Option<&pb::ReturningClause>,
        target: Option<&Name>,
        bare: Usage,
    ) -> Outs {
        let Some(clause) = clause.filter(|clause| !clause.exprs.is_empty()) else {
            return Outs {
                positional: true,
                ..Outs::default()
            };
        };
        self.effect(Effect::Read);
        self.flag("returning");
        if let Some(table) = target {
            let mut aliases = vec!["old".to_owned(), "new".to_owned()];
            for node in &clause.options {
                match &node.node {
                    Some(NodeEnum::ReturningOption(option)) => aliases.push(option.value.clone()),
                    _ => self.unknown(),
                }
            }
            for alias in aliases {
                if super::scope::visible(&self.frames, &alias).is_none() {
                    self.source(
                        alias,
                        Relation::Table {
                            table: table.clone(),
                            renamed: Vec::new(),
                        },
                        true,
                    );
                }
            }
        }
        self.targets(&clause.exprs, bare)
    }
}

/// Whether a condition can be false for some row, as far as its form tells: not one without a column, `x = x`, or one of them
/// behind OR.
fn selects(condition: &pb::Node) -> bool {
    if is_constant(condition, 0) {
        return false;
    }
    match &condition.node {
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(selects),
        Some(NodeEnum::BoolExpr(expression)) => match pb::BoolExprType::try_from(expression.boolop)
        {
            Ok(pb::BoolExprType::OrExpr) => {
                expression.args.iter().all(selects) && !covers_null(&expression.args)
            }
            _ => expression.args.iter().any(selects),
        },
        Some(NodeEnum::AExpr(expression)) => {
            match (
                expression.lexpr.as_deref().map(|side| &side.node),
                expression.rexpr.as_deref().map(|side| &side.node),
            ) {
                (Some(Some(left)), Some(Some(right))) => {
                    let takes_itself = names::strings(&expression.name)
                        .iter()
                        .any(|name| matches!(name.as_str(), "=" | "<=" | ">=" | "~~" | "~~*"));
                    !takes_itself || !is_same_column(left, right)
                }
                _ => true,
            }
        }
        _ => true,
    }
}

/// Whether two sides are one column, with a qualifier or without, cast or not.
fn is_same_column(left: &NodeEnum, right: &NodeEnum) -> bool {
    match (column_of(left), column_of(right)) {
        (Some(left), Some(right)) => left.ends_with(&right) || right.ends_with(&left),
        _ => false,
    }
}

fn column_of(node: &NodeEnum) -> Option<Vec<String>> {
    match node {
        NodeEnum::ColumnRef(reference) => Some(names::fields(&reference.fields).0),
        NodeEnum::TypeCast(cast) => column_of(cast.arg.as_deref()?.node.as_ref()?),
        _ => None,
    }
}

/// Whether an expression is the same for every row: it is made of constants and parameters alone.
fn is_constant(node: &pb::Node, depth: usize) -> bool {
    let all = |nodes: &[pb::Node]| nodes.iter().all(|node| is_constant(node, depth + 1));
    let each = |node: Option<&pb::Node>| node.is_none_or(|node| is_constant(node, depth + 1));
    if depth > MAX_CONSTANT_DEPTH {
        return false;
    }
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SqlvalueFunction(_))
        | None => true,
        Some(NodeEnum::TypeCast(cast)) => each(cast.arg.as_deref()),
        Some(NodeEnum::CollateClause(collate)) => each(collate.arg.as_deref()),
        Some(NodeEnum::AExpr(expression)) => {
            each(expression.lexpr.as_deref()) && each(expression.rexpr.as_deref())
        }
        Some(NodeEnum::BoolExpr(expression)) => all(&expression.args),
        Some(NodeEnum::NullTest(test)) => each(test.arg.as_deref()),
        Some(NodeEnum::BooleanTest(test)) => each(test.arg.as_deref()),
        Some(NodeEnum::FuncCall(call)) => all(&call.args),
        Some(NodeEnum::CoalesceExpr(expression)) => all(&expression.args),
        Some(NodeEnum::MinMaxExpr(expression)) => all(&expression.args),
        Some(NodeEnum::RowExpr(row)) => all(&row.args),
        Some(NodeEnum::AArrayExpr(array)) => all(&array.elements),
        Some(NodeEnum::List(list)) => all(&list.items),
        Some(NodeEnum::CaseExpr(case)) => {
            each(case.arg.as_deref()) && all(&case.args) && each(case.defresult.as_deref())
        }
        Some(NodeEnum::CaseWhen(when)) => {
            each(when.expr.as_deref()) && each(when.result.as_deref())
        }
        _ => false,
    }
}

/// How deep a constant expression is looked into; nobody writes deeper ones.
const MAX_CONSTANT_DEPTH: usize = 50;

/// `x IS NULL OR x IS NOT NULL`.
fn covers_null(arms: &[pb::Node]) -> bool {
    let tests: Vec<_> = arms
        .iter()
        .filter_map(|arm| match &arm.node {
            Some(NodeEnum::NullTest(test)) => match test.arg.as_deref().map(|arg| &arg.node) {
                Some(Some(NodeEnum::ColumnRef(reference))) => {
                    Some((names::fields(&reference.fields).0, test.nulltesttype))
                }
                _ => None,
            },
            _ => None,
        })
        .collect();
    tests.iter().any(|(name, kind)| {
        tests
            .iter()
            .any(|(other, opposite)| name == other && kind != opposite)
    })
}
