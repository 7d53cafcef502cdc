//! A JSON text with places to be filled.
use crate::json::{push_number, push_string};
use crate::time::push_time;

/// What can stand in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Index of the record in the log.
    Seq,
    /// Number of the record in its session.
    SessionSeq,
    /// Leaf hash of the session's record before, hexadecimal.
    Previous,
    /// Time of the record.
    Time,
    /// Microseconds since the log was opened.
    MonoUs,
    /// Id of the decision.
    DecisionId,
    /// Id of the decision about the request, in the record of a response.
    RequestId,
    /// Keyed digest of the action, hexadecimal.
    Digest,
    /// Number of the chunk that holds the input.
    ChunkNumber,
    /// SHA-256 of its ciphertext, hexadecimal.
    ChunkSha256,
    /// Length of its plain text.
    ChunkBytes,
    /// Time of the decision, as text.
    Now,
    /// The same in nanoseconds.
    NowNs,
    /// Actions of the session so far.
    Actions,
    /// Refusals among them.
    Refused,
    /// Rows delivered so far.
    Rows,
    /// Bytes delivered so far.
    Bytes,
    /// The statement's text.
    Text,
    /// Its parameters, as a JSON array.
    Params,
}

const NAMES: [(&str, Slot); 19] = [
    ("seq", Slot::Seq),
    ("sseq", Slot::SessionSeq),
    ("sprev", Slot::Previous),
    ("ts", Slot::Time),
    ("mono_us", Slot::MonoUs),
    ("decision_id", Slot::DecisionId),
    ("request_decision_id", Slot::RequestId),
    ("digest", Slot::Digest),
    ("n", Slot::ChunkNumber),
    ("sha256", Slot::ChunkSha256),
    ("chunk_bytes", Slot::ChunkBytes),
    ("now", Slot::Now),
    ("now_ns", Slot::NowNs),
    ("actions", Slot::Actions),
    ("refused", Slot::Refused),
    ("rows", Slot::Rows),
    ("bytes", Slot::Bytes),
    ("text", Slot::Text),
    ("params", Slot::Params),
];

impl Slot {
    /// The slot of this name.
    pub fn named(name: &str) -> Option<Slot> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, slot)| *slot)
    }
}

/// What fills a slot.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A text that needs no escapes, put in quotation marks.
    Plain(&'a str),
    /// Any text, escaped and put in quotation marks.
    Text(&'a str),
    /// JSON, as it is.
    Json(&'a [u8]),
    /// Nanoseconds since the epoch, as a time in quotation marks.
    Time(u64),
}

/// What fills the slots of one template.
pub trait Values {
    /// The value of a slot; none when this kind of record has none, which is an error.
    fn value(&self, slot: Slot) -> Option<Value<'_>>;
}

/// Text and slots by turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    texts: Vec<Box<[u8]>>,
    slots: Vec<Slot>,
    length: usize,
}

impl Template {
    /// A template of `texts` with one slot between each two of them; none when their numbers do not fit.
    pub fn new(texts: Vec<Box<[u8]>>, slots: Vec<Slot>) -> Option<Template> {
        if texts.len() != slots.len() + 1 {
            return None;
        }
        let length = texts.iter().map(|text| text.len()).sum::<usize>() + 40 * slots.len();
        Some(Template {
            texts,
            slots,
            length,
        })
    }

    /// The filled text; none when a slot has no value.
    pub fn fill(&self, values: &impl Values) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.length);
        self.fill_into(&mut out, values).map(|()| out)
    }

    /// Appends the filled text; none when a slot has no value.
    pub fn fill_into(&self, out: &mut Vec<u8>, values: &impl Values) -> Option<()> {
        for (text, slot) in self.texts.iter().zip(&self.slots) {
            out.extend_from_slice(text);
            match values.value(*slot)? {
                Value::Number(number) => push_number(out, number),
                Value::Plain(text) => {
                    out.push(b'"');
                    out.extend_from_slice(text.as_bytes());
                    out.push(b'"');
                }
                Value::Text(text) => push_string(out, text),
                Value::Json(json) => out.extend_from_slice(json),
                Value::Time(now_ns) => {
                    out.push(b'"');
                    push_time(out, now_ns);
                    out.push(b'"');
                }
            }
        }
        out.extend_from_slice(self.texts.last()?);
        Some(())
    }

    /// Whether it has such a slot.
    pub fn has(&self, slot: Slot) -> bool {
        self.slots.contains(&slot)
    }

    /// Bytes it takes in memory, for bounds.
    pub fn weight(&self) -> usize {
        self.length
    }
}
