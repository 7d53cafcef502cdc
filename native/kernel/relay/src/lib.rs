//! Carries what PostgreSQL sessions have learned between their sockets, on a thread that needs no interpreter.
//!
//! A session whose next messages most likely need no decision is lent: its two sockets, its kernel and its chain of records. From then
//! on this crate reads, has the kernel answer what it knows, queues the records, and lets bytes go behind them, by the same rules as
//! the host (`gateway/serve/postgres/traffic.py`). Whatever is out of the ordinary ends the loan: a message to be judged, a peer that
//! left or does not read, a record that cannot be queued. The host gets the session back with everything that was not carried on.
#![forbid(unsafe_code)]

mod clock;
mod lane;
mod relay;
mod side;

pub use lane::{Left, Loan, Staged, FAILED};
pub use relay::Relay;
pub use side::Line;
