//! The masking strategies of one cell (design section 4): drop, null, redact, tokenize, hash, partial.
//!
//! A value is never made up: a type that cannot carry the replacement becomes null. Numbers and dates are never set to 0 or
//! to a date, because an agent would compute with them.
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::types::Carrier;
use crate::MaskError;

/// What stands in place of a redacted text.
pub const REDACTED: &[u8] = b"[redacted]";

/// The most characters `partial` may keep. More would be the value, not a hint of it.
pub const MAX_KEPT_CHARS: usize = 16;

/// Bytes of the HMAC that a token shows: 128 bits, so that two values do not meet by chance.
const TOKEN_BYTES: usize = 16;

/// Stars in place of the hidden part; always as many, so that the length of the value is not told.
const STARS: &str = "****";

/// What `partial` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// The last n characters.
    KeepLast(usize),
    /// The first n characters.
    KeepFirst(usize),
    /// The first character of the local part and the domain of an e-mail address.
    Email,
}

/// How a value is replaced, from most to least destructive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The column goes. A described result cannot lose a column, so in rows this is null.
    Drop,
    /// SQL null.
    Null,
    /// A fixed text.
    Redact,
    /// A short keyed token: equal values give equal tokens under one key and rule.
    Tokenize,
    /// A full keyed digest: as a token, 64 hexadecimal digits.
    Hash,
    /// A part stays.
    Partial(Partial),
}

impl Strategy {
    /// The strategy called `name`; `keep_last`, `keep_first` and `email` are the parameters of `partial`, exactly one of them.
    pub fn parse(
        name: &str,
        keep_last: Option<i64>,
        keep_first: Option<i64>,
        email: bool,
    ) -> Result<Strategy, MaskError> {
        let has_params = keep_last.is_some() || keep_first.is_some() || email;
        let plain = match name {
            "drop" => Some(Strategy::Drop),
            "null" => Some(Strategy::Null),
            "redact" => Some(Strategy::Redact),
            "tokenize" => Some(Strategy::Tokenize),
            "hash" => Some(Strategy::Hash),
            "partial" => None,
            other => {
                return Err(MaskError::Spec(format!(
                    "unknown masking strategy {other:?}"
                )))
            }
        };
        match plain {
            Some(strategy) if !has_params => Ok(strategy),
            Some(_) => Err(MaskError::Spec(format!(
                "masking strategy {name} takes no parameters"
            ))),
            None => match (keep_last, keep_first, email) {
                (Some(count), None, false) => {
                    Ok(Strategy::Partial(Partial::KeepLast(kept(count)?)))
                }
                (None, Some(count), false) => {
                    Ok(Strategy::Partial(Partial::KeepFirst(kept(count)?)))
                }
                (None, None, true) => Ok(Strategy::Partial(Partial::Email)),
                _ => Err(MaskError::Spec(
                    "partial takes exactly one of keep_last, keep_first, email".into(),
                )),
            },
        }
    }

    /// Place in the order drop > null > redact > tokenize > hash > partial; 0 is the most destructive.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Strategy::Drop => 0,
            Strategy::Null => 1,
            Strategy::Redact => 2,
            Strategy::Tokenize => 3,
            Strategy::Hash => 4,
            Strategy::Partial(_) => 5,
        }
    }

    /// The strategy of a cell on which both meet: the more destructive; two different partials give redact.
    pub fn combine(self, other: Strategy) -> Strategy {
        match (self, other) {
            (Strategy::Partial(one), Strategy::Partial(two)) if one != two => Strategy::Redact,
            (one, two) if one.rank() <= two.rank() => one,
            (_, two) => two,
        }
    }
}

fn kept(count: i64) -> Result<usize, MaskError> {
    usize::try_from(count)
        .ok()
        .filter(|count| (1..=MAX_KEPT_CHARS).contains(count))
        .ok_or_else(|| {
            MaskError::Spec(format!(
                "partial keeps between 1 and {MAX_KEPT_CHARS} characters, not {count}"
            ))
        })
}

/// A strategy made ready for one column: keys derived, fixed replacements written out.
#[derive(Clone)]
pub(crate) enum Replacement {
    Null,
    Fixed(Vec<u8>),
    Keyed {
        mac: Hmac<Sha256>,
        is_token: bool,
        carrier: Carrier,
    },
    Partial(Partial),
}

impl Replacement {
    /// What `strategy` becomes on a column that carries `carrier`, keyed by `key` and bound to `rule`.
    pub(crate) fn new(
        strategy: Strategy,
        carrier: Carrier,
        rule: &Arc<str>,
        key: &[u8; 32],
    ) -> Replacement {
        match (strategy, carrier) {
            (Strategy::Drop | Strategy::Null, _) | (_, Carrier::None) => Replacement::Null,
            (Strategy::Redact, carrier) => {
                let mut fixed = Vec::with_capacity(REDACTED.len() + 3);
                wrap(carrier, REDACTED, &mut fixed);
                Replacement::Fixed(fixed)
            }
            (Strategy::Tokenize, carrier) => Replacement::Keyed {
                mac: keyed(key, b"tokenize", rule),
                is_token: true,
                carrier,
            },
            (Strategy::Hash, carrier) => Replacement::Keyed {
                mac: keyed(key, b"hash", rule),
                is_token: false,
                carrier,
            },
            (Strategy::Partial(partial), Carrier::Text) => Replacement::Partial(partial),
            (Strategy::Partial(_), _) => Replacement::Null,
        }
    }

    /// Appends the replacement of `value` to `out`; false means null, with nothing appended.
    pub(crate) fn write(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Replacement::Null => return false,
            Replacement::Fixed(fixed) => out.extend_from_slice(fixed),
            Replacement::Keyed {
                mac,
                is_token,
                carrier,
            } => {
                let digest = mac
                    .clone()
                    .chain_update(plain_value(*carrier, value))
                    .finalize()
                    .into_bytes();
                let mut text = Vec::with_capacity(64);
                if *is_token {
                    text.extend_from_slice(b"tok_");
                    push_hex(&digest[..TOKEN_BYTES], &mut text);
                } else {
                    push_hex(&digest, &mut text);
                }
                wrap(*carrier, &text, out);
            }
            Replacement::Partial(partial) => write_partial(*partial, value, out),
        }
        true
    }
}

/// The HMAC state after key and domain: strategy and rule, each behind its length, so that no two domains share an input.
fn keyed(key: &[u8; 32], strategy: &[u8], rule: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length, so a key of 32 bytes cannot be refused.
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC accepts every key length");
    for part in [b"sealgate.mask/1".as_slice(), strategy, rule.as_bytes()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

fn plain_value(carrier: Carrier, value: &[u8]) -> &[u8] {
    match carrier {
        Carrier::BinaryJsonb => value.get(1..).unwrap_or_default(),
        _ => value,
    }
}

/// `text` as the carrier writes it. The texts made here hold no character that JSON would escape.
fn wrap(carrier: Carrier, text: &[u8], out: &mut Vec<u8>) {
    match carrier {
        Carrier::Text | Carrier::None => out.extend_from_slice(text),
        Carrier::Json | Carrier::BinaryJsonb => {
            if carrier == Carrier::BinaryJsonb {
                out.push(1);
            }
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        }
    }
}

fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// The kept part and stars. At most half of the value is kept: a shorter value, or one that is not UTF-8, keeps nothing.
fn write_partial(partial: Partial, value: &[u8], out: &mut Vec<u8>) {
    let Ok(text) = std::str::from_utf8(value) else {
        out.extend_from_slice(REDACTED);
        return;
    };
    match partial {
        Partial::KeepLast(count) => {
            out.extend_from_slice(STARS.as_bytes());
            if text.chars().count() >= 2 * count {
                let at = text
                    .char_indices()
                    .rev()
                    .nth(count - 1)
                    .map_or(0, |(at, _)| at);
                out.extend_from_slice(&value[at..]);
            }
        }
        Partial::KeepFirst(count) => {
            if text.chars().count() >= 2 * count {
                let at = text
                    .char_indices()
                    .nth(count)
                    .map_or(value.len(), |(at, _)| at);
                out.extend_from_slice(&value[..at]);
            }
            out.extend_from_slice(STARS.as_bytes());
        }
        Partial::Email => match text.rsplit_once('@') {
            Some((local, domain))
                if local.chars().count() > 1 && !local.contains('@') && is_domain(domain) =>
            {
                out.extend(
                    local
                        .chars()
                        .next()
                        .map(String::from)
                        .unwrap_or_default()
                        .bytes(),
                );
                out.extend_from_slice(STARS.as_bytes());
                out.push(b'@');
                out.extend_from_slice(domain.as_bytes());
            }
            _ => out.extend_from_slice(REDACTED),
        },
    }
}

fn is_domain(text: &str) -> bool {
    text.contains('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
}
