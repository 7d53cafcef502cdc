//! The pending-reply queue (rule 1 of `state`).
use std::collections::VecDeque;
use std::sync::Arc;

use crate::decode::Named;
use crate::state::Expect;
use crate::statement::{Portal, Statement};

/// What an entry is about.
pub(crate) enum Subject {
    Nothing,
    Statement(Arc<Statement>),
    Portal(Arc<Portal>),
    Closed(Named, String),
    /// A cursor made in SQL: its columns may be told, its rows come by FETCH only.
    Cursor,
    /// The ErrorResponse of a refusal, and what the refused message would have ended.
    Refusal(Vec<u8>, Ends),
}

/// What a message that fails leaves nothing of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It ends no name.
    Nothing,
    /// A Parse: the unnamed statement.
    Statement,
    /// A Query: the unnamed statement and the unnamed portal.
    StatementAndPortal,
}

/// One question without its complete answer.
pub(crate) struct Entry {
    /// What the entry began as.
    pub base: Expect,
    /// What it waits for now.
    pub expect: Expect,
    pub subject: Subject,
    /// The label the host gave the action; none for what is not judged on its own.
    pub action: Option<u64>,
    /// The pipeline it was sent in.
    pub segment: u64,
    /// Whether the client did not ask for it, so that it is not shown the answer.
    pub is_injected: bool,
    /// Number of the statement within a simple query.
    pub index: u32,
    /// Bytes of record lines written for this action.
    pub recorded: usize,
}

impl Entry {
    pub fn new(base: Expect, subject: Subject, action: Option<u64>, segment: u64) -> Entry {
        Entry {
            base,
            expect: base,
            subject,
            action,
            segment,
            is_injected: false,
            index: 0,
            recorded: 0,
        }
    }

    /// The label of the action this entry is the whole answer of; none for what only accompanies one.
    pub fn own_action(&self) -> Option<u64> {
        let is_action = matches!(
            self.base,
            Expect::Query | Expect::FunctionCall | Expect::Parse | Expect::Execute
        );
        self.action.filter(|_| is_action)
    }

    /// Whether the server may still answer that it wants COPY data.
    pub fn may_copy_in(&self) -> bool {
        // A simple query can have several COPYs, one after the other.
        let is_between = self.expect == Expect::CopyInDone && self.base == Expect::Query;
        is_between
            || matches!(
                self.expect,
                Expect::Query
                    | Expect::QueryRows
                    | Expect::Execute
                    | Expect::CopyOut
                    | Expect::CopyOutDone
            )
    }
}

/// Entries in the order of their answers.
#[derive(Default)]
pub(crate) struct Pending {
    entries: VecDeque<Entry>,
}

impl Pending {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    pub fn head(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub fn head_mut(&mut self) -> Option<&mut Entry> {
        self.entries.front_mut()
    }

    pub fn pop(&mut self) -> Option<Entry> {
        self.entries.pop_front()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Takes out the entries up to the first Sync; whether there is one.
    pub fn take_to_sync(&mut self) -> (Vec<Entry>, bool) {
        let sync = self
            .entries
            .iter()
            .position(|entry| entry.base == Expect::Sync);
        let dropped = self
            .entries
            .drain(..sync.unwrap_or(self.entries.len()))
            .collect();
        (dropped, sync.is_some())
    }

    /// Whether anything but a Sync waits behind the head.
    pub fn has_more_than_syncs(&self) -> bool {
        self.entries
            .iter()
            .skip(1)
            .any(|entry| entry.base != Expect::Sync)
    }

    /// Takes out the Syncs behind the head and returns how many there were (rule 6 of `state`).
    pub fn take_syncs(&mut self) -> usize {
        let before = self.entries.len();
        let mut is_head = true;
        self.entries
            .retain(|entry| std::mem::take(&mut is_head) || entry.base != Expect::Sync);
        before - self.entries.len()
    }
}
