//! The parts of commands that define things: tables, views, functions, rights, and the objects they name.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::copy::{is_on, text_of};
use super::scope::Relation;
use super::{names, Walker};
use crate::effects::Effect as E;
use crate::facts::{Access, Column, Usage};

/// Languages a function body of which cannot leave the database's own rules.
const TRUSTED_LANGUAGES: [&str; 2] = ["sql", "plpgsql"];

/// The columns of a relation's primary key, which the text does not name. No name of a column holds a NUL.
const PRIMARY_KEY: &str = "\0\u{4}";

/// Types that stand for a number from a sequence of the column's own (8.1.4).
const SERIALS: [&str; 6] = [
    "serial",
    "serial2",
    "serial4",
    "serial8",
    "bigserial",
    "smallserial",
];

impl Walker {
    pub(super) fn does(&mut self, verb: &'static str, effects: &[E]) {
        self.verb(verb);
        self.effects(effects);
    }

    pub(super) fn object(&mut self, kind: i32) {
        if self.statement.object.is_none() {
            self.statement.object = Some(object_name(kind));
        }
    }

    pub(super) fn optional_table(&mut self, range: Option<&pb::RangeVar>, access: Access) {
        if let Some(range) = range {
            self.table(range, access);
        }
    }

    pub(super) fn relations(&mut self, nodes: &[pb::Node], access: Access) {
        for node in nodes {
            match &node.node {
                Some(N::RangeVar(range)) => self.table(range, access),
                _ => self.unknown(),
            }
        }
    }

    /// Types and functions an ALTER is about; relations come as a RangeVar instead.
    pub(super) fn named_object(&mut self, object: Option<&pb::Node>) {
        if let Some(N::ObjectWithArgs(object)) = object.and_then(|object| object.node.as_ref()) {
            self.list(&object.objargs, Usage::Other);
        }
    }

    /// The object of COMMENT and SECURITY LABEL, which names relations as lists of strings.
    pub(super) fn described_object(&mut self, kind: i32, object: Option<&pb::Node>) {
        self.object(kind);
        let Some(N::List(list)) = object.and_then(|object| object.node.as_ref()) else {
            return;
        };
        let parts = names::strings(&list.items);
        if is_relation(kind) {
            self.table_name(&parts, Access::Define);
        } else if kind == pb::ObjectType::ObjectColumn as i32 && parts.len() > 1 {
            self.table_name(&parts[..parts.len() - 1], Access::Define);
        }
    }

    /// A relation that is made, under its name.
    pub(super) fn new_relation(&mut self, range: Option<&pb::RangeVar>) {
        let Some(range) = range else { return };
        self.table(range, Access::Define);
        self.statement.new_names.insert(range.relname.clone());
        if range.relpersistence == "t" || range.schemaname.starts_with("pg_temp") {
            self.flag("temporary");
        }
    }

    /// Whether a temporary relation ends with its transaction.
    pub(super) fn on_commit(&mut self, action: i32) {
        if action == pb::OnCommitAction::OncommitDrop as i32 {
            self.flag("on_commit_drop");
        }
    }

    pub(super) fn create_table(&mut self, verb: &'static str, create: &pb::CreateStmt) {
        self.does(verb, &[E::Define]);
        self.new_relation(create.relation.as_ref());
        self.flag("creates_table");
        self.on_commit(create.oncommit);
        if create.if_not_exists {
            self.flag("if_not_exists"); // what has the name may be anything
        }
        self.list(&create.table_elts, Usage::Other);
        self.relations(&create.inh_relations, Access::Define);
        if !create.inh_relations.is_empty() {
            self.flag("inherits"); // rows of another relation may come into it
        }
        for node in &create.inh_relations {
            if let Some(N::RangeVar(parent)) = &node.node {
                self.assigned_whole(parent);
            }
        }
        if let Some(bound) = &create.partbound {
            self.partition_bound(bound);
        }
        if let Some(spec) = &create.partspec {
            self.list(&spec.part_params, Usage::Other);
        }
        self.optional_type(create.of_typename.as_ref());
        self.list(&create.constraints, Usage::Other);
        self.list(&create.nnconstraints, Usage::Other);
        self.list(&create.options, Usage::Other);
    }

    pub(super) fn partition_bound(&mut self, bound: &pb::PartitionBoundSpec) {
        self.list(&bound.listdatums, Usage::Other);
        self.list(&bound.lowerdatums, Usage::Other);
        self.list(&bound.upperdatums, Usage::Other);
    }

    pub(super) fn column_def(&mut self, column: &pb::ColumnDef) {
        self.optional_type(column.type_name.as_ref());
        self.optional(column.raw_default.as_deref(), Usage::Other);
        self.optional(column.cooked_default.as_deref(), Usage::Other);
        self.optional_table(column.identity_sequence.as_ref(), Access::Define);
        self.list(&column.constraints, Usage::Other);
        let is_identity = column.constraints.iter().any(|node| {
            matches!(&node.node, Some(N::Constraint(found)) if found.contype == pb::ConstrType::ConstrIdentity as i32)
        });
        let serial = column.type_name.as_ref().is_some_and(|of_type| {
            names::strings(&of_type.names)
                .last()
                .is_some_and(|name| SERIALS.contains(&name.as_str()))
        });
        if is_identity || serial {
            self.flag("makes_sequence"); // under a name that need not be told
        }
    }

    pub(super) fn altered(&mut self, range: Option<&pb::RangeVar>) {
        self.optional_table(range, Access::Define);
        self.statement.altered = range.map(|range| range.relname.clone());
    }

    fn index_name(&mut self, name: &str) {
        if !name.is_empty() {
            self.statement.index_names.insert(name.to_owned());
        }
    }

    pub(super) fn constraint(&mut self, constraint: &pb::Constraint) {
        use pb::ConstrType as T;
        if let Ok(T::ConstrPrimary | T::ConstrUnique | T::ConstrExclusion) =
            T::try_from(constraint.contype)
        {
            self.index_name(&constraint.conname);
        }
        for node in &constraint.options {
            if let Some(N::DefElem(option)) = &node.node {
                if option.defname == "sequence_name" {
                    if let Some(N::List(parts)) =
                        option.arg.as_deref().and_then(|arg| arg.node.as_ref())
                    {
                        let parts = names::strings(&parts.items);
                        self.index_name(parts.last().map_or("", String::as_str));
                    }
                }
            }
        }
        self.optional(constraint.raw_expr.as_deref(), Usage::Other);
        self.list(&constraint.exclusions, Usage::Other);
        self.optional(constraint.where_clause.as_deref(), Usage::Other);
        self.optional_table(constraint.pktable.as_ref(), Access::Define);
        self.list(&constraint.options, Usage::Other);
        if self.frames.last().is_some() {
            // The columns of a constraint on a table that is there already.
            for name in names::strings(&constraint.keys)
                .into_iter()
                .chain(names::strings(&constraint.fk_attrs))
            {
                self.reference(&[name], Usage::Other);
            }
        }
        self.assigned_by_key(constraint);
        // Whether a row is taken tells whether the other relation has its value.
        if let Some(range) = &constraint.pktable {
            let mut referred = names::strings(&constraint.pk_attrs);
            if referred.is_empty() && constraint.contype == pb::ConstrType::ConstrForeign as i32 {
                referred.push(PRIMARY_KEY.to_owned());
            }
            let columns: Vec<Column> = referred
                .into_iter()
                .map(|name| Column {
                    name,
                    ..super::scope::star_of(&names::range(range))
                })
                .collect();
            self.columns(&columns, Usage::Predicate);
        }
    }

    /// Rows with values in every column of a relation may come into it in another way than by naming it.
    pub(super) fn assigned_whole(&mut self, range: &pb::RangeVar) {
        let star = super::scope::star_of(&names::range(range));
        self.statement.assigned.insert(star);
    }

    /// A foreign key whose columns follow the other table's lets a write to that one write to them.
    fn assigned_by_key(&mut self, constraint: &pb::Constraint) {
        let follows = [&constraint.fk_upd_action, &constraint.fk_del_action]
            .into_iter()
            .any(|action| matches!(action.as_str(), "c" | "n" | "d"));
        if follows {
            self.flag("follows_key");
        }
        let source = self.frames.last().and_then(|frame| frame.sources.first());
        if let (true, Some(Relation::Table { table, .. })) =
            (follows, source.map(|source| &source.relation))
        {
            let table = table.clone();
            for name in names::strings(&constraint.fk_attrs) {
                self.statement.assigned.insert(Column {
                    name,
                    ..super::scope::star_of(&table)
                });
            }
        }
    }

    pub(super) fn view(&mut self, view: &pb::ViewStmt) {
        self.does("create_view", &[E::Define]);
        self.new_relation(view.view.as_ref());
        self.later(|walker| walker.optional(view.query.as_deref(), Usage::Other));
    }

    /// Walks what is stored now and runs later: its names count, its effects are not those of this statement.
    pub(super) fn later(&mut self, walk: impl FnOnce(&mut Self)) {
        let before = self.statement.effects;
        walk(self);
        let unknown = self.statement.effects.contains(E::Unknown);
        self.statement.effects = before;
        if unknown {
            self.unknown();
        }
    }

    pub(super) fn index(&mut self, index: &pb::IndexStmt) {
        self.does("create_index", &[E::Define]);
        self.index_name(&index.idxname);
        self.altered(index.relation.as_ref());
        self.open_frame_of(index.relation.as_ref());
        self.list(&index.index_params, Usage::Other);
        self.list(&index.index_including_params, Usage::Other);
        self.optional(index.where_clause.as_deref(), Usage::Predicate);
        self.frames.pop();
    }

    /// Begins a scope in which names are columns of a relation, or the whole row of it.
    pub(super) fn open_frame_of(&mut self, range: Option<&pb::RangeVar>) {
        self.frames.push(super::Frame::default());
        if let Some(range) = range {
            let table = names::range(range);
            let relation = Relation::Table {
                table: table.clone(),
                renamed: Vec::new(),
            };
            self.source(table.name, relation, false);
        }
    }

    pub(super) fn drop(&mut self, drop: &pb::DropStmt) {
        self.does("drop", &[E::Define]);
        self.object(drop.remove_type);
        if is_relation(drop.remove_type) {
            for node in &drop.objects {
                match &node.node {
                    Some(N::List(list)) => {
                        self.table_name(&names::strings(&list.items), Access::Define)
                    }
                    _ => self.unknown(),
                }
            }
        } else if [
            pb::ObjectType::ObjectPolicy as i32,
            pb::ObjectType::ObjectTrigger as i32,
            pb::ObjectType::ObjectRule as i32,
        ]
        .contains(&drop.remove_type)
        {
            // The object is named behind its relation.
            self.effect(E::Privilege);
            for node in &drop.objects {
                if let Some(N::List(list)) = &node.node {
                    let parts = names::strings(&list.items);
                    self.table_name(&parts[..parts.len().saturating_sub(1)], Access::Define);
                }
            }
        }
    }

    pub(super) fn grant(&mut self, grant: &pb::GrantStmt) {
        self.does(
            if grant.is_grant { "grant" } else { "revoke" },
            &[E::Privilege],
        );
        self.object(grant.objtype);
        for node in &grant.objects {
            match &node.node {
                Some(N::RangeVar(range)) => self.table(range, Access::Define),
                Some(other) => self.visit(other, Usage::Other),
                None => self.unknown(),
            }
        }
    }

    pub(super) fn policy(
        &mut self,
        table: Option<&pb::RangeVar>,
        conditions: [Option<&pb::Node>; 2],
    ) {
        self.optional_table(table, Access::Define);
        self.later(|walker| {
            conditions
                .into_iter()
                .for_each(|condition| walker.optional(condition, Usage::Predicate))
        });
    }

    pub(super) fn create_function(&mut self, create: &pb::CreateFunctionStmt) {
        self.does(
            if create.is_procedure {
                "create_procedure"
            } else {
                "create_function"
            },
            &[E::Define],
        );
        self.list(&create.parameters, Usage::Other);
        self.optional_type(create.return_type.as_ref());
        let (mut language, mut body) = (String::new(), Vec::new());
        for node in &create.options {
            let Some(N::DefElem(option)) = &node.node else {
                self.unknown();
                continue;
            };
            match option.defname.as_str() {
                "language" => {
                    language = text_of(option.arg.as_deref()).unwrap_or_default();
                    self.language(Some(&language));
                }
                "as" => {
                    body = match option.arg.as_deref().and_then(|arg| arg.node.as_ref()) {
                        Some(N::List(list)) => names::strings(&list.items),
                        _ => Vec::new(),
                    };
                }
                "security" if is_on(option) => {
                    self.effect(E::Privilege);
                    self.flag("security_definer");
                }
                _ => {}
            }
        }
        self.later(|walker| walker.optional(create.sql_body.as_deref(), Usage::Other));
        if let [source] = body.as_slice() {
            self.later(|walker| walker.body(&language, source));
        }
    }

    /// Code in a language that can reach outside the database.
    pub(super) fn language(&mut self, language: Option<&str>) {
        let Some(language) = language else { return };
        if !TRUSTED_LANGUAGES.contains(&language.to_lowercase().as_str()) {
            self.effect(E::Program);
            self.flag("other_language");
        }
    }

    pub(super) fn publication_table(&mut self, table: &pb::PublicationTable) {
        self.optional_table(table.relation.as_ref(), Access::Define);
        self.later(|walker| walker.optional(table.where_clause.as_deref(), Usage::Predicate));
    }
}

pub(super) fn is_relation(kind: i32) -> bool {
    use pb::ObjectType as O;
    [
        O::ObjectTable,
        O::ObjectView,
        O::ObjectMatview,
        O::ObjectIndex,
        O::ObjectSequence,
        O::ObjectForeignTable,
    ]
    .into_iter()
    .any(|known| known as i32 == kind)
}

/// What renaming does beside defining, for objects that stand for more than a name of one database: as other statements on them.
pub(super) fn effect_of_rename(kind: i32) -> Option<E> {
    use pb::ObjectType as O;
    match O::try_from(kind).unwrap_or(O::Undefined) {
        // A role loses its password with its name.
        O::ObjectRole | O::ObjectDatabase | O::ObjectEventTrigger => Some(E::Privilege),
        O::ObjectTablespace => Some(E::File),
        O::ObjectLanguage => Some(E::Program),
        O::ObjectPublication => Some(E::Export),
        O::ObjectForeignServer | O::ObjectFdw | O::ObjectSubscription | O::ObjectUserMapping => {
            Some(E::Network)
        }
        _ => None,
    }
}

/// The name of a kind of object, as in "table" or "foreign_server".
fn object_name(kind: i32) -> &'static str {
    use pb::ObjectType as O;
    match O::try_from(kind).unwrap_or(O::Undefined) {
        O::Undefined => "unknown",
        O::ObjectAccessMethod => "access_method",
        O::ObjectAggregate => "aggregate",
        O::ObjectAmop | O::ObjectAmproc => "operator_family_member",
        O::ObjectAttribute => "attribute",
        O::ObjectCast => "cast",
        O::ObjectColumn => "column",
        O::ObjectCollation => "collation",
        O::ObjectConversion => "conversion",
        O::ObjectDatabase => "database",
        O::ObjectDefault => "default",
        O::ObjectDefacl => "default_privileges",
        O::ObjectDomain => "domain",
        O::ObjectDomconstraint => "domain_constraint",
        O::ObjectEventTrigger => "event_trigger",
        O::ObjectExtension => "extension",
        O::ObjectFdw => "foreign_data_wrapper",
        O::ObjectForeignServer => "foreign_server",
        O::ObjectForeignTable => "foreign_table",
        O::ObjectFunction => "function",
        O::ObjectIndex => "index",
        O::ObjectLanguage => "language",
        O::ObjectLargeobject => "large_object",
        O::ObjectMatview => "materialized_view",
        O::ObjectOpclass => "operator_class",
        O::ObjectOperator => "operator",
        O::ObjectOpfamily => "operator_family",
        O::ObjectParameterAcl => "parameter",
        O::ObjectPolicy => "policy",
        O::ObjectProcedure => "procedure",
        O::ObjectPublication | O::ObjectPublicationNamespace | O::ObjectPublicationRel => {
            "publication"
        }
        O::ObjectRole => "role",
        O::ObjectRoutine => "routine",
        O::ObjectRule => "rule",
        O::ObjectSchema => "schema",
        O::ObjectSequence => "sequence",
        O::ObjectSubscription => "subscription",
        O::ObjectStatisticExt => "statistics",
        O::ObjectTabconstraint => "constraint",
        O::ObjectTable => "table",
        O::ObjectTablespace => "tablespace",
        O::ObjectTransform => "transform",
        O::ObjectTrigger => "trigger",
        O::ObjectTsconfiguration
        | O::ObjectTsdictionary
        | O::ObjectTsparser
        | O::ObjectTstemplate => "text_search",
        O::ObjectType => "type",
        O::ObjectUserMapping => "user_mapping",
        O::ObjectView => "view",
    }
}
