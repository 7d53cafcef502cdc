//! WITH: common table expressions, recursive ones included.

use std::rc::Rc;

use pg_query::protobuf as pb;
use pg_query::NodeEnum;

use super::outs::Outs;
use super::scope::Cte;
use super::{names, Walker};
use crate::facts::{Column, Output, OutputKind, Usage};

/// The CTE whose body is being walked, when it may read from itself.
#[derive(Debug)]
pub(super) struct Recursion {
    pub name: String,
    /// Tells it from others of its name, within it or around it.
    pub number: usize,
    pub aliases: Vec<String>,
}

impl Walker {
    pub(super) fn with_clause(&mut self, with: Option<&pb::WithClause>) {
        let Some(with) = with else { return };
        if with.recursive {
            for node in &with.ctes {
                if let Some(NodeEnum::CommonTableExpr(cte)) = &node.node {
                    self.add_cte(Cte {
                        name: cte.ctename.clone(),
                        outs: None,
                        used_early: false,
                        digits: None,
                    });
                }
            }
        }
        for node in &with.ctes {
            let Some(NodeEnum::CommonTableExpr(cte)) = &node.node else {
                self.unknown();
                continue;
            };
            self.common_table(cte, with.recursive);
        }
    }

    pub(super) fn common_table(&mut self, cte: &pb::CommonTableExpr, recursive: bool) {
        let aliases = names::strings(&cte.aliascolnames);
        let before = self.digits;
        self.recursions += 1;
        self.recursion = recursive.then(|| Recursion {
            name: cte.ctename.clone(),
            number: self.recursions,
            aliases: aliases.clone(),
        });
        let outs = match cte
            .ctequery
            .as_deref()
            .and_then(|query| query.node.as_ref())
        {
            Some(query) => self.cte_body(query),
            None => {
                self.unknown();
                Outs::default()
            }
        };
        self.recursion = None;
        let digits = self.digits - before;
        let mut outs = outs.renamed(&aliases);
        if let Some(cycle) = cte.cycle_clause.as_deref() {
            self.optional(cycle.cycle_mark_value.as_deref(), Usage::Other);
            self.optional(cycle.cycle_mark_default.as_deref(), Usage::Other);
            // Where a value comes again decides how many rows there are.
            self.columns(&outs.all_columns(), Usage::Predicate);
        }
        if cte.cycle_clause.is_some() || cte.search_clause.is_some() {
            // Both add columns made of the row's own values.
            self.columns(&outs.all_columns(), Usage::Other);
            let columns = outs.all_columns();
            outs.entries.push(Output {
                name: None,
                kind: OutputKind::Unknown,
                columns,
            });
        }
        let known = self.frames.last_mut().and_then(|frame| {
            frame
                .ctes
                .iter_mut()
                .rev()
                .find(|known| recursive && known.name == cte.ctename)
        });
        match known {
            Some(known) => {
                let early = known.used_early;
                known.outs = Some(Rc::new(outs.clone()));
                known.digits = Some(digits);
                if early {
                    self.columns(&outs.all_columns(), Usage::Other);
                    self.columns(&outs.all_columns(), Usage::Predicate);
                }
            }
            None => self.add_cte(Cte {
                name: cte.ctename.clone(),
                outs: Some(Rc::new(outs)),
                used_early: false,
                digits: Some(digits),
            }),
        }
    }

    pub(super) fn cte_body(&mut self, query: &NodeEnum) -> Outs {
        match query {
            NodeEnum::SelectStmt(select) => self.select(select, Usage::Output),
            NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_) => {
                self.flag("cte_write");
                self.change(query, Usage::Output)
            }
            _ => {
                self.unknown();
                self.visit(query, Usage::Other);
                Outs::default()
            }
        }
    }

    pub(super) fn add_cte(&mut self, cte: Cte) {
        if let Some(frame) = self.frames.last_mut() {
            frame.ctes.push(cte);
        }
    }

    /// The first arm of a recursive CTE fixes what the others read from it.
    pub(super) fn settle_recursion(&mut self, recursion: &Recursion, outs: &Outs) {
        let mut settled = outs.clone().renamed(&recursion.aliases);
        for (index, entry) in settled.entries.iter_mut().enumerate() {
            // What a later round puts into a column comes round again: `close_recursion` follows it.
            entry.columns.push(marker(recursion.number, index));
        }
        let settled = Rc::new(settled);
        for frame in self.frames.iter_mut().rev() {
            if let Some(cte) = frame
                .ctes
                .iter_mut()
                .rev()
                .find(|cte| cte.name == recursion.name && cte.outs.is_none())
            {
                cte.outs = Some(settled);
                return;
            }
        }
    }
}

/// Stands for what a recursive CTE delivers in one of its columns while its body is walked. No relation can have that name.
fn marker(recursion: usize, index: usize) -> Column {
    Column {
        schema: Some(recursion.to_string()),
        table: Some(RECURSION.to_owned()),
        name: index.to_string(),
    }
}

/// The relation name of markers: names hold no NUL.
const RECURSION: &str = "\0recursion";

/// Whether a column stands for one of a recursive CTE.
pub(super) fn is_marker(column: &Column) -> bool {
    column.table.as_deref() == Some(RECURSION)
}

impl Walker {
    /// Says what each column of a recursive CTE is made of after any number of rounds, and what its body did with it.
    pub(super) fn close_recursion(&mut self, outs: &mut Outs, recursion: &Recursion) {
        let number = recursion.number.to_string();
        let is_own = |column: &Column| is_marker(column) && column.schema.as_ref() == Some(&number);
        loop {
            let before: Vec<Vec<Column>> = outs
                .entries
                .iter()
                .map(|entry| entry.columns.clone())
                .collect();
            let mut changed = false;
            for entry in &mut outs.entries {
                let size = entry.columns.len();
                let reached: Vec<Column> = entry
                    .columns
                    .iter()
                    .filter(|column| is_own(column))
                    .flat_map(|column| behind(column, &before))
                    .collect();
                self.work += reached.len();
                entry.columns.extend(reached);
                entry.columns.sort_unstable();
                entry.columns.dedup();
                changed |= entry.columns.len() != size;
            }
            if !changed || !self.has_work_left() {
                break;
            }
        }
        for entry in &mut outs.entries {
            entry.columns.retain(|column| !is_own(column));
        }
        let closed: Vec<Vec<Column>> = outs
            .entries
            .iter()
            .map(|entry| entry.columns.clone())
            .collect();
        // The body may have searched by what a later round has in a column, or handed it to something.
        let used: Vec<(Column, Usage)> = self
            .statement
            .columns
            .iter()
            .filter(|(column, _)| is_own(column))
            .cloned()
            .collect();
        for (column, usage) in used {
            let reached = behind(&column, &closed);
            self.work += reached.len();
            self.statement
                .columns
                .extend(reached.into_iter().map(|column| (column, usage)));
        }
        for tap in &mut self.taps {
            let reached: Vec<Column> = tap
                .iter()
                .filter(|column| is_own(column))
                .flat_map(|column| behind(column, &closed))
                .collect();
            self.work += reached.len();
            tap.extend(reached);
        }
    }
}

/// What a marker stands for: a column of the recursive CTE, or all of them where its place is not certain.
fn behind(marker: &Column, entries: &[Vec<Column>]) -> Vec<Column> {
    match marker
        .name
        .parse::<usize>()
        .ok()
        .and_then(|at| entries.get(at))
    {
        Some(columns) => columns.clone(),
        None => entries.iter().flatten().cloned().collect(),
    }
}
