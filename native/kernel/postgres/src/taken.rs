//! Actions a session let through by itself, from their message to their end or to the host.
use std::sync::Arc;

use sealgate_record::Outcome;

use crate::event::BoundParameter;
use crate::lesson::HostValue;
use crate::statement::Portal;

/// What an action was taken for.
pub(crate) enum What {
    Text(String),
    /// Name and text of a statement that is prepared.
    Statement(String, String),
    Portal(Arc<Portal>),
}

impl What {
    pub fn sql(&self) -> &str {
        match self {
            What::Text(sql) | What::Statement(_, sql) => sql,
            What::Portal(portal) => &portal.statement.sql,
        }
    }
}

/// An action that was let through.
pub(crate) struct Open {
    pub memo: u64,
    pub host: HostValue,
    pub what: What,
    pub params: Vec<u8>,
    pub decision_id: String,
    pub digest: [u8; 32],
    pub outcome: Outcome,
    pub record: Vec<u8>,
    pub tags: Vec<String>,
    pub is_handed_over: bool,
}

/// An action handed to the host.
pub struct Adopted {
    /// What the host gave with the lesson.
    pub host: HostValue,
    /// Number of the lesson.
    pub lesson: u64,
    /// Whether its end has not been recorded; a prepared statement whose end has can still be described.
    pub is_open: bool,
    /// Id of its decision.
    pub decision_id: String,
    /// The text.
    pub sql: String,
    /// The portal's parameters with their types, for an Execute.
    pub params: Vec<BoundParameter>,
    /// What it has amounted to so far.
    pub outcome: Outcome,
    /// Rows recorded so far.
    pub record: Vec<u8>,
    /// Tags so far.
    pub tags: Vec<String>,
}

/// A message the session may let through.
pub(crate) struct Taken {
    pub label: u64,
    pub hides_texts: bool,
    /// What it does is over with its own answer.
    pub is_harmless: bool,
}
