//! Quiet expressions: what the server does to compute them does not depend on the values, but for their length.
//!
//! A masked output tells nothing, but the work for it may: which branch ran, which rows a subquery read, how much memory a repeated
//! text took, how far a generator of random numbers went. All of that can be seen elsewhere, many bits at a time. These are lists of
//! what is quiet; the columns in anything else are `Computed`, which policy can refuse.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::names;
use crate::facts::Usage;

/// Functions whose work and whose result's size follow from how long their arguments are, as they are written. None chooses between
/// values (`max`), takes one out of several (`jsonb_object_agg`), makes other characters of them (`md5`) or a number (`extract`, `sum`).
const QUIET: [&str; 17] = [
    "array_agg",
    "char_length",
    "character_length",
    "concat",
    "concat_ws",
    "count",
    "json_agg",
    "json_build_array",
    "jsonb_agg",
    "jsonb_build_array",
    "length",
    "lower",
    "octet_length",
    "row_to_json",
    "to_json",
    "to_jsonb",
    "upper",
];

/// Those that are quiet as long as what comes behind the first argument does not depend on values.
const QUIET_IN_FIRST: [&str; 5] = ["left", "right", "string_agg", "substr", "substring"];

/// Those whose odd arguments are keys, which replace one another.
const QUIET_IN_EVEN: [&str; 2] = ["json_build_object", "jsonb_build_object"];

/// Types to which a cast writes a value down. To others it reads one, and what a number or a date is made of can be a length.
const QUIET_TYPES: [&str; 4] = ["bpchar", "name", "text", "varchar"];

/// Operators that take a part of their left side, which the right side names.
const TAKING_PART: [&str; 4] = ["->", "->>", "#>", "#>>"];

/// How values count that the work depends on.
pub(super) fn computed(usage: Usage) -> Usage {
    match usage {
        Usage::Other | Usage::Output => Usage::Computed,
        Usage::Computed | Usage::Predicate => usage,
    }
}

/// A name that can be one of the server's own: without a schema, or in its.
fn own_name(parts: &[String]) -> Option<&str> {
    match parts {
        [name] => Some(name),
        [schema, name] if schema == "pg_catalog" => Some(name),
        _ => None,
    }
}

/// How each argument of a call counts.
pub(super) fn of_argument(call: &pb::FuncCall, parts: &[String], at: usize, usage: Usage) -> Usage {
    let Some(name) = own_name(parts) else {
        return computed(usage);
    };
    let is_counted = |node: &pb::Node| matches!(&node.node, Some(N::AConst(constant)) if matches!(constant.val, Some(pb::a_const::Val::Ival(_))));
    // How many distinct values there are tells which are equal; where a pattern matched shows in the length of what it took.
    let is_telling = call.agg_distinct
        || (name == "substring" && !call.args.iter().skip(1).all(is_counted))
        || (name == "length" && call.args.len() > 1); // of bytes, in an encoding that they may not be of
    let is_listed = QUIET.contains(&name)
        || (QUIET_IN_FIRST.contains(&name) && at == 0)
        || (QUIET_IN_EVEN.contains(&name) && at % 2 == 1);
    let is_quiet = is_listed && !is_telling;
    if is_quiet {
        usage
    } else {
        computed(usage)
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
    let Some(of_type) = &cast.type_name else {
        return computed(usage);
    };
    let parts = names::strings(&of_type.names);
    let is_listed = own_name(&parts).is_some_and(|name| QUIET_TYPES.contains(&name));
    if is_listed && of_type.array_bounds.is_empty() {
        usage
    } else {
        computed(usage)
    }
}

/// How the base of subscripts and fields counts: where it is null no subscript is evaluated, and a field can be a function.
pub(super) fn of_base(behind: &[pb::Node], usage: Usage) -> Usage {
    let is_place = |node: &pb::Node| match &node.node {
        Some(N::AIndices(place)) => [&place.lidx, &place.uidx]
            .into_iter()
            .flatten()
            .all(|node| is_constant(node)),
        _ => false,
    };
    if behind.iter().all(is_place) {
        usage
    } else {
        computed(usage)
    }
}

/// How the arguments of COALESCE count: behind the first one, nobody can tell whether a constant was evaluated. A column can be more
/// than it looks, since the planner puts what a subquery computes in its place.
pub(super) fn of_coalesce(expression: &pb::CoalesceExpr, usage: Usage) -> Usage {
    if expression.args.iter().skip(1).all(is_constant) {
        usage
    } else {
        computed(usage)
    }
}

fn is_constant(node: &pb::Node) -> bool {
    match &node.node {
        Some(N::AConst(_) | N::ParamRef(_)) => true,
        Some(N::TypeCast(cast)) => {
            cast.arg.as_deref().is_some_and(is_constant)
                && (of_cast(cast, Usage::Other) == Usage::Other || is_document(cast))
        }
        _ => false,
    }
}

/// Whether a text is written as a document (`'[]'::json`): it is read when the statement is, whatever comes of it.
fn is_document(cast: &pb::TypeCast) -> bool {
    let is_text = matches!(
        cast.arg.as_deref().and_then(|value| value.node.as_ref()),
        Some(N::AConst(pb::AConst {
            val: Some(pb::a_const::Val::Sval(_)),
            ..
        }))
    );
    is_text
        && cast.type_name.as_ref().is_some_and(|of_type| {
            let parts = names::strings(&of_type.names);
            of_type.array_bounds.is_empty() && matches!(own_name(&parts), Some("json" | "jsonb"))
        })
}

/// What a branch of a CASE results in.
pub(super) fn result_of(branch: &pb::Node) -> Option<&pb::Node> {
    match &branch.node {
        Some(N::CaseWhen(when)) => when.result.as_deref(),
        _ => Some(branch),
    }
}

/// Whether one of several values may be cast to the type of another: a constant takes the type of what is beside it. So does a parameter,
/// unless it was declared with one, or has it from another place of the text. Of operators in a row each is one of the values.
pub(super) fn blends<'a>(values: impl Iterator<Item = Option<&'a pb::Node>>) -> bool {
    let mut pending: Vec<&pb::Node> = values.flatten().collect();
    let mut typed = 0;
    while let Some(value) = pending.pop() {
        match &value.node {
            Some(N::AConst(_)) => {}
            Some(N::AExpr(inner)) => {
                pending.extend(
                    [&inner.lexpr, &inner.rexpr]
                        .into_iter()
                        .filter_map(|side| side.as_deref()),
                );
            }
            _ => typed += 1,
        }
        if typed > 1 {
            return true;
        }
    }
    false
}
