//! ALTER TABLE, and what each of its commands does to rows that are there.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::scope::Relation;
use super::Walker;
use crate::effects::Effect as E;
use crate::facts::{Access, Column, Usage};

impl Walker {
    pub(super) fn alter_table(&mut self, alter: &pb::AlterTableStmt) {
        self.does("alter_table", &[E::Define]);
        self.object(alter.objtype);
        if alter.objtype == pb::ObjectType::ObjectForeignTable as i32 {
            self.effect(E::Network);
        }
        self.altered(alter.relation.as_ref());
        self.open_frame_of(alter.relation.as_ref());
        let commands = || {
            alter.cmds.iter().filter_map(|node| match &node.node {
                Some(N::AlterTableCmd(command)) => Some(command),
                _ => None,
            })
        };
        let is_of_a_type = alter.objtype == pb::ObjectType::ObjectType as i32;
        let cascade = pb::DropBehavior::DropCascade as i32;
        if is_of_a_type && commands().any(|command| command.behavior == cascade) {
            self.unknown(); // tables of the type change with it, and nothing names them
        }
        let attach = pb::AlterTableType::AtAttachPartition as i32;
        if let (true, Some(range)) = (
            commands().any(|command| command.subtype == attach),
            &alter.relation,
        ) {
            self.assigned_whole(range);
        }
        self.list(&alter.cmds, Usage::Other);
        self.frames.pop();
    }

    pub(super) fn alter_table_command(&mut self, command: &pb::AlterTableCmd) {
        use pb::AlterTableType as T;
        let kind = T::try_from(command.subtype).unwrap_or(T::Undefined);
        match kind {
            T::AtChangeOwner
            | T::AtEnableTrig
            | T::AtEnableTrigAll
            | T::AtEnableTrigUser
            | T::AtEnableRule
            | T::AtEnableRowSecurity
            | T::AtDisableRowSecurity
            | T::AtForceRowSecurity
            | T::AtNoForceRowSecurity
            | T::AtDisableTrig
            | T::AtDisableTrigAll
            | T::AtDisableTrigUser
            | T::AtEnableReplicaTrig
            | T::AtEnableAlwaysTrig
            | T::AtDisableRule
            | T::AtEnableReplicaRule
            | T::AtEnableAlwaysRule => self.effect(E::Privilege),
            // These rewrite rows.
            T::AtAlterColumnType | T::AtSetExpression => self.effect(E::Write),
            T::AtDropColumn => {
                self.effect(E::Write);
                self.flag("drops_column");
            }
            // Where a foreign table reads, on a server or in a file.
            T::AtGenericOptions | T::AtAlterColumnGenericOptions => self.effect(E::Network),
            // Whether it can be set tells of the values.
            T::AtSetNotNull => {
                self.reference(std::slice::from_ref(&command.name), Usage::Other);
            }
            T::Undefined => self.unknown(),
            _ => {}
        }
        if matches!(
            kind,
            T::AtAlterColumnType | T::AtSetExpression | T::AtColumnDefault
        ) {
            // It rewrites what the column has, or will have.
            let source = self.frames.last().and_then(|frame| frame.sources.first());
            if let Some(Relation::Table { table, .. }) = source.map(|source| &source.relation) {
                let column = Column {
                    name: command.name.clone(),
                    ..super::scope::star_of(table)
                };
                self.statement.assigned.insert(column);
            }
        }
        if matches!(kind, T::AtDropColumn | T::AtDropConstraint) {
            self.flag("drops_part");
        }
        self.new_values(kind, command);
        if let (T::AtAddColumn, Some(N::ColumnDef(column))) = (
            kind,
            command.def.as_deref().and_then(|def| def.node.as_ref()),
        ) {
            let name = column.colname.clone();
            self.statement.added_columns.insert(name);
        }
        if matches!(
            kind,
            T::AtDropColumn
                | T::AtAlterColumnType
                | T::AtAddInherit
                | T::AtDropInherit
                | T::AtAttachPartition
                | T::AtDetachPartition
                | T::AtReplicaIdentity
                | T::AtDropExpression
        ) {
            self.flag("reshapes");
        }
        if matches!(kind, T::AtAddInherit | T::AtAttachPartition) {
            self.flag("inherits");
        }
        if matches!(kind, T::AtAddInherit | T::AtDropInherit) {
            if let Some(N::RangeVar(range)) =
                command.def.as_deref().and_then(|def| def.node.as_ref())
            {
                if kind == T::AtAddInherit {
                    self.assigned_whole(range);
                }
                return self.table(range, Access::Define);
            }
        }
        self.optional(command.def.as_deref(), Usage::Other);
    }

    /// What every row gets in a column that is added with a default, or rewritten.
    fn new_values(&mut self, kind: pb::AlterTableType, command: &pb::AlterTableCmd) {
        use pb::AlterTableType as T;
        let Some(N::ColumnDef(column)) = command.def.as_deref().and_then(|def| def.node.as_ref())
        else {
            return;
        };
        let source = self.frames.last().and_then(|frame| frame.sources.first());
        let table = match source.map(|source| &source.relation) {
            Some(Relation::Table { table, .. }) => table.clone(),
            _ => return,
        };
        if kind == T::AtAddColumn && !column.constraints.is_empty() {
            self.statement.assigned.insert(Column {
                name: column.colname.clone(),
                ..super::scope::star_of(&table)
            });
        }
        if kind == T::AtAlterColumnType {
            if let Some(using) = column.raw_default.as_deref() {
                let made_of = self.tapped(|walker| walker.node(using, Usage::Other));
                if !made_of.iter().any(|each| each.name == command.name) {
                    self.flag("drops_part"); // whatever the column held is gone
                }
            }
        }
    }
}
