//! How many rows a change writes at most, as far as its text tells.
//!
//! Told is what the text counts itself: the rows of VALUES, a SELECT without FROM, a LIMIT that is a number. Where it names rows by
//! constants (`WHERE id = 5`), it tells if the columns are a key, which only the catalogue knows: these are `keyed`. Everything else
//! has the flag `open_ended`.

use std::collections::BTreeSet;

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::{names, Walker};
use crate::facts::{Keyed, Said};

/// How deep a query or a condition is looked into; what is deeper is open-ended.
const MAX_DEPTH: usize = 100;

/// Types in which equality of a column and a constant leaves no two keys equal. A float has fewer digits than a bigint, and as bpchar,
/// `'a'` and `'a '` are the same.
const EXACT_TYPES: [&str; 7] = ["int2", "int4", "int8", "numeric", "text", "uuid", "varchar"];

enum Rows {
    Stated(u64),
    Keyed(Keyed),
    Open,
}

impl Walker {
    /// Counts what an INSERT stores of a query; `calls_sets` where a function of it may return several rows.
    pub(super) fn count_stored(&mut self, query: Option<&pb::SelectStmt>, calls_sets: bool) {
        let rows = query.map_or(Rows::Stated(1), |query| {
            self.rows_of(query, calls_sets, MAX_DEPTH)
        });
        self.count(rows);
    }

    /// Notes whether what an INSERT stores is made of anything but what stands in its text and parameters.
    pub(super) fn note_stored(&mut self, query: Option<&pb::SelectStmt>) {
        let Some(query) = query else {
            return;
        };
        let is_plain = query.larg.is_none()
            && query.from_clause.is_empty()
            && query.with_clause.is_none()
            && query.values_lists.iter().all(|row| match &row.node {
                Some(N::List(row)) => row.items.iter().all(is_said),
                _ => false,
            })
            && query.target_list.iter().all(|node| match &node.node {
                Some(N::ResTarget(target)) => target.val.as_deref().is_some_and(is_said),
                _ => false,
            });
        self.statement.makes_values |= !is_plain;
    }

    /// The same for values by themselves.
    pub(super) fn note_values(&mut self, values: &[&pb::Node]) {
        self.statement.makes_values |= !values.iter().all(|value| is_said(value));
    }

    /// Counts the rows an UPDATE changes.
    pub(super) fn count_updated(&mut self, update: &pb::UpdateStmt) {
        let rows = match (&update.relation, update.where_clause.as_deref()) {
            (Some(range), Some(condition)) => self.selected(range, condition),
            _ => Rows::Open,
        };
        self.count(rows);
    }

    /// What `PREPARE name (types)` declares is compared as it is declared.
    pub(super) fn declare_parameters(&mut self, types: &[pb::Node]) {
        self.has_inexact_params = !types
            .iter()
            .all(|node| matches!(&node.node, Some(N::TypeName(name)) if is_exact(name)));
    }

    fn count(&mut self, rows: Rows) {
        match rows {
            Rows::Stated(rows) => {
                self.statement.stated_rows = self.statement.stated_rows.saturating_add(rows);
            }
            Rows::Keyed(keyed) => self.statement.keyed_rows.push(keyed),
            Rows::Open => self.flag("open_ended"),
        }
    }

    fn rows_of(&self, query: &pb::SelectStmt, calls_sets: bool, depth: usize) -> Rows {
        if let Some(limit) = limit_of(query) {
            return Rows::Stated(limit);
        }
        if calls_sets || depth == 0 || !query.group_clause.is_empty() {
            return Rows::Open; // GROUPING SETS give several rows for none
        }
        match (&query.larg, &query.rarg) {
            (None, None) => {}
            (Some(left), Some(right)) => {
                let left = self.rows_of(left, calls_sets, depth - 1);
                let right = self.rows_of(right, calls_sets, depth - 1);
                return match (left, right) {
                    (Rows::Stated(left), Rows::Stated(right)) => {
                        Rows::Stated(left.saturating_add(right))
                    }
                    _ => Rows::Open,
                };
            }
            _ => return Rows::Open,
        }
        if !query.values_lists.is_empty() {
            return Rows::Stated(query.values_lists.len() as u64);
        }
        match (query.from_clause.as_slice(), query.where_clause.as_deref()) {
            ([], _) => Rows::Stated(1),
            ([only], Some(condition)) => match &only.node {
                Some(N::RangeVar(range)) if query.with_clause.is_none() && !self.is_cte(range) => {
                    self.selected(range, condition)
                }
                _ => Rows::Open,
            },
            _ => Rows::Open,
        }
    }

    fn is_cte(&self, range: &pb::RangeVar) -> bool {
        range.schemaname.is_empty()
            && self
                .frames
                .iter()
                .flat_map(|frame| &frame.ctes)
                .any(|cte| cte.name == range.relname)
    }

    /// The rows of one relation that fulfil a condition.
    fn selected(&self, range: &pb::RangeVar, condition: &pb::Node) -> Rows {
        if matches!(condition.node, Some(N::CurrentOfExpr(_))) {
            return Rows::Stated(1);
        }
        let alias = range
            .alias
            .as_ref()
            .map_or(&range.relname, |alias| &alias.aliasname);
        if range
            .alias
            .as_ref()
            .is_some_and(|alias| !alias.colnames.is_empty())
        {
            return Rows::Open; // columns have other names
        }
        let is_whole = range.alias.is_none() && !range.schemaname.is_empty();
        let mut pinned = Pinned {
            alias,
            whole: is_whole.then_some((&range.schemaname, &range.relname)),
            has_inexact_params: self.has_inexact_params,
            columns: BTreeSet::new(),
            times: 1,
            said: Vec::new(),
        };
        pinned.read(condition, MAX_DEPTH);
        if pinned.columns.is_empty() {
            return Rows::Open;
        }
        Rows::Keyed(Keyed {
            table: names::range(range),
            columns: pinned.columns,
            times: pinned.times,
            said: pinned.said,
        })
    }
}

/// `LIMIT n`, where nothing comes beside.
fn limit_of(query: &pb::SelectStmt) -> Option<u64> {
    if query.limit_option == pb::LimitOption::WithTies as i32 {
        return None;
    }
    match &query.limit_count.as_deref()?.node {
        Some(N::AConst(pb::AConst {
            val: Some(pb::a_const::Val::Ival(limit)),
            ..
        })) => u64::try_from(limit.ival).ok(),
        _ => None,
    }
}

/// Columns that a condition lets have certain values only.
struct Pinned<'a> {
    alias: &'a str,
    /// Schema and name, where the relation is written with both and has no alias.
    whole: Option<(&'a String, &'a String)>,
    has_inexact_params: bool,
    columns: BTreeSet<String>,
    /// How many combinations of values.
    times: u64,
    said: Vec<(String, Said)>,
}

impl Pinned<'_> {
    fn read(&mut self, condition: &pb::Node, depth: usize) {
        match &condition.node {
            Some(N::BoolExpr(both))
                if depth > 0 && both.boolop == pb::BoolExprType::AndExpr as i32 =>
            {
                for arm in &both.args {
                    self.read(arm, depth - 1);
                }
            }
            Some(N::AExpr(compared)) if is_equality(&compared.name) => self.compare(compared),
            _ => {}
        }
    }

    fn compare(&mut self, compared: &pb::AExpr) {
        let (Some(left), Some(right)) = (compared.lexpr.as_deref(), compared.rexpr.as_deref())
        else {
            return;
        };
        if compared.kind == pb::AExprKind::AexprOp as i32 {
            for (column, value) in [(left, right), (right, left)] {
                if let Some(name) = self.column(column).filter(|_| self.is_exact(value)) {
                    if let Some(said) = say(value) {
                        self.said.push((name.clone(), said));
                    }
                    self.columns.insert(name);
                }
            }
            return;
        }
        let values = match &right.node {
            Some(N::List(values)) if compared.kind == pb::AExprKind::AexprIn as i32 => {
                &values.items
            }
            Some(N::AArrayExpr(array)) if compared.kind == pb::AExprKind::AexprOpAny as i32 => {
                &array.elements
            }
            _ => return,
        };
        // A parameter in an array may be an array itself, all of whose elements count; beside a number it is none.
        let may_nest =
            compared.kind == pb::AExprKind::AexprOpAny as i32 && !values.iter().any(is_number);
        let is_one = |value: &pb::Node| {
            self.is_exact(value) && !(may_nest && matches!(value.node, Some(N::ParamRef(_))))
        };
        if let Some(name) = self.column(left) {
            if values.iter().all(is_one) {
                self.columns.insert(name);
                self.times = self.times.saturating_mul(values.len() as u64);
            }
        }
    }

    /// The column of the relation that an expression is.
    fn column(&self, node: &pb::Node) -> Option<String> {
        let Some(N::ColumnRef(reference)) = &node.node else {
            return None;
        };
        match names::fields(&reference.fields) {
            (parts, false) => match parts.as_slice() {
                [name] => Some(name.clone()),
                [alias, name] if alias == self.alias => Some(name.clone()),
                [.., schema, table, name] if self.whole == Some((schema, table)) => {
                    Some(name.clone())
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether an expression is one value, which no comparison takes for another.
    fn is_exact(&self, node: &pb::Node) -> bool {
        match &node.node {
            // With transform_null_equals `id = NULL` is true of any number of rows.
            Some(N::AConst(constant)) => !constant.isnull,
            Some(N::ParamRef(_)) => !self.has_inexact_params,
            Some(N::TypeCast(cast)) => {
                cast.type_name.as_ref().is_some_and(is_exact)
                    && matches!(
                        cast.arg.as_deref().and_then(|arg| arg.node.as_ref()),
                        Some(N::AConst(_) | N::ParamRef(_))
                    )
            }
            _ => false,
        }
    }
}

/// A constant or parameter by itself: what a cast makes of one is another value.
fn say(node: &pb::Node) -> Option<Said> {
    use pb::a_const::Val;
    match &node.node {
        Some(N::ParamRef(parameter)) => Some(Said::Parameter(parameter.number)),
        Some(N::AConst(constant)) if !constant.isnull => match &constant.val {
            Some(Val::Ival(number)) => Some(Said::Constant(number.ival.to_string())),
            Some(Val::Fval(number)) => Some(Said::Constant(number.fval.clone())),
            Some(Val::Sval(text)) => Some(Said::Constant(text.sval.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn is_number(node: &pb::Node) -> bool {
    use pb::a_const::Val;
    matches!(&node.node, Some(N::AConst(constant)) if matches!(constant.val, Some(Val::Ival(_) | Val::Fval(_))))
}

fn is_equality(name: &[pb::Node]) -> bool {
    matches!(names::strings(name).as_slice(), [name] if name == "=")
}

fn is_exact(name: &pb::TypeName) -> bool {
    let parts = names::strings(&name.names);
    name.array_bounds.is_empty()
        && !name.pct_type
        && matches!(parts.as_slice(), [name] | [_, name] if EXACT_TYPES.contains(&name.as_str()))
}

/// Whether a value is no longer than what says it: a constant, a parameter, an array of these, or what a function is given of them.
/// Which functions and which types there are is for others to look at.
fn is_said(node: &pb::Node) -> bool {
    match &node.node {
        Some(N::AConst(constant)) => match &constant.val {
            // `1e3000` has three thousand digits.
            Some(pb::a_const::Val::Fval(number)) => !number.fval.contains(['e', 'E']),
            _ => true,
        },
        Some(N::ParamRef(_) | N::SetToDefault(_)) => true,
        Some(N::TypeCast(cast)) => match cast.arg.as_deref() {
            Some(arg) => !matches!(arg.node, Some(N::TypeCast(_))) && is_said(arg),
            None => false,
        },
        Some(N::AArrayExpr(array)) => array.elements.iter().all(is_said),
        Some(N::FuncCall(call)) => call.args.iter().all(is_said) && call.over.is_none(),
        _ => false,
    }
}
