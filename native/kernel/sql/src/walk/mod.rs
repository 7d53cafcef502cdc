//! The walk over one statement's tree.
//!
//! `visit` names every kind of node PostgreSQL's grammar knows, without a catch-all: a new kind does not compile, and a kind that
//! a raw tree cannot hold (the planner's and the rewriter's) has the effect `unknown`.

mod change;
mod code;
mod command;
mod copy;
mod definition;
mod expression;
mod implied;
mod names;
mod outs;
mod plain;
mod query;
mod quiet;
mod scope;
mod setting;
mod sources;
mod with;

use std::collections::BTreeSet;

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use crate::effects::Effect;
use crate::facts::{Access, Column, Function, Name, Output, OutputKind, Statement, Table, Usage};
use crate::parse::MAX_WORK;
use outs::Outs;
use quiet::computed;
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
    depth: usize,
    max_depth: usize,
    work: usize,
    failure: Option<String>,
    /// UPDATE and DELETE statements seen, and how many of them have a WHERE.
    changes: usize,
    filtered: usize,
}

impl Walker {
    /// The statement itself: its outputs are delivered, and its main query decides `has_where` and `has_limit`.
    fn top(&mut self, node: &N) {
        let outs = self.deliver(node, Usage::Output);
        if plain::is_plain(node) {
            self.flag("plain_definition");
            if plain::changes_rows(node) {
                self.flag("changes_rows");
            }
            if plain::retypes(node) {
                self.flag("retypes");
            }
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
                "nested too deeply: more than {} levels",
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
            self.failure = Some(format!("too complex: more than {MAX_WORK} steps"));
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
        }
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
        self.columns(&meaning.columns, usage);
        if meaning.whole_row {
            self.flag("whole_row");
        }
        if let Some(name) = &meaning.call {
            self.flag("attribute_call");
            self.statement.attributes.insert(name.clone());
        }
        meaning
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

    /// The one place that knows every kind of node.
    fn visit(&mut self, node: &N, usage: Usage) {
        if !self.enter() {
            return;
        }
        match node {
            // Expressions, as the grammar makes them.
            N::ColumnRef(reference) => self.column_ref(reference, usage),
            N::AExpr(expression) => self.a_expr(expression, usage),
            N::BoolExpr(expression) => self.list(&expression.args, computed(usage)),
            // Of a row, NULL tests stop at the first field that answers.
            N::NullTest(test) => self.optional(test.arg.as_deref(), computed(usage)),
            N::BooleanTest(test) => self.optional(test.arg.as_deref(), computed(usage)),
            N::TypeCast(cast) => {
                let usage = quiet::of_cast(cast, usage);
                self.optional(cast.arg.as_deref(), usage);
                self.optional_type(cast.type_name.as_ref());
            }
            // By some collations a capital letter is longer.
            N::CollateClause(collate) => self.optional(collate.arg.as_deref(), computed(usage)),
            N::FuncCall(call) => self.func_call(call, usage),
            N::CaseExpr(case) => {
                if case.arg.is_some() {
                    self.implied_operator("=");
                }
                self.optional(case.arg.as_deref(), computed(usage));
                self.list(&case.args, usage);
                self.optional(case.defresult.as_deref(), usage);
            }
            N::CaseWhen(when) => {
                self.optional(when.expr.as_deref(), computed(usage)); // it decides what is computed
                self.optional(when.result.as_deref(), usage);
            }
            N::CoalesceExpr(expression) => {
                let usage = quiet::of_coalesce(expression, usage);
                self.list(&expression.args, usage);
            }
            N::MinMaxExpr(expression) => self.list(&expression.args, computed(usage)),
            N::RowExpr(expression) => self.list(&expression.args, usage),
            N::AArrayExpr(array) => self.list(&array.elements, usage),
            N::AIndirection(indirection) => self.indirection(indirection, usage),
            N::AIndices(indices) => {
                let usage = computed(usage);
                self.optional(indices.lidx.as_deref(), usage);
                self.optional(indices.uidx.as_deref(), usage);
            }
            N::SubLink(link) => self.sub_link(link, usage),
            N::NamedArgExpr(argument) => self.optional(argument.arg.as_deref(), usage),
            N::GroupingFunc(grouping) => self.list(&grouping.args, usage),
            N::GroupingSet(set) => self.list(&set.content, usage),
            // Every column of `SET (a, b) = (…)` holds the same source again.
            N::MultiAssignRef(assign) if assign.colno > 1 => {}
            N::MultiAssignRef(assign) => self.optional(assign.source.as_deref(), usage),
            N::XmlExpr(xml) => {
                let usage = computed(usage);
                self.list(&xml.named_args, usage);
                self.list(&xml.args, usage);
            }
            N::XmlSerialize(xml) => {
                self.optional(xml.expr.as_deref(), computed(usage));
                self.optional_type(xml.type_name.as_ref());
            }
            N::List(list) => self.list(&list.items, usage),
            N::ResTarget(target) => {
                self.list(&target.indirection, usage);
                self.optional(target.val.as_deref(), usage);
            }
            N::SortBy(sort) => {
                self.operator_names(&sort.use_op);
                self.optional(sort.node.as_deref(), Usage::Predicate);
            }
            N::WindowDef(window) => self.window(window),
            N::DefElem(element) => self.optional(element.arg.as_deref(), usage),
            N::TypeName(name) => self.type_name(name),
            N::CurrentOfExpr(_) | N::SqlvalueFunction(_) => {}
            N::MergeSupportFunc(_) => self.construct("merge_action", 0),
            N::ParamRef(_) | N::SetToDefault(_) | N::AStar(_) => {}
            N::AConst(_)
            | N::Integer(_)
            | N::Float(_)
            | N::Boolean(_)
            | N::String(_)
            | N::BitString(_)
            | N::RoleSpec(_) => {}

            // SQL/JSON.
            N::JsonValueExpr(value) => self.json_value(value, usage),
            N::JsonIsPredicate(test) => self.optional(test.expr.as_deref(), computed(usage)),
            N::JsonBehavior(behavior) => self.optional(behavior.expr.as_deref(), usage),
            N::JsonOutput(output) => self.optional_type(output.type_name.as_ref()),
            N::JsonArgument(argument) => self.json_optional(argument.val.as_deref(), usage),
            N::JsonKeyValue(pair) => {
                self.optional(pair.key.as_deref(), computed(usage));
                self.json_optional(pair.value.as_deref(), usage);
            }
            N::JsonFuncExpr(function) => self.json_function(function, usage),
            N::JsonParseExpr(parse) => {
                self.construct("json", 1);
                self.json_optional(parse.expr.as_deref(), computed(usage));
                self.json_output(parse.output.as_ref());
            }
            N::JsonScalarExpr(scalar) => {
                self.construct("json_scalar", 1);
                self.optional(scalar.expr.as_deref(), computed(usage));
                self.json_output(scalar.output.as_ref());
            }
            N::JsonSerializeExpr(serialize) => {
                self.construct("json_serialize", 1);
                self.json_optional(serialize.expr.as_deref(), computed(usage));
                self.json_output(serialize.output.as_ref());
            }
            N::JsonObjectConstructor(object) => {
                self.construct("json_object", object.exprs.len());
                self.list(&object.exprs, computed(usage));
                self.json_output(object.output.as_ref());
            }
            N::JsonArrayConstructor(array) => {
                self.construct("json_array", array.exprs.len());
                self.list(&array.exprs, computed(usage));
                self.json_output(array.output.as_ref());
            }
            N::JsonArrayQueryConstructor(array) => {
                self.construct("json_array", 1);
                self.optional(array.query.as_deref(), computed(usage));
                self.json_output(array.output.as_ref());
            }
            N::JsonAggConstructor(aggregate) => self.json_aggregate(Some(aggregate), usage),
            N::JsonObjectAgg(aggregate) => {
                self.construct("json_objectagg", 1);
                self.json_aggregate(aggregate.constructor.as_deref(), usage);
                if let Some(pair) = aggregate.arg.as_deref() {
                    self.optional(pair.key.as_deref(), computed(usage));
                    self.json_optional(pair.value.as_deref(), computed(usage));
                }
            }
            N::JsonArrayAgg(aggregate) => {
                self.construct("json_arrayagg", 1);
                self.json_aggregate(aggregate.constructor.as_deref(), usage);
                self.json_optional(aggregate.arg.as_deref(), computed(usage));
            }
            N::JsonTablePathSpec(path) => self.optional(path.string.as_deref(), usage),
            N::JsonTableColumn(column) => self.json_table_column(column),
            N::JsonTable(table) => self.json_table(table),
            N::JsonFormat(_) => {}

            // FROM.
            N::RangeVar(range) => self.table(range, Access::Read),
            N::RangeSubselect(_)
            | N::RangeFunction(_)
            | N::RangeTableFunc(_)
            | N::RangeTableSample(_)
            | N::JoinExpr(_) => {
                self.source_item(&pb::Node {
                    node: Some(node.clone()),
                });
            }
            N::RangeTableFuncCol(column) => {
                self.optional_type(column.type_name.as_ref());
                self.optional(column.colexpr.as_deref(), usage);
                self.optional(column.coldefexpr.as_deref(), usage);
            }
            N::LockingClause(lock) => self.locking(lock),
            N::IndexElem(element) => {
                self.index_element(element, usage);
            }
            N::Alias(_)
            | N::WithClause(_)
            | N::CommonTableExpr(_)
            | N::CtesearchClause(_)
            | N::CtecycleClause(_) => self.unknown(),
            N::IntoClause(into) => self.select_target(into),
            N::InferClause(_)
            | N::OnConflictClause(_)
            | N::MergeWhenClause(_)
            | N::ReturningOption(_)
            | N::ReturningClause(_) => self.unknown(),

            // Statements with rows.
            N::SelectStmt(select) => {
                let bare = if usage == Usage::Output {
                    Usage::Other
                } else {
                    usage
                };
                self.select(select, bare);
            }
            N::InsertStmt(_) | N::UpdateStmt(_) | N::DeleteStmt(_) | N::MergeStmt(_) => {
                self.change(node, Usage::Other);
            }
            N::CopyStmt(_) | N::ExplainStmt(_) | N::PrepareStmt(_) | N::DeclareCursorStmt(_) => {
                self.deliver(node, Usage::Other);
            }
            N::RawStmt(raw) => self.optional(raw.stmt.as_deref(), usage),
            N::ReturnStmt(statement) => self.optional(statement.returnval.as_deref(), usage),

            // Commands and their parts: `command.rs`.
            N::CreateSchemaStmt(_)
            | N::AlterTableStmt(_)
            | N::AlterTableCmd(_)
            | N::AtalterConstraint(_)
            | N::ReplicaIdentityStmt(_)
            | N::AlterCollationStmt(_)
            | N::AlterDomainStmt(_)
            | N::GrantStmt(_)
            | N::ObjectWithArgs(_)
            | N::AccessPriv(_)
            | N::GrantRoleStmt(_)
            | N::AlterDefaultPrivilegesStmt(_)
            | N::VariableSetStmt(_)
            | N::VariableShowStmt(_)
            | N::CreateStmt(_)
            | N::Constraint(_)
            | N::ColumnDef(_)
            | N::TableLikeClause(_)
            | N::PartitionElem(_)
            | N::PartitionSpec(_)
            | N::PartitionBoundSpec(_)
            | N::PartitionRangeDatum(_)
            | N::PartitionCmd(_)
            | N::CreateTableSpaceStmt(_)
            | N::DropTableSpaceStmt(_)
            | N::AlterTableSpaceOptionsStmt(_)
            | N::AlterTableMoveAllStmt(_)
            | N::CreateExtensionStmt(_)
            | N::AlterExtensionStmt(_)
            | N::AlterExtensionContentsStmt(_)
            | N::CreateFdwStmt(_)
            | N::AlterFdwStmt(_)
            | N::CreateForeignServerStmt(_)
            | N::AlterForeignServerStmt(_)
            | N::CreateForeignTableStmt(_)
            | N::CreateUserMappingStmt(_)
            | N::AlterUserMappingStmt(_)
            | N::DropUserMappingStmt(_)
            | N::ImportForeignSchemaStmt(_)
            | N::CreatePolicyStmt(_)
            | N::AlterPolicyStmt(_)
            | N::CreateAmStmt(_)
            | N::CreateTrigStmt(_)
            | N::TriggerTransition(_)
            | N::CreateEventTrigStmt(_)
            | N::AlterEventTrigStmt(_)
            | N::CreatePlangStmt(_)
            | N::CreateRoleStmt(_)
            | N::AlterRoleStmt(_)
            | N::AlterRoleSetStmt(_)
            | N::DropRoleStmt(_)
            | N::CreateSeqStmt(_)
            | N::AlterSeqStmt(_)
            | N::DefineStmt(_)
            | N::CreateDomainStmt(_)
            | N::CreateOpClassStmt(_)
            | N::CreateOpClassItem(_)
            | N::CreateOpFamilyStmt(_)
            | N::AlterOpFamilyStmt(_)
            | N::DropStmt(_)
            | N::TruncateStmt(_)
            | N::CommentStmt(_)
            | N::SecLabelStmt(_)
            | N::ClosePortalStmt(_)
            | N::FetchStmt(_)
            | N::IndexStmt(_)
            | N::CreateStatsStmt(_)
            | N::StatsElem(_)
            | N::AlterStatsStmt(_)
            | N::CreateFunctionStmt(_)
            | N::FunctionParameter(_)
            | N::AlterFunctionStmt(_)
            | N::DoStmt(_)
            | N::CallStmt(_)
            | N::RenameStmt(_)
            | N::AlterObjectDependsStmt(_)
            | N::AlterObjectSchemaStmt(_)
            | N::AlterOwnerStmt(_)
            | N::AlterOperatorStmt(_)
            | N::AlterTypeStmt(_)
            | N::RuleStmt(_)
            | N::NotifyStmt(_)
            | N::ListenStmt(_)
            | N::UnlistenStmt(_)
            | N::TransactionStmt(_)
            | N::CompositeTypeStmt(_)
            | N::CreateEnumStmt(_)
            | N::CreateRangeStmt(_)
            | N::AlterEnumStmt(_)
            | N::ViewStmt(_)
            | N::LoadStmt(_)
            | N::CreatedbStmt(_)
            | N::AlterDatabaseStmt(_)
            | N::AlterDatabaseRefreshCollStmt(_)
            | N::AlterDatabaseSetStmt(_)
            | N::DropdbStmt(_)
            | N::AlterSystemStmt(_)
            | N::ClusterStmt(_)
            | N::VacuumStmt(_)
            | N::VacuumRelation(_)
            | N::CreateTableAsStmt(_)
            | N::RefreshMatViewStmt(_)
            | N::CheckPointStmt(_)
            | N::DiscardStmt(_)
            | N::LockStmt(_)
            | N::ConstraintsSetStmt(_)
            | N::ReindexStmt(_)
            | N::CreateConversionStmt(_)
            | N::CreateCastStmt(_)
            | N::CreateTransformStmt(_)
            | N::ExecuteStmt(_)
            | N::DeallocateStmt(_)
            | N::DropOwnedStmt(_)
            | N::ReassignOwnedStmt(_)
            | N::AlterTsdictionaryStmt(_)
            | N::AlterTsconfigurationStmt(_)
            | N::PublicationTable(_)
            | N::PublicationObjSpec(_)
            | N::CreatePublicationStmt(_)
            | N::AlterPublicationStmt(_)
            | N::CreateSubscriptionStmt(_)
            | N::AlterSubscriptionStmt(_)
            | N::DropSubscriptionStmt(_) => self.command(node),

            // What parse analysis, the rewriter, the planner and PL/pgSQL make; a raw tree cannot hold these.
            N::TableFunc(_)
            | N::Var(_)
            | N::Param(_)
            | N::Aggref(_)
            | N::WindowFunc(_)
            | N::WindowFuncRunCondition(_)
            | N::SubscriptingRef(_)
            | N::FuncExpr(_)
            | N::OpExpr(_)
            | N::DistinctExpr(_)
            | N::NullIfExpr(_)
            | N::ScalarArrayOpExpr(_)
            | N::SubPlan(_)
            | N::AlternativeSubPlan(_)
            | N::FieldSelect(_)
            | N::FieldStore(_)
            | N::RelabelType(_)
            | N::CoerceViaIo(_)
            | N::ArrayCoerceExpr(_)
            | N::ConvertRowtypeExpr(_)
            | N::CollateExpr(_)
            | N::CaseTestExpr(_)
            | N::ArrayExpr(_)
            | N::RowCompareExpr(_)
            | N::JsonReturning(_)
            | N::JsonConstructorExpr(_)
            | N::JsonExpr(_)
            | N::JsonTablePath(_)
            | N::JsonTablePathScan(_)
            | N::JsonTableSiblingJoin(_)
            | N::MergeAction(_)
            | N::CoerceToDomain(_)
            | N::CoerceToDomainValue(_)
            | N::NextValueExpr(_)
            | N::InferenceElem(_)
            | N::ReturningExpr(_)
            | N::TargetEntry(_)
            | N::RangeTblRef(_)
            | N::FromExpr(_)
            | N::OnConflictExpr(_)
            | N::Query(_)
            | N::RangeTblEntry(_)
            | N::RtepermissionInfo(_)
            | N::RangeTblFunction(_)
            | N::TableSampleClause(_)
            | N::WithCheckOption(_)
            | N::SortGroupClause(_)
            | N::WindowClause(_)
            | N::RowMarkClause(_)
            | N::SetOperationStmt(_)
            | N::PlassignStmt(_)
            | N::InlineCodeBlock(_)
            | N::CallContext(_)
            | N::IntList(_)
            | N::OidList(_) => self.unknown(),
        }
        self.leave();
    }
}
