//! Commands that define types, operators, casts and the like.

use pg_query::NodeEnum as N;

use super::Walker;
use crate::effects::Effect as E;
use crate::facts::Usage;

impl Walker {
    pub(super) fn type_command(&mut self, node: &N) {
        match node {
            N::DefineStmt(s) => {
                self.does("create_object", &[E::Define]);
                self.object(s.kind);
                // An aggregate, operator or base type names functions that later run.
                self.list(&s.definition, Usage::Other);
            }
            N::CreateDomainStmt(s) => {
                self.does("create_domain", &[E::Define]);
                self.optional_type(s.type_name.as_ref());
                self.list(&s.constraints, Usage::Other);
            }
            N::AlterDomainStmt(s) => {
                self.does("alter_domain", &[E::Define]);
                let parts = super::names::strings(&s.type_name);
                match super::names::qualified(&parts) {
                    Some(name) => drop(self.statement.types.insert(name)),
                    None => self.unknown(),
                }
                if s.subtype == "X" {
                    self.flag("drops_part");
                }
                self.optional(s.def.as_deref(), Usage::Other);
            }
            N::CompositeTypeStmt(s) => {
                self.does("create_type", &[E::Define]);
                self.list(&s.coldeflist, Usage::Other);
            }
            N::CreateEnumStmt(s) => {
                self.does("create_type", &[E::Define]);
                let name = super::names::qualified(&super::names::strings(&s.type_name));
                match name {
                    Some(name) => drop(self.statement.types.insert(name)),
                    None => self.unknown(),
                }
            }
            N::CreateRangeStmt(s) => {
                self.does("create_type", &[E::Define]);
                self.list(&s.params, Usage::Other);
            }
            N::AlterEnumStmt(_) => self.does("alter_type", &[E::Define]),
            // What reads and writes its values, for everybody.
            N::AlterTypeStmt(_) => self.does("alter_base_type", &[E::Define]),
            N::AlterCollationStmt(_) => self.does("alter_collation", &[E::Define]),
            N::CreateAmStmt(s) => {
                self.does("create_access_method", &[E::Define]);
                self.function(&s.handler_name, 1);
            }
            N::CreateOpClassStmt(s) => {
                self.does("create_operator_class", &[E::Define]);
                self.optional_type(s.datatype.as_ref());
                self.list(&s.items, Usage::Other);
            }
            N::CreateOpClassItem(s) => {
                self.list(&s.class_args, Usage::Other);
                self.optional_type(s.storedtype.as_ref());
            }
            N::CreateOpFamilyStmt(_) => self.does("create_operator_family", &[E::Define]),
            N::AlterOpFamilyStmt(s) => {
                self.does("alter_operator_family", &[E::Define]);
                self.list(&s.items, Usage::Other);
            }
            N::AlterOperatorStmt(_) => self.does("alter_operator", &[E::Define]),
            N::CreateConversionStmt(s) => {
                self.does("create_conversion", &[E::Define]);
                self.function(&s.func_name, 6);
            }
            N::CreateCastStmt(s) => {
                self.does("create_cast", &[E::Define]);
                self.optional_type(s.sourcetype.as_ref());
                self.optional_type(s.targettype.as_ref());
            }
            N::CreateTransformStmt(s) => {
                self.does("create_transform", &[E::Define]);
                self.optional_type(s.type_name.as_ref());
            }
            N::AlterTsdictionaryStmt(_) | N::AlterTsconfigurationStmt(_) => {
                self.does("alter_text_search", &[E::Define])
            }
            _ => self.unknown(),
        }
    }
}
