//! Reading names out of the tree.

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use crate::facts::Name;

/// PostgreSQL's own functions that return as many rows as their arguments say; sorted.
const RETURNS_SET: [&str; 40] = [
    "_pg_expandarray",
    "aclexplode",
    "generate_series",
    "generate_subscripts",
    "json_array_elements",
    "json_array_elements_text",
    "json_each",
    "json_each_text",
    "json_object_keys",
    "json_populate_recordset",
    "json_to_recordset",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_object_keys",
    "jsonb_path_query",
    "jsonb_path_query_tz",
    "jsonb_populate_recordset",
    "jsonb_to_recordset",
    "pg_extension_update_paths",
    "pg_get_publication_tables",
    "pg_mcv_list_items",
    "pg_options_to_table",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_snapshot_xip",
    "pg_stat_get_activity",
    "pg_stat_get_progress_info",
    "pg_stat_get_subscription",
    "pg_tablespace_databases",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
    "ts_debug",
    "ts_parse",
    "ts_stat",
    "ts_token_type",
    "txid_snapshot_xip",
    "unnest",
];

/// Whether a function's arguments decide how many rows there are.
pub(super) fn returns_set(name: &str) -> bool {
    RETURNS_SET.binary_search(&name).is_ok()
}

/// The strings of a list of String nodes; other nodes are left out.
pub(super) fn strings(nodes: &[pb::Node]) -> Vec<String> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(NodeEnum::String(string)) => Some(string.sval.clone()),
            _ => None,
        })
        .collect()
}

/// The names of a column reference, and whether it ends in a star.
pub(super) fn fields(nodes: &[pb::Node]) -> (Vec<String>, bool) {
    let star = matches!(
        nodes.last().and_then(|node| node.node.as_ref()),
        Some(NodeEnum::AStar(_))
    );
    (strings(nodes), star)
}

/// The last two parts of a dotted name; a database in front can only be the current one.
pub(super) fn qualified(parts: &[String]) -> Option<Name> {
    match parts {
        [] => None,
        [name] => Some(Name {
            schema: None,
            name: name.clone(),
        }),
        [.., schema, name] => Some(Name {
            schema: Some(schema.clone()),
            name: name.clone(),
        }),
    }
}

/// A relation as written.
pub(super) fn range(range: &pb::RangeVar) -> Name {
    Name {
        schema: Some(range.schemaname.clone()).filter(|schema| !schema.is_empty()),
        name: range.relname.clone(),
    }
}

/// The name PostgreSQL gives an output without a label, where it is simply that of a function; `None` when not known.
pub(super) fn label_of(value: &pb::Node) -> Option<String> {
    match &value.node {
        Some(NodeEnum::FuncCall(call)) => strings(&call.funcname).pop(),
        Some(NodeEnum::AExpr(expression))
            if expression.kind == pb::AExprKind::AexprNullif as i32 =>
        {
            Some("nullif".to_owned())
        }
        Some(
            NodeEnum::AConst(_)
            | NodeEnum::AExpr(_)
            | NodeEnum::BoolExpr(_)
            | NodeEnum::NullTest(_)
            | NodeEnum::ParamRef(_),
        ) => Some("?column?".to_owned()),
        _ => None,
    }
}

/// The name of the function a FROM item calls, which is its alias unless another is given.
pub(super) fn call_of(item: &pb::Node) -> Option<String> {
    match &item.node {
        Some(NodeEnum::List(list)) => list.items.first().and_then(call_of),
        _ => label_of(item),
    }
}
