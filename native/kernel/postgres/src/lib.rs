//! PostgreSQL wire protocol (version 3.0 and 3.2): framing and session state without I/O.
//!
//! This is the only code of the product that reads or writes PostgreSQL messages. It is fed bytes and gives bytes and events;
//! sockets, clocks and decisions belong to its host. Read `state` for the rules of the conversation, then `session`.
#![forbid(unsafe_code)]

mod client;
mod copy_in;
mod counters;
mod decode;
mod delivery;
pub mod encode;
mod event;
mod filling;
mod framing;
mod known;
mod lesson;
pub mod masking;
mod names;
mod passed;
mod pending;
mod questions;
mod record;
mod results;
mod server;
mod session;
mod skeleton;
mod startup;
mod state;
mod statement;
mod taken;
mod texts;
mod verdicts;
mod violation;
mod wire;

pub use counters::{Counters, RowCount};
pub use decode::{error_fields, Field, Parameter};
pub use encode::Fields;
pub use event::{
    ActionStatus, BoundParameter, ClientEvent, DescribedBy, ResultEnd, ServerEvent, Withheld,
};
pub use framing::{FrameReader, HEADER_BYTES, READ_AHEAD_BYTES};
pub use known::{Known, KNOWN_LABELS};
pub use lesson::{Event, Gate, Lesson, RowLesson};
pub use passed::{Passed, CLIENT_EVENTS, HOLDING, SERVER_EVENTS, SETTLED};
pub use session::{Limits, ResolveError, Session};
pub use skeleton::skeleton;
pub use startup::{parse_startup, Startup, MAX_STARTUP_BYTES};
pub use statement::{Cut, RowLimit};
pub use taken::Adopted;
pub use violation::{Code, Violation};
