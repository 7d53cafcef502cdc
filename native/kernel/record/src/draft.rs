//! Records that lack only their place: queued by a session, finished when the log has given them one.
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::json::{push_hex, push_number, push_string};
use crate::seal::{check_size, sha256, SealError, Sealer};
use crate::template::{Slot, Template, Value, Values};

/// Kinds of items in the write-ahead log (`docs/evidence-format.md`, section 7).
const LEAF: u8 = 1;
const CHUNK: u8 = 2;

/// Bytes of an item's length.
const LENGTH_BYTES: usize = 4;

/// What a record takes together with its chunk, mostly.
const USUAL_BYTES: usize = 1_536;

/// A log entry is stored behind a 16-bit length.
const MAX_LEAF_BYTES: usize = 65_535;

/// What the slots of a record can hold beyond the room a template counts for each.
const FILLED_BYTES: usize = 512;

/// What a sealed chunk and its item take beyond the plain text: names and numbers, the tag, zstd's worst case for a small text.
const CHUNK_OVERHEAD_BYTES: usize = 256;

/// RFC 6962, section 2.1: what is hashed before a leaf.
const LEAF_PREFIX: [u8; 1] = [0];

/// Bytes to be sealed as the chunk a record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

/// What became of an action, as its record says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The server's tags, joined.
    pub tag: String,
    /// Rows delivered.
    pub rows: u64,
    /// Bytes delivered.
    pub bytes: u64,
    /// Masked cells by rule.
    pub masked: BTreeMap<String, u64>,
    /// Findings by detector.
    pub detected: BTreeMap<String, u64>,
    /// Masked rows; none where the session keeps no transcript or there were none.
    pub transcript: Option<Blob>,
    /// Whether rows beyond it are not in it.
    pub is_truncated: bool,
}

/// One record without its place.
#[derive(Debug, Clone)]
pub enum Draft {
    /// A decision like one that was recorded before.
    Decision {
        /// The record.
        leaf: Arc<Template>,
        /// Its id.
        decision_id: String,
        /// In the record of a response: the id of the decision about the request.
        request_id: Option<String>,
        /// The keyed digest of the action.
        digest: [u8; 32],
        /// The masked input document.
        input: Blob,
        /// Plain text of the chunk the record names as the base of this one's.
        base: Option<Arc<[u8]>>,
    },
    /// The end of an action.
    Outcome {
        /// Id of the decision that let it through.
        decision_id: String,
        /// How it ended.
        outcome: Outcome,
    },
}

/// Where in the log the records go, and when.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The session.
    pub sid: &'a str,
    /// Index of the first record in the log.
    pub seq: u64,
    /// Its number in the session.
    pub sseq: u64,
    /// Leaf hash of the session's record before it, hexadecimal.
    pub previous: String,
    /// Number of the session's next chunk.
    pub chunk: u64,
    /// Time of the records.
    pub ts: &'a str,
    /// Microseconds since the log was opened.
    pub mono_us: u64,
}

/// Records at their place, ready to be written.
#[derive(Debug, Default)]
pub struct Finished {
    /// Items of the write-ahead log, each chunk before the record that names it.
    pub items: Vec<u8>,
    /// Leaf hashes of the records.
    pub hashes: Vec<[u8; 32]>,
    /// Where in the items each record is.
    leaves: Vec<Range<usize>>,
    /// Where in the items each chunk's ciphertext is, by its number.
    chunks: Vec<(u64, Range<usize>)>,
}

impl Finished {
    /// The records.
    pub fn leaves(&self) -> impl Iterator<Item = &[u8]> {
        self.leaves.iter().map(|place| &self.items[place.clone()])
    }

    /// Ciphertexts by number.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let chunk = |(number, place): &(u64, Range<usize>)| (*number, &self.items[place.clone()]);
        self.chunks.iter().map(chunk)
    }

    /// Leaf hash of the last record, hexadecimal; empty where there is none.
    pub fn last_hash(&self) -> String {
        self.hashes
            .last()
            .map_or_else(String::new, |hash| hex(hash))
    }
}

/// What prepared records will take, before they are made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Records.
    pub records: u64,
    /// Chunks they name.
    pub chunks: u64,
    /// Bytes in the write-ahead log, at most.
    pub bytes: usize,
    /// Decisions that release an action.
    pub opened: Vec<String>,
    /// Decisions whose outcome is among them.
    pub closed: Vec<String>,
}

/// Records of one session in their order.
#[derive(Debug, Default)]
pub struct Drafts {
    drafts: Vec<Draft>,
}

struct Filling<'a> {
    place: &'a Place<'a>,
    decision_id: &'a str,
    request_id: Option<&'a str>,
    digest: &'a str,
    chunk: (u64, &'a str, u64),
}

impl Values for Filling<'_> {
    fn value(&self, slot: Slot) -> Option<Value<'_>> {
        Some(match slot {
            Slot::Seq => Value::Number(self.place.seq),
            Slot::SessionSeq => Value::Number(self.place.sseq),
            Slot::Previous => Value::Plain(&self.place.previous),
            Slot::Time => Value::Plain(self.place.ts),
            Slot::MonoUs => Value::Number(self.place.mono_us),
            Slot::DecisionId => Value::Plain(self.decision_id),
            Slot::RequestId => Value::Plain(self.request_id?),
            Slot::Digest => Value::Plain(self.digest),
            Slot::ChunkNumber => Value::Number(self.chunk.0),
            Slot::ChunkSha256 => Value::Plain(self.chunk.1),
            Slot::ChunkBytes => Value::Number(self.chunk.2),
            _ => return None,
        })
    }
}

impl Drafts {
    /// Adds a record.
    pub fn push(&mut self, draft: Draft) {
        self.drafts.push(draft);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Whether a decision is among them.
    pub fn has_decisions(&self) -> bool {
        let is_decision = |draft: &Draft| matches!(draft, Draft::Decision { .. });
        self.drafts.iter().any(is_decision)
    }

    /// Whether one of them says what was delivered.
    pub fn has_data(&self) -> bool {
        self.drafts.iter().any(|draft| match draft {
            Draft::Decision { .. } => false,
            Draft::Outcome { outcome, .. } => {
                outcome.rows > 0 || outcome.bytes > 0 || outcome.transcript.is_some()
            }
        })
    }

    /// What the records will take. An error where one of them could turn out too large to be kept.
    pub fn measure(&self) -> Result<Measure, SealError> {
        let mut measure = Measure::default();
        for draft in &self.drafts {
            let (leaf, blob) = match draft {
                Draft::Decision {
                    leaf,
                    decision_id,
                    request_id,
                    input,
                    ..
                } => {
                    if request_id.is_none() {
                        measure.opened.push(decision_id.clone());
                    }
                    (leaf.weight() + FILLED_BYTES, Some(input))
                }
                Draft::Outcome {
                    decision_id,
                    outcome,
                } => {
                    measure.closed.push(decision_id.clone());
                    (bound_outcome(outcome), outcome.transcript.as_ref())
                }
            };
            if leaf > MAX_LEAF_BYTES {
                return Err(SealError(format!(
                    "a record of up to {leaf} bytes does not fit a log entry"
                )));
            }
            measure.records += 1;
            measure.bytes += leaf;
            if let Some(Blob(plain)) = blob {
                check_size(plain)?;
                measure.chunks += 1;
                measure.bytes += plain.len() + plain.len() / 128 + CHUNK_OVERHEAD_BYTES;
            }
        }
        Ok(measure)
    }

    /// Gives every record its place, seals the chunks, and lays everything out.
    pub fn finish(&self, mut place: Place<'_>, sealer: &Sealer) -> Result<Finished, SealError> {
        let mut done = Finished::default();
        done.items.reserve(USUAL_BYTES * self.drafts.len());
        for draft in &self.drafts {
            match draft {
                Draft::Decision {
                    leaf,
                    decision_id,
                    request_id,
                    digest,
                    input: Blob(plain),
                    base,
                } => {
                    let chunk = attach(&mut done, &mut place, sealer, plain, base.as_deref())?;
                    let filling = Filling {
                        place: &place,
                        decision_id,
                        request_id: request_id.as_deref(),
                        digest: &hex(digest),
                        chunk: (chunk.0, &chunk.1, chunk.2),
                    };
                    let start = begin_item(&mut done.items, LEAF);
                    leaf.fill_into(&mut done.items, &filling)
                        .ok_or_else(|| SealError("a template has a slot without a value".into()))?;
                    end_leaf(&mut done, &mut place, start)?;
                }
                Draft::Outcome {
                    decision_id,
                    outcome,
                } => {
                    let transcript = match &outcome.transcript {
                        None => None,
                        Some(Blob(plain)) => {
                            Some(attach(&mut done, &mut place, sealer, plain, None)?)
                        }
                    };
                    let start = begin_item(&mut done.items, LEAF);
                    let out = &mut done.items;
                    write_outcome(out, &place, decision_id, outcome, transcript.as_ref());
                    end_leaf(&mut done, &mut place, start)?;
                }
            }
        }
        Ok(done)
    }
}

/// Adds the next chunk; how a record names it: its number, the digest of its ciphertext, the length of its plain text.
fn attach(
    done: &mut Finished,
    place: &mut Place<'_>,
    sealer: &Sealer,
    plain: &[u8],
    base: Option<&[u8]>,
) -> Result<(u64, String, u64), SealError> {
    let number = place.chunk;
    place.chunk += 1;
    let items = &mut done.items;
    let start = begin_item(items, CHUNK);
    let sid = place.sid.as_bytes();
    items.extend_from_slice(&(sid.len() as u16).to_be_bytes());
    items.extend_from_slice(sid);
    items.extend_from_slice(&number.to_be_bytes());
    let sealed = items.len();
    sealer.seal_into(items, number, plain, base)?;
    let digest = hex(&sha256(&items[sealed..]));
    done.chunks.push((number, sealed..items.len()));
    end_item(items, start)?;
    Ok((number, digest, plain.len() as u64))
}

/// Ends the item of a record that was written behind `start`.
fn end_leaf(done: &mut Finished, place: &mut Place<'_>, start: usize) -> Result<(), SealError> {
    let leaf = start..done.items.len();
    if leaf.len() > MAX_LEAF_BYTES {
        return Err(SealError(format!(
            "a record of {} bytes does not fit a log entry",
            leaf.len()
        )));
    }
    end_item(&mut done.items, start)?;
    let hash = leaf_hash(&done.items[leaf.clone()]);
    place.previous = hex(&hash);
    place.seq += 1;
    place.sseq += 1;
    done.leaves.push(leaf);
    done.hashes.push(hash);
    Ok(())
}

/// Begins an item whose length is still open; where its content starts.
fn begin_item(items: &mut Vec<u8>, kind: u8) -> usize {
    items.push(kind);
    items.extend_from_slice(&[0; LENGTH_BYTES]);
    items.len()
}

fn end_item(items: &mut [u8], start: usize) -> Result<(), SealError> {
    let length =
        u32::try_from(items.len() - start).map_err(|_| SealError("an item of 4 GiB".to_owned()))?;
    items[start - LENGTH_BYTES..start].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::new()
        .chain_update(LEAF_PREFIX)
        .chain_update(leaf)
        .finalize()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(2 * bytes.len());
    push_hex(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default() // digits are text
}

/// Bytes of an `outcome` record, at most: a character of a text takes six as an escape.
fn bound_outcome(outcome: &Outcome) -> usize {
    let counts = outcome.masked.keys().chain(outcome.detected.keys());
    let names: usize = counts.map(|name| 6 * name.len() + 24).sum();
    1_024 + 6 * outcome.tag.len() + names
}

/// An `outcome` record, members in the order of their names.
fn write_outcome(
    out: &mut Vec<u8>,
    place: &Place<'_>,
    decision_id: &str,
    outcome: &Outcome,
    transcript: Option<&(u64, String, u64)>,
) {
    out.push(b'{');
    if outcome.bytes > 0 {
        number(out, "bytes", outcome.bytes);
    }
    text(out, "decision_id", decision_id);
    counts(out, "detected", &outcome.detected);
    counts(out, "masked", &outcome.masked);
    number(out, "mono_us", place.mono_us);
    if outcome.rows > 0 {
        number(out, "rows", outcome.rows);
    }
    number(out, "seq", place.seq);
    text(out, "sid", place.sid);
    text(out, "sprev", &place.previous);
    number(out, "sseq", place.sseq);
    text(out, "status", "completed");
    if !outcome.tag.is_empty() {
        text(out, "tag", &outcome.tag);
    }
    if let Some((n, sha256, bytes)) = transcript {
        name(out, "transcript");
        out.push(b'{');
        number(out, "bytes", *bytes);
        number(out, "n", *n);
        text(out, "sha256", sha256);
        end(out);
        name(out, "transcript_truncated");
        let flag: &[u8] = if outcome.is_truncated {
            b"true,"
        } else {
            b"false,"
        };
        out.extend_from_slice(flag);
    }
    text(out, "ts", place.ts);
    text(out, "type", "outcome");
    number(out, "v", 1);
    end(out);
    out.pop();
}

/// Closes an object whose last member left a comma.
fn end(out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(b"},");
}

fn name(out: &mut Vec<u8>, name: &str) {
    push_string(out, name);
    out.push(b':');
}

fn number(out: &mut Vec<u8>, member: &str, value: u64) {
    name(out, member);
    push_number(out, value);
    out.push(b',');
}

fn text(out: &mut Vec<u8>, member: &str, value: &str) {
    name(out, member);
    push_string(out, value);
    out.push(b',');
}

fn counts(out: &mut Vec<u8>, member: &str, counts: &BTreeMap<String, u64>) {
    if counts.is_empty() {
        return;
    }
    name(out, member);
    out.push(b'{');
    for (key, count) in counts {
        number(out, key, *count);
    }
    end(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_chain_and_name_their_chunks() {
        let slots = vec![
            Slot::DecisionId,
            Slot::ChunkNumber,
            Slot::Seq,
            Slot::Previous,
        ];
        let texts = [
            "{\"decision_id\":",
            ",\"n\":",
            ",\"seq\":",
            ",\"sprev\":",
            "}",
        ];
        let texts = texts
            .iter()
            .map(|text| text.as_bytes().to_vec().into_boxed_slice())
            .collect();
        let template = Arc::new(Template::new(texts, slots).unwrap());
        let mut drafts = Drafts::default();
        drafts.push(Draft::Decision {
            leaf: template,
            decision_id: "d1".into(),
            request_id: None,
            digest: [7; 32],
            input: Blob(b"{}".to_vec()),
            base: None,
        });
        drafts.push(Draft::Outcome {
            decision_id: "d1".into(),
            outcome: Outcome {
                tag: "SELECT 1".into(),
                rows: 1,
                bytes: 12,
                transcript: Some(Blob(b"[1]\n".to_vec())),
                ..Outcome::default()
            },
        });
        let place = Place {
            sid: "s",
            seq: 10,
            sseq: 4,
            previous: "00".into(),
            chunk: 6,
            ts: "t",
            mono_us: 5,
        };
        let sealer = Sealer::new(&[1; 32], "o", "s").unwrap();
        let done = drafts.finish(place, &sealer).unwrap();
        assert_eq!(
            done.leaves().next().unwrap(),
            br#"{"decision_id":"d1","n":6,"seq":10,"sprev":"00"}"#
        );
        let outcome = String::from_utf8(done.leaves().nth(1).unwrap().to_vec()).unwrap();
        let chunks: Vec<_> = done.chunks().collect();
        assert_eq!(
            outcome,
            format!(
                r#"{{"bytes":12,"decision_id":"d1","mono_us":5,"rows":1,"seq":11,"sid":"s","sprev":"{}","sseq":5,"status":"completed","tag":"SELECT 1","transcript":{{"bytes":4,"n":7,"sha256":"{}"}},"transcript_truncated":false,"ts":"t","type":"outcome","v":1}}"#,
                hex(&done.hashes[0]),
                hex(&sha256(chunks[1].1)),
            )
        );
        assert_eq!(chunks.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [6, 7]);
        let measure = drafts.measure().unwrap();
        assert!(measure.bytes >= done.items.len());
        assert_eq!(
            (measure.opened, measure.closed),
            (vec!["d1".to_owned()], vec!["d1".to_owned()])
        );
    }
}
