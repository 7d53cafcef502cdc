//! Bodies of functions and DO blocks: the statements in their source, as far as it is plain SQL or PL/pgSQL.
//!
//! A body is not what runs alone: what it executes as text, calls, or fires is not in it. `opaque_body` says that part of it could
//! not be read, and whoever judges takes that for anything.

use std::collections::{BTreeMap, BTreeSet};

use pg_query::NodeEnum as N;
use serde_json::Value;

use super::{filled, names, Walker};
use crate::facts::{Access, Usage};
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

/// Records of one body whose declarations are looked up, each among all of them.
const MAX_RECORDS: usize = 200;

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
        let mut parts = Parts::default();
        parts.gather(&tree);
        if parts.is_dynamic {
            self.flag("opaque_body");
        }
        self.statement
            .filled
            .extend(filled::columns_of_new(&tree, source));
        for query in parts.queries {
            self.plpgsql_query(&query);
        }
        for name in parts.types {
            self.variable_type(&name);
        }
        if parts.records.len() > MAX_RECORDS {
            return self.flag("opaque_body");
        }
        let declarations = Declarations::read(source);
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, _) in &parts.records {
            *times.entry(name).or_default() += 1;
        }
        for (name, times) in times {
            match declarations.type_of(name).filter(|_| times == 1) {
                Some(kind) if kind == "record" => {}
                Some(kind) => self.variable_type(&kind),
                None => self.flag("opaque_body"),
            }
        }
    }

    /// The type of a variable, whose checks run whenever it is given a value.
    fn variable_type(&mut self, written: &str) {
        let written = written.trim().to_lowercase();
        let (name, of) = match written.split_once('%') {
            Some((name, of)) => (name.trim(), Some(of)),
            None => (written.trim_end_matches("[]").trim(), None),
        };
        let parts: Vec<String> = name
            .split('.')
            .map(|part| part.trim_matches('"').to_owned())
            .collect();
        match (of, parts.as_slice()) {
            // Of another variable, which is declared itself.
            (Some("type"), [_]) => {}
            (Some("type"), [table @ .., _]) => self.table_name(table, Access::Read),
            (Some(_), table) => self.table_name(table, Access::Read),
            (None, parts) => {
                if let Some(name) = names::qualified(parts) {
                    self.statement.types.insert(name);
                }
            }
        }
    }

    /// A statement as it stands, or an expression or assignment, which PL/pgSQL turns into SELECT.
    fn plpgsql_query(&mut self, query: &str) {
        let parse = |text: &str| locked(|| pg_query::parse(text, 0)).ok();
        let found = parse(query).or_else(|| parse(&format!("select {query}")));
        let found = found.or_else(|| match query.split_once(":=") {
            // An element or field that is computed is an expression, too.
            Some((target, value)) if !target.contains('[') => parse(&format!("select {value}")),
            _ => None,
        });
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

/// What a PL/pgSQL tree holds that is SQL, or tells of it.
#[derive(Default)]
struct Parts {
    queries: Vec<String>,
    /// Names of the types of variables, as they are written or as PostgreSQL calls its own.
    types: Vec<String>,
    /// Variables whose type and default the tree leaves out: rows, records, and types it does not know.
    /// By name and number, since a loop shows its variable again.
    records: BTreeSet<(String, Option<i64>)>,
    /// A query is made when it runs.
    is_dynamic: bool,
}

impl Parts {
    fn gather(&mut self, tree: &Value) {
        match tree {
            Value::Array(items) => items.iter().for_each(|item| self.gather(item)),
            Value::Object(members) => {
                for (name, value) in members {
                    self.is_dynamic |= DYNAMIC.contains(&name.as_str());
                    match (name.as_str(), value) {
                        ("query", Value::String(query)) => self.queries.push(query.clone()),
                        ("typname", Value::String(name)) => self.types.push(name.clone()),
                        ("PLpgSQL_rec", Value::Object(record)) => {
                            let name = record.get("refname").and_then(Value::as_str);
                            let name = name.unwrap_or_default();
                            if !["new", "old"].contains(&name) {
                                let number = record.get("dno").and_then(Value::as_i64);
                                self.records.insert((name.to_owned(), number));
                            }
                        }
                        _ => self.gather(value),
                    }
                }
            }
            _ => {}
        }
    }
}

/// The declarations of a body, as they are written.
struct Declarations(Vec<String>);

impl Declarations {
    fn read(source: &str) -> Declarations {
        let plain = without_comments(source).to_lowercase().replace(">>", ">> ");
        let words: Vec<&str> = plain
            .split_inclusive([' ', '\n', '\t', '\r', ';'])
            .collect();
        let (mut found, mut is_declaring, mut section) = (Vec::new(), false, String::new());
        for word in words {
            match word.trim_end_matches([' ', '\n', '\t', '\r']) {
                "declare" => (is_declaring, section) = (true, String::new()),
                "begin" if is_declaring => {
                    is_declaring = false;
                    found.extend(section.split(';').map(|part| part.trim().to_owned()));
                }
                _ => section.push_str(word),
            }
        }
        Declarations(found)
    }

    /// The type a variable is declared with; none where that is not certain, or something is computed for it at once.
    fn type_of(&self, name: &str) -> Option<String> {
        let mut found = self.0.iter().filter_map(|declaration| {
            let rest = declaration.trim_start_matches('"').strip_prefix(name)?;
            let rest = rest.trim_start_matches('"');
            rest.starts_with([' ', '\n', '\t', '\r'])
                .then(|| rest.trim())
        });
        let (first, other) = (found.next()?, found.next());
        let is_plain = |byte: char| byte.is_alphanumeric() || "_.%\"[]$ ".contains(byte);
        let words: Vec<&str> = first.split_whitespace().collect();
        let is_certain = other.is_none() && words.len() == 1 && first.chars().all(is_plain);
        is_certain.then(|| first.to_owned())
    }
}

/// A body without its comments (4.1.5). What a string holds is not told apart: the worst is that a declaration is not found.
fn without_comments(source: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(source.len()), source);
    while let Some(at) = [rest.find("--"), rest.find("/*")]
        .into_iter()
        .flatten()
        .min()
    {
        plain.push_str(&rest[..at]);
        plain.push(' ');
        let end = if rest[at..].starts_with("--") {
            rest[at..].find('\n')
        } else {
            rest[at..].find("*/").map(|end| end + 2)
        };
        rest = end.map_or("", |end| &rest[at + end..]);
    }
    plain.push_str(rest);
    plain
}
