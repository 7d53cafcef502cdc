//! Prepared statements and portals as the session knows them.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::decode::{Field, Parameter};
use crate::event::BoundParameter;
use crate::masking::{Masking, RowMasker};

/// How many rows a result may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLimit {
    /// The most rows that are delivered.
    pub rows: u64,
    /// How the result ends after them where there are more: cut, else with an error.
    pub cut: Option<Cut>,
    /// Good for this result only: the next of the same statement is judged again, because what is left by then is another number.
    pub is_once: bool,
    /// Detail of the error: who set the limit. None where it is empty.
    pub why: Arc<str>,
}

/// A result that is ended after the rows it may have, as if the server had no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The rule that asked for it, named in the notice the client gets.
    pub rule: Arc<str>,
    /// First word of the command tag of a portal that the server only suspended; none where that could be the tag of a change, whose
    /// count is not one of rows delivered.
    pub tag: Option<Arc<str>>,
}

/// What was decided about the rows of a statement, good as long as the server describes them in the same way.
#[derive(Clone)]
pub(crate) struct Plan {
    pub fields: Vec<Field>,
    pub masking: Arc<dyn Masking>,
    pub row_limit: Option<RowLimit>,
}

impl Plan {
    /// Whether the next result of the same statement may be delivered by it.
    pub fn is_kept(&self) -> bool {
        !self.row_limit.as_ref().is_some_and(|limit| limit.is_once)
    }
}

/// The epoch of a statement prepared under settings that are not certain: no later one equals it.
pub(crate) const UNSURE_EPOCH: u64 = u64::MAX;

/// A statement made by Parse.
pub(crate) struct Statement {
    pub name: String,
    pub sql: String,
    /// The action its Parse was labelled with.
    pub action: u64,
    /// What `Session::begin_epoch` said when it was prepared.
    pub epoch: u64,
    /// Whether running it may give a name (`may_give_names`).
    pub may_give_names: bool,
    /// Types given in Parse, replaced by those of ParameterDescription when the server has told them.
    param_oids: Mutex<Vec<u32>>,
    plan: Mutex<Option<Plan>>,
    /// Set when SQL may have put something else under this name.
    void: AtomicBool,
}

/// How the rows of a portal are masked, from its own RowDescription.
pub(crate) enum Rows {
    /// The server said NoData.
    None,
    Planned(Planned),
}

/// A plan together with the formats of one portal, and a masker ready for it.
pub(crate) struct Planned {
    pub plan: Plan,
    pub formats: Vec<u16>,
    /// Rows delivered by earlier Executes of the portal: the limit is one for all of them.
    pub delivered: u64,
    /// The masker for these formats, between two uses.
    pub masker: Option<Box<dyn RowMasker>>,
}

/// A portal made by Bind.
pub(crate) struct Portal {
    pub name: String,
    pub statement: Arc<Statement>,
    pub params: Vec<Parameter>,
    rows: Mutex<Option<Rows>>,
    void: AtomicBool,
}

/// Whether a text may make a cursor or a prepared statement.
pub(crate) fn may_give_names(sql: &[u8]) -> bool {
    [&b"declare"[..], b"prepare"].into_iter().any(|word| {
        sql.windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word))
    })
}

/// Whether a text may set the client's encoding to SQL_ASCII; the server reports that only once it is ready again, or not at all.
pub(crate) fn may_set_ascii(sql: &[u8]) -> bool {
    sql.windows(5)
        .any(|part| part.eq_ignore_ascii_case(b"ascii"))
}

/// A lock that no panic can leave half-written: every value behind it is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Statement {
    pub fn new(
        name: String,
        sql: String,
        action: u64,
        epoch: u64,
        param_oids: Vec<u32>,
    ) -> Statement {
        let (param_oids, plan) = (Mutex::new(param_oids), Mutex::new(None));
        Statement {
            name,
            may_give_names: may_give_names(sql.as_bytes()),
            sql,
            action,
            epoch,
            param_oids,
            plan,
            void: AtomicBool::new(false),
        }
    }

    pub fn param_oids(&self) -> Vec<u32> {
        lock(&self.param_oids).clone()
    }

    pub fn set_param_oids(&self, oids: Vec<u32>) {
        *lock(&self.param_oids) = oids;
    }

    /// The plan, if the server still describes the rows as it did when the plan was made.
    pub fn plan_for(&self, fields: &[Field]) -> Option<Plan> {
        lock(&self.plan)
            .as_ref()
            .filter(|plan| plan.fields == fields)
            .cloned()
    }

    pub fn set_plan(&self, plan: Option<Plan>) {
        *lock(&self.plan) = plan;
    }
}

impl Portal {
    pub fn new(name: String, statement: Arc<Statement>, params: Vec<Parameter>) -> Portal {
        Portal {
            name,
            statement,
            params,
            rows: Mutex::new(None),
            void: AtomicBool::new(false),
        }
    }

    /// The parameters with the types the server or the client gave them, 0 where neither did.
    pub fn bound_params(&self) -> Vec<BoundParameter> {
        let type_oids = self.statement.param_oids();
        let types = type_oids.iter().copied().chain(std::iter::repeat(0));
        let bound = |(parameter, type_oid): (&Parameter, u32)| BoundParameter {
            parameter: parameter.clone(),
            type_oid,
        };
        self.params.iter().zip(types).map(bound).collect()
    }

    /// Its rows were described; what it has delivered of them it has, however often they are described.
    pub fn set_rows(&self, mut rows: Rows) {
        let mut held = lock(&self.rows);
        if let (Rows::Planned(new), Some(Rows::Planned(old))) = (&mut rows, &*held) {
            new.delivered = old.delivered;
        }
        *held = Some(rows);
    }

    /// Forgets how its rows are masked, where it has delivered none; whether it did.
    pub fn forget_rows(&self) -> bool {
        let mut rows = lock(&self.rows);
        let is_unread = matches!(&*rows, Some(Rows::Planned(planned)) if planned.delivered == 0 && planned.masker.is_some());
        if is_unread {
            *rows = None;
        }
        is_unread
    }

    pub fn is_described(&self) -> bool {
        lock(&self.rows).is_some()
    }

    /// Calls `read` with how the rows are masked, none when that is not known.
    pub fn with_rows<T>(&self, read: impl FnOnce(Option<&mut Rows>) -> T) -> T {
        read(lock(&self.rows).as_mut())
    }
}

/// Something a name stands for.
pub(crate) trait Nameable {
    /// Bytes it keeps in memory, for the bound on all of them together.
    fn weight(&self) -> usize;
    /// Marks it as no longer what its name stands for at the server.
    fn void(&self);
    fn is_void(&self) -> bool;
}

impl Nameable for Statement {
    fn weight(&self) -> usize {
        self.name.len() + self.sql.len()
    }

    fn void(&self) {
        self.void.store(true, Ordering::Relaxed);
    }

    fn is_void(&self) -> bool {
        self.void.load(Ordering::Relaxed)
    }
}

impl Nameable for Portal {
    fn weight(&self) -> usize {
        // The statement's text counts too: a portal keeps it after the statement was closed.
        self.name.len()
            + self.statement.sql.len()
            + self
                .params
                .iter()
                .map(|param| param.value.as_ref().map_or(0, Vec::len))
                .sum::<usize>()
    }

    fn void(&self) {
        self.void.store(true, Ordering::Relaxed);
    }

    fn is_void(&self) -> bool {
        self.void.load(Ordering::Relaxed) || self.statement.is_void()
    }
}
