//! Where a message ends: one type byte, an Int32 length that counts itself, then the body (protocol documentation, 55.2.1).
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use crate::Violation;

/// Bytes before a body: the type byte and the length field.
pub const HEADER_BYTES: usize = 5;

/// How much may lie in a buffer beyond one message of the largest allowed size.
///
/// A direction that waits for a decision keeps what arrives meanwhile. The host stops reading from the socket; this is the
/// slack for what it had already read: two socket reads of the size event loops use (256 KiB in uvloop) and as much again.
pub const READ_AHEAD_BYTES: usize = 1 << 20;

/// Bytes consumed at the front of a buffer before they are moved away; below this moving costs more than it frees.
const COMPACT_BYTES: usize = 1 << 16;

/// The first complete message of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type byte.
    pub kind: u8,
    /// The whole message inside the buffer, header included.
    pub span: Range<usize>,
}

/// Bytes received and not yet consumed, with the limit on one message.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    max_message_bytes: usize,
    /// How much longer a message may be all the same, and at most.
    slack_bytes: usize,
    max_slack_bytes: usize,
}

impl FrameBuffer {
    /// A buffer for messages of at most `max_message_bytes`, type byte and length field included.
    pub fn new(max_message_bytes: usize) -> FrameBuffer {
        FrameBuffer {
            bytes: Vec::new(),
            start: 0,
            max_message_bytes,
            slack_bytes: 0,
            max_slack_bytes: 0,
        }
    }

    /// Lets messages be longer than the limit says by up to as much again, each by another number that is drawn by lot: whether one is
    /// refused does not tell how long it is.
    pub(crate) fn blur(&mut self) {
        self.max_slack_bytes = self.max_message_bytes;
        self.draw();
    }

    /// The keys of a new `RandomState` are secret, and no two have the same.
    fn draw(&mut self) {
        let drawn = RandomState::new().build_hasher().finish();
        let bound = u64::try_from(self.max_slack_bytes).unwrap_or(u64::MAX);
        self.slack_bytes = usize::try_from(drawn % bound.max(1)).unwrap_or(0);
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Appends what was read from the socket.
    pub fn receive(&mut self, data: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start >= COMPACT_BYTES && self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    /// Whether more is waiting than one message and the read-ahead.
    pub fn is_overfull(&self) -> bool {
        self.len()
            > self
                .max_message_bytes
                .saturating_add(self.slack_bytes)
                .saturating_add(READ_AHEAD_BYTES)
    }

    /// The first complete message, left in place; none while its end is missing.
    ///
    /// A length is checked as soon as its field is there, so that no more than a header is ever held of a message that is
    /// too large.
    pub fn peek(&self) -> Result<Option<Frame>, Violation> {
        let waiting = &self.bytes[self.start..];
        let Some(header) = waiting.get(..HEADER_BYTES) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let length = usize::try_from(length).ok().filter(|length| *length >= 4);
        let Some(length) = length else {
            return Err(Violation::malformed(
                "a message whose length field is smaller than itself",
            ));
        };
        let total = length + 1;
        if total > self.max_message_bytes.saturating_add(self.slack_bytes) {
            let limit = self.max_message_bytes;
            // How long it is would tell how long a value in it is.
            return Err(Violation::too_large(format!(
                "a message is longer than the limit of {limit} bytes"
            )));
        }
        if waiting.len() < total {
            return Ok(None);
        }
        Ok(Some(Frame {
            kind: header[0],
            span: self.start..self.start + total,
        }))
    }

    /// The bytes of a message returned by `peek`.
    pub fn frame(&self, frame: &Frame) -> &[u8] {
        &self.bytes[frame.span.clone()]
    }

    /// The body of a message returned by `peek`.
    pub fn body(&self, frame: &Frame) -> &[u8] {
        &self.bytes[frame.span.start + HEADER_BYTES..frame.span.end]
    }

    /// Drops a message returned by `peek`.
    pub fn consume(&mut self, frame: &Frame) {
        self.start = frame.span.end;
        if frame.span.len() > self.max_message_bytes {
            self.draw();
        }
    }

    /// Everything not consumed.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.bytes.split_off(self.start);
        self.bytes.clear();
        self.start = 0;
        rest
    }
}

/// Messages out of a byte stream, for the login phases; the host hands the rest over to a `Session`.
#[derive(Debug)]
pub struct FrameReader {
    buffer: FrameBuffer,
    failed: Option<Violation>,
}

impl FrameReader {
    /// A reader of messages of at most `max_message_bytes`.
    pub fn new(max_message_bytes: usize) -> FrameReader {
        FrameReader {
            buffer: FrameBuffer::new(max_message_bytes),
            failed: None,
        }
    }

    /// Appends what was read.
    pub fn receive(&mut self, data: &[u8]) -> Result<(), Violation> {
        self.check()?;
        self.buffer.receive(data);
        if self.buffer.is_overfull() {
            return self.fail(Violation::too_large(
                "more bytes wait than one message and the read-ahead",
            ));
        }
        Ok(())
    }

    /// The next message as its type byte and body.
    pub fn next_message(&mut self) -> Result<Option<(u8, Vec<u8>)>, Violation> {
        self.check()?;
        match self.buffer.peek() {
            Err(violation) => self.fail(violation),
            Ok(None) => Ok(None),
            Ok(Some(frame)) => {
                let body = self.buffer.body(&frame).to_vec();
                self.buffer.consume(&frame);
                Ok(Some((frame.kind, body)))
            }
        }
    }

    /// What was received and not yet returned, in order.
    pub fn take_rest(&mut self) -> Result<Vec<u8>, Violation> {
        self.check()?;
        Ok(self.buffer.take_rest())
    }

    fn check(&self) -> Result<(), Violation> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail<T>(&mut self, violation: Violation) -> Result<T, Violation> {
        self.failed = Some(violation.clone());
        Err(violation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_or_not_there() {
        let mut reader = FrameReader::new(64);
        for byte in [b'Z', 0, 0, 0, 5] {
            reader.receive(&[byte]).unwrap();
            assert_eq!(reader.next_message().unwrap(), None);
        }
        reader.receive(b"IZ\0").unwrap();
        assert_eq!(reader.next_message().unwrap(), Some((b'Z', b"I".to_vec())));
        assert_eq!(reader.take_rest().unwrap(), b"Z\0".to_vec());
    }

    #[test]
    fn a_large_length_fails_at_its_header_and_for_good() {
        let mut reader = FrameReader::new(64);
        reader.receive(&[b'D', 0, 0, 0, 64]).unwrap();
        let first = reader.next_message().unwrap_err();
        assert_eq!(first.code, crate::Code::TooLarge);
        assert_eq!(reader.receive(b"").unwrap_err(), first);
        assert_eq!(reader.take_rest().unwrap_err(), first);
    }

    #[test]
    fn a_length_below_four_is_malformed() {
        let mut reader = FrameReader::new(64);
        reader.receive(&[b'D', 0, 0, 0, 3]).unwrap();
        assert_eq!(
            reader.next_message().unwrap_err().code,
            crate::Code::Malformed
        );
        let mut reader = FrameReader::new(64);
        reader.receive(&[b'D', 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert_eq!(
            reader.next_message().unwrap_err().code,
            crate::Code::Malformed
        );
    }
}
