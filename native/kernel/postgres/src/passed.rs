//! What an arrival left behind, taken in one go: all that carrying it on needs, where no event is to be judged.
use sealgate_record::Drafts;

use crate::session::Session;
use crate::Violation;

/// An event of the client waits.
pub const CLIENT_EVENTS: u8 = 1;
/// An event of the server waits.
pub const SERVER_EVENTS: u8 = 2;
/// The client's direction waits for a reply of the server.
pub const HOLDING: u8 = 4;
/// Everything sent to the server is answered.
pub const SETTLED: u8 = 8;

/// Records, and the bytes that may leave once those are where they must be.
#[derive(Debug, Default)]
pub struct Passed {
    /// What of the four constants above holds.
    pub state: u8,
    /// Bytes for the server; none while an event waits.
    pub to_server: Vec<u8>,
    /// Bytes for the client; none while an event waits.
    pub to_client: Vec<u8>,
    /// Records to queue before any byte leaves, and whether one of them lets another effect than reading through.
    pub drafts: Option<(Drafts, bool)>,
}

impl Session {
    /// Takes everything that came of the arrivals so far. While events wait, bytes stay: what is decided about the events comes first.
    pub fn take_passed(&mut self) -> Result<Passed, Violation> {
        let flags = [
            (CLIENT_EVENTS, self.has_client_events()),
            (SERVER_EVENTS, self.has_server_events()),
            (HOLDING, self.is_holding()),
            (SETTLED, self.is_settled()),
        ];
        let state = flags
            .iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(flag, _)| flag)
            .sum();
        let mut passed = Passed {
            state,
            drafts: self.known().and_then(|known| known.take_drafts()),
            ..Passed::default()
        };
        if state & (CLIENT_EVENTS | SERVER_EVENTS) == 0 {
            passed.to_server = self.take_to_server()?;
            passed.to_client = self.take_to_client()?;
        }
        Ok(passed)
    }
}
