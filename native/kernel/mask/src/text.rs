//! Looking around a position: borders, runs and words that give a number its meaning.

/// How far back and ahead a word may stand from the number it explains, in bytes. Streams keep this much behind them.
pub(crate) const CONTEXT_BYTES: usize = 64;

/// Whether no letter or digit stands directly before `at`, and no decimal point of a longer number.
pub(crate) fn starts_number(hay: &[u8], at: usize) -> bool {
    match at.checked_sub(1).map(|before| hay[before]) {
        None => true,
        Some(byte) if byte.is_ascii_alphanumeric() => false,
        Some(b'.') => at < 2 || !hay[at - 2].is_ascii_digit(),
        Some(_) => true,
    }
}

/// Whether a separator and a digit stand directly before `at`: the number began earlier.
pub(crate) fn continues_number(hay: &[u8], at: usize) -> bool {
    at >= 2 && matches!(hay[at - 1], b'-' | b'.') && hay[at - 2].is_ascii_digit()
}

/// The first position at or after `at` whose byte is not accepted.
pub(crate) fn run_end(hay: &[u8], at: usize, accepts: impl Fn(u8) -> bool) -> usize {
    hay[at..]
        .iter()
        .position(|byte| !accepts(*byte))
        .map_or(hay.len(), |length| at + length)
}

/// Whether one of the words (lower case) begins in the bytes before `at`, without a letter directly before it.
pub(crate) fn follows_word(hay: &[u8], at: usize, words: &[&str]) -> bool {
    has_word(hay, at.saturating_sub(CONTEXT_BYTES - 1), at, words)
}

/// Whether one of the words (lower case) lies in `hay[from..to]`, in either case, without a letter directly before it.
pub(crate) fn has_word(hay: &[u8], from: usize, to: usize, words: &[&str]) -> bool {
    let begins = |at: usize| {
        at == 0
            || !hay[at - 1].is_ascii_alphabetic()
            || (hay[at].is_ascii_uppercase() && hay[at - 1].is_ascii_lowercase())
    };
    let found = |at: usize, word: &str| {
        at + word.len() <= to && hay[at..at + word.len()].eq_ignore_ascii_case(word.as_bytes())
    };
    (from..to).any(|at| {
        hay[at].is_ascii_alphabetic() && begins(at) && words.iter().any(|word| found(at, word))
    })
}
