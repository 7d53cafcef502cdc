//! Bodies of functions and DO blocks: the statements in their source, as far as it is plain SQL or PL/pgSQL.
//!
//! A body is not what runs alone: what it executes as text, calls, or fires is not in it. `opaque_body` says that part of it could
//! not be read, and whoever judges takes that for anything.

use pg_query::NodeEnum as N;
use serde_json::Value;

use super::Walker;
use crate::facts::Usage;
use crate::parse::locked;

/// Longest body that is read; longer ones count as opaque.
const MAX_BODY_BYTES: usize = 256 << 10;

/// Nodes of PL/pgSQL whose query is a text made when it runs.
const DYNAMIC: [&str; 3] = [
    "PLpgSQL_stmt_dynexecute",
    "PLpgSQL_stmt_dynfors",
    "dynquery",
];

/// What a trigger function finds declared (https://www.postgresql.org/docs/current/plpgsql-trigger.html).
const TRIGGER_VARIABLES: &str = "declare new record; old record; tg_name text; tg_when text; tg_level text; tg_op text; tg_relid oid; \
     tg_relname text; tg_table_name text; tg_table_schema text; tg_nargs int; tg_argv text[]; tg_event text; tg_tag text;";

impl Walker {
    /// Walks every statement of a body; what cannot be read is flagged.
    pub(super) fn body(&mut self, language: &str, source: &str) {
        if source.len() > MAX_BODY_BYTES {
            return self.flag("opaque_body");
        }
        match language.to_lowercase().as_str() {
            "sql" => self.sql_body(source),
            "plpgsql" => self.plpgsql_body(source),
            _ => self.flag("opaque_body"),
        }
    }

    fn sql_body(&mut self, source: &str) {
        let Ok(tree) = locked(|| pg_query::parse(source, 0)) else {
            return self.flag("opaque_body");
        };
        for raw in &tree.protobuf.stmts {
            self.optional(raw.stmt.as_deref(), Usage::Other);
        }
    }

    fn plpgsql_body(&mut self, source: &str) {
        let tag = (0..)
            .map(|number| format!("$sealgate{number}$"))
            .find(|tag| !source.contains(tag.as_str()))
            .unwrap_or_default();
        // A trigger function as such makes libpg_query write broken JSON, so its row variables are declared around the body instead.
        let source = source.trim_end().trim_end_matches(';');
        let found = ["record", "void", "setof record"].iter().find_map(|kind| {
            let whole = format!(
                "create function f() returns {kind} language plpgsql as {tag}{TRIGGER_VARIABLES} begin {source}; end{tag}"
            );
            locked(|| pg_query::parse_plpgsql(&whole)).ok()
        });
        let Some(tree) = found else {
            return self.flag("opaque_body");
        };
        let mut queries = Vec::new();
        if !gather(&tree, &mut queries) {
            self.flag("opaque_body");
        }
        for query in queries {
            self.plpgsql_query(&query);
        }
    }

    /// A statement as it stands, or an expression or assignment, which PL/pgSQL turns into SELECT.
    fn plpgsql_query(&mut self, query: &str) {
        let assigned = query.split_once(":=").map_or(query, |(_, value)| value);
        let found = [
            query.to_owned(),
            format!("select {query}"),
            format!("select {assigned}"),
        ]
        .iter()
        .find_map(|text| locked(|| pg_query::parse(text, 0)).ok());
        let Some(tree) = found else {
            return self.flag("opaque_body");
        };
        for raw in &tree.protobuf.stmts {
            match raw.stmt.as_deref().and_then(|node| node.node.as_ref()) {
                // INTO names a variable here, not a new relation.
                Some(N::SelectStmt(select)) => {
                    let mut plain = (**select).clone();
                    plain.into_clause = None;
                    self.select(&plain, Usage::Other);
                }
                Some(node) => self.visit(node, Usage::Other),
                None => self.unknown(),
            }
        }
    }
}

/// Collects the queries of a PL/pgSQL tree; false where one is made when it runs.
fn gather(tree: &Value, queries: &mut Vec<String>) -> bool {
    let mut plain = true;
    match tree {
        Value::Array(items) => {
            for item in items {
                plain &= gather(item, queries);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(query) if name == "query" => queries.push(query.clone()),
                    _ => plain &= gather(value, queries),
                }
                plain &= !DYNAMIC.contains(&name.as_str());
            }
        }
        _ => {}
    }
    plain
}
