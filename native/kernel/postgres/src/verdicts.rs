//! What happens to a judged message: it goes on to the server, or is answered here at its place among the replies.
use std::sync::Arc;

use crate::encode::{self, Fields};
use crate::event::{ActionStatus, ServerEvent};
use crate::pending::{Ends, Entry, Subject};
use crate::session::{ResolveError, Session};
use crate::state::Expect;
use crate::statement::{may_give_names, may_set_ascii, Portal, Statement, UNSURE_EPOCH};

/// Fails to parse in every PostgreSQL; see `abort_pipeline`.
const ABORT_NAME: &str = "sealgate_refused";
const ABORT_SQL: &str = "refused by policy";

/// A message that waits to be judged.
pub(crate) struct JudgedClient {
    pub id: u64,
    pub message: Vec<u8>,
    pub what: Judged,
}

pub(crate) enum Judged {
    Query,
    FunctionCall,
    Undecodable {
        is_simple: bool,
    },
    Parse {
        name: String,
        sql: String,
        param_oids: Vec<u32>,
    },
    Execute {
        portal: Arc<Portal>,
    },
}

impl Session {
    /// Sends a judged message on and labels its replies with `action`. False when the server has failed the pipeline in the
    /// meantime and the message was dropped, as the server would have done.
    pub fn forward(&mut self, id: u64, action: u64) -> Result<bool, ResolveError> {
        let judged = self.take_judged_client(id)?;
        if matches!(judged.what, Judged::Undecodable { .. }) {
            self.judged_client = Some(judged);
            return Err(ResolveError::rejected(
                "what cannot be judged is always to be refused",
            ));
        }
        let is_sent = !self.is_discarding;
        if is_sent {
            self.send_judged(&judged.message, judged.what, action);
        } else {
            self.tell(ServerEvent::ActionEnd {
                action,
                status: ActionStatus::Skipped,
            });
        }
        self.run(Session::advance_client)?;
        Ok(is_sent)
    }

    /// Whether the message to be judged is all that its pipeline runs: no earlier pipeline awaits an answer, nothing of this
    /// one has been run before it, and the client's Sync is what follows.
    pub fn runs_alone(&self) -> bool {
        if self.is_unsettled() || self.is_discarding {
            return false;
        }
        match self.judged_client.as_ref().map(|judged| &judged.what) {
            Some(Judged::Query) => self.pending.is_empty(),
            Some(Judged::Execute { .. }) => {
                self.segment_executes == 0
                    && matches!(self.client_input.peek(), Ok(Some(frame)) if frame.kind == b'S')
            }
            _ => false,
        }
    }

    /// The server's errors and notices are shown without the texts that could quote data: those of the pipeline of the message to be
    /// judged, or where it `lasts`, as that of a deferred constraint does, until the transaction is over.
    pub fn hide_texts(&mut self, lasts: bool) {
        self.is_hiding_texts |= lasts;
        self.hidden_segment = self.segment;
    }

    /// Answers a judged message with an error of the gateway at its place among the replies.
    ///
    /// After a refused simple query the server is sent a Sync, so that the ReadyForQuery the client sees is the server's own.
    /// After a refused extended message everything up to the client's Sync is dropped.
    pub fn refuse(&mut self, id: u64, fields: &Fields) -> Result<(), ResolveError> {
        let judged = self.take_judged_client(id)?;
        if !self.is_discarding {
            let error = encode::fields_message(b'E', fields);
            match judged.what {
                Judged::Query | Judged::FunctionCall | Judged::Undecodable { is_simple: true } => {
                    self.refuse_simple(error)
                }
                Judged::Undecodable { is_simple: false } => {
                    self.refuse_extended(error, Ends::Statement, false)
                }
                Judged::Parse { name, .. } if name.is_empty() => {
                    self.refuse_extended(error, Ends::Statement, false)
                }
                Judged::Parse { .. } => self.refuse_extended(error, Ends::Nothing, false),
                Judged::Execute { .. } => self.refuse_extended(error, Ends::Nothing, false),
            }
        }
        Ok(self.run(Session::advance_client)?)
    }

    fn take_judged_client(&mut self, id: u64) -> Result<JudgedClient, ResolveError> {
        self.check()?;
        match self.judged_client.take_if(|judged| judged.id == id) {
            Some(judged) => Ok(judged),
            None => Err(ResolveError::rejected(format!(
                "no message of the client waits to be resolved as {id}"
            ))),
        }
    }

    pub(crate) fn send_judged(&mut self, message: &[u8], what: Judged, action: u64) {
        match what {
            Judged::Undecodable { .. } => {}
            Judged::FunctionCall => {
                self.to_server.extend_from_slice(message);
                self.push(Entry::new(
                    Expect::FunctionCall,
                    Subject::Nothing,
                    Some(action),
                    self.segment,
                ));
                self.end_segment();
            }
            Judged::Query => {
                self.to_server.extend_from_slice(message);
                self.push(Entry::new(
                    Expect::Query,
                    Subject::Nothing,
                    Some(action),
                    self.segment,
                ));
                if may_give_names(message) {
                    self.age_names();
                }
                self.is_client_ascii |= may_set_ascii(message);
                // A simple query begins by dropping the unnamed statement and portal.
                self.statements.send_close("");
                self.portals.send_close("");
                self.end_segment();
            }
            Judged::Parse {
                name,
                sql,
                param_oids,
            } => {
                self.to_server.extend_from_slice(message);
                // What was run before it in its pipeline may have changed a setting that Sync, or a savepoint, takes back unseen.
                let is_certain = self.epoch == 0 || self.segment_executes == 0;
                let epoch = if is_certain { self.epoch } else { UNSURE_EPOCH };
                let statement = Statement::new(name, sql, action, epoch, param_oids);
                let statement = Arc::new(statement);
                self.statements
                    .send(&statement.name, Arc::clone(&statement), self.segment, false);
                self.push_extended(Expect::Parse, Subject::Statement(statement), Some(action));
            }
            Judged::Execute { portal } => {
                if self.needs_describe(&portal) {
                    encode::describe_portal(&mut self.to_server, &portal.name);
                    self.portals.mark_described(&portal.name);
                    let subject = Subject::Portal(Arc::clone(&portal));
                    let mut entry =
                        Entry::new(Expect::PortalRows, subject, Some(action), self.segment);
                    entry.is_injected = true;
                    self.push(entry);
                }
                self.to_server.extend_from_slice(message);
                self.segment_executes += 1;
                if portal.statement.may_give_names {
                    self.age_names();
                }
                self.is_client_ascii |= may_set_ascii(portal.statement.sql.as_bytes());
                self.push_extended(Expect::Execute, Subject::Portal(portal), Some(action));
            }
        }
    }

    pub(crate) fn push_extended(&mut self, expect: Expect, subject: Subject, action: Option<u64>) {
        self.is_segment_open = true;
        self.push(Entry::new(expect, subject, action, self.segment));
    }

    fn end_segment(&mut self) {
        self.segment += 1;
        self.is_segment_open = false;
        self.segment_executes = 0;
    }

    pub(crate) fn send_sync(&mut self) {
        self.to_server
            .extend_from_slice(&encode::message(b'S', b""));
        self.push(Entry::new(
            Expect::Sync,
            Subject::Nothing,
            None,
            self.segment,
        ));
        self.end_segment();
    }

    fn refuse_simple(&mut self, error: Vec<u8>) {
        self.push(Entry::new(
            Expect::Local,
            Subject::Refusal(error, Ends::StatementAndPortal),
            None,
            self.segment,
        ));
        self.statements.send_close("");
        self.portals.send_close("");
        if self.segment_executes > 0 {
            self.abort_pipeline();
        }
        self.send_sync();
    }

    fn refuse_extended(&mut self, error: Vec<u8>, ends: Ends, is_client_fault: bool) {
        self.push(Entry::new(
            Expect::Local,
            Subject::Refusal(error, ends),
            None,
            self.segment,
        ));
        if ends == Ends::Statement {
            // A Parse that fails leaves no unnamed statement behind.
            self.statements.send_close("");
        }
        if self.segment_executes > 0 || is_client_fault {
            self.abort_pipeline();
        } else if self.head_expect() != Expect::Nothing {
            // The client is told as soon as what it sent before is answered, which the server may be keeping back.
            self.to_server
                .extend_from_slice(&encode::message(b'H', b""));
        }
        self.is_segment_open = true;
        self.is_discarding = true;
    }

    /// Makes the server fail what it has run of this pipeline.
    ///
    /// A pipeline outside a transaction block is one transaction, and its client, told of an error, takes all of it for undone.
    /// Without this the Sync would commit what ran before the refusal.
    fn abort_pipeline(&mut self) {
        encode::parse(&mut self.to_server, ABORT_NAME, ABORT_SQL);
        let mut entry = Entry::new(Expect::Abort, Subject::Nothing, None, self.segment);
        entry.is_injected = true;
        self.push(entry);
    }

    /// An error the session finds by itself, in a message that means nothing: there is no action to be judged. As with any
    /// error of its client the server's transaction fails.
    pub(crate) fn refuse_locally(&mut self, code: &str, message: &str, hint: &str) {
        self.refuse_extended(
            encode::local_error(code, message, hint),
            Ends::Nothing,
            true,
        );
    }
}
