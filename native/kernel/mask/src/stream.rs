//! Masking of a byte stream whose chunks are cut anywhere.
use std::sync::Arc;

use crate::classes::View;
use crate::detectors::{Detectors, Finding, Progress};
use crate::text::CONTEXT_BYTES;
use crate::Counts;

/// Masks a stream: the output over all calls is what [`Detectors::mask`] gives for the whole, whatever the chunks.
///
/// What is held back is the rest of the stream from the first position at which a finding may still be beginning. That is less
/// than 520 bytes for most detectors (an e-mail address at its longest), 1 KiB for patterns of the configuration and 8 KiB
/// for a JSON web token. A PEM block, and a token or secret past its length, is not held: its replacement is
/// written at once and bytes are dropped until it ends.
pub struct StreamMasker {
    detectors: Arc<Detectors>,
    buffer: Vec<u8>,
    progress: Progress,
    /// Findings that begin at or after `progress.at`.
    pending: Vec<Finding>,
    /// Everything before this position of the buffer has been written or replaced.
    written: usize,
}

/// The buffer is cut once this much of it is done with, so that small chunks do not each move it.
const TRIM_BYTES: usize = 16 << 10;

impl StreamMasker {
    /// A masker at the start of a stream.
    pub fn new(detectors: Arc<Detectors>) -> StreamMasker {
        let progress = detectors.begin();
        StreamMasker {
            detectors,
            buffer: Vec::new(),
            progress,
            pending: Vec::new(),
            written: 0,
        }
    }

    /// Takes the next bytes and appends to `out` what is settled.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>, counts: &mut Counts) {
        self.buffer.extend_from_slice(bytes);
        self.run(false, out, counts);
        self.trim();
    }

    /// Ends the stream and appends the rest; the masker is then at the start of a new stream.
    pub fn finish(&mut self, out: &mut Vec<u8>, counts: &mut Counts) {
        self.run(true, out, counts);
        self.buffer.clear();
        self.progress = self.detectors.begin();
        self.pending.clear();
        self.written = 0;
    }

    /// Bytes held back.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len().saturating_sub(self.written)
    }

    fn run(&mut self, is_complete: bool, out: &mut Vec<u8>, counts: &mut Counts) {
        let known = self.pending.len();
        let view = View {
            hay: &self.buffer,
            is_complete,
        };
        self.detectors
            .advance(view, &mut self.progress, &mut self.pending);
        self.detectors.count(&self.pending[known..], counts);
        // The stretch that an earlier call began; its replacement is written.
        self.written = self.written.max(self.progress.carried_to);
        self.pending
            .sort_by_key(|finding| (finding.start, finding.detector));
        let limit = self.progress.at;
        let settled = self
            .pending
            .iter()
            .take_while(|finding| finding.start < limit)
            .count();
        for finding in self.pending.drain(..settled) {
            if finding.start >= self.written {
                out.extend_from_slice(&self.buffer[self.written..finding.start]);
                out.extend_from_slice(self.detectors.token(finding.detector));
            }
            self.written = self.written.max(finding.end);
        }
        if self.written < limit {
            out.extend_from_slice(&self.buffer[self.written..limit]);
            self.written = limit;
        }
    }

    /// Lets go of what is written, except for the bytes a verdict may look back on.
    fn trim(&mut self) {
        let spare = self
            .progress
            .at
            .min(self.written)
            .saturating_sub(CONTEXT_BYTES);
        if spare >= TRIM_BYTES {
            self.buffer.drain(..spare);
            self.progress.drop_front(spare);
            self.written -= spare;
            for finding in &mut self.pending {
                finding.start -= spare;
                finding.end -= spare;
            }
        }
    }
}
