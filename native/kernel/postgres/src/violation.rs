//! Why a conversation cannot go on. There is no way back from a violation: what was misread once cannot be trusted again.
use std::fmt;

/// What kind of rule the bytes broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The bytes do not have the form their message type prescribes.
    Malformed,
    /// Well formed as far as it was read, but over a limit that bounds memory.
    TooLarge,
    /// A message that has no place at this point of the conversation, or no place in it at all.
    Unexpected,
}

impl Code {
    /// The stable name callers match on.
    pub const fn name(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::TooLarge => "too_large",
            Code::Unexpected => "unexpected",
        }
    }
}

/// A broken rule, in words that never quote the bytes that broke it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The kind of rule.
    pub code: Code,
    /// What was seen and why it cannot be accepted.
    pub message: String,
}

impl Violation {
    /// Bytes that do not have their form.
    pub fn malformed(message: impl Into<String>) -> Violation {
        Violation {
            code: Code::Malformed,
            message: message.into(),
        }
    }

    /// Something over a limit.
    pub fn too_large(message: impl Into<String>) -> Violation {
        Violation {
            code: Code::TooLarge,
            message: message.into(),
        }
    }

    /// A message out of place.
    pub fn unexpected(message: impl Into<String>) -> Violation {
        Violation {
            code: Code::Unexpected,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Violation {}
