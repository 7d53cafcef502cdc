//! Quiet expressions: what the server does to compute them does not depend on the values, but for their length.
//!
//! A masked output tells nothing, but the work for it may: which branch ran, which rows a subquery read, how much memory a repeated
//! text took, how far a generator of random numbers went. All of that can be seen elsewhere, many bits at a time. These are lists of
//! what is quiet; the columns in anything else are `Computed`, which policy can refuse.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::names;
use crate::facts::Usage;

/// Functions whose work and whose result's size follow from the length of their arguments.
const QUIET: [&str; 41] = [
    "abs",
    "age",
    "any_value",
    "array_agg",
    "avg",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "concat",
    "concat_ws",
    "count",
    "date_part",
    "date_trunc",
    "extract",
    "floor",
    "initcap",
    "json_agg",
    "json_array",
    "json_build_array",
    "json_build_object",
    "json_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "length",
    "lower",
    "max",
    "md5",
    "min",
    "octet_length",
    "row_to_json",
    "sha256",
    "sha512",
    "sum",
    "timezone",
    "to_json",
    "to_jsonb",
    "upper",
];

/// Those that are quiet as long as what comes behind the first argument does not depend on values.
const QUIET_IN_FIRST: [&str; 7] = [
    "left",
    "right",
    "round",
    "string_agg",
    "substr",
    "substring",
    "trunc",
];

/// Those that take off spaces, with one argument.
const QUIET_ALONE: [&str; 3] = ["btrim", "ltrim", "rtrim"];

/// Types to which a cast looks nothing up and runs nobody's function.
const QUIET_TYPES: [&str; 26] = [
    "bool",
    "bpchar",
    "bytea",
    "char",
    "date",
    "float4",
    "float8",
    "inet",
    "int2",
    "int4",
    "int8",
    "interval",
    "json",
    "jsonb",
    "name",
    "numeric",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "text",
    "uuid",
    "varchar",
    "cidr",
    "macaddr",
    "money",
];

/// Operators that take a part of their left side, which the right side names.
const TAKING_PART: [&str; 4] = ["->", "->>", "#>", "#>>"];

/// How values count that the work depends on.
pub(super) fn computed(usage: Usage) -> Usage {
    match usage {
        Usage::Other | Usage::Output => Usage::Computed,
        Usage::Computed | Usage::Predicate => usage,
    }
}

/// How the arguments of a call count: the first, and the others.
pub(super) fn of_arguments(call: &pb::FuncCall, parts: &[String], usage: Usage) -> (Usage, Usage) {
    let name = match parts {
        [name] => name.as_str(),
        [schema, name] if schema == "pg_catalog" => name.as_str(),
        _ => return (computed(usage), computed(usage)),
    };
    let is_counted = |node: &pb::Node| matches!(&node.node, Some(N::AConst(constant)) if matches!(constant.val, Some(pb::a_const::Val::Ival(_))));
    if QUIET.contains(&name) || (QUIET_ALONE.contains(&name) && call.args.len() == 1) {
        (usage, usage)
    } else if name == "substring" && !call.args.iter().skip(1).all(is_counted) {
        (computed(usage), computed(usage)) // by a pattern: its length tells where it matched
    } else if QUIET_IN_FIRST.contains(&name) {
        (usage, computed(usage))
    } else {
        (computed(usage), computed(usage))
    }
}

/// How the sides of an operator count, left and right.
pub(super) fn of_sides(expression: &pb::AExpr, usage: Usage) -> (Usage, Usage) {
    let is_operator = expression.kind == pb::AExprKind::AexprOp as i32;
    match names::strings(&expression.name).as_slice() {
        [name] if is_operator && name == "||" => (usage, usage),
        [name] if is_operator && TAKING_PART.contains(&name.as_str()) => (usage, computed(usage)),
        _ => (computed(usage), computed(usage)),
    }
}

/// How what is cast counts.
pub(super) fn of_cast(cast: &pb::TypeCast, usage: Usage) -> Usage {
    let parts = cast
        .type_name
        .as_ref()
        .map(|of_type| names::strings(&of_type.names));
    match parts.as_deref() {
        Some([name]) if QUIET_TYPES.contains(&name.as_str()) => usage,
        Some([schema, name]) if schema == "pg_catalog" && QUIET_TYPES.contains(&name.as_str()) => {
            usage
        }
        _ => computed(usage),
    }
}

/// How the arguments of COALESCE count, which are evaluated until one is not null; the first one always is.
pub(super) fn of_coalesce(expression: &pb::CoalesceExpr, usage: Usage) -> Usage {
    if expression.args.iter().skip(1).all(is_quiet) {
        usage
    } else {
        computed(usage)
    }
}

/// Whether nobody can tell if an expression was evaluated.
fn is_quiet(node: &pb::Node) -> bool {
    let cast = |cast: &pb::TypeCast| {
        cast.arg.as_deref().is_some_and(is_quiet) && of_cast(cast, Usage::Other) == Usage::Other
    };
    match &node.node {
        Some(N::ColumnRef(_) | N::AConst(_) | N::ParamRef(_)) => true,
        Some(N::TypeCast(found)) => cast(found),
        Some(N::CoalesceExpr(inner)) => inner.args.iter().all(is_quiet),
        Some(N::FuncCall(call)) => {
            let parts = names::strings(&call.funcname);
            of_arguments(call, &parts, Usage::Other).0 == Usage::Other
                && call.args.iter().all(is_quiet)
        }
        _ => false,
    }
}
