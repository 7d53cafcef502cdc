//! The kinds of nodes the grammar has, and where each is walked.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::quiet::{self, computed};
use super::Walker;
use crate::effects::Effect;
use crate::facts::{Access, Usage};

impl Walker {
    /// The one place that knows every kind of node.
    pub(super) fn visit(&mut self, node: &N, usage: Usage) {
        if !self.enter() {
            return;
        }
        match node {
            // Expressions, as the grammar makes them.
            N::ColumnRef(reference) => self.column_ref(reference, usage),
            N::AExpr(expression) => {
                let sides = [expression.lexpr.as_deref(), expression.rexpr.as_deref()];
                let blends = quiet::blends(sides.into_iter());
                self.blended(blends, |walker| walker.a_expr(expression, usage));
            }
            N::BoolExpr(expression) => self.list(&expression.args, computed(usage)),
            // Of a row, NULL tests stop at the first field that answers.
            N::NullTest(test) => self.optional(test.arg.as_deref(), computed(usage)),
            N::BooleanTest(test) => self.optional(test.arg.as_deref(), computed(usage)),
            N::TypeCast(cast) => {
                let usage = if self.is_row_as_it_is(cast) {
                    usage
                } else {
                    quiet::of_cast(cast, usage)
                };
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
                let results = case.args.iter().map(quiet::result_of);
                let results = results.chain(std::iter::once(case.defresult.as_deref()));
                self.blended(quiet::blends(results), |walker| {
                    walker.list(&case.args, usage);
                    walker.optional(case.defresult.as_deref(), usage);
                });
            }
            N::CaseWhen(when) => {
                self.optional(when.expr.as_deref(), computed(usage)); // it decides what is computed
                self.optional(when.result.as_deref(), usage);
            }
            N::CoalesceExpr(expression) => {
                let usage = quiet::of_coalesce(expression, usage);
                let blends = quiet::blends(expression.args.iter().map(Some));
                self.blended(blends, |walker| walker.list(&expression.args, usage));
            }
            N::MinMaxExpr(expression) => self.list(&expression.args, computed(usage)),
            N::RowExpr(expression) => self.list(&expression.args, usage),
            N::AArrayExpr(array) => {
                let blends = quiet::blends(array.elements.iter().map(Some));
                self.blended(blends, |walker| walker.list(&array.elements, usage));
            }
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
            N::LockingClause(_) => self.effect(Effect::Lock),
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
