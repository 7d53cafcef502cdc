//! The joined gate over the bytes: where the next shape of any detector is. It only saves time, and hides nothing.
use regex_automata::{meta, Input};

use crate::classes::Class;
use crate::custom::{self, Custom};
use crate::secrets::find_secret_run;
use crate::MaskError;

/// Size limit of the joined search, in bytes.
const MAX_GATE_BYTES: usize = 16 << 20;

/// No detector finds more than this many hexadecimal digits that stand alone: an IBAN of Andorra has as many.
pub(crate) const MAX_HEX_BYTES: usize = 24;

/// Bytes looked at together: enough for a loop without branches, few enough that other text is left soon.
const BLOCK_BYTES: usize = 64;

/// All shapes as one search, and beside it the one that counts the length of runs.
pub(crate) struct Gate {
    shapes: meta::Regex,
    has_aws_key: bool,
    has_customs: bool,
}

impl Gate {
    /// None where nothing is enabled.
    pub(crate) fn new(classes: &[&Class], customs: &[Custom]) -> Result<Option<Gate>, MaskError> {
        let shapes: Vec<&str> = classes
            .iter()
            .map(|class| class.shape)
            .chain(customs.iter().map(|custom| custom.pattern.as_str()))
            .collect();
        if shapes.is_empty() {
            return Ok(None);
        }
        let config = meta::Config::new()
            .nfa_size_limit(Some(MAX_GATE_BYTES))
            .auto_prefilter(false);
        let shapes = meta::Builder::new()
            .configure(config)
            .syntax(custom::syntax())
            .build_many(&shapes)
            .map_err(|_| {
                MaskError::Spec(format!(
                    "the patterns together are larger than {MAX_GATE_BYTES} bytes"
                ))
            })?;
        Ok(Some(Gate {
            shapes,
            has_aws_key: classes.iter().any(|class| class.name == "aws_key"),
            has_customs: !customs.is_empty(),
        }))
    }

    /// Whether there is any shape at all.
    pub(crate) fn is_match(&self, hay: &[u8]) -> bool {
        !self.is_digest(hay)
            && (self.shapes.is_match(hay)
                || (self.has_aws_key && find_secret_run(hay, 0).is_some()))
    }

    /// Whether these bytes, with nothing around them, are a digest or key in hexadecimal: without a separator, a sign or a word no
    /// detector finds anything in that many digits, so the search is spared. What a pattern of the configuration finds is not known.
    pub(crate) fn is_digest(&self, hay: &[u8]) -> bool {
        let is_hex = |block: &[u8]| {
            block
                .iter()
                .fold(true, |all, byte| all & byte.is_ascii_hexdigit())
        };
        !self.has_customs && hay.len() > MAX_HEX_BYTES && hay.chunks(BLOCK_BYTES).all(is_hex)
    }
}

/// What the two parts of the gate saw next; each is asked again only behind what it saw, or texts full of the shapes of one part
/// would be searched to their end by the other again and again.
#[derive(Default)]
pub(crate) struct Ahead {
    shape: Option<usize>,
    run: Option<usize>,
}

impl Ahead {
    /// A position at or after `at` before which no shape begins; none where there is no more shape.
    pub(crate) fn find(&mut self, gate: &Gate, hay: &[u8], at: usize) -> Option<usize> {
        if self.shape.is_none_or(|seen| seen < at) {
            // A shape can hold the border before it.
            let from = at.saturating_sub(1);
            let hit = gate.shapes.find(Input::new(hay).span(from..hay.len()));
            self.shape = Some(hit.map_or(hay.len(), |hit| hit.start().max(at)));
        }
        if self.run.is_none_or(|seen| seen < at) {
            let run = gate.has_aws_key.then(|| find_secret_run(hay, at));
            self.run = Some(run.flatten().unwrap_or(hay.len()));
        }
        self.shape.min(self.run).filter(|seen| *seen < hay.len())
    }
}
