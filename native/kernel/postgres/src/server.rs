//! From the server to the client: replies in their order. See `state` for what may come when.
use std::sync::Arc;

use crate::decode::{self, Named};
use crate::encode;
use crate::event::{ActionStatus, ResultEnd, ServerEvent};
use crate::framing::{Frame, FrameBuffer};
use crate::pending::{Ends, Subject};
use crate::session::Session;
use crate::state::{step, Expect, Step};
use crate::statement::{Cut, Rows};
use crate::Violation;

impl Session {
    /// Looks at the server's messages until a description waits to be judged.
    pub(crate) fn advance_server(&mut self) -> Result<(), Violation> {
        let mut input = std::mem::take(&mut self.server_input);
        let result = self.read_server(&mut input);
        self.server_input = input;
        result?;
        if self.server_input.is_overfull() {
            return Err(Violation::too_large(
                "the server sent on while a result waits, over the limit of one message",
            ));
        }
        Ok(())
    }

    fn read_server(&mut self, input: &mut FrameBuffer) -> Result<(), Violation> {
        while self.judged_server.is_none() {
            let Some(frame) = input.peek()? else {
                return Ok(());
            };
            self.server_message(&frame, input.frame(&frame), input.body(&frame))?;
            input.consume(&frame);
        }
        Ok(())
    }

    fn server_message(
        &mut self,
        frame: &Frame,
        message: &[u8],
        body: &[u8],
    ) -> Result<(), Violation> {
        match frame.kind {
            b'N' => return self.notice(body),
            b'S' => return self.parameter_status(body),
            b'A' => return self.notification(body),
            b'E' => self.errors += 1,
            _ => {}
        }
        let expect = self.head_expect();
        let Some(step) = step(expect, frame.kind) else {
            let kind = char::from(frame.kind);
            return Err(Violation::unexpected(format!(
                "the server sent a message of type {kind:?} while {expect:?} is pending"
            )));
        };
        match step {
            Step::Row => self.row(message, body),
            Step::Done => self.done(message, body),
            Step::Value => self.value(message, body),
            Step::Params => self.params(message, body),
            Step::Describe => self.description(message, body),
            Step::NoData => self.no_data(message, body),
            Step::Suspended => {
                decode::empty(body, "PortalSuspended")?;
                self.complete(message, String::new(), true)
            }
            Step::EmptyQuery => {
                decode::empty(body, "EmptyQueryResponse")?;
                self.complete(message, String::new(), false)
            }
            Step::Complete => self.command_complete(message, body),
            Step::CopyInBegins => self.copy_in_begins(message, body),
            Step::CopyOutBegins => self.copy_out_begins(message, body),
            Step::CopyData => self.copy_data(body),
            Step::CopyEnds => self.copy_ends(message, body),
            Step::Fail => self.fail(body),
            Step::ErrorBeside => self.error_beside(body),
            Step::Ready => self.ready(message, body),
        }
    }

    pub(crate) fn head_expect(&self) -> Expect {
        self.pending
            .head()
            .map_or(Expect::Nothing, |entry| entry.expect)
    }

    pub(crate) fn expect(&mut self, expect: Expect) {
        if let Some(head) = self.pending.head_mut() {
            head.expect = expect;
        }
    }

    /// To the client, unless it was told an error instead or did not ask.
    pub(crate) fn say(&mut self, message: &[u8]) {
        let is_injected = self.pending.head().is_some_and(|entry| entry.is_injected);
        if !self.is_withholding && !is_injected {
            self.to_client.extend_from_slice(message);
        }
    }

    /// Says refusals that have become the head.
    pub(crate) fn say_refusals(&mut self) {
        while self.head_expect() == Expect::Local {
            if let Some(entry) = self.pending.pop() {
                if let Subject::Refusal(error, ends) = entry.subject {
                    if !self.is_withholding {
                        self.to_client.extend_from_slice(&error);
                    }
                    if ends != Ends::Nothing {
                        self.statements.confirm_close("");
                    }
                    if ends == Ends::StatementAndPortal {
                        self.portals.confirm_close("");
                    }
                }
            }
        }
    }

    /// The head has its complete answer.
    pub(crate) fn pop(&mut self) {
        self.pending.pop();
        self.surplus_ready = 0;
        self.say_refusals();
    }

    /// ParseComplete, BindComplete, CloseComplete.
    fn done(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        decode::empty(body, "a completion")?;
        match self.pending.head().map(|entry| &entry.subject) {
            Some(Subject::Statement(statement)) => self
                .statements
                .confirm(&statement.name, Arc::clone(statement)),
            Some(Subject::Portal(portal)) => self.portals.confirm(&portal.name, Arc::clone(portal)),
            Some(Subject::Closed(Named::Statement, name)) => self.statements.confirm_close(name),
            Some(Subject::Closed(Named::Portal, name)) => self.portals.confirm_close(name),
            _ => {}
        }
        self.say(message);
        self.end_action(ActionStatus::Completed);
        self.pop();
        Ok(())
    }

    /// FunctionCallResponse: delivered as it is, since nothing describes what it holds.
    fn value(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        decode::function_value(body)?;
        let (action, is_withheld) = (
            self.pending.head().and_then(|entry| entry.action),
            self.is_withholding,
        );
        self.say(message);
        self.tell(ServerEvent::ResultEnd(Box::new(ResultEnd {
            action,
            bytes: if is_withheld { 0 } else { message.len() as u64 },
            ..ResultEnd::default()
        })));
        self.expect(Expect::FunctionCalled);
        Ok(())
    }

    /// Says how the head's action ended, if the head is one.
    fn end_action(&mut self, status: ActionStatus) {
        if let Some(action) = self.pending.head().and_then(|entry| entry.own_action()) {
            self.tell(ServerEvent::ActionEnd { action, status });
        }
    }

    pub(crate) fn params(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        let oids = decode::parameter_description(body)?;
        if let Some(Subject::Statement(statement)) = self.pending.head().map(|entry| &entry.subject)
        {
            statement.set_param_oids(oids);
        }
        self.say(message);
        self.expect(Expect::StatementRows);
        Ok(())
    }

    fn no_data(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        decode::empty(body, "NoData")?;
        if let Some(Subject::Portal(portal)) = self.pending.head().map(|entry| &entry.subject) {
            portal.set_rows(Rows::None);
        }
        self.say(message);
        self.pop();
        Ok(())
    }

    fn command_complete(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        let tag =
            String::from_utf8_lossy(decode::only_string(body, "CommandComplete")?).into_owned();
        if self.result.is_none() && self.head_expect() == Expect::Execute {
            self.open_portal()?;
        }
        self.names_after(&tag);
        self.complete(message, tag, false)
    }

    /// A statement of a simple query, or an Execute, has come to its end.
    fn complete(
        &mut self,
        message: &[u8],
        tag: String,
        is_suspended: bool,
    ) -> Result<(), Violation> {
        if self.result.is_none() && is_suspended {
            self.open_portal()?;
        }
        let cut = self.cut().filter(|_| !self.is_withholding);
        self.close_result();
        self.doubtful_syncs = 0;
        let is_withheld = self.is_withholding;
        let Some(head) = self.pending.head_mut() else {
            return Ok(());
        };
        let (action, index, is_query) = (head.action, head.index, head.base == Expect::Query);
        head.index += 1;
        if is_query {
            head.expect = Expect::Query;
        }
        let shown = cut.map(|(cut, rows, in_all)| shown_cut(&cut, &tag, rows, in_all));
        self.tell(ServerEvent::CommandComplete {
            action,
            index,
            tag,
            is_suspended,
            is_withheld,
        });
        match shown {
            None => self.say(message),
            Some((notice, complete)) => {
                self.say(&notice);
                self.say(complete.as_deref().unwrap_or(message));
            }
        }
        if !is_query {
            self.end_action(if is_suspended {
                ActionStatus::Suspended
            } else {
                ActionStatus::Completed
            });
            self.pop();
        }
        Ok(())
    }

    /// What a command did to names. Where SQL may have put something else under a name of a Parse or Bind, that name is
    /// void: results that still come of it are violations, because they were judged as something else.
    fn names_after(&mut self, tag: &str) {
        match tag {
            "COMMIT" | "ROLLBACK" | "PREPARE TRANSACTION" | "CLOSE CURSOR" | "CLOSE CURSOR ALL" => {
                self.portals.void_confirmed()
            }
            // Some commands end the transaction, and its portals, without saying so: CREATE INDEX CONCURRENTLY.
            "DECLARE CURSOR" => self.portals.void_named(),
            "DISCARD ALL" => {
                self.portals.void_confirmed();
                self.statements.void_confirmed();
            }
            "DEALLOCATE ALL" => self.statements.void_confirmed(),
            "DEALLOCATE" => self.has_deallocated = true,
            "PREPARE" if self.has_deallocated => self.statements.void_confirmed(),
            _ => {}
        }
    }

    /// An error ends what the head stands for (rule 4 of `state`).
    pub(crate) fn fail(&mut self, body: &[u8]) -> Result<(), Violation> {
        if self.head_expect() == Expect::Abort {
            decode::fields(body)?;
            self.fail_pipeline(None);
            return Ok(());
        }
        self.close_result();
        let was_copy_in = matches!(self.head_expect(), Expect::CopyIn | Expect::CopyInDone);
        self.copy_in = None;
        self.error(body)?;
        let Some(head) = self.pending.head() else {
            return Ok(());
        };
        if matches!(head.base, Expect::Query | Expect::FunctionCall) {
            self.expect(Expect::QueryFailed);
        } else {
            match (&head.base, &head.subject) {
                // An unnamed statement or portal is dropped before its replacement is made.
                (Expect::Parse, Subject::Statement(statement)) if statement.name.is_empty() => {
                    self.statements.confirm_close("")
                }
                (Expect::Bind, Subject::Portal(portal)) if portal.name.is_empty() => {
                    self.portals.confirm_close("")
                }
                _ => {}
            }
            let injected_for = head.action.filter(|_| head.is_injected);
            self.end_action(ActionStatus::Failed);
            self.fail_pipeline(injected_for);
        }
        if was_copy_in {
            self.surplus_ready = std::mem::take(&mut self.doubtful_syncs);
        }
        Ok(())
    }

    /// The server drops everything up to the next Sync. `failed` is the action whose injected description failed.
    fn fail_pipeline(&mut self, failed: Option<u64>) {
        self.pending.pop();
        let (dropped, has_sync) = self.pending.take_to_sync();
        if !has_sync {
            self.is_discarding = true;
        }
        for action in dropped.iter().filter_map(|entry| entry.own_action()) {
            let status = if failed == Some(action) {
                ActionStatus::Failed
            } else {
                ActionStatus::Skipped
            };
            self.tell(ServerEvent::ActionEnd { action, status });
        }
        self.rewind_names();
    }

    fn error_beside(&mut self, body: &[u8]) -> Result<(), Violation> {
        self.error(body)
    }

    fn ready(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        let status = decode::ready(body)?;
        let base = self.pending.head().map(|entry| entry.base);
        if base.is_none() {
            if self.surplus_ready == 0 {
                return Err(Violation::unexpected(
                    "a ReadyForQuery that nothing asked for",
                ));
            }
            self.surplus_ready -= 1;
            self.is_discarding = false;
        } else {
            self.settled += 1;
        }
        if base == Some(Expect::Query) {
            self.statements.confirm_close("");
            self.portals.confirm_close("");
        }
        self.status = status;
        if status == b'I' && self.pending.len() == usize::from(base.is_some()) {
            self.bound.clear(); // portals end with their transaction
        }
        self.is_withholding = false;
        self.to_client.extend_from_slice(message);
        let has_failed = self.head_expect() == Expect::QueryFailed;
        self.end_action(if has_failed {
            ActionStatus::Failed
        } else {
            ActionStatus::Completed
        });
        if self.reports_ready {
            self.tell(ServerEvent::Ready { status });
        }
        let surplus = self.surplus_ready;
        self.pop();
        self.surplus_ready = surplus;
        self.is_hiding_texts &= status != b'I' || !self.pending.is_empty();
        if status == b'I' && !self.portals.is_empty() {
            // No portal of these messages outlives its transaction.
            self.portals.confirm_clear();
            self.rewind_portals();
        }
        Ok(())
    }
}

/// What a client is told of a result that was cut: a warning, and a command tag that counts what was delivered. The tag of a change
/// stays the server's: it counts rows changed.
fn shown_cut(cut: &Cut, tag: &str, rows: u64, in_all: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let notice = encode::local_warning(
        "01000",
        &format!("the result was cut after {in_all} rows; there are more"),
        &format!(
            "Rule {}: the result, or the cursor it comes from, has no more to give.",
            cut.rule
        ),
        "Ask for fewer rows, for example with a narrower condition.",
    );
    let word = match tag.split(' ').next() {
        Some("") => cut.tag.as_deref(),
        Some(word @ ("SELECT" | "FETCH")) => Some(word),
        _ => None,
    };
    let complete = word.map(|word| encode::command_complete(&format!("{word} {rows}")));
    (notice, complete)
}
