//! Records that lack only their place: queued by a session, finished when the log has given them one.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::json::{push_hex, push_number, push_string};
use crate::seal::{check_size, sha256, SealError, Sealer};
use crate::template::{Slot, Template, Value, Values};

/// Kinds of items in the write-ahead log (`docs/evidence-format.md`, section 7).
const LEAF: u8 = 1;
const CHUNK: u8 = 2;

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
    /// The records.
    pub leaves: Vec<Vec<u8>>,
    /// Their leaf hashes.
    pub hashes: Vec<[u8; 32]>,
    /// Chunks by number.
    pub chunks: Vec<(u64, Vec<u8>)>,
    /// Decisions that released an action.
    pub opened: Vec<String>,
    /// Decisions whose outcome is among the records.
    pub closed: Vec<String>,
}

impl Finished {
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
        for draft in &self.drafts {
            let leaf = match draft {
                Draft::Decision {
                    leaf,
                    decision_id,
                    request_id,
                    digest,
                    input,
                } => {
                    let (number, sha256) = attach(&mut done, &mut place, sealer, &input.0)?;
                    let digest = hex(digest);
                    if request_id.is_none() {
                        done.opened.push(decision_id.clone());
                    }
                    let filling = Filling {
                        place: &place,
                        decision_id,
                        request_id: request_id.as_deref(),
                        digest: &digest,
                        chunk: (number, &sha256, input.0.len() as u64),
                    };
                    leaf.fill(&filling)
                        .ok_or_else(|| SealError("a template has a slot without a value".into()))?
                }
                Draft::Outcome {
                    decision_id,
                    outcome,
                } => {
                    let transcript = match &outcome.transcript {
                        None => None,
                        Some(Blob(plain)) => {
                            let (number, sha256) = attach(&mut done, &mut place, sealer, plain)?;
                            Some((number, sha256, plain.len() as u64))
                        }
                    };
                    done.closed.push(decision_id.clone());
                    write_outcome(&place, decision_id, outcome, transcript.as_ref())
                }
            };
            add_leaf(&mut done, &mut place, leaf)?;
        }
        Ok(done)
    }
}

fn attach(
    done: &mut Finished,
    place: &mut Place<'_>,
    sealer: &Sealer,
    plain: &[u8],
) -> Result<(u64, String), SealError> {
    let number = place.chunk;
    place.chunk += 1;
    let sealed = sealer.seal(number, plain)?;
    let digest = hex(&sha256(&sealed));
    let sid = place.sid.as_bytes();
    begin_item(&mut done.items, CHUNK, 2 + sid.len() + 8 + sealed.len());
    done.items
        .extend_from_slice(&(sid.len() as u16).to_be_bytes());
    done.items.extend_from_slice(sid);
    done.items.extend_from_slice(&number.to_be_bytes());
    done.items.extend_from_slice(&sealed);
    done.chunks.push((number, sealed));
    Ok((number, digest))
}

fn add_leaf(done: &mut Finished, place: &mut Place<'_>, leaf: Vec<u8>) -> Result<(), SealError> {
    if leaf.len() > MAX_LEAF_BYTES {
        return Err(SealError(format!(
            "a record of {} bytes does not fit a log entry",
            leaf.len()
        )));
    }
    begin_item(&mut done.items, LEAF, leaf.len());
    done.items.extend_from_slice(&leaf);
    let hash = leaf_hash(&leaf);
    place.previous = hex(&hash);
    place.seq += 1;
    place.sseq += 1;
    done.leaves.push(leaf);
    done.hashes.push(hash);
    Ok(())
}

fn begin_item(items: &mut Vec<u8>, kind: u8, length: usize) {
    items.push(kind);
    items.extend_from_slice(&(length as u32).to_be_bytes());
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
    place: &Place<'_>,
    decision_id: &str,
    outcome: &Outcome,
    transcript: Option<&(u64, String, u64)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(640);
    out.push(b'{');
    if outcome.bytes > 0 {
        number(&mut out, "bytes", outcome.bytes);
    }
    text(&mut out, "decision_id", decision_id);
    counts(&mut out, "detected", &outcome.detected);
    counts(&mut out, "masked", &outcome.masked);
    number(&mut out, "mono_us", place.mono_us);
    if outcome.rows > 0 {
        number(&mut out, "rows", outcome.rows);
    }
    number(&mut out, "seq", place.seq);
    text(&mut out, "sid", place.sid);
    text(&mut out, "sprev", &place.previous);
    number(&mut out, "sseq", place.sseq);
    text(&mut out, "status", "completed");
    if !outcome.tag.is_empty() {
        text(&mut out, "tag", &outcome.tag);
    }
    if let Some((n, sha256, bytes)) = transcript {
        name(&mut out, "transcript");
        out.push(b'{');
        number(&mut out, "bytes", *bytes);
        number(&mut out, "n", *n);
        text(&mut out, "sha256", sha256);
        end(&mut out);
        name(&mut out, "transcript_truncated");
        let flag: &[u8] = if outcome.is_truncated {
            b"true,"
        } else {
            b"false,"
        };
        out.extend_from_slice(flag);
    }
    text(&mut out, "ts", place.ts);
    text(&mut out, "type", "outcome");
    number(&mut out, "v", 1);
    end(&mut out);
    out.pop();
    out
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
            done.leaves[0],
            br#"{"decision_id":"d1","n":6,"seq":10,"sprev":"00"}"#
        );
        let outcome = String::from_utf8(done.leaves[1].clone()).unwrap();
        assert_eq!(
            outcome,
            format!(
                r#"{{"bytes":12,"decision_id":"d1","mono_us":5,"rows":1,"seq":11,"sid":"s","sprev":"{}","sseq":5,"status":"completed","tag":"SELECT 1","transcript":{{"bytes":4,"n":7,"sha256":"{}"}},"transcript_truncated":false,"ts":"t","type":"outcome","v":1}}"#,
                hex(&done.hashes[0]),
                hex(&sha256(&done.chunks[1].1)),
            )
        );
        assert_eq!(
            done.chunks.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            [6, 7]
        );
        assert_eq!(
            (done.opened, done.closed),
            (vec!["d1".to_owned()], vec!["d1".to_owned()])
        );
    }
}
