//! Patterns of the configuration: bounded regular expressions, run as automata that can say "not settled yet".
use regex_automata::dfa::{dense, Automaton, StartKind};
use regex_automata::util::{primitives::StateID, start, syntax};
use regex_automata::{Anchored, MatchKind};
use regex_syntax::ParserBuilder;

use crate::classes::{Verdict, View};
use crate::MaskError;

/// The most patterns a configuration can hold; each is tried at every position that its first byte fits.
pub const MAX_PATTERNS: usize = 64;
/// The longest pattern text, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// The longest match a pattern may allow, in bytes: what a stream may have to hold back.
pub const MAX_MATCH_BYTES: usize = 1024;
/// The largest automaton of one pattern, in bytes.
const MAX_AUTOMATON_BYTES: usize = 4 << 20;
/// The longest name, in bytes: it is shown in every token.
const MAX_NAME_BYTES: usize = 64;

/// One pattern of the configuration.
pub(crate) struct Custom {
    pub(crate) name: String,
    pub(crate) pattern: String,
    automaton: dense::DFA<Vec<u32>>,
    first_bytes: [bool; 256],
}

/// What is wrong with a pattern, in one line: the library's own text draws the pattern and points below it.
fn explain(error: &regex_syntax::Error, pattern: &str) -> String {
    let (what, at) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => {
            (error.kind().to_string(), error.span().start.offset)
        }
        other => (other.to_string(), 0),
    };
    let before = pattern.get(..at).unwrap_or(pattern).chars().count();
    format!("{what}, at character {}", before + 1)
}

/// ASCII classes, bytes rather than characters: what the detectors look at need not be UTF-8.
pub(crate) fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

impl Custom {
    pub(crate) fn new(name: &str, pattern: &str) -> Result<Custom, MaskError> {
        let refuse =
            |why: String| MaskError::Spec(format!("pattern {name:?} cannot be used: {why}"));
        let is_name = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_name) {
            return Err(refuse(format!(
                "a name has 1 to {MAX_NAME_BYTES} lower-case letters, digits, _ or -"
            )));
        }
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(refuse(format!(
                "it is longer than {MAX_PATTERN_BYTES} bytes"
            )));
        }
        let parsed = ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .nest_limit(64)
            .build()
            .parse(pattern);
        let parsed = parsed.map_err(|error| refuse(explain(&error, pattern)))?;
        match (
            parsed.properties().minimum_len(),
            parsed.properties().maximum_len(),
        ) {
            (Some(0) | None, _) => return Err(refuse("it matches without a character".into())),
            (_, None) => {
                return Err(refuse(
                    "it can match without bound; end every repetition, for example {1,64}".into(),
                ))
            }
            (_, Some(most)) if most > MAX_MATCH_BYTES => {
                return Err(refuse(format!(
                    "it can match {most} bytes, more than {MAX_MATCH_BYTES}"
                )));
            }
            _ => {}
        }
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .match_kind(MatchKind::LeftmostFirst)
            .dfa_size_limit(Some(MAX_AUTOMATON_BYTES))
            .determinize_size_limit(Some(MAX_AUTOMATON_BYTES));
        let automaton = dense::Builder::new()
            .configure(config)
            .syntax(syntax())
            .build(pattern)
            .map_err(|_| {
                refuse(format!(
                    "its automaton is larger than {MAX_AUTOMATON_BYTES} bytes"
                ))
            })?;
        let mut custom = Custom {
            name: name.into(),
            pattern: pattern.into(),
            automaton,
            first_bytes: [false; 256],
        };
        custom.first_bytes = custom.find_first_bytes();
        Ok(custom)
    }

    /// Which bytes do not end the search at once, after any byte before them.
    fn find_first_bytes(&self) -> [bool; 256] {
        let mut first = [false; 256];
        let starts: Vec<StateID> = (0..=255)
            .map(Some)
            .chain([None])
            .filter_map(|before| self.start(before))
            .collect();
        for (byte, is_first) in (0u8..=255).zip(first.iter_mut()) {
            *is_first = starts.iter().any(|state| {
                !self
                    .automaton
                    .is_dead_state(self.automaton.next_state(*state, byte))
            });
        }
        first
    }

    fn start(&self, before: Option<u8>) -> Option<StateID> {
        let config = start::Config::new()
            .anchored(Anchored::Yes)
            .look_behind(before);
        self.automaton.start_state(&config).ok()
    }

    pub(crate) fn can_start(&self, byte: u8) -> bool {
        self.first_bytes[usize::from(byte)]
    }

    pub(crate) fn verdict(&self, view: View<'_>, at: usize) -> Verdict {
        let Some(mut state) = self.start(at.checked_sub(1).map(|before| view.hay[before])) else {
            return Verdict::Reject;
        };
        let mut end = None;
        for (next, byte) in view.hay.iter().enumerate().skip(at) {
            state = self.automaton.next_state(state, *byte);
            // The automaton reports a match one byte late, so it ends before this byte.
            if self.automaton.is_match_state(state) {
                end = Some(next);
            } else if self.automaton.is_dead_state(state) {
                return accept(at, end);
            }
        }
        if !view.is_complete {
            return Verdict::NeedMore;
        }
        state = self.automaton.next_eoi_state(state);
        if self.automaton.is_match_state(state) {
            end = Some(view.hay.len());
        }
        accept(at, end)
    }
}

fn accept(start: usize, end: Option<usize>) -> Verdict {
    end.filter(|end| *end > start)
        .map_or(Verdict::Reject, |end| Verdict::Accept { start, end })
}
