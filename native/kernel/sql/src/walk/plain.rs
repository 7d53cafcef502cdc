//! Plain definitions: new tables, sequences and enums, and the columns, indexes and constraints that migrations give them.
//!
//! An allow-list. What is not in it (a rename, a view, a trigger, an option nobody looked at) may change what existing names stand for or
//! what existing statements do; policy may want a person to see it first. So may what is done to a table that is there: whether the
//! session made it is the catalogue's to tell (`gateway/protocols/postgres/plain.py`).

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::names;

/// Whether a statement is a plain definition; of EXPLAIN, what it explains.
pub(super) fn is_plain(node: &N) -> bool {
    match node {
        N::CreateStmt(create) => is_plain_table(create),
        N::CreateTableAsStmt(create) => {
            create.objtype == pb::ObjectType::ObjectTable as i32
                && create.into.as_deref().is_some_and(is_plain_target)
        }
        N::SelectStmt(select) => is_plain_select(select),
        N::ExplainStmt(explain) => inner(explain.query.as_deref()).is_some_and(is_plain),
        N::AlterTableStmt(alter) => {
            alter.objtype == pb::ObjectType::ObjectTable as i32
                && is_plain_name(alter.relation.as_ref())
                && every(
                    &alter.cmds,
                    |node| matches!(node, N::AlterTableCmd(command) if is_plain_command(command)),
                )
        }
        N::IndexStmt(index) => is_plain_index(index),
        N::CreateSeqStmt(create) => {
            is_plain_new(create.sequence.as_ref())
                && create.sequence.as_ref().is_some_and(|range| {
                    range.relpersistence != "t" && range.schemaname != "pg_temp"
                })
                && !has_option(&create.options, "owned_by")
        }
        N::CreateEnumStmt(create) => is_plain_path(&names::strings(&create.type_name)),
        N::CommentStmt(comment) => is_of_this_database(comment.objtype),
        _ => false,
    }
}

/// SELECT INTO, whose target stands in the first query of a UNION.
fn is_plain_select(select: &pb::SelectStmt) -> bool {
    match (&select.into_clause, &select.larg) {
        (Some(into), _) => is_plain_target(into),
        (None, Some(first)) => is_plain_select(first),
        (None, None) => false,
    }
}

fn inner(node: Option<&pb::Node>) -> Option<&N> {
    node.and_then(|node| node.node.as_ref())
}

fn every(nodes: &[pb::Node], holds: impl Fn(&N) -> bool) -> bool {
    nodes
        .iter()
        .all(|node| node.node.as_ref().is_some_and(&holds))
}

fn has_option(options: &[pb::Node], name: &str) -> bool {
    !every(
        options,
        |node| matches!(node, N::DefElem(option) if option.defname != name),
    )
}

/// No relation of the server's own, and no temporary one of another session.
fn is_plain_name(range: Option<&pb::RangeVar>) -> bool {
    range.is_some_and(|range| range.catalogname.is_empty() && is_plain_schema(&range.schemaname))
}

fn is_plain_path(parts: &[String]) -> bool {
    let (schema, name) = match parts {
        [name] => ("", name),
        [schema, name] => (schema.as_str(), name),
        _ => return false,
    };
    // A temporary type stands before the server's own.
    is_plain_schema(schema) && schema != "pg_temp" && !name.starts_with('_')
}

fn is_plain_schema(schema: &str) -> bool {
    (!schema.starts_with("pg_") || schema == "pg_temp") && schema != "information_schema"
}

/// A relation with a name of its own. One that begins like the name of an array type would take that from the type.
fn is_plain_new(range: Option<&pb::RangeVar>) -> bool {
    is_plain_name(range) && range.is_some_and(|range| !range.relname.starts_with('_'))
}

/// A table that takes no place in another's family, with columns that take nothing from elsewhere.
fn is_plain_table(create: &pb::CreateStmt) -> bool {
    is_plain_new(create.relation.as_ref())
        && create.inh_relations.is_empty()
        && create.partbound.is_none()
        && create.of_typename.is_none()
        && create.tablespacename.is_empty()
        && create.access_method.is_empty()
        && every(&create.constraints, is_plain_constraint)
        && every(&create.table_elts, |node| match node {
            N::ColumnDef(column) => is_plain_column(column),
            N::TableLikeClause(_) => true, // what it copies is read, and counts as that
            other => is_plain_constraint(other),
        })
}

fn is_plain_target(into: &pb::IntoClause) -> bool {
    is_plain_new(into.rel.as_ref())
        && into.table_space_name.is_empty()
        && into.access_method.is_empty()
}

fn is_plain_column(column: &pb::ColumnDef) -> bool {
    column.fdwoptions.is_empty() && every(&column.constraints, is_plain_constraint)
}

/// Keys may cascade here: whether the rows that follow are the session's own is the catalogue's to tell.
fn is_plain_constraint(node: &N) -> bool {
    use pb::ConstrType as T;
    let N::Constraint(constraint) = node else {
        return matches!(node, N::CollateClause(_));
    };
    constraint.indexname.is_empty()
        && constraint.indexspace.is_empty()
        && constraint.access_method.is_empty()
        && match T::try_from(constraint.contype).unwrap_or(T::Undefined) {
            T::ConstrNull
            | T::ConstrNotnull
            | T::ConstrDefault
            | T::ConstrGenerated
            | T::ConstrCheck
            | T::ConstrPrimary
            | T::ConstrUnique
            | T::ConstrAttrDeferrable
            | T::ConstrAttrNotDeferrable
            | T::ConstrAttrDeferred
            | T::ConstrAttrImmediate
            | T::ConstrAttrEnforced
            | T::ConstrAttrNotEnforced => true,
            // Its sequence has a name that may be taken from somebody.
            T::ConstrIdentity => !has_option(&constraint.options, "sequence_name"),
            // SET DEFAULT computes the default in the session that changes the other table.
            T::ConstrForeign => {
                is_plain_name(constraint.pktable.as_ref())
                    && [&constraint.fk_upd_action, &constraint.fk_del_action]
                        .into_iter()
                        .all(|action| action != "d")
            }
            T::Undefined | T::ConstrExclusion => false,
        }
}

/// What may be done to a table of one's own.
fn is_plain_command(command: &pb::AlterTableCmd) -> bool {
    use pb::AlterTableType as T;
    let def = inner(command.def.as_deref());
    match T::try_from(command.subtype).unwrap_or(T::Undefined) {
        T::AtAddColumn => {
            matches!(def, Some(N::ColumnDef(column)) if is_plain_column(column))
        }
        T::AtAddConstraint => def.is_some_and(is_plain_constraint),
        T::AtAlterColumnType => {
            matches!(def, Some(N::ColumnDef(column)) if column.raw_default.is_none() && column.coll_clause.is_none())
        }
        T::AtColumnDefault
        | T::AtSetNotNull
        | T::AtDropNotNull
        | T::AtSetStatistics
        | T::AtValidateConstraint => true,
        _ => false,
    }
}

fn is_plain_index(index: &pb::IndexStmt) -> bool {
    is_plain_name(index.relation.as_ref())
        && index.table_space.is_empty()
        && index.exclude_op_names.is_empty()
        && every(
            &index.index_params,
            |node| matches!(node, N::IndexElem(part) if part.opclass.is_empty() || is_own_class(&part.opclass)),
        )
}

/// An operator class of the server's own, which runs no function of anybody else.
fn is_own_class(class: &[pb::Node]) -> bool {
    matches!(names::strings(class).as_slice(), [name] if OWN_CLASSES.contains(&name.as_str()))
}

/// What migrations name: patterns in text, JSON paths.
const OWN_CLASSES: [&str; 5] = [
    "text_pattern_ops",
    "varchar_pattern_ops",
    "bpchar_pattern_ops",
    "jsonb_ops",
    "jsonb_path_ops",
];

/// Objects whose comment no other database shows.
fn is_of_this_database(kind: i32) -> bool {
    use pb::ObjectType as T;
    matches!(
        T::try_from(kind).unwrap_or(T::Undefined),
        T::ObjectTable
            | T::ObjectColumn
            | T::ObjectView
            | T::ObjectMatview
            | T::ObjectIndex
            | T::ObjectSequence
            | T::ObjectTabconstraint
            | T::ObjectSchema
            | T::ObjectType
    )
}
