//! What a trigger written in PL/pgSQL puts into the row it runs for, as far as its tree tells (43.10).

use serde_json::Value;

use crate::row::returns_a_variable;

/// The rows a trigger may change: it can return either.
const ROWS: [&str; 2] = ["new", "old"];

/// What a trigger returns without having made another row.
const RETURNED_AS_IT_IS: [&str; 4] = ["null", "new", "coalesce(new,old)", "coalesce(old,new)"];

/// The columns of `new` or `old` that a body assigns, `*` for every one: by assignment, INTO and its like, or by returning another row.
pub(super) fn columns_of_new(tree: &Value, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let datums = members(tree, "datums").into_iter().next();
    let datums = datums
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    for number in targets(tree) {
        match usize::try_from(number).ok().and_then(|at| datums.get(at)) {
            Some(datum) => found.extend(field_of_new(datum, datums)),
            None => found.push("*".to_owned()),
        }
    }
    let returned = members(tree, "PLpgSQL_stmt_return")
        .into_iter()
        .filter_map(|statement| statement.pointer("/expr/PLpgSQL_expr/query"))
        .filter_map(Value::as_str);
    if returned.into_iter().any(is_another_row) || returns_a_variable(source) {
        found.push("*".to_owned());
    }
    found
}

/// Every member of this name, anywhere.
fn members<'a>(tree: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let mut pending = vec![tree];
    while let Some(value) = pending.pop() {
        match value {
            Value::Array(items) => pending.extend(items),
            Value::Object(inner) => {
                found.extend(inner.get(name));
                pending.extend(inner.values());
            }
            _ => {}
        }
    }
    found
}

/// The numbers of the variables that are given a value.
fn targets(tree: &Value) -> Vec<i64> {
    let mut found = Vec::new();
    for kind in ["PLpgSQL_stmt_assign", "PLpgSQL_stmt_foreach_a"] {
        let numbers = members(tree, kind).into_iter();
        found.extend(numbers.filter_map(|statement| statement.get("varno")?.as_i64()));
    }
    for place in ["target", "var"] {
        for value in members(tree, place) {
            found.extend(value.as_i64()); // of GET DIAGNOSTICS
            found.extend(value.pointer("/PLpgSQL_rec/dno").and_then(Value::as_i64));
            for field in members(value, "varno") {
                found.extend(field.as_i64());
            }
        }
    }
    found
}

/// The field of `new` that a variable is, `*` where it is the row.
fn field_of_new(datum: &Value, datums: &[Value]) -> Option<String> {
    let is_new = |datum: &Value| {
        datum
            .pointer("/PLpgSQL_rec/refname")
            .and_then(Value::as_str)
            .is_some_and(|name| ROWS.contains(&name))
    };
    if is_new(datum) {
        return Some("*".to_owned());
    }
    let field = datum.get("PLpgSQL_recfield")?;
    let parent = field.get("recparentno")?.as_i64();
    let parent = parent.and_then(|number| usize::try_from(number).ok());
    let is_of_new = parent.and_then(|at| datums.get(at)).is_none_or(is_new);
    let name = field.get("fieldname")?.as_str()?;
    is_of_new.then(|| name.to_owned())
}

fn is_another_row(returned: &str) -> bool {
    let plain: String = returned.to_lowercase().split_whitespace().collect();
    !RETURNED_AS_IT_IS.contains(&plain.as_str()) && plain != "old"
}

#[cfg(test)]
mod tests {
    use crate::{analyze, Analysis, Limits};

    fn filled(body: &str) -> Vec<String> {
        let text = format!("do $body$begin {body}; end$body$");
        match analyze(&text, Limits::default()) {
            Analysis::Ok(found) => found[0].filled.iter().cloned().collect(),
            Analysis::Failed(reason) => panic!("{body}: {reason}"),
        }
    }

    #[test]
    fn what_is_put_into_the_row_is_found() {
        for (body, columns) in [
            (
                "new.code := coalesce(new.code, new.name); return new",
                vec!["code"],
            ),
            ("NEW.\"Code\" = 1; return null", vec!["Code"]),
            ("old.code := 1; return old", vec!["code"]),
            ("old := new; return old", vec!["*"]),
            (
                "select a, b into new.c, new.d from t; return new",
                vec!["c", "d"],
            ),
            ("select * into new from t; return new", vec!["*"]),
            (
                "insert into t values (1) returning a into new.q; return new",
                vec!["q"],
            ),
            ("get diagnostics new.n = row_count; return new", vec!["n"]),
            (
                "new.parts[3] := 1; new.place.x := 2; return new",
                vec!["parts", "place"],
            ),
            (
                "new := jsonb_populate_record(new, '{}'); return new",
                vec!["*"],
            ),
            ("return jsonb_populate_record(new, '{}')", vec!["*"]),
            (
                "for new in select * from t loop null; end loop; return new",
                vec!["*"],
            ),
            ("declare r record; begin r := new; return r; end", vec!["*"]),
            (
                "declare n int; begin n := new.a; insert into t values (new.b); return new; end",
                vec![],
            ),
            (
                "if new.a > old.a then raise exception 'no'; end if; return coalesce(new, old)",
                vec![],
            ),
        ] {
            assert_eq!(filled(body), columns, "{body}");
        }
    }
}
