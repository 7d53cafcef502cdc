//! Names that output columns have without being given any: ORDER BY, GROUP BY and DISTINCT ON may use them (`FigureColname` of the server).

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use super::names;

/// Names the server takes from the kind of an expression, and the one where it has none.
const WORDS: [&str; 38] = [
    "?column?",
    "array",
    "bool",
    "case",
    "coalesce",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "exists",
    "greatest",
    "grouping",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_value",
    "least",
    "localtime",
    "localtimestamp",
    "merge_action",
    "nullif",
    "row",
    "session_user",
    "system_user",
    "user",
    "xmlconcat",
    "xmlelement",
    "xmlforest",
    "xmlparse",
];

/// Whether the server could call a column made of this expression so. Doubt counts as yes.
pub(super) fn may_be_called(value: Option<&pb::Node>, name: &str) -> bool {
    let Some(node) = value.and_then(|value| value.node.as_ref()) else {
        return true;
    };
    let ends_in = |parts: &[pb::Node]| {
        names::strings(parts)
            .last()
            .is_some_and(|last| last == name)
    };
    match node {
        // A star stands for columns of any name.
        NodeEnum::ColumnRef(reference) => {
            names::fields(&reference.fields).1 || ends_in(&reference.fields)
        }
        NodeEnum::FuncCall(call) => ends_in(&call.funcname),
        NodeEnum::AIndirection(indirection) => {
            names::strings(&indirection.indirection)
                .iter()
                .any(|part| part == name)
                || may_be_called(indirection.arg.as_deref(), name)
        }
        NodeEnum::TypeCast(cast) => {
            cast.type_name
                .as_ref()
                .is_none_or(|kind| ends_in(&kind.names))
                || may_be_called(cast.arg.as_deref(), name)
        }
        NodeEnum::CollateClause(collate) => may_be_called(collate.arg.as_deref(), name),
        NodeEnum::CaseExpr(case) => {
            name == "case"
                || case.defresult.is_some() && may_be_called(case.defresult.as_deref(), name)
        }
        NodeEnum::SubLink(link) => {
            matches!(name, "exists" | "array" | "?column?")
                || link
                    .subselect
                    .as_deref()
                    .is_none_or(|query| names_first(query, name))
        }
        NodeEnum::AConst(_)
        | NodeEnum::ParamRef(_)
        | NodeEnum::AExpr(_)
        | NodeEnum::BoolExpr(_)
        | NodeEnum::NullTest(_) => {
            matches!(name, "?column?" | "bool" | "nullif")
        }
        NodeEnum::XmlExpr(_) | NodeEnum::XmlSerialize(_) => {
            name.starts_with("xml") || name == "?column?"
        }
        _ => WORDS.contains(&name),
    }
}

/// Whether the first column of a subquery could be called so.
fn names_first(query: &pb::Node, name: &str) -> bool {
    let Some(NodeEnum::SelectStmt(select)) = &query.node else {
        return true;
    };
    match select
        .target_list
        .first()
        .and_then(|first| first.node.as_ref())
    {
        Some(NodeEnum::ResTarget(target)) if !target.name.is_empty() => target.name == name,
        Some(NodeEnum::ResTarget(target)) => may_be_called(target.val.as_deref(), name),
        _ => true,
    }
}

/// The output list whose names a query's clauses use: of a set operation that of its first arm.
pub(super) fn leading_targets(select: &pb::SelectStmt) -> &[pb::Node] {
    let mut current = select;
    while let Some(left) = current.larg.as_deref() {
        current = left;
    }
    &current.target_list
}
