//! Decisions as the host teaches them to a session; `known` uses them.
use std::any::Any;
use std::sync::Arc;

use sealgate_record::Template;

/// What the host gives back with an action that is handed to it.
pub type HostValue = Arc<dyn Any + Send + Sync>;

/// The kinds of message that are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A simple query.
    Query,
    /// A statement is prepared.
    Parse,
    /// A portal is run.
    Execute,
}

/// Times of a call, and what may be let through in it. Closed by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gate {
    /// Nanoseconds since the epoch; 0 keeps the gate closed.
    pub now_ns: u64,
    /// Monotonic nanoseconds, on the clock of the lessons.
    pub mono_ns: u64,
    /// Whether actions with other effects than reading may pass.
    pub may_affect: bool,
}

/// One decision and what was recorded of it.
pub struct Lesson {
    /// The record.
    pub leaf: Template,
    /// The input document as recorded.
    pub input: Template,
    /// The document of the record that the lesson was cut from, whose chunk `leaf` names as the base of every other.
    pub base: Arc<[u8]>,
    /// What the action's digest covers.
    pub material: Template,
    /// Monotonic nanoseconds until which it may be used.
    pub until_mono_ns: u64,
    /// Nanoseconds since the epoch until which it may be used.
    pub until_ns: u64,
    /// Release point b: replies wait for the record, the message itself does not.
    pub is_harmless: bool,
    /// The server's texts must not be shown.
    pub hides_texts: bool,
    /// What the host wants back.
    pub host: HostValue,
}

/// The decision about a described result of a lesson.
pub struct RowLesson {
    /// The record.
    pub leaf: Template,
    /// The input document as recorded.
    pub input: Template,
    /// See `Lesson`.
    pub base: Arc<[u8]>,
    /// See `Lesson`.
    pub until_mono_ns: u64,
    /// See `Lesson`.
    pub until_ns: u64,
}
