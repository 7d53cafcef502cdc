//! Commands: what each statement without rows can do, and the names in it.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;
use pg_query::NodeEnum;

use super::copy::{is_on, text_of};
use super::Walker;
use crate::effects::Effect as E;
use crate::facts::{Access, Usage};

/// `AccessShareLock` of storage/lockdefs.h.
const ACCESS_SHARE_LOCK: i32 = 1;

/// `CREATE_TABLE_LIKE_IDENTITY` of nodes/parsenodes.h.
const LIKE_IDENTITY: u32 = 1 << 5;

impl Walker {
    /// Every command and part of a command; `visit` sends only these here.
    pub(super) fn command(&mut self, node: &NodeEnum) {
        match node {
            N::CreateStmt(s) => self.create_table("create_table", s),
            N::CreateForeignTableStmt(s) => {
                if let Some(base) = &s.base_stmt {
                    self.create_table("create_foreign_table", base);
                }
                self.does("create_foreign_table", &[E::Define, E::Network]);
            }
            N::CreateSchemaStmt(s) => {
                self.does("create_schema", &[E::Define]);
                let is_own = |role: &pb::RoleSpec| {
                    matches!(
                        pb::RoleSpecType::try_from(role.roletype),
                        Ok(pb::RoleSpecType::RolespecCurrentUser
                            | pb::RoleSpecType::RolespecCurrentRole)
                    )
                };
                if s.authrole.as_ref().is_some_and(|role| !is_own(role)) {
                    self.effect(E::Privilege); // it belongs to somebody else from the beginning
                }
                if !s.schema_elts.is_empty() {
                    self.unknown(); // several definitions in one, under a verb that says none of them
                }
                self.list(&s.schema_elts, Usage::Other);
            }
            N::AlterTableStmt(s) => self.alter_table(s),
            N::AlterTableCmd(s) => self.alter_table_command(s),
            N::AtalterConstraint(_) | N::ReplicaIdentityStmt(_) | N::AccessPriv(_) => {}
            N::ObjectWithArgs(s) => self.list(&s.objargs, Usage::Other),
            N::Constraint(s) => self.constraint(s),
            N::ColumnDef(s) => self.column_def(s),
            N::TableLikeClause(s) => {
                if s.options & LIKE_IDENTITY != 0 {
                    self.flag("makes_sequence");
                }
                self.optional_table(s.relation.as_ref(), Access::Read);
            }
            N::PartitionElem(s) => self.optional(s.expr.as_deref(), Usage::Other),
            N::PartitionSpec(s) => self.list(&s.part_params, Usage::Other),
            N::PartitionBoundSpec(s) => self.partition_bound(s),
            N::PartitionRangeDatum(s) => self.optional(s.value.as_deref(), Usage::Other),
            N::PartitionCmd(s) => {
                self.optional_table(s.name.as_ref(), Access::Define);
                if let Some(bound) = &s.bound {
                    self.partition_bound(bound);
                }
            }
            N::CreateTableAsStmt(s) => self.create_table_as(s),
            N::ViewStmt(s) => self.view(s),
            N::RefreshMatViewStmt(s) => {
                self.does("refresh_materialized_view", &[E::Write, E::Read]);
                self.optional_table(s.relation.as_ref(), Access::Write);
            }
            N::IndexStmt(s) => self.index(s),
            N::CreateStatsStmt(s) => {
                self.does("create_statistics", &[E::Define]);
                self.relations(&s.relations, Access::Define);
                let range = match s.relations.as_slice() {
                    [node] => match &node.node {
                        Some(N::RangeVar(range)) => Some(range),
                        _ => None,
                    },
                    _ => None, // the server takes one
                };
                self.open_frame_of(range);
                self.list(&s.exprs, Usage::Other);
                self.frames.pop();
            }
            N::StatsElem(s) => {
                if !s.name.is_empty() {
                    self.reference(std::slice::from_ref(&s.name), Usage::Other);
                }
                self.optional(s.expr.as_deref(), Usage::Other);
            }
            N::AlterStatsStmt(_) => self.does("alter_statistics", &[E::Define]),
            N::CreateSeqStmt(s) => {
                self.does("create_sequence", &[E::Define]);
                self.new_relation(s.sequence.as_ref());
                self.list(&s.options, Usage::Other);
            }
            N::AlterSeqStmt(s) => {
                self.does("alter_sequence", &[E::Define, E::Write]);
                self.optional_table(s.sequence.as_ref(), Access::Define);
                self.list(&s.options, Usage::Other);
            }
            N::DropStmt(s) => self.drop(s),
            N::TruncateStmt(s) => {
                self.does("truncate", &[E::Write]);
                self.relations(&s.relations, Access::Write);
            }
            N::LockStmt(s) => {
                // The mode every SELECT takes; it stands in nobody's way but a definition's.
                let is_shared = s.mode == ACCESS_SHARE_LOCK;
                self.does("lock", if is_shared { &[E::Read] } else { &[E::Lock] });
                self.relations(&s.relations, Access::Lock);
            }
            N::RenameStmt(s) => {
                self.does("rename", &[E::Define]);
                if s.missing_ok {
                    self.flag("if_exists"); // it may do nothing
                }
                self.object(s.rename_type);
                if let Some(effect) = super::definition::effect_of_rename(s.rename_type) {
                    self.effect(effect);
                }
                if s.rename_type == pb::ObjectType::ObjectAttribute as i32
                    && s.behavior == pb::DropBehavior::DropCascade as i32
                {
                    self.unknown(); // columns of tables of the type are renamed with it, and nothing names them
                }
                if super::definition::is_relation(s.rename_type) {
                    self.statement.new_names.insert(s.newname.clone());
                    if let Some(range) = &s.relation {
                        // Another relation under the name is as good as other values in it.
                        let star = super::scope::star_of(&super::names::range(range));
                        self.statement.assigned.insert(star);
                    }
                }
                self.flag("reshapes");
                self.optional_table(s.relation.as_ref(), Access::Define);
                self.named_object(s.object.as_deref());
                if let (Some(range), pb::ObjectType::ObjectColumn) = (
                    s.relation.as_ref(),
                    pb::ObjectType::try_from(s.rename_type).unwrap_or(pb::ObjectType::Undefined),
                ) {
                    // A column under another name is as good as another column.
                    let star = super::scope::star_of(&super::names::range(range));
                    self.statement.assigned.insert(crate::facts::Column {
                        name: s.subname.clone(),
                        ..star
                    });
                }
            }
            N::AlterObjectDependsStmt(s) => {
                self.does("alter_depends", &[E::Define]);
                self.optional_table(s.relation.as_ref(), Access::Define);
                self.named_object(s.object.as_deref());
            }
            N::AlterObjectSchemaStmt(s) => {
                let is_extension = s.object_type == pb::ObjectType::ObjectExtension as i32;
                self.does(
                    if is_extension {
                        "alter_extension"
                    } else {
                        "alter_schema"
                    },
                    &[E::Define],
                );
                self.object(s.object_type);
                self.flag("reshapes");
                self.optional_table(s.relation.as_ref(), Access::Define);
                self.named_object(s.object.as_deref());
            }
            N::CommentStmt(s) => {
                self.does("comment", &[E::Define]);
                self.described_object(s.objtype, s.object.as_deref());
            }
            other => self.privilege_command(other),
        }
    }

    /// Commands about rights, roles and owners.
    fn privilege_command(&mut self, node: &NodeEnum) {
        match node {
            N::GrantStmt(s) => self.grant(s),
            N::GrantRoleStmt(s) => {
                self.does(if s.is_grant { "grant" } else { "revoke" }, &[E::Privilege]);
                self.object(pb::ObjectType::ObjectRole as i32);
            }
            N::AlterDefaultPrivilegesStmt(s) => {
                self.does("alter_default_privileges", &[E::Privilege]);
                if let Some(action) = &s.action {
                    self.grant(action);
                }
            }
            N::CreateRoleStmt(_) => self.does("create_role", &[E::Privilege, E::Define]),
            N::AlterRoleStmt(_) => self.does("alter_role", &[E::Privilege, E::Define]),
            N::DropRoleStmt(_) => self.does("drop_role", &[E::Privilege, E::Define]),
            N::AlterRoleSetStmt(s) => {
                self.does("alter_role", &[E::Privilege, E::Define]);
                self.stored_setting(s.setstmt.as_ref());
            }
            N::AlterOwnerStmt(s) => {
                self.does("alter_owner", &[E::Define, E::Privilege]);
                self.object(s.object_type);
                self.optional_table(s.relation.as_ref(), Access::Define);
                self.named_object(s.object.as_deref());
            }
            N::DropOwnedStmt(_) => self.does("drop_owned", &[E::Define, E::Privilege, E::Write]),
            N::ReassignOwnedStmt(_) => self.does("reassign_owned", &[E::Define, E::Privilege]),
            N::SecLabelStmt(s) => {
                self.does("security_label", &[E::Define, E::Privilege]);
                self.described_object(s.objtype, s.object.as_deref());
            }
            N::CreatePolicyStmt(s) => {
                self.does("create_policy", &[E::Define, E::Privilege]);
                self.policy(
                    s.table.as_ref(),
                    [s.qual.as_deref(), s.with_check.as_deref()],
                );
            }
            N::AlterPolicyStmt(s) => {
                self.does("alter_policy", &[E::Define, E::Privilege]);
                self.policy(
                    s.table.as_ref(),
                    [s.qual.as_deref(), s.with_check.as_deref()],
                );
            }
            other => self.code_command(other),
        }
    }

    /// Commands that run code or make code run later.
    fn code_command(&mut self, node: &NodeEnum) {
        match node {
            N::DoStmt(s) => {
                self.does("do", &[E::Execute]);
                self.flag("do");
                let language = s.args.iter().find_map(|node| match &node.node {
                    Some(N::DefElem(option)) if option.defname == "language" => {
                        text_of(option.arg.as_deref())
                    }
                    _ => None,
                });
                self.language(language.as_deref());
                let source = s.args.iter().find_map(|node| match &node.node {
                    Some(N::DefElem(option)) if option.defname == "as" => {
                        text_of(option.arg.as_deref())
                    }
                    _ => None,
                });
                self.body(
                    language.as_deref().unwrap_or("plpgsql"),
                    &source.unwrap_or_default(),
                );
            }
            N::CallStmt(s) => {
                self.does("call", &[E::Execute]);
                self.flag("calls_procedure");
                match s.funccall.as_deref() {
                    Some(call) => self.func_call(call, Usage::Other),
                    None => self.unknown(),
                }
            }
            N::ExecuteStmt(s) => {
                self.does("execute", &[E::Execute]);
                self.statement.prepared_name = Some(s.name.clone());
                self.note_values(&s.params.iter().collect::<Vec<_>>());
                self.list(&s.params, Usage::Other);
            }
            N::CreateFunctionStmt(s) => self.create_function(s),
            N::FunctionParameter(s) => {
                self.optional_type(s.arg_type.as_ref());
                self.optional(s.defexpr.as_deref(), Usage::Other);
            }
            N::AlterFunctionStmt(_) => self.does("alter_function", &[E::Define, E::Privilege]),
            N::RuleStmt(s) => {
                self.does("create_rule", &[E::Define]);
                self.optional_table(s.relation.as_ref(), Access::Define);
                self.optional(s.where_clause.as_deref(), Usage::Predicate);
                self.list(&s.actions, Usage::Other);
            }
            N::CreateTrigStmt(s) => {
                self.does("create_trigger", &[E::Define]);
                self.optional_table(s.relation.as_ref(), Access::Define);
                self.optional_table(s.constrrel.as_ref(), Access::Define);
                self.function(&s.funcname, s.args.len());
                self.optional(s.when_clause.as_deref(), Usage::Predicate);
            }
            N::TriggerTransition(_) => {}
            N::CreateEventTrigStmt(s) => {
                self.does("create_event_trigger", &[E::Define, E::Privilege]);
                self.function(&s.funcname, 0);
            }
            N::AlterEventTrigStmt(_) => {
                self.does("alter_event_trigger", &[E::Define, E::Privilege])
            }
            N::LoadStmt(_) => self.does("load", &[E::File, E::Program]),
            N::CreatePlangStmt(_) => self.does("create_language", &[E::Define, E::Program]),
            N::CreateExtensionStmt(_) => self.does("create_extension", &[E::Define, E::Execute]),
            N::AlterExtensionStmt(_) => self.does("alter_extension", &[E::Define, E::Execute]),
            N::AlterExtensionContentsStmt(_) => self.does("alter_extension", &[E::Define]),
            other => self.session_command(other),
        }
    }

    /// Commands about the session, its transaction and its cursors.
    fn session_command(&mut self, node: &NodeEnum) {
        match node {
            N::VariableSetStmt(s) => self.set(s),
            N::VariableShowStmt(_) => self.does("show", &[E::Read]),
            N::TransactionStmt(s) => self.transaction(s),
            N::DiscardStmt(s) => {
                self.does("discard", &[E::Session]);
                if s.target == pb::DiscardMode::DiscardTemp as i32
                    || s.target == pb::DiscardMode::DiscardAll as i32
                {
                    self.flag("drops_temporary");
                }
                if s.target == pb::DiscardMode::DiscardAll as i32 {
                    // DISCARD ALL includes RESET ALL and SET SESSION AUTHORIZATION DEFAULT.
                    self.effect(E::Privilege);
                    self.set_var("all");
                }
            }
            N::ConstraintsSetStmt(_) => self.does("set_constraints", &[E::Session]),
            N::ListenStmt(_) => self.does("listen", &[E::Session]),
            N::UnlistenStmt(_) => self.does("unlisten", &[E::Session]),
            // Other sessions see it, so it is more than session state.
            N::NotifyStmt(_) => self.does("notify", &[E::Session, E::Write]),
            N::ClosePortalStmt(s) => {
                self.does("close", &[E::Session]);
                self.statement.cursor_name =
                    Some(s.portalname.clone()).filter(|name| !name.is_empty());
            }
            N::FetchStmt(s) => {
                self.does(
                    if s.ismove { "move" } else { "fetch" },
                    &[E::Session, E::Read],
                );
                self.flag("cursor");
                self.statement.cursor_name = Some(s.portalname.clone());
            }
            N::DeallocateStmt(s) => {
                self.does("deallocate", &[E::Session]);
                self.statement.prepared_name = Some(s.name.clone()).filter(|name| !name.is_empty());
            }
            other => self.server_command(other),
        }
    }

    /// Commands about the server, its storage and its connections to others.
    fn server_command(&mut self, node: &NodeEnum) {
        match node {
            N::CreatedbStmt(_) => self.does("create_database", &[E::Define]),
            N::AlterDatabaseStmt(_) => self.does("alter_database", &[E::Define, E::Privilege]),
            N::AlterDatabaseRefreshCollStmt(_) => self.does("alter_database", &[E::Define]),
            N::AlterDatabaseSetStmt(s) => {
                self.does("alter_database", &[E::Define, E::Privilege]);
                self.stored_setting(s.setstmt.as_ref());
            }
            N::DropdbStmt(_) => self.does("drop_database", &[E::Define]),
            N::AlterSystemStmt(s) => {
                self.does("alter_system", &[E::Define, E::File, E::Privilege]);
                self.stored_setting(s.setstmt.as_ref());
            }
            N::CreateTableSpaceStmt(_) => self.does("create_tablespace", &[E::Define, E::File]),
            N::DropTableSpaceStmt(_) => self.does("drop_tablespace", &[E::Define, E::File]),
            N::AlterTableSpaceOptionsStmt(_) => self.does("alter_tablespace", &[E::Define]),
            N::AlterTableMoveAllStmt(_) => self.does("alter_table", &[E::Define, E::File]),
            N::ClusterStmt(s) => {
                self.does("cluster", &[E::Write, E::Lock]);
                self.optional_table(s.relation.as_ref(), Access::Write);
            }
            N::VacuumStmt(s) => {
                self.does(
                    if s.is_vacuumcmd { "vacuum" } else { "analyze" },
                    &[E::Write],
                );
                let full = s.options.iter().any(|node| matches!(&node.node, Some(N::DefElem(option)) if option.defname == "full" && is_on(option)));
                if full {
                    self.effect(E::Lock);
                }
                self.list(&s.rels, Usage::Other);
            }
            N::VacuumRelation(s) => self.optional_table(s.relation.as_ref(), Access::Write),
            N::ReindexStmt(s) => {
                self.does("reindex", &[E::Write, E::Lock]);
                self.optional_table(s.relation.as_ref(), Access::Write);
            }
            N::CheckPointStmt(_) => self.does("checkpoint", &[E::Write]),
            N::CreateFdwStmt(_) => {
                self.does("create_foreign_data_wrapper", &[E::Define, E::Network])
            }
            N::AlterFdwStmt(_) => self.does("alter_foreign_data_wrapper", &[E::Define, E::Network]),
            N::CreateForeignServerStmt(_) => self.does("create_server", &[E::Define, E::Network]),
            N::AlterForeignServerStmt(_) => self.does("alter_server", &[E::Define, E::Network]),
            N::CreateUserMappingStmt(_) => self.does(
                "create_user_mapping",
                &[E::Define, E::Network, E::Privilege],
            ),
            N::AlterUserMappingStmt(_) => {
                self.does("alter_user_mapping", &[E::Define, E::Network, E::Privilege])
            }
            N::DropUserMappingStmt(_) => self.does("drop_user_mapping", &[E::Define, E::Privilege]),
            N::ImportForeignSchemaStmt(_) => {
                self.does("import_foreign_schema", &[E::Define, E::Network])
            }
            N::CreateSubscriptionStmt(_) => {
                self.does("create_subscription", &[E::Define, E::Network, E::Write])
            }
            N::AlterSubscriptionStmt(_) => {
                self.does("alter_subscription", &[E::Define, E::Network, E::Write])
            }
            N::DropSubscriptionStmt(_) => self.does("drop_subscription", &[E::Define, E::Network]),
            N::CreatePublicationStmt(s) => {
                self.does("create_publication", &[E::Define, E::Export]);
                self.list(&s.pubobjects, Usage::Other);
            }
            N::AlterPublicationStmt(s) => {
                self.does("alter_publication", &[E::Define, E::Export]);
                self.list(&s.pubobjects, Usage::Other);
            }
            N::PublicationObjSpec(s) => {
                if let Some(table) = s.pubtable.as_deref() {
                    self.publication_table(table);
                }
            }
            N::PublicationTable(s) => self.publication_table(s),
            other => self.type_command(other),
        }
    }
}
