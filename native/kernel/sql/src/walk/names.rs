//! Reading names out of the tree.

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use crate::facts::Name;

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
