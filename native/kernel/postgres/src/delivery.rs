//! Rows and COPY data on their way to the client: masked, counted, recorded, forwarded as they come.
use std::sync::Arc;

use crate::decode;
use crate::encode;
use crate::event::{ResultEnd, ServerEvent, Withheld};
use crate::framing::HEADER_BYTES;
use crate::known::KNOWN_LABELS;
use crate::masking::{CopyMasker, Counts, RowMasker, Target};
use crate::pending::Subject;
use crate::record::Record;
use crate::session::Session;
use crate::state::Expect;
use crate::statement::{Cut, Nameable, Portal, RowLimit, Rows};
use crate::Violation;

/// A result being delivered.
pub(crate) struct OpenResult {
    action: Option<u64>,
    index: u32,
    masker: Masker,
    row_limit: Option<RowLimit>,
    /// Rows the limit has already been spent on, by earlier Executes of the portal.
    rows_before: u64,
    rows: u64,
    rows_withheld: u64,
    withheld: Option<Withheld>,
    record: Record,
    /// The row as it goes into the record, where that differs from what is delivered.
    scratch: Vec<u8>,
}

pub(crate) enum Masker {
    Rows {
        masker: Box<dyn RowMasker>,
        formats: Vec<u16>,
    },
    Copy {
        masker: Box<dyn CopyMasker>,
        is_text: bool,
        messages: u64,
    },
    /// Nothing of it is delivered.
    Withheld,
}

impl Session {
    pub(crate) fn open_result(&mut self, masker: Masker, row_limit: Option<RowLimit>) {
        let Some(head) = self.pending.head() else {
            return;
        };
        let budget = self.limits.record_limit_bytes.saturating_sub(head.recorded);
        self.result = Some(OpenResult {
            action: head.action,
            index: head.index,
            masker,
            row_limit,
            rows_before: 0,
            rows: 0,
            rows_withheld: 0,
            withheld: None,
            record: Record::new(budget),
            scratch: Vec::new(),
        });
    }

    pub(crate) fn open_withheld(&mut self) {
        self.open_result(Masker::Withheld, None);
        if let Some(result) = &mut self.result {
            result.withheld = Some(Withheld::Policy);
        }
    }

    /// Opens the result of an Execute with its first row, or with its end when it has none.
    pub(crate) fn open_portal(&mut self) -> Result<(), Violation> {
        let Some(Subject::Portal(portal)) = self.pending.head().map(|entry| &entry.subject) else {
            return Ok(());
        };
        let portal: Arc<Portal> = Arc::clone(portal);
        if portal.is_void() {
            return Err(Violation::unexpected(
                "a result of a portal whose name SQL has ended or given to something else",
            ));
        }
        if self.is_withholding {
            self.open_withheld();
            return Ok(());
        }
        let opened = portal.with_rows(|rows| match rows {
            Some(Rows::Planned(planned)) => {
                let masker = planned.masker.take().map(|masker| Masker::Rows {
                    masker,
                    formats: planned.formats.clone(),
                });
                masker.map(|masker| (masker, planned.plan.row_limit.clone(), planned.delivered))
            }
            _ => None,
        });
        if let Some((masker, row_limit, rows_before)) = opened {
            self.open_result(masker, row_limit);
            if let Some(result) = &mut self.result {
                result.rows_before = rows_before;
            }
        }
        Ok(())
    }

    pub(crate) fn row(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        if self.result.is_none() {
            self.open_portal()?;
        }
        let is_withholding = self.is_withholding;
        let Some(result) = &mut self.result else {
            return Err(Violation::unexpected("a row that no description announced"));
        };
        if is_withholding {
            result.rows_withheld += 1;
            return Ok(());
        }
        let limit = result.row_limit.as_ref();
        if let Some(limit) = limit.filter(|limit| result.rows_before + result.rows >= limit.rows) {
            if limit.cut.is_some() {
                result.withheld = Some(Withheld::Cut);
                result.rows_withheld += 1;
                return Ok(());
            }
            let (limit, why) = (limit.rows, Arc::clone(&limit.why));
            let message = format!("the result has more than the {limit} rows this statement may return; the rest is withheld");
            return self.excess_row(
                &message,
                &why,
                &format!("Ask for fewer rows, for example with LIMIT {limit}, or for an export with COPY ... TO STDOUT."),
            );
        }
        let is_learned = result.action.is_some_and(|label| label >= KNOWN_LABELS);
        if is_learned
            && self
                .known
                .as_deref()
                .is_some_and(|known| !known.spend_row())
        {
            let message =
                "the rows this session and its run may receive are used up; the rest is withheld";
            return self.excess_row(
                message,
                "",
                "A new run, with a token of its own, has rows of its own; or ask for an exception.",
            );
        }
        let Masker::Rows { masker, formats } = &mut result.masker else {
            return Err(Violation::unexpected("a row in a result that has none"));
        };
        let malformed =
            |problem: String| Violation::malformed(format!("a row cannot be masked: {problem}"));
        let start = if masker.is_identity() {
            let start = self.to_client.len();
            self.to_client.extend_from_slice(message);
            start
        } else {
            let start = encode::begin(&mut self.to_client, b'D');
            masker
                .mask(body, Target::Delivered, &mut self.to_client)
                .map_err(malformed)?;
            encode::finish(&mut self.to_client, start);
            start
        };
        result.rows += 1;
        let delivered = &self.to_client[start..];
        result.record.delivered(delivered);
        if result.record.takes_lines() {
            if masker.record_differs() {
                result.scratch.clear();
                masker
                    .mask(body, Target::Record, &mut result.scratch)
                    .map_err(malformed)?;
                result.record.row(&result.scratch, formats)?;
            } else {
                result.record.row(&delivered[HEADER_BYTES..], formats)?;
            }
        }
        Ok(())
    }

    /// Where the open result was cut: the rule, the tag that stands for it, and how many rows of it were delivered now and in all.
    pub(crate) fn cut(&self) -> Option<(Cut, u64, u64)> {
        let result = self.result.as_ref()?;
        let is_cut = result.withheld == Some(Withheld::Cut);
        let cut = result.row_limit.as_ref()?.cut.clone().filter(|_| is_cut)?;
        Some((cut, result.rows, result.rows_before + result.rows))
    }

    /// The first row beyond the limit.
    fn excess_row(&mut self, message: &str, why: &str, hint: &str) -> Result<(), Violation> {
        self.withhold_with(&encode::detailed_error("54000", message, why, hint));
        if let Some(result) = &mut self.result {
            result.withheld = Some(Withheld::RowLimit);
            result.rows_withheld += 1;
        }
        Ok(())
    }

    pub(crate) fn copy_data(&mut self, body: &[u8]) -> Result<(), Violation> {
        let is_withholding = self.is_withholding;
        let Some(result) = &mut self.result else {
            return Err(Violation::unexpected("COPY data outside a COPY"));
        };
        if is_withholding {
            result.rows_withheld += 1;
            return Ok(());
        }
        let Masker::Copy {
            masker,
            is_text,
            messages,
        } = &mut result.masker
        else {
            return Err(Violation::unexpected("COPY data in a result of rows"));
        };
        *messages += 1;
        let start = encode::begin(&mut self.to_client, b'd');
        result.scratch.clear();
        let malformed = |problem: String| {
            Violation::malformed(format!("COPY data cannot be masked: {problem}"))
        };
        masker
            .feed(body, &mut self.to_client, &mut result.scratch)
            .map_err(malformed)?;
        if self.to_client.len() == start + HEADER_BYTES {
            self.to_client.truncate(start);
            return Ok(());
        }
        encode::finish(&mut self.to_client, start);
        let delivered = &self.to_client[start..];
        result.record.delivered(delivered);
        if result.record.takes_lines() {
            let kept = if masker.record_differs() {
                &result.scratch[..]
            } else {
                &delivered[HEADER_BYTES..]
            };
            result.record.copy(kept, *is_text);
        }
        Ok(())
    }

    pub(crate) fn copy_ends(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        decode::empty(body, "CopyDone")?;
        if let Some(OpenResult {
            masker: Masker::Copy { masker, .. },
            ..
        }) = &mut self.result
        {
            let malformed =
                |problem| Violation::malformed(format!("COPY data cannot be masked: {problem}"));
            masker.finish().map_err(malformed)?;
        }
        self.say(message);
        self.expect(Expect::CopyOutDone);
        Ok(())
    }

    /// The server is lost: ends the result under way with what was delivered of it, and gives every event that was not taken.
    pub fn break_off(&mut self) -> Vec<ServerEvent> {
        self.close_result();
        self.server_events.drain(..).collect()
    }

    pub(crate) fn close_result(&mut self) {
        let Some(mut result) = self.result.take() else {
            return;
        };
        let mut counts = Counts::default();
        match result.masker {
            Masker::Rows { mut masker, .. } => {
                counts = masker.take_counts();
                if let Some(Subject::Portal(portal)) =
                    self.pending.head().map(|entry| &entry.subject)
                {
                    portal.with_rows(|rows| {
                        if let Some(Rows::Planned(planned)) = rows {
                            planned.masker = Some(masker);
                            planned.delivered += result.rows;
                        }
                    });
                }
            }
            Masker::Copy {
                mut masker,
                messages,
                ..
            } => {
                counts = masker.take_counts();
                // PostgreSQL puts each row in a message of its own.
                result.rows = masker.rows().unwrap_or(messages);
            }
            Masker::Withheld => {}
        }
        let closed = result.record.close();
        if let Some(head) = self.pending.head_mut() {
            // Once a line did not fit, none of the action's later results is recorded either.
            let spent = if closed.is_truncated {
                self.limits.record_limit_bytes
            } else {
                closed.lines.len()
            };
            head.recorded += spent;
        }
        self.tell(ServerEvent::ResultEnd(Box::new(ResultEnd {
            action: result.action,
            index: result.index,
            rows: result.rows,
            bytes: closed.bytes,
            rows_withheld: result.rows_withheld,
            withheld: result.withheld,
            cut_by: result
                .row_limit
                .and_then(|limit| limit.cut)
                .filter(|_| result.withheld == Some(Withheld::Cut))
                .map(|cut| cut.rule),
            masked: counts.masked,
            detected: counts.detected,
            record: closed.lines,
            is_record_truncated: closed.is_truncated,
            sha256: closed.sha256,
        })));
    }
}
