//! COPY, and the statements that carry another one: EXPLAIN, PREPARE, DECLARE CURSOR, CREATE TABLE AS.
//!
//! What the inner statement does is merged into the outer one, whose verb comes first.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::outs::Outs;
use super::scope::Relation;
use super::{names, Walker};
use crate::effects::Effect;
use crate::facts::{Access, Copy, Name, Output, OutputKind, Usage};

impl Walker {
    pub(super) fn copy(&mut self, copy: &pb::CopyStmt) -> Outs {
        self.verb("copy");
        let source = copy_source(copy);
        if copy.is_program {
            self.effect(Effect::Program);
            self.flag("copy_program");
        } else if source == "file" {
            self.effect(Effect::File);
            self.flag("copy_file");
        }
        let relation = copy.relation.as_ref().map(names::range);
        let columns = names::strings(&copy.attlist);
        let mut details = Copy {
            is_from: copy.is_from,
            source,
            relation: relation.clone(),
            query: copy.query.is_some(),
            columns: columns.clone(),
            ..Copy::default()
        };
        self.copy_options(&copy.options, &mut details);
        self.statement.copy = Some(details);
        if copy.is_from {
            self.effect(Effect::Write);
            self.flag("open_ended");
            self.copy_from(copy, relation.as_ref(), &columns);
            return Outs {
                entries: Vec::new(),
                positional: true,
                merged: false,
            };
        }
        self.effect(Effect::Read);
        if source == "stdout" {
            self.effect(Effect::Export);
        }
        let bare = if source == "stdout" {
            Usage::Output
        } else {
            Usage::Other
        };
        if let Some(query) = copy.query.as_deref().and_then(|query| query.node.as_ref()) {
            return self.deliver(query, bare);
        }
        self.copy_to(copy, relation.as_ref(), &columns, bare)
    }

    fn copy_from(&mut self, copy: &pb::CopyStmt, relation: Option<&Name>, columns: &[String]) {
        let (Some(range), Some(table)) = (copy.relation.as_ref(), relation) else {
            return self.unknown();
        };
        self.table(range, Access::Write);
        for name in columns {
            self.assign(table, name);
        }
        if columns.is_empty() {
            self.assign(table, "*");
        }
        if copy.where_clause.is_some() {
            self.frames.push(super::Frame::default());
            self.source(
                table.name.clone(),
                Relation::Table {
                    table: table.clone(),
                    renamed: Vec::new(),
                },
                false,
            );
            self.optional(copy.where_clause.as_deref(), Usage::Predicate);
            self.frames.pop();
        }
    }

    fn copy_to(
        &mut self,
        copy: &pb::CopyStmt,
        relation: Option<&Name>,
        columns: &[String],
        bare: Usage,
    ) -> Outs {
        let (Some(range), Some(table)) = (copy.relation.as_ref(), relation) else {
            self.unknown();
            return Outs::default();
        };
        self.table(range, Access::Read);
        let star = super::scope::star_of(table);
        if columns.is_empty() {
            self.flag("star");
            self.columns(std::slice::from_ref(&star), bare);
            return Outs {
                entries: vec![Output {
                    name: None,
                    kind: OutputKind::Star,
                    columns: vec![star],
                }],
                positional: false,
                merged: false,
            };
        }
        let entries: Vec<Output> = columns
            .iter()
            .map(|name| Output {
                name: Some(name.clone()),
                kind: OutputKind::Column,
                columns: vec![crate::facts::Column {
                    name: name.clone(),
                    ..star.clone()
                }],
            })
            .collect();
        entries
            .iter()
            .for_each(|entry| self.columns(&entry.columns, bare));
        Outs {
            entries,
            positional: true,
            merged: false,
        }
    }

    fn copy_options(&mut self, options: &[pb::Node], details: &mut Copy) {
        details.format = "text".to_owned();
        for node in options {
            let Some(N::DefElem(option)) = &node.node else {
                self.unknown();
                continue;
            };
            let value = text_of(option.arg.as_deref());
            match option.defname.to_lowercase().as_str() {
                "format" => details.format = value.unwrap_or_default().to_lowercase(),
                "delimiter" => details.delimiter = value,
                "null" => details.null = value,
                // Without a value, or with one that does not switch it off.
                "header" => details.header = is_on(option),
                "quote" => details.quote = value,
                "escape" => details.escape = value,
                "encoding" => {
                    let utf8 = value.as_deref().is_some_and(|name| {
                        matches!(name.to_lowercase().as_str(), "utf8" | "utf-8" | "unicode")
                    });
                    if !utf8 {
                        self.flag("copy_encoding");
                    }
                    let letters = |name: &str| {
                        let known = name.chars().filter(char::is_ascii_alphanumeric);
                        known.collect::<String>().to_lowercase()
                    };
                    if value
                        .as_deref()
                        .is_some_and(|name| letters(name) == "sqlascii")
                    {
                        self.unknown(); // the server takes the data for text of its own and looks at none of it
                    }
                    details.encoding = value;
                }
                _ => {}
            }
        }
    }

    fn assign(&mut self, table: &Name, column: &str) {
        self.statement.assigned.insert(crate::facts::Column {
            schema: table.schema.clone(),
            table: Some(table.name.clone()),
            name: column.to_owned(),
        });
    }

    pub(super) fn explain(&mut self, explain: &pb::ExplainStmt) -> Outs {
        self.verb("explain");
        self.effect(Effect::Read);
        let asks = |name: &str| {
            explain.options.iter().any(|node| match &node.node {
                Some(N::DefElem(option)) => {
                    option.defname.eq_ignore_ascii_case(name) && is_on(option)
                }
                _ => true,
            })
        };
        let analyze = asks("analyze");
        if analyze {
            self.statement.is_explain_analyze = true;
            self.flag("explain_analyze");
            if asks("wal") {
                self.flag("explain_wal");
            }
        }
        let before = self.statement.effects;
        // A plan shows estimates and constants, never a column as it is.
        if let Some(query) = explain
            .query
            .as_deref()
            .and_then(|query| query.node.as_ref())
        {
            self.deliver(query, Usage::Other);
        } else {
            self.unknown();
        }
        if !analyze {
            self.make_nothing();
            let unknown = self.statement.effects.contains(Effect::Unknown);
            self.statement.effects = before;
            if unknown {
                self.unknown();
            }
        }
        let columns = self
            .statement
            .columns
            .iter()
            .map(|(column, _)| column.clone())
            .collect::<std::collections::BTreeSet<_>>();
        let plan = Output {
            name: Some("QUERY PLAN".to_owned()),
            kind: OutputKind::Unknown,
            columns: columns.into_iter().collect(),
        };
        Outs {
            entries: vec![plan],
            positional: true,
            merged: false,
        }
    }

    pub(super) fn prepare(&mut self, prepare: &pb::PrepareStmt) -> Outs {
        self.verb("prepare");
        self.effect(Effect::Session);
        self.statement.prepared_name = Some(prepare.name.clone());
        self.list(&prepare.argtypes, Usage::Other);
        self.declare_parameters(&prepare.argtypes);
        if let Some(query) = prepare
            .query
            .as_deref()
            .and_then(|query| query.node.as_ref())
        {
            self.deliver(query, Usage::Output);
        } else {
            self.unknown();
        }
        self.make_nothing();
        Outs {
            entries: Vec::new(),
            positional: true,
            merged: false,
        }
    }

    /// What was read is not run: no relation is made of it.
    fn make_nothing(&mut self) {
        self.statement.new_names.clear();
        for flag in ["creates_table", "temporary", "on_commit_drop"] {
            self.statement.flags.remove(flag);
        }
    }

    pub(super) fn declare_cursor(&mut self, cursor: &pb::DeclareCursorStmt) -> Outs {
        self.verb("declare_cursor");
        self.effects(&[Effect::Session, Effect::Read]);
        self.flag("cursor");
        self.statement.cursor_name = Some(cursor.portalname.clone());
        if let Some(query) = cursor
            .query
            .as_deref()
            .and_then(|query| query.node.as_ref())
        {
            self.deliver(query, Usage::Output);
        } else {
            self.unknown();
        }
        Outs {
            entries: Vec::new(),
            positional: true,
            merged: false,
        }
    }

    pub(super) fn create_table_as(&mut self, create: &pb::CreateTableAsStmt) {
        let materialized = create.objtype == pb::ObjectType::ObjectMatview as i32;
        self.verb(if materialized {
            "create_materialized_view"
        } else {
            "create_table_as"
        });
        self.effects(&[Effect::Define, Effect::Write]);
        self.flag("create_table_as");
        if create.if_not_exists {
            self.flag("if_not_exists");
        }
        if let Some(into) = create.into.as_deref() {
            self.select_target(into);
        }
        match create
            .query
            .as_deref()
            .and_then(|query| query.node.as_ref())
        {
            Some(query) => {
                self.deliver(query, Usage::Other);
            }
            None => self.unknown(),
        }
    }

    pub(super) fn select_target(&mut self, into: &pb::IntoClause) {
        if into.rel.is_some() {
            self.new_relation(into.rel.as_ref());
            self.flag("creates_table");
            self.on_commit(into.on_commit);
        }
        self.list(&into.options, Usage::Other);
    }
}

fn copy_source(copy: &pb::CopyStmt) -> &'static str {
    match (copy.is_program, copy.filename.is_empty(), copy.is_from) {
        (true, ..) => "program",
        (_, false, _) => "file",
        (_, _, true) => "stdin",
        (_, _, false) => "stdout",
    }
}

/// The value of an option, when it is a simple one.
pub(super) fn text_of(node: Option<&pb::Node>) -> Option<String> {
    match &node?.node {
        Some(N::String(text)) => Some(text.sval.clone()),
        Some(N::Integer(number)) => Some(number.ival.to_string()),
        Some(N::Float(number)) => Some(number.fval.clone()),
        Some(N::Boolean(value)) => Some(value.boolval.to_string()),
        Some(N::TypeName(name)) => names::strings(&name.names).pop(),
        Some(N::AConst(constant)) => match &constant.val {
            Some(pb::a_const::Val::Sval(text)) => Some(text.sval.clone()),
            Some(pb::a_const::Val::Ival(number)) => Some(number.ival.to_string()),
            Some(pb::a_const::Val::Boolval(value)) => Some(value.boolval.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// A boolean option; what is not clearly off counts as on.
pub(super) fn is_on(option: &pb::DefElem) -> bool {
    let value = text_of(option.arg.as_deref()).map(|value| value.to_lowercase());
    !matches!(value.as_deref(), Some("false" | "off" | "0"))
}
