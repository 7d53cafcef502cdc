//! COPY FROM STDIN: the one time a client sends data that is not a question.
use sha2::{Digest, Sha256};

use crate::client::Flow;
use crate::decode;
use crate::encode;
use crate::event::{ClientEvent, ServerEvent};
use crate::pending::{Entry, Subject};
use crate::session::Session;
use crate::state::Expect;
use crate::Violation;

const NOT_UTF8: &str = "COPY data that is not UTF-8 was sent as SQL_ASCII";

/// Text that arrives in pieces, checked to be UTF-8.
#[derive(Default)]
pub(crate) struct Utf8 {
    /// The begin of a character whose rest has not arrived.
    begun: Vec<u8>,
}

impl Utf8 {
    /// Whether all of it is UTF-8 so far.
    fn takes(&mut self, piece: &[u8]) -> bool {
        let mut whole = std::mem::take(&mut self.begun);
        let text = if whole.is_empty() {
            piece
        } else {
            whole.extend_from_slice(piece);
            &whole
        };
        match std::str::from_utf8(text) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() => {
                self.begun = text[error.valid_up_to()..].to_vec();
                true
            }
            Err(_) => false,
        }
    }
}

/// COPY FROM STDIN in progress.
pub(crate) struct CopyIn {
    pub action: Option<u64>,
    pub is_text: bool,
    pub bytes: u64,
    pub rows: u64,
    /// Of the data, whatever messages it came in.
    pub digest: Sha256,
    /// Where the client's encoding is SQL_ASCII: the server does not look at such data, and would store what no other client can read.
    pub check: Option<Utf8>,
}

impl Session {
    pub(crate) fn copy_in_begins(&mut self, message: &[u8], body: &[u8]) -> Result<(), Violation> {
        let (format, columns) = decode::copy_response(body)?;
        if self.pending.has_more_than_syncs() {
            return Err(Violation::unexpected(
                "messages other than COPY data were sent after a COPY FROM STDIN",
            ));
        }
        let syncs = self.pending.take_syncs();
        self.settled += syncs as u64;
        self.say(message);
        let Some(head) = self.pending.head_mut() else {
            return Ok(());
        };
        let (action, index) = (head.action, head.index);
        if self.is_withholding {
            // The client was told an error and will send nothing: the gateway ends the COPY in its place.
            head.expect = Expect::CopyInDone;
            self.to_server.extend_from_slice(&encode::message(
                b'f',
                b"an earlier result of the same query was withheld\0",
            ));
            if syncs > 0 {
                // The client's Sync was ignored; it gets its answer from this one.
                self.to_server
                    .extend_from_slice(&encode::message(b'S', b""));
                self.settled -= 1;
                let segment = self.segment - 1;
                self.push(Entry::new(Expect::Sync, Subject::Nothing, None, segment));
            }
            return Ok(());
        }
        head.expect = Expect::CopyIn;
        self.doubtful_syncs = syncs;
        self.copy_in = Some(CopyIn {
            action,
            is_text: format == 0,
            bytes: 0,
            rows: 0,
            digest: Sha256::new(),
            check: (self.is_client_ascii && format == 0).then(Utf8::default),
        });
        self.tell(ServerEvent::CopyIn {
            action,
            index,
            format,
            columns,
        });
        Ok(())
    }

    pub(crate) fn copy_in_message(
        &mut self,
        kind: u8,
        message: &[u8],
        body: &[u8],
    ) -> Result<Flow, Violation> {
        let Some(copy) = &mut self.copy_in else {
            return Ok(Flow::Next);
        };
        match kind {
            b'd' => {
                copy.bytes += body.len() as u64;
                copy.digest.update(body);
                if copy.check.as_mut().is_some_and(|check| !check.takes(body)) {
                    return Err(Violation::unexpected(NOT_UTF8));
                }
                if copy.is_text {
                    copy.rows += body.iter().filter(|byte| **byte == b'\n').count() as u64;
                }
                self.to_server.extend_from_slice(message);
                Ok(Flow::Next)
            }
            b'c' | b'f' => {
                if kind == b'c' {
                    decode::empty(body, "CopyDone")?;
                    if copy
                        .check
                        .as_ref()
                        .is_some_and(|check| !check.begun.is_empty())
                    {
                        return Err(Violation::unexpected(NOT_UTF8));
                    }
                } else {
                    decode::only_string(body, "CopyFail")?;
                }
                let (action, bytes) = (copy.action, copy.bytes);
                let rows = copy.is_text.then_some(copy.rows);
                let digest = std::mem::take(&mut copy.digest);
                self.client_events.push_back(ClientEvent::CopyInEnd {
                    action,
                    ok: kind == b'c',
                    bytes,
                    rows,
                    sha256: digest.finalize().into(),
                });
                self.copy_in = None;
                if let Some(head) = self.pending.head_mut() {
                    head.expect = Expect::CopyInDone;
                }
                self.to_server.extend_from_slice(message);
                Ok(Flow::Next)
            }
            // The server ignores both while it reads COPY data.
            b'S' | b'H' => Ok(Flow::Next),
            _ => Err(Violation::unexpected(
                "a client may send only COPY data while the server reads it",
            )),
        }
    }
}
