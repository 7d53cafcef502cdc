//! The walk knows every kind of node, and misses none that is in a tree.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pg_query::protobuf as pb;
use prost::Message;
use serde_json::Value;

use super::statement;
use crate::{analyze, Analysis, Effect, Limits, Statement};

/// Highest field number of the `Node` message: one per kind of node.
const KINDS: u32 = 271;

/// A `Node` of the kind with this field number, all members at their defaults.
fn empty_node(tag: u32) -> pb::Node {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(0, &mut bytes);
    pb::Node::decode(bytes.as_slice()).expect("an empty message is a valid one")
}

fn kind_name(node: &pb::Node) -> String {
    let text = format!("{:?}", node.node.as_ref().expect("a known kind"));
    text.split('(').next().unwrap_or_default().to_owned()
}

#[test]
fn every_kind_of_node_is_named_in_visit() {
    let source = include_str!("visit.rs");
    let visit = &source[source.find("fn visit").expect("the dispatcher")..];
    assert!(!visit.contains("_ =>"), "a catch-all would hide new kinds");
    for tag in 1..=KINDS {
        let name = kind_name(&empty_node(tag));
        assert!(
            visit.contains(&format!("N::{name}(")),
            "{name} is not in visit"
        );
    }
    assert!(
        empty_node(KINDS + 1).node.is_none(),
        "the grammar knows more kinds than KINDS"
    );
}

#[test]
fn a_bare_node_of_any_kind_has_an_effect() {
    for tag in 1..=KINDS {
        let node = empty_node(tag);
        let found = statement(Some(&node), 256, &mut 0).expect("no limit is reached");
        assert!(!found.effects.is_empty(), "{}", kind_name(&node));
    }
}

#[test]
fn kinds_a_raw_tree_cannot_hold_are_unknown() {
    let analyzed = [
        "Query",
        "FuncExpr",
        "OpExpr",
        "Aggref",
        "RangeTblEntry",
        "SubPlan",
        "Var",
    ];
    let nodes = (1..=KINDS).map(empty_node);
    for node in nodes.filter(|node| analyzed.contains(&kind_name(node).as_str())) {
        let found = statement(Some(&node), 256, &mut 0).expect("no limit is reached");
        assert!(found.effects.contains(Effect::Unknown));
    }
    let nothing = statement(None, 256, &mut 0).expect("no limit is reached");
    assert!(nothing.effects.contains(Effect::Unknown));
}

/// One file of the vectors: its name, its header, its SQL.
struct Vector {
    name: String,
    header: Vec<(String, String)>,
    sql: String,
}

impl Vector {
    fn expects(&self, key: &str) -> &str {
        let found = self.header.iter().find(|(known, _)| known == key);
        found.map_or("", |(_, value)| value)
    }
}

fn vectors() -> Vec<Vector> {
    let folder = PathBuf::from("../../../tests/vectors/sql");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let (head, sql) = text.split_once("\n---\n").expect("a dashed line");
        let header = head.lines().filter_map(|line| line.split_once(':'));
        found.push(Vector {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            header: header
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                .collect(),
            sql: sql.strip_suffix('\n').unwrap_or(sql).to_owned(),
        });
    }
    assert!(found.len() >= 250);
    found
}

fn run(sql: &str) -> Option<Vec<Statement>> {
    match analyze(sql, Limits::default()) {
        Analysis::Ok(statements) => Some(statements),
        Analysis::Failed(_) => None,
    }
}

#[test]
fn vectors_agree() {
    for vector in vectors() {
        let Some(statements) = run(&vector.sql) else {
            assert_eq!(vector.expects("expect-status"), "failed", "{}", vector.name);
            continue;
        };
        assert_eq!(vector.expects("expect-status"), "ok", "{}", vector.name);
        let verbs: Vec<&str> = statements.iter().map(|found| found.verb).collect();
        assert_eq!(
            verbs.join(" "),
            vector.expects("expect-verb"),
            "{}",
            vector.name
        );
        let effects: BTreeSet<&str> = statements
            .iter()
            .flat_map(|found| found.effects.names())
            .collect();
        let effects: Vec<&str> = effects.into_iter().collect();
        assert_eq!(
            effects.join(","),
            vector.expects("expect-effects"),
            "{}",
            vector.name
        );
    }
}

/// Every member of a name anywhere in a serialized tree, found without knowing the tree's shape.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == key {
                    found.push(member);
                }
                collect(member, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}

fn members<'a>(tree: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    collect(tree, key, &mut found);
    found
}

fn last_string(names: &Value) -> Option<String> {
    let node = names.as_array()?.last()?.get("node")?;
    Some(node.get("String")?.get("sval")?.as_str()?.to_owned())
}

fn contains_any(sql: &str, words: &[&str]) -> bool {
    words.iter().any(|word| sql.contains(word))
}

/// An independent look at the tree: every relation, function and column in it must be in the facts.
#[test]
fn the_walk_misses_no_name() {
    let mut seen = (0, 0, 0);
    for Vector { name, sql, .. } in vectors() {
        // Long ones are parsed on a stack of their own, which this look does not have.
        let Some(statements) = run(&sql).filter(|_| sql.len() < 1_000) else {
            continue;
        };
        let parsed = pg_query::parse(&sql, 0).expect("it parsed before").protobuf;
        let tree = serde_json::to_value(&parsed).expect("a tree");
        let of = |pick: fn(&Statement) -> Vec<String>| {
            statements
                .iter()
                .flat_map(pick)
                .collect::<BTreeSet<String>>()
        };
        let tables = of(|found| {
            found
                .tables
                .iter()
                .map(|table| table.name.clone())
                .collect()
        });
        let functions = of(|found| {
            found
                .functions
                .iter()
                .map(|call| call.name.clone())
                .collect()
        });
        let columns = of(|found| {
            found
                .columns
                .iter()
                .map(|(column, _)| column.name.clone())
                .collect()
        });
        let ctes = members(&tree, "ctename");
        for range in members(&tree, "relname")
            .into_iter()
            .filter_map(Value::as_str)
        {
            let is_cte = ctes.iter().any(|cte| cte.as_str() == Some(range));
            // The name of a composite type is held like a relation's.
            let is_type = sql.contains("CREATE TYPE");
            assert!(
                is_cte || is_type || tables.contains(range),
                "{name}: relation {range} is missed"
            );
            seen.0 += 1;
        }
        for call in members(&tree, "funcname")
            .into_iter()
            .filter_map(last_string)
        {
            // The function that is being created is not called.
            let made = contains_any(&sql, &["CREATE FUNCTION", "CREATE PROCEDURE"]);
            assert!(
                made || functions.contains(&call),
                "{name}: function {call} is missed"
            );
            seen.1 += 1;
        }
        for reference in members(&tree, "ColumnRef") {
            let Some(column) = reference.get("fields").and_then(last_string) else {
                continue;
            };
            // Columns of subqueries are reported as the columns they are made of.
            let derived = contains_any(&sql, &["WITH", "AS ", "FROM (", "excluded", "unnest"]);
            assert!(
                derived
                    || columns.contains(&column)
                    // A star, or a column by its place.
                    || columns.iter().any(|known| known == "*" || known.starts_with('\0')),
                "{name}: column {column} is missed"
            );
            seen.2 += 1;
        }
    }
    assert!(seen.0 > 150 && seen.1 > 50 && seen.2 > 150, "{seen:?}");
}

#[test]
fn a_deep_tree_is_refused_not_overflowed() {
    for sql in [
        format!("SELECT {}a{}", "NOT (".repeat(3_000), ")".repeat(3_000)),
        format!("SELECT {}1{}", "f(".repeat(4_000), ")".repeat(4_000)),
        format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000)),
        format!("SELECT {}1", "- a - ".repeat(4_900)),
    ] {
        for max_depth in [256, 1_000_000] {
            let _ = analyze(
                &sql,
                Limits {
                    max_depth,
                    ..Limits::default()
                },
            );
        }
    }
}

#[test]
fn short_texts_fit_a_small_stack() {
    // Texts of the size that is parsed on the caller's stack, as deep as such a text can be.
    let texts = [
        ("NOT ", ""),
        ("- a - ", ""),
        ("a[", "]"),
        ("f(", ")"),
        ("(SELECT ", ")"),
    ]
    .map(|(open, close)| {
        let count = 1_000 / (open.len() + close.len());
        format!("SELECT {}1{}", open.repeat(count), close.repeat(count))
    });
    let worker = std::thread::Builder::new()
        .stack_size(4 << 20)
        .spawn(move || {
            for text in texts {
                let limits = Limits {
                    max_depth: 1_000_000,
                    ..Limits::default()
                };
                let _ = analyze(&text, limits);
            }
        });
    worker.expect("a thread").join().expect("no overflow");
}
