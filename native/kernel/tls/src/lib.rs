//! TLS without sockets: what arrived in, plain bytes out, and the other way round.
//!
//! The host feeds what a socket gave it and sends what the channel has for the peer, so that one channel can be used by an event loop
//! and by the relay's thread in turn. The protocol itself, the checks of certificates and the defaults are those of the system's OpenSSL.
#![forbid(unsafe_code)]

mod channel;
mod context;

pub use channel::Channel;
pub use context::{Checks, ClientContext, ServerContext};

/// Why a context cannot be made or a channel cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In OpenSSL's words, for operators.
    pub reason: String,
}

impl Failure {
    fn new(reason: impl Into<String>) -> Failure {
        let reason = reason.into();
        Failure { reason }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

impl From<openssl::error::ErrorStack> for Failure {
    /// The reasons alone: functions, files and lines of the library help nobody.
    fn from(stack: openssl::error::ErrorStack) -> Failure {
        let reasons: Vec<&str> = stack
            .errors()
            .iter()
            .filter_map(openssl::error::Error::reason)
            .collect();
        Failure::new(if reasons.is_empty() {
            "unknown reason".to_owned()
        } else {
            reasons.join(", ")
        })
    }
}
