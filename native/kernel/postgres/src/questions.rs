//! What a client asks, message by message: what is judged, what is forwarded as it is, and what waits.
use std::sync::Arc;

use crate::client::Flow;
use crate::decode::{self, Named};
use crate::event::{BoundParameter, ClientEvent};
use crate::known::Known;
use crate::names::{Names, Slot, AGED};
use crate::pending::Subject;
use crate::session::Session;
use crate::state::Expect;
use crate::statement::{Nameable, Portal};
use crate::taken::Taken;
use crate::verdicts::Judged;
use crate::Violation;

/// Statement texts and parameter values a session keeps, as a multiple of its largest message: enough for one message of the
/// largest size and many of usual ones.
const KEPT_MESSAGES: usize = 4;

impl Session {
    /// Whether no description of this very portal was asked for yet.
    ///
    /// That its statement was described is not enough: the server may run the same text against other relations later.
    pub(crate) fn needs_describe(&self, portal: &Arc<Portal>) -> bool {
        !self
            .portals
            .get(&portal.name)
            .is_some_and(|slot| slot.is_described && Arc::ptr_eq(&slot.item, portal))
    }

    /// Asks whether a message was decided before.
    fn ask(&mut self, take: impl FnOnce(&mut Known) -> Option<Taken>) -> Option<Taken> {
        self.known.as_deref_mut().and_then(take)
    }

    /// Sends on a message that was decided before.
    fn let_through(&mut self, taken: Taken, message: &[u8], what: Judged) -> Flow {
        if taken.hides_texts {
            self.hide_texts(!taken.is_harmless);
        }
        self.send_judged(message, what, taken.label);
        Flow::Next
    }

    pub(crate) fn query_message(&mut self, message: &[u8], body: &[u8]) -> Result<Flow, Violation> {
        if self.is_segment_open && !self.pending.is_empty() {
            return Ok(self.hold_and_flush());
        }
        let Ok(sql) = std::str::from_utf8(decode::only_string(body, "Query")?) else {
            return Ok(self.judge_undecodable(message, true));
        };
        if let Some(taken) = self.ask(|known| known.take_query(sql)) {
            return Ok(self.let_through(taken, message, Judged::Query));
        }
        let id = self.take_id();
        self.client_events.push_back(ClientEvent::Query {
            id,
            sql: sql.to_owned(),
        });
        Ok(self.judge(id, message, Judged::Query))
    }

    fn judge_undecodable(&mut self, message: &[u8], is_simple: bool) -> Flow {
        let id = self.take_id();
        self.client_events
            .push_back(ClientEvent::Undecodable { id });
        self.judge(id, message, Judged::Undecodable { is_simple })
    }

    pub(crate) fn function_call(&mut self, message: &[u8], body: &[u8]) -> Result<Flow, Violation> {
        if self.is_segment_open && !self.pending.is_empty() {
            return Ok(self.hold_and_flush());
        }
        let (oid, params) = decode::function_call(body)?;
        let params = params.into_iter().map(|parameter| BoundParameter {
            parameter,
            type_oid: 0,
        });
        let id = self.take_id();
        self.client_events.push_back(ClientEvent::FunctionCall {
            id,
            oid,
            params: params.collect(),
        });
        Ok(self.judge(id, message, Judged::FunctionCall))
    }

    pub(crate) fn parse_message(&mut self, message: &[u8], body: &[u8]) -> Result<Flow, Violation> {
        let parse = decode::parse(body)?;
        let Ok(sql) = std::str::from_utf8(parse.sql) else {
            return Ok(self.judge_undecodable(message, false));
        };
        let (count, weight) = self.statements.size();
        if count >= self.limits.max_statements && self.statements.get(parse.name).is_none() {
            self.statements.forget_oldest();
        }
        if weight + sql.len() > self.kept_bytes() {
            self.refuse_kept("prepared statements");
            return Ok(Flow::Next);
        }
        // A name is the host's to follow: SQL can use it later.
        let taken = if parse.name.is_empty() {
            self.ask(|known| known.take_statement(parse.name, sql, &parse.param_oids))
        } else {
            None
        };
        let (name, sql, param_oids) = (parse.name.to_owned(), sql.to_owned(), parse.param_oids);
        if let Some(taken) = taken {
            let what = Judged::Parse {
                name,
                sql,
                param_oids,
            };
            return Ok(self.let_through(taken, message, what));
        }
        let id = self.take_id();
        self.client_events.push_back(ClientEvent::Parse {
            id,
            statement: name.clone(),
            sql: sql.clone(),
            param_oids: param_oids.clone(),
        });
        Ok(self.judge(
            id,
            message,
            Judged::Parse {
                name,
                sql,
                param_oids,
            },
        ))
    }

    fn kept_bytes(&self) -> usize {
        self.limits.max_message_bytes.saturating_mul(KEPT_MESSAGES)
    }

    fn refuse_kept(&mut self, what: &str) {
        let message =
            format!("the {what} of this session would take more memory than one session may");
        self.refuse_locally(
            "53400",
            &message,
            "Close the ones that are no longer needed, or open another session.",
        );
    }

    pub(crate) fn bind_message(&mut self, message: &[u8], body: &[u8]) -> Result<Flow, Violation> {
        let bind = decode::bind(body)?;
        let statement = match self.find(&self.statements, bind.statement, false) {
            Found::Known(slot) => Arc::clone(&slot.item),
            Found::Unsettled => return Ok(self.hold_unsettled()),
            Found::Unknown => return Ok(self.refuse_unknown(Named::Statement, bind.statement)),
        };
        self.statements.touch(bind.statement);
        let portal = Arc::new(Portal::new(bind.portal.to_owned(), statement, bind.params));
        let (count, weight) = self.portals.size();
        let is_new = self.portals.get(bind.portal).is_none();
        if (is_new && count >= self.limits.max_portals)
            || weight + portal.weight() > self.kept_bytes()
        {
            self.refuse_kept("portals");
            return Ok(Flow::Next);
        }
        self.note_bound(bind.portal);
        self.to_server.extend_from_slice(message);
        self.portals
            .send(bind.portal, Arc::clone(&portal), self.segment, false);
        self.push_extended(Expect::Bind, Subject::Portal(portal), None);
        Ok(Flow::Next)
    }

    /// What a name means, if it can mean only one thing.
    ///
    /// A portal of an earlier pipeline is certain only when every earlier pipeline has been answered, since any of them may
    /// have ended the transaction it lives in.
    pub(crate) fn find<'a, T: Nameable>(
        &self,
        names: &'a Names<T>,
        name: &str,
        ends_with_transaction: bool,
    ) -> Found<'a, T> {
        match names.get(name) {
            Some(slot) if slot.segment == AGED && self.awaits_names() => Found::Unsettled,
            Some(slot) if slot.segment == self.segment || !self.is_unsettled() => {
                Found::Known(slot)
            }
            Some(slot) if !ends_with_transaction && names.is_confirmed(slot, name) => {
                Found::Known(slot)
            }
            _ if self.is_unsettled() => Found::Unsettled,
            _ => Found::Unknown,
        }
    }

    /// Waits for replies; within a pipeline the server may be keeping them back.
    fn hold_unsettled(&mut self) -> Flow {
        if self.awaits_names() {
            self.hold_and_flush()
        } else {
            Flow::Hold
        }
    }

    /// SQL was sent that may give a name: what names stood for before is certain again once it is answered.
    pub(crate) fn age_names(&mut self) {
        self.statements.age();
        self.portals.age();
        self.is_naming = true;
    }

    fn awaits_names(&self) -> bool {
        self.is_naming && !self.pending.is_empty()
    }

    /// The server is not asked: it may know a statement or cursor of that name made in SQL, which was never judged as what
    /// this message would make of it.
    fn refuse_unknown(&mut self, kind: Named, name: &str) -> Flow {
        let most = self.limits.max_statements;
        let (code, message, hint) = match kind {
            Named::Statement if self.statements.has_forgotten() => (
                "26000",
                format!(
                    "statement {name:?} is not known: this session prepared more than {most}, and the ones not used for \
                     the longest time were forgotten"
                ),
                "Close it and send Parse again. Close statements that are done with, keep the driver's cache smaller, or \
                 have the gateway's operators raise limits.max_statements.",
            ),
            Named::Statement => (
                "26000",
                format!("no statement {name:?} was prepared with a Parse message in this session"),
                "Send Parse before it is used. A statement made with SQL PREPARE is run with SQL EXECUTE.",
            ),
            Named::Portal => (
                "34000",
                format!("no portal {name:?} was made with a Bind message in this transaction"),
                "Send Bind before it is used. A cursor made with SQL DECLARE is read with SQL FETCH.",
            ),
        };
        self.refuse_locally(code, &message, hint);
        Flow::Next
    }

    pub(crate) fn describe_message(
        &mut self,
        message: &[u8],
        body: &[u8],
    ) -> Result<Flow, Violation> {
        let (kind, name) = decode::named(body, "Describe")?;
        let (expect, subject, action) = match kind {
            Named::Statement => match self.find(&self.statements, name, false) {
                Found::Known(slot) => (
                    Expect::StatementParams,
                    Subject::Statement(Arc::clone(&slot.item)),
                    Some(slot.item.action),
                ),
                Found::Unsettled => return Ok(self.hold_unsettled()),
                Found::Unknown => return Ok(self.refuse_unknown(kind, name)),
            },
            Named::Portal => match self.find(&self.portals, name, true) {
                Found::Known(slot) => (
                    Expect::PortalRows,
                    Subject::Portal(Arc::clone(&slot.item)),
                    Some(slot.item.statement.action),
                ),
                Found::Unsettled => return Ok(self.hold_unsettled()),
                // Drivers ask so for the columns of a cursor that DECLARE made. Rows cannot follow: an Execute of a name no
                // Bind made is refused.
                Found::Unknown if !name.is_empty() => (Expect::PortalRows, Subject::Cursor, None),
                Found::Unknown => return Ok(self.refuse_unknown(kind, name)),
            },
        };
        if kind == Named::Portal && action.is_some() {
            self.portals.mark_described(name);
        }
        self.to_server.extend_from_slice(message);
        self.push_extended(expect, subject, action);
        Ok(Flow::Next)
    }

    pub(crate) fn execute_message(
        &mut self,
        message: &[u8],
        body: &[u8],
    ) -> Result<Flow, Violation> {
        let (name, max_rows) = decode::execute(body)?;
        let portal = match self.find(&self.portals, name, true) {
            Found::Known(slot) => Arc::clone(&slot.item),
            Found::Unsettled => return Ok(self.hold_unsettled()),
            Found::Unknown => return Ok(self.refuse_unknown(Named::Portal, name)),
        };
        // What was prepared under other settings stands for other values than what was decided.
        let taken = if portal.statement.epoch == self.epoch {
            self.ask(|known| known.take_portal(&portal))
        } else {
            None
        };
        if let Some(taken) = taken {
            return Ok(self.let_through(taken, message, Judged::Execute { portal }));
        }
        let id = self.take_id();
        self.client_events.push_back(ClientEvent::Execute {
            id,
            portal: name.to_owned(),
            statement: portal.statement.name.clone(),
            sql: portal.statement.sql.clone(),
            params: portal.bound_params(),
            max_rows,
            needs_describe: self.needs_describe(&portal),
            epoch: portal.statement.epoch,
        });
        Ok(self.judge(id, message, Judged::Execute { portal }))
    }

    pub(crate) fn close_message(&mut self, message: &[u8], body: &[u8]) -> Result<Flow, Violation> {
        let (kind, name) = decode::named(body, "Close")?;
        match kind {
            Named::Statement => self.statements.send_close(name),
            Named::Portal => self.portals.send_close(name),
        }
        self.to_server.extend_from_slice(message);
        self.push_extended(Expect::Close, Subject::Closed(kind, name.to_owned()), None);
        Ok(Flow::Next)
    }
}

pub(crate) enum Found<'a, T> {
    Known(&'a Slot<T>),
    /// Replies still to come decide it.
    Unsettled,
    Unknown,
}
