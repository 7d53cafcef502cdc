//! Expressions whose walk needs more than visiting their parts.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::scope::{column_named, Meaning, Relation};
use super::{names, Walker};
use crate::effects::Effect;
use crate::facts::{Column, Function, Name, Usage};

impl Walker {
    pub(super) fn optional_type(&mut self, name: Option<&pb::TypeName>) {
        if let Some(name) = name {
            self.type_name(name);
        }
    }

    pub(super) fn column_ref(&mut self, reference: &pb::ColumnRef, usage: Usage) {
        let (fields, star) = names::fields(&reference.fields);
        // A bare output column is handled with the output list; anywhere else the value goes into something.
        let usage = if usage == Usage::Output {
            Usage::Other
        } else {
            usage
        };
        if star {
            self.flag("whole_row");
            let columns = self.star(&fields).all_columns();
            self.columns(&columns, usage);
            return;
        }
        self.reference(&fields, usage);
    }

    /// Operators. The left side of a chain (a || b || …) is followed in a loop, so that a long chain is not deep.
    pub(super) fn a_expr(&mut self, expression: &pb::AExpr, usage: Usage) {
        let mut current = expression;
        let mut usage = usage;
        loop {
            self.work += 1;
            self.operator_names(&current.name);
            self.operators_of(current);
            let right;
            (usage, right) = super::quiet::of_sides(current, usage);
            self.optional(current.rexpr.as_deref(), right);
            match current.lexpr.as_deref().map(|left| &left.node) {
                Some(Some(N::AExpr(left))) if self.failure.is_none() => current = left,
                Some(Some(left)) => return self.visit(left, usage),
                Some(None) => return self.unknown(),
                None => return,
            }
        }
    }

    /// The operators that BETWEEN stands for.
    fn operators_of(&mut self, expression: &pb::AExpr) {
        use pb::AExprKind as Kind;
        let bounds: &[&str] = match Kind::try_from(expression.kind) {
            Ok(Kind::AexprBetween | Kind::AexprBetweenSym) => &[">=", "<="],
            Ok(Kind::AexprNotBetween | Kind::AexprNotBetweenSym) => &["<", ">"],
            _ => &[],
        };
        for name in bounds {
            self.implied_operator(name);
        }
    }

    /// An operator the text does not write, which is looked for along the search path like any other.
    pub(super) fn implied_operator(&mut self, name: &str) {
        self.statement.operators.insert(Name {
            schema: None,
            name: name.to_owned(),
        });
    }

    pub(super) fn func_call(&mut self, call: &pb::FuncCall, usage: Usage) {
        let parts = names::strings(&call.funcname);
        // Whatever decides how many rows there are tells of itself by their number.
        let usage = if parts.last().is_some_and(|name| names::returns_set(name)) {
            Usage::Predicate
        } else {
            usage
        };
        if parts.last().is_some_and(|name| names::returns_rows(name)) {
            self.set_calls += 1;
        }
        match parts.last().map(String::as_str) {
            Some("generate_series") => self.multiply(super::SERIES_DIGITS),
            Some("unnest") => self.multiply(super::ARRAY_DIGITS),
            Some(name) if names::returns_set(name) => self.multiply(super::SET_DIGITS),
            _ => self.multiply(super::CALL_DIGITS),
        }
        let has_syntax = call.funcformat == pb::CoercionForm::CoerceSqlSyntax as i32;
        match names::qualified(&parts) {
            // `SYSTEM_USER` without parentheses is a name like any other before PostgreSQL 16: it may stand for a column there.
            Some(Name { name, .. }) if has_syntax && name == "system_user" => self.unknown(),
            Some(Name { mut schema, name }) => {
                // The grammar writes the schema of JSON_OBJECT, which has none for servers before PostgreSQL 16.
                if name == "json_object" && schema.as_deref() == Some("pg_catalog") {
                    schema = None;
                }
                self.notable_call(schema.as_deref(), &name, &call.args);
                // What an ordered-set aggregate is given stands in two places (4.2.7), and both count among its parameters.
                let sorted = if call.agg_within_group {
                    call.agg_order.len()
                } else {
                    0
                };
                self.statement.functions.insert(Function {
                    schema,
                    name,
                    args: call.args.len() + sorted,
                });
            }
            None => self.unknown(),
        }
        for (at, argument) in call.args.iter().enumerate() {
            let usage = super::quiet::of_argument(call, &parts, at, usage);
            self.node(argument, usage);
        }
        self.list(&call.agg_order, Usage::Predicate);
        self.optional(call.agg_filter.as_deref(), Usage::Predicate);
        if let Some(window) = call.over.as_deref() {
            self.window(window);
        }
    }

    /// What newer servers have grammar for is a call of somebody's own function of that name on older ones.
    pub(super) fn construct(&mut self, name: &str, args: usize) {
        self.statement.functions.insert(Function {
            schema: None,
            name: name.to_owned(),
            args,
        });
    }

    /// `set_config` changes a setting; its name is known when it is a constant.
    fn notable_call(&mut self, schema: Option<&str>, name: &str, args: &[pb::Node]) {
        if name != "set_config" || schema.is_some_and(|schema| schema != "pg_catalog") {
            return;
        }
        self.effect(Effect::Session);
        self.flag("set_config");
        let setting = match args.first().and_then(|arg| arg.node.as_ref()) {
            Some(N::AConst(pb::AConst {
                val: Some(pb::a_const::Val::Sval(text)),
                ..
            })) => text.sval.to_lowercase(),
            // Which one is decided when it runs, so it may be any.
            _ => "all".to_owned(),
        };
        self.set_var(&setting);
        self.isolation(&setting, args.get(1..2).unwrap_or(&[]));
    }

    pub(super) fn window(&mut self, window: &pb::WindowDef) {
        self.list(&window.partition_clause, Usage::Predicate);
        self.list(&window.order_clause, Usage::Predicate);
        self.optional(window.start_offset.as_deref(), Usage::Predicate);
        self.optional(window.end_offset.as_deref(), Usage::Predicate);
    }

    pub(super) fn sub_link(&mut self, link: &pb::SubLink, usage: Usage) {
        self.operator_names(&link.oper_name);
        if link.testexpr.is_some() && link.oper_name.is_empty() {
            self.implied_operator("="); // IN
        }
        // With an operator (IN, ANY, ALL) both sides are compared.
        let usage = if link.testexpr.is_some() {
            Usage::Predicate
        } else {
            usage
        };
        self.optional(link.testexpr.as_deref(), usage);
        let is_test = link.sub_link_type == pb::SubLinkType::ExistsSublink as i32;
        match link.subselect.as_deref().and_then(without_stars) {
            Some(tested) if is_test => self.node(&tested, usage),
            _ => self.optional(link.subselect.as_deref(), usage),
        }
    }

    /// `(expression).field`, `(expression)[index]`, `(expression).*`.
    pub(super) fn indirection(&mut self, indirection: &pb::AIndirection, usage: Usage) {
        let usage = if usage == Usage::Output {
            Usage::Other
        } else {
            usage
        };
        let (fields, star) = names::fields(&indirection.indirection);
        // `(value).name` calls the function `name` where the value has no such field, whatever its type.
        let usage = if fields.iter().any(|name| names::returns_set(name)) {
            Usage::Predicate
        } else {
            usage
        };
        let calls = if let Some(alias) = self.row_of(indirection) {
            let behind = &indirection.indirection[1.min(indirection.indirection.len())..];
            let usage = super::quiet::of_base(behind, usage);
            if let Some(name) = fields.first() {
                self.reference(&[alias.clone(), name.clone()], usage);
            }
            if star || fields.is_empty() {
                let columns = self.star(std::slice::from_ref(&alias)).all_columns();
                self.columns(&columns, usage);
            }
            self.column_beside_row(&alias, super::quiet::computed(usage));
            &fields[1.min(fields.len())..]
        } else {
            let base = super::quiet::of_base(&indirection.indirection, usage);
            self.optional(indirection.arg.as_deref(), base);
            &fields[..]
        };
        for name in calls {
            self.attribute(name);
        }
        for item in indirection
            .indirection
            .iter()
            .filter(|item| matches!(item.node, Some(N::AIndices(_))))
        {
            self.node(item, usage);
        }
    }

    /// Whether a cast leaves a row as it is: `c.*::customers` is how the server writes one in the definition of a view. The row of a
    /// subquery is cast field by field, and behind the alias of a call stands a value.
    pub(super) fn is_row_as_it_is(&self, cast: &pb::TypeCast) -> bool {
        let value = cast.arg.as_deref().and_then(|value| value.node.as_ref());
        let (Some(N::ColumnRef(reference)), Some(of_type)) = (value, &cast.type_name) else {
            return false;
        };
        let (fields, true) = names::fields(&reference.fields) else {
            return false;
        };
        let [alias] = fields.as_slice() else {
            return false;
        };
        let named = names::qualified(&names::strings(&of_type.names));
        of_type.array_bounds.is_empty()
            && matches!(
                super::scope::visible(&self.frames, alias).map(|source| &source.relation),
                Some(Relation::Table { table, .. }) if named.as_ref() == Some(table)
            )
    }

    /// A name in parentheses that is that of a relation in scope: PostgreSQL prefers a column of that name, wherever it comes from.
    /// Whether there is one the catalogue tells, which is asked for any column of that name, and not for the row of a table.
    pub(super) fn column_beside_row(&mut self, name: &str, usage: Usage) -> Vec<Column> {
        let mut columns = column_named(&self.frames, name, Meaning::default()).columns;
        for column in columns.iter_mut().filter(|column| column.name == name) {
            (column.schema, column.table) = (None, None);
        }
        self.columns(&columns, usage);
        columns
    }

    /// The alias, when the base of the indirection is a relation in scope.
    fn row_of(&self, indirection: &pb::AIndirection) -> Option<String> {
        let Some(N::ColumnRef(reference)) =
            indirection.arg.as_deref().and_then(|arg| arg.node.as_ref())
        else {
            return None;
        };
        let (fields, false) = names::fields(&reference.fields) else {
            return None;
        };
        let [alias] = fields.as_slice() else {
            return None;
        };
        super::scope::visible(&self.frames, alias).map(|_| alias.clone())
    }

    pub(super) fn index_element(&mut self, element: &pb::IndexElem, usage: Usage) {
        if !element.name.is_empty() {
            let name = element.name.clone();
            self.reference(&[name], usage);
        }
        self.optional(element.expr.as_deref(), usage);
        self.list(&element.opclassopts, Usage::Other);
    }

    pub(super) fn json_optional(&mut self, value: Option<&pb::JsonValueExpr>, usage: Usage) {
        if let Some(value) = value {
            self.json_value(value, usage);
        }
    }

    pub(super) fn json_value(&mut self, value: &pb::JsonValueExpr, usage: Usage) {
        self.optional(value.raw_expr.as_deref(), usage);
        self.optional(value.formatted_expr.as_deref(), usage);
    }

    pub(super) fn json_output(&mut self, output: Option<&pb::JsonOutput>) {
        if let Some(output) = output {
            self.optional_type(output.type_name.as_ref());
        }
    }

    pub(super) fn json_behavior(&mut self, behavior: Option<&pb::JsonBehavior>) {
        if let Some(behavior) = behavior {
            self.optional(behavior.expr.as_deref(), Usage::Other);
        }
    }

    pub(super) fn json_function(&mut self, function: &pb::JsonFuncExpr, usage: Usage) {
        match pb::JsonExprOp::try_from(function.op) {
            Ok(pb::JsonExprOp::JsonExistsOp) => self.construct("json_exists", 2),
            Ok(pb::JsonExprOp::JsonQueryOp) => self.construct("json_query", 2),
            Ok(pb::JsonExprOp::JsonValueOp) => self.construct("json_value", 2),
            _ => self.unknown(),
        }
        // What is not found lets the default run.
        let usage = super::quiet::computed(usage);
        self.json_optional(function.context_item.as_deref(), usage);
        self.optional(function.pathspec.as_deref(), usage);
        self.list(&function.passing, usage);
        self.json_output(function.output.as_ref());
        self.json_behavior(function.on_empty.as_deref());
        self.json_behavior(function.on_error.as_deref());
    }

    pub(super) fn json_aggregate(
        &mut self,
        aggregate: Option<&pb::JsonAggConstructor>,
        _usage: Usage,
    ) {
        let Some(aggregate) = aggregate else { return };
        self.json_output(aggregate.output.as_ref());
        self.optional(aggregate.agg_filter.as_deref(), Usage::Predicate);
        self.list(&aggregate.agg_order, Usage::Predicate);
        if let Some(window) = aggregate.over.as_deref() {
            self.window(window);
        }
    }

    pub(super) fn json_table(&mut self, table: &pb::JsonTable) {
        self.json_optional(table.context_item.as_deref(), Usage::Predicate);
        if let Some(path) = table.pathspec.as_deref() {
            self.optional(path.string.as_deref(), Usage::Predicate);
        }
        self.list(&table.passing, Usage::Predicate);
        self.list(&table.columns, Usage::Other);
        self.json_behavior(table.on_error.as_deref());
    }

    pub(super) fn json_table_column(&mut self, column: &pb::JsonTableColumn) {
        self.optional_type(column.type_name.as_ref());
        if let Some(path) = column.pathspec.as_deref() {
            self.optional(path.string.as_deref(), Usage::Other);
        }
        self.list(&column.columns, Usage::Other);
        self.json_behavior(column.on_empty.as_deref());
        self.json_behavior(column.on_error.as_deref());
    }

    pub(super) fn range_table_func(&mut self, table: &pb::RangeTableFunc) {
        self.optional(table.docexpr.as_deref(), Usage::Predicate);
        self.optional(table.rowexpr.as_deref(), Usage::Predicate);
        // A namespace that is none, as a path that is none, ends in no row.
        self.list(&table.namespaces, Usage::Predicate);
        // A path that finds nothing lets the default run.
        self.list(&table.columns, Usage::Predicate);
    }

    pub(super) fn set_var(&mut self, name: &str) {
        self.statement.set_vars.insert(name.to_lowercase());
    }
}

/// A query of EXISTS without its stars, whose columns are not read (9.24.1); `None` where rows are compared or counted.
/// A column that is named may be a function of the row, which can return rows of its own.
fn without_stars(query: &pb::Node) -> Option<pb::Node> {
    let Some(N::SelectStmt(select)) = &query.node else {
        return None;
    };
    let is_plain = select.distinct_clause.is_empty()
        && select.group_clause.is_empty()
        && select.window_clause.is_empty()
        && select.sort_clause.is_empty()
        && select.values_lists.is_empty()
        && select.having_clause.is_none()
        && select.larg.is_none()
        && select.into_clause.is_none();
    let mut tested = select.clone();
    tested.target_list.retain(|target| {
        let value = match &target.node {
            Some(N::ResTarget(target)) => target.val.as_deref(),
            _ => None,
        };
        match value.and_then(|value| value.node.as_ref()) {
            Some(N::ColumnRef(reference)) => !names::fields(&reference.fields).1,
            _ => true,
        }
    });
    is_plain.then_some(pb::Node {
        node: Some(N::SelectStmt(tested)),
    })
}
