//! Results and their descriptions: judged before a row of them is delivered.
use std::sync::Arc;

use crate::decode::{self, Field};
use crate::delivery::Masker;
use crate::encode::{self, Fields};
use crate::event::{DescribedBy, ServerEvent};
use crate::known::KNOWN_LABELS;
use crate::lesson::RowLesson;
use crate::masking::{Column, CopyMasker, Masking};
use crate::pending::Subject;
use crate::session::{ResolveError, Session};
use crate::state::Expect;
use crate::statement::{Plan, Planned, RowLimit, Rows};
use crate::Violation;

/// A result or description that waits to be judged.
pub(crate) struct JudgedServer {
    pub id: u64,
    message: Vec<u8>,
    what: Judged,
}

pub(crate) enum Judged {
    Rows {
        fields: Vec<Field>,
        formats: Vec<u16>,
    },
    Copy {
        format: u16,
        columns: usize,
    },
}

fn columns(fields: &[Field], formats: &[u16]) -> Vec<Column> {
    let column = |(field, format): (&Field, &u16)| Column {
        name: field.name.clone(),
        type_oid: field.type_oid,
        format: *format,
    };
    fields.iter().zip(formats).map(column).collect()
}

impl Session {
    /// Decides how rows are masked. The description goes to the client and rows follow as they come.
    ///
    /// After `row_limit` rows the rest is withheld, with an error of code 54000 or a notice of code 01000.
    pub fn resolve_rows(
        &mut self,
        id: u64,
        masking: Arc<dyn Masking>,
        row_limit: Option<RowLimit>,
    ) -> Result<(), ResolveError> {
        self.resolve_rows_learning(id, masking, row_limit, None)
    }

    /// As `resolve_rows`; the decision is kept with the lesson of this number for the next such description.
    pub fn resolve_rows_learning(
        &mut self,
        id: u64,
        masking: Arc<dyn Masking>,
        row_limit: Option<RowLimit>,
        lesson: Option<(u64, RowLesson)>,
    ) -> Result<(), ResolveError> {
        let judged = self.take_judged_server(id)?;
        let Judged::Rows { fields, formats } = &judged.what else {
            self.judged_server = Some(judged);
            return Err(ResolveError::rejected(
                "a COPY waits to be resolved, not rows",
            ));
        };
        let masker = match masking.rows(&columns(fields, formats)) {
            Ok(masker) => masker,
            Err(problem) => {
                self.judged_server = Some(judged);
                return Err(ResolveError::Rejected(problem));
            }
        };
        let plan = Plan {
            fields: fields.clone(),
            masking,
            row_limit,
        };
        if let (Some(known), Some((memo, lesson))) = (self.known.as_deref_mut(), lesson) {
            known.learn_rows(memo, lesson, formats.clone(), plan.clone());
        }
        let planned = Planned {
            plan,
            formats: formats.clone(),
            delivered: 0,
            masker: Some(masker),
        };
        self.describe(&judged.message, planned);
        Ok(self.run(Session::advance_both)?)
    }

    /// Decides how COPY data is masked.
    pub fn resolve_copy(
        &mut self,
        id: u64,
        masker: Box<dyn CopyMasker>,
    ) -> Result<(), ResolveError> {
        let judged = self.take_judged_server(id)?;
        let Judged::Copy { format, .. } = judged.what else {
            self.judged_server = Some(judged);
            return Err(ResolveError::rejected(
                "rows wait to be resolved, not a COPY",
            ));
        };
        self.say(&judged.message);
        self.open_result(
            Masker::Copy {
                masker,
                is_text: format == 0,
                messages: 0,
            },
            None,
        );
        self.expect(Expect::CopyOut);
        Ok(self.run(Session::advance_both)?)
    }

    /// Format and number of columns of the COPY that waits to be resolved.
    pub fn waiting_copy(&self, id: u64) -> Option<(u16, usize)> {
        match self
            .judged_server
            .as_ref()
            .filter(|judged| judged.id == id)?
            .what
        {
            Judged::Copy { format, columns } => Some((format, columns)),
            Judged::Rows { .. } => None,
        }
    }

    /// Delivers nothing of what was described, and tells the client an error instead.
    ///
    /// The server has run the statement; its replies are read to their end and kept from the client up to ReadyForQuery.
    pub fn withhold(&mut self, id: u64, fields: &Fields) -> Result<(), ResolveError> {
        let judged = self.take_judged_server(id)?;
        self.withhold_with(&encode::fields_message(b'E', fields));
        match judged.what {
            Judged::Copy { .. } => {
                self.open_withheld();
                self.expect(Expect::CopyOut);
            }
            Judged::Rows { .. } => match self.head_expect() {
                Expect::Query => {
                    self.open_withheld();
                    self.expect(Expect::QueryRows);
                }
                _ => self.described_withheld(),
            },
        }
        Ok(self.run(Session::advance_both)?)
    }

    fn take_judged_server(&mut self, id: u64) -> Result<JudgedServer, ResolveError> {
        self.check()?;
        match self.judged_server.take_if(|judged| judged.id == id) {
            Some(judged) => Ok(judged),
            None => Err(ResolveError::rejected(format!(
                "no result of the server waits to be resolved as {id}"
            ))),
        }
    }

    /// A RowDescription: the plan of the statement is used when it was made for the same fields, otherwise it is judged.
    pub(crate) fn description(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        let (fields, formats) = decode::row_description(body)?;
        let Some(head) = self.pending.head() else {
            return Err(Violation::unexpected(
                "a RowDescription that nothing asked for",
            ));
        };
        if matches!(head.subject, Subject::Cursor) {
            self.say(message);
            self.pop();
            return Ok(());
        }
        let (statement, described_by) = match &head.subject {
            Subject::Statement(statement) => (Some(statement), DescribedBy::Statement),
            Subject::Portal(portal) if head.is_injected => {
                (Some(&portal.statement), DescribedBy::Execute)
            }
            Subject::Portal(portal) => (Some(&portal.statement), DescribedBy::Portal),
            _ => (None, DescribedBy::Query),
        };
        if self.is_withholding {
            if described_by == DescribedBy::Query {
                self.open_withheld();
                self.expect(Expect::QueryRows);
            } else {
                self.described_withheld();
            }
            return Ok(());
        }
        if let Some(plan) = statement.and_then(|statement| statement.plan_for(&fields)) {
            if let Ok(masker) = plan.masking.rows(&columns(&fields, &formats)) {
                self.describe(
                    message,
                    Planned {
                        plan,
                        formats,
                        delivered: 0,
                        masker: Some(masker),
                    },
                );
                return Ok(());
            }
        }
        if let Some(label) = head.action.filter(|label| *label >= KNOWN_LABELS) {
            if self.describe_known(label, message, &fields, &formats) {
                return Ok(());
            }
        }
        let Some(head) = self.pending.head() else {
            return Ok(());
        };
        let statement = match &head.subject {
            Subject::Statement(statement) => Some(statement),
            Subject::Portal(portal) => Some(&portal.statement),
            _ => None,
        };
        let (action, index, statement) = (
            head.action,
            head.index,
            statement.map(|statement| statement.name.clone()),
        );
        let id = self.take_id();
        self.tell(ServerEvent::RowDescription {
            id,
            action,
            statement,
            index,
            described_by,
            fields: fields.clone(),
            formats: formats.clone(),
        });
        self.judged_server = Some(JudgedServer {
            id,
            message: message.to_vec(),
            what: Judged::Rows { fields, formats },
        });
        Ok(())
    }

    /// Uses what was decided before about such a description; false when nothing was, or it cannot be carried out.
    fn describe_known(
        &mut self,
        label: u64,
        message: &[u8],
        fields: &[Field],
        formats: &[u16],
    ) -> bool {
        let Some(known) = self.known.as_deref_mut() else {
            return false;
        };
        let Some(plan) = known.plan_rows(label, fields, formats) else {
            return false;
        };
        let Ok(masker) = plan.masking.rows(&columns(fields, formats)) else {
            return false;
        };
        if !known.record_rows(label, fields, formats) {
            return false;
        }
        let planned = Planned {
            plan,
            formats: formats.to_vec(),
            delivered: 0,
            masker: Some(masker),
        };
        self.describe(message, planned);
        true
    }

    /// Carries out what was decided about a description that is the head's.
    fn describe(&mut self, message: &[u8], planned: Planned) {
        self.say(message);
        match self.pending.head().map(|entry| &entry.subject) {
            Some(Subject::Statement(statement)) => {
                statement.set_plan(Some(planned.plan).filter(Plan::is_kept));
                self.pop();
            }
            Some(Subject::Portal(portal)) => {
                let kept = Some(planned.plan.clone()).filter(Plan::is_kept);
                portal.statement.set_plan(kept);
                portal.set_rows(Rows::Planned(planned));
                self.pop();
            }
            _ => {
                let Planned {
                    plan,
                    formats,
                    masker,
                    ..
                } = planned;
                let masker =
                    masker.map_or(Masker::Withheld, |masker| Masker::Rows { masker, formats });
                self.open_result(masker, plan.row_limit.clone());
                self.expect(Expect::QueryRows);
            }
        }
    }

    /// A description whose rows must not be delivered: without a plan none can be. The next use asks for it again.
    fn described_withheld(&mut self) {
        if let Some(Subject::Portal(portal)) = self.pending.head().map(|entry| &entry.subject) {
            self.portals.unmark_described(&portal.name);
        }
        self.pop();
    }

    pub(crate) fn copy_out_begins(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        let (format, columns) = decode::copy_response(body)?;
        if self.is_withholding {
            self.open_withheld();
            self.expect(Expect::CopyOut);
            return Ok(());
        }
        let Some((action, index)) = self.pending.head().map(|head| (head.action, head.index))
        else {
            return Ok(());
        };
        let id = self.take_id();
        let what = Judged::Copy {
            format,
            columns: columns.len(),
        };
        self.tell(ServerEvent::CopyOut {
            id,
            action,
            index,
            format,
            columns,
        });
        self.judged_server = Some(JudgedServer {
            id,
            message: message.to_vec(),
            what,
        });
        Ok(())
    }

    /// Tells the client an error in place of everything up to ReadyForQuery.
    pub(crate) fn withhold_with(&mut self, error: &[u8]) {
        if !self.is_withholding {
            self.to_client.extend_from_slice(error);
        }
        self.is_withholding = true;
        let is_simple = self
            .pending
            .head()
            .is_some_and(|entry| entry.base == Expect::Query);
        let has_sync = self.pending.iter().any(|entry| entry.base == Expect::Sync);
        if !is_simple && !has_sync {
            // As after an error of the server: what the client sends before its Sync is not read.
            self.is_discarding = true;
        }
    }
}
