//! From the client to the server.
//!
//! Query, Parse and Execute are judged; the messages between them are forwarded as they are, because they can only refer to
//! what was judged. A message waits, and all after it, while
//!
//!   1. a judged one is not resolved;
//!   2. as many replies are pending as may be;
//!   3. it is a Query inside an open pipeline: whether the server will read or drop it depends on replies still to come;
//!   4. it uses a name that may mean two things (see `names`);
//!   5. it is COPY data and the server has not said yet whether it wants any.
//!
//! Waiting cannot last: where the server may be keeping its replies back (2, 3, 5) it is sent a Flush.
use crate::decode;
use crate::encode;
use crate::event::ClientEvent;
use crate::framing::{Frame, FrameBuffer};
use crate::pending::Entry;
use crate::session::Session;
use crate::verdicts::{Judged, JudgedClient};
use crate::Violation;

/// What to do with the message that was looked at.
pub(crate) enum Flow {
    Next,
    Hold,
}

impl Session {
    /// Looks at the client's messages until one waits.
    pub(crate) fn advance_client(&mut self) -> Result<(), Violation> {
        let mut input = std::mem::take(&mut self.client_input);
        let result = self.read_client(&mut input);
        self.client_input = input;
        result?;
        if self.client_input.is_overfull() {
            return Err(Violation::too_large(
                "the client sent on while its messages wait, over the limit of one message",
            ));
        }
        Ok(())
    }

    fn read_client(&mut self, input: &mut FrameBuffer) -> Result<(), Violation> {
        self.is_holding = false;
        while self.judged_client.is_none() {
            if self.is_terminated {
                input.take_rest();
                return Ok(());
            }
            let Some(frame) = input.peek()? else {
                return Ok(());
            };
            match self.client_message(&frame, input.frame(&frame), input.body(&frame))? {
                Flow::Next => {
                    input.consume(&frame);
                    self.has_flushed = false;
                }
                Flow::Hold => {
                    self.is_holding = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn client_message(
        &mut self,
        frame: &Frame,
        message: &[u8],
        body: &[u8],
    ) -> Result<Flow, Violation> {
        match frame.kind {
            b'X' => {
                decode::empty(body, "Terminate")?;
                self.to_server.extend_from_slice(message);
                self.is_terminated = true;
                self.client_events.push_back(ClientEvent::Terminate);
                Ok(Flow::Next)
            }
            b'Q' | b'F' | b'P' | b'B' | b'D' | b'E' | b'C' | b'S' | b'H' | b'd' | b'c' | b'f' => {
                if self.copy_in.is_some() {
                    self.copy_in_message(frame.kind, message, body)
                } else if self.is_discarding && frame.kind != b'S' {
                    Ok(Flow::Next)
                } else if self.pending.len() >= self.limits.max_pending {
                    Ok(self.hold_and_flush())
                } else {
                    self.question(frame.kind, message, body)
                }
            }
            other => {
                let message = format!(
                    "a client has no message of type {:?} in a session",
                    char::from(other)
                );
                Err(Violation::unexpected(message))
            }
        }
    }

    fn question(&mut self, kind: u8, message: &[u8], body: &[u8]) -> Result<Flow, Violation> {
        match kind {
            b'Q' => self.query_message(message, body),
            b'F' => self.function_call(message, body),
            b'P' => self.parse_message(message, body),
            b'B' => self.bind_message(message, body),
            b'D' => self.describe_message(message, body),
            b'E' => self.execute_message(message, body),
            b'C' => self.close_message(message, body),
            b'S' => {
                decode::empty(body, "Sync")?;
                self.is_discarding = false;
                self.send_sync();
                Ok(Flow::Next)
            }
            b'H' => {
                decode::empty(body, "Flush")?;
                self.to_server.extend_from_slice(message);
                Ok(Flow::Next)
            }
            // COPY data that nobody asked for: the server ignores it, for it may have been on its way when the COPY failed.
            _ if self.pending.iter().any(Entry::may_copy_in) => Ok(self.hold_and_flush()),
            _ => Ok(Flow::Next),
        }
    }

    pub(crate) fn hold_and_flush(&mut self) -> Flow {
        if !self.has_flushed {
            self.to_server
                .extend_from_slice(&encode::message(b'H', b""));
            self.has_flushed = true;
        }
        Flow::Hold
    }

    pub(crate) fn judge(&mut self, id: u64, message: &[u8], what: Judged) -> Flow {
        self.judged_client = Some(JudgedClient {
            id,
            message: message.to_vec(),
            what,
        });
        Flow::Next
    }
}
