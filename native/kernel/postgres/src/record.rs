//! The transcript of one result: the head of its masked rows as JSON lines, then a digest and counts of everything delivered.
use sha2::{Digest, Sha256};

use crate::wire::Cursor;
use crate::Violation;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Lines up to a limit, and a digest of what was delivered.
pub(crate) struct Record {
    lines: Vec<u8>,
    limit: usize,
    is_truncated: bool,
    digest: Sha256,
    /// Bytes of the delivered messages, headers included.
    pub bytes: u64,
}

/// What is left when a result has ended.
pub(crate) struct Closed {
    pub lines: Vec<u8>,
    pub is_truncated: bool,
    pub sha256: [u8; 32],
    pub bytes: u64,
}

impl Record {
    /// A record of at most `limit` bytes of lines.
    pub fn new(limit: usize) -> Record {
        Record {
            lines: Vec::new(),
            limit,
            is_truncated: false,
            digest: Sha256::new(),
            bytes: 0,
        }
    }

    /// Counts a delivered message.
    pub fn delivered(&mut self, message: &[u8]) {
        self.digest.update(message);
        self.bytes += message.len() as u64;
    }

    /// Whether lines are still taken. Once one did not fit, none is: a record has no holes.
    pub fn takes_lines(&self) -> bool {
        !self.is_truncated
    }

    /// Appends a DataRow body as a line: an array with null, text, or `{"hex": …}` for bytes that are not text.
    pub fn row(&mut self, body: &[u8], formats: &[u16]) -> Result<(), Violation> {
        self.line(|lines| {
            let mut body = Cursor::new(body, "DataRow");
            let count = body.count()?;
            lines.push(b'[');
            for index in 0..count {
                if index > 0 {
                    lines.push(b',');
                }
                let is_text = formats.get(index) == Some(&0);
                push_value(lines, body.value()?, is_text);
            }
            lines.push(b']');
            body.end()
        })
    }

    /// Appends delivered COPY data as a line `{"copy": …}`.
    pub fn copy(&mut self, data: &[u8], is_text: bool) {
        let written: Result<(), Violation> = self.line(|lines| {
            lines.extend_from_slice(b"{\"copy\":");
            push_value(lines, Some(data), is_text);
            lines.push(b'}');
            Ok(())
        });
        debug_assert!(
            written.is_ok(),
            "writing COPY data reads nothing that could be malformed"
        );
    }

    fn line(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if self.is_truncated {
            return Ok(());
        }
        let start = self.lines.len();
        write(&mut self.lines)?;
        self.lines.push(b'\n');
        if self.lines.len() > self.limit {
            self.lines.truncate(start);
            self.lines.shrink_to_fit();
            self.is_truncated = true;
        }
        Ok(())
    }

    /// Ends the record.
    pub fn close(self) -> Closed {
        let sha256 = self.digest.finalize().into();
        Closed {
            lines: self.lines,
            is_truncated: self.is_truncated,
            sha256,
            bytes: self.bytes,
        }
    }
}

fn push_value(out: &mut Vec<u8>, value: Option<&[u8]>, is_text: bool) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if is_text => push_json_string(out, text),
            _ => {
                out.extend_from_slice(b"{\"hex\":\"");
                push_hex(out, bytes);
                out.extend_from_slice(b"\"}");
            }
        },
    }
}

/// Appends lower-case hexadecimal digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    );
}

/// Appends a JSON string, escaping only what JSON demands (RFC 8259, section 7).
fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut copied = 0;
    for (index, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[copied..index]);
        copied = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                push_hex(out, &[byte]);
            }
        }
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_stop_at_the_limit() {
        let mut record = Record::new(64);
        let row = [
            &[0, 3][..],
            &[0, 0, 0, 4],
            b"a\"\n\x01",
            &[0xff; 4],
            &[0, 0, 0, 1],
            &[0xff],
        ]
        .concat();
        record.row(&row, &[0, 0, 1]).unwrap();
        record.row(&row, &[0, 0, 1]).unwrap();
        record.row(&[0, 0], &[]).unwrap();
        let closed = record.close();
        let line = "[\"a\\\"\\n\\u0001\",null,{\"hex\":\"ff\"}]\n";
        assert_eq!(String::from_utf8(closed.lines).unwrap(), line);
        assert!(closed.is_truncated);
    }
}
