//! What can go wrong: a plan that cannot be built, or bytes that do not follow their format.
use std::fmt;

/// Why a plan could not be built or a row could not be masked.
///
/// The texts name structure only (positions, counts, names out of the configuration), never a byte of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskError {
    /// A detector, pattern, column or strategy that cannot be used as written.
    Spec(String),
    /// A row or stream that does not follow its format. The stream that reported it stays in error.
    Malformed(&'static str),
    /// Well-formed as far as it was read, but larger than the limit that bounds memory.
    TooLarge {
        /// What grew too large.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaskError::Spec(problem) => f.write_str(problem),
            MaskError::Malformed(problem) => write!(f, "malformed: {problem}"),
            MaskError::TooLarge { what, limit } => write!(f, "{what} is larger than {limit} bytes"),
        }
    }
}

impl std::error::Error for MaskError {}
