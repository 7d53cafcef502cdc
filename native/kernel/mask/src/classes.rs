//! The built-in detectors: for each class a shape for the gate, and a verdict on one start position.
//!
//! A verdict looks at most [`CONTEXT_BYTES`](crate::text::CONTEXT_BYTES) back and a bounded way ahead. Where the bytes at hand end
//! before it is settled it says so (`NeedMore`), unless they are known to be complete. So a verdict never depends on how the
//! bytes were cut.
use crate::contacts::{email, is_local, phone};
use crate::numbers::{aba_routing, account_number, iban, payment_card, ssn};
use crate::secrets::{aws_key, generic_secret, is_aws_byte, jwt, pem_key, SECRET_SHAPE};
use crate::tail::Tail;

/// What begins at a position.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// Nothing of this class.
    Reject,
    /// The bytes end before it is settled.
    NeedMore,
    /// A finding over `start..end`; `start` may lie after the position, as for the value behind a key word.
    Accept { start: usize, end: usize },
    /// A finding from `start` that goes on from `end` for as long as the tail consumes.
    Open {
        start: usize,
        end: usize,
        tail: Tail,
    },
}

/// The bytes a verdict looks at.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) hay: &'a [u8],
    /// Whether nothing follows `hay`.
    pub(crate) is_complete: bool,
}

impl View<'_> {
    /// Whether a run that stops at `end` might go on in bytes not seen yet.
    pub(crate) fn is_cut(self, end: usize) -> bool {
        end >= self.hay.len() && !self.is_complete
    }

    pub(crate) fn byte(self, at: usize) -> Option<u8> {
        self.hay.get(at).copied()
    }
}

/// One built-in detector.
pub(crate) struct Class {
    pub(crate) name: &'static str,
    /// Pattern that matches at the start of every finding, one byte before it or shortly after it, cheap enough for a first pass.
    pub(crate) shape: &'static str,
    /// Whether a finding never has a letter or digit directly before its start position.
    pub(crate) is_apart: bool,
    /// Which bytes a finding's start position can hold.
    pub(crate) starts: fn(u8) -> bool,
    pub(crate) verdict: fn(View<'_>, usize) -> Verdict,
}

/// A shape with the border before it: the start of the bytes, or a byte that is no letter or digit.
///
/// Numbers and keys begin at a border, so a shape that begins inside a word is none. Without this, hexadecimal text is full of shapes.
macro_rules! apart {
    ($shape:expr) => {
        concat!(r"(?:\A|[^0-9A-Za-z])(?:", $shape, ")")
    };
}

/// In the order in which findings that start together give their name to the token.
pub(crate) const CLASSES: [Class; 11] = [
    Class {
        name: "pem_key",
        shape: "-----BEGIN ",
        is_apart: false,
        starts: |byte| byte == b'-',
        verdict: pem_key,
    },
    Class {
        name: "jwt",
        shape: apart!("eyJ[A-Za-z0-9_-]"),
        is_apart: true,
        starts: |byte| byte == b'e',
        verdict: jwt,
    },
    Class {
        name: "aws_key",
        shape: apart!("A[A-Z]{3}[A-Z0-9]{16}"), // and `find_secret_run`
        is_apart: true,
        starts: is_aws_byte,
        verdict: aws_key,
    },
    Class {
        name: "payment_card",
        shape: apart!("[0-9](?:[ -]?[0-9]){12}"),
        is_apart: true,
        starts: is_digit,
        verdict: payment_card,
    },
    Class {
        name: "iban",
        shape: apart!("(?i:A[DELTZ]|B[AEGHIRY]|C[HRYZ]|D[EJKO]|E[EGS]|F[IKOR]|G[BEILRT]|H[NRU]|I[ELQST]|JO|K[WZ]|L[BCITUVY]|M[CDEKNRTU]|N[ILO]|OM|P[KLST]|QA|R[OSU]|S[ACDEIKMOTV]|T[LNR]|UA|V[AG]|XK|YE)[0-9]{2}[ -]?[A-Za-z0-9]{4}"),
        is_apart: true,
        starts: |byte| byte.is_ascii_alphabetic(),
        verdict: iban,
    },
    Class {
        name: "ssn",
        shape: apart!("[0-9]{3}(?:-[0-9]{2}-| [0-9]{2} |[0-9]{2})[0-9]{4}"),
        is_apart: true,
        starts: is_digit,
        verdict: ssn,
    },
    Class {
        name: "aba_routing",
        shape: apart!("[0-9]{9}"),
        is_apart: true,
        starts: is_digit,
        verdict: aba_routing,
    },
    Class {
        name: "account_number",
        shape: "(?i:account|acct)[^0-9\n]{0,32}[0-9]",
        is_apart: false,
        starts: |byte| byte == b'a' || byte == b'A',
        verdict: account_number,
    },
    Class {
        name: "email",
        shape: "[A-Za-z0-9._%+-]@[A-Za-z0-9]",
        is_apart: true,
        starts: is_local,
        verdict: email,
    },
    Class {
        name: "phone",
        shape: apart!(
            r"\+[1-9][ .()-]{0,2}[0-9]|(?:1[-. ])?\(?[2-9][0-9]{2}\)?[-. ]?[2-9][0-9]{2}[-. ][0-9]{4}"
        ),
        is_apart: true,
        starts: |byte| is_digit(byte) || byte == b'+' || byte == b'(',
        verdict: phone,
    },
    Class {
        name: "generic_secret",
        shape: SECRET_SHAPE,
        is_apart: false,
        starts: |byte| b":psatcbgxPSATCB".contains(&byte),
        verdict: generic_secret,
    },
];

pub(crate) fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}
