//! Records of evidence made from templates.
//!
//! A record that repeats an earlier one differs from it in a few members: ids, numbers, times, a text. Its template is the earlier
//! record cut at those members; this crate fills them in, seals the chunk the record names, hashes the leaf, and lays both out as the
//! write-ahead log stores them. The formats are those of `docs/evidence-format.md`, sections 3, 4, 6 and 7; the template comes from
//! a record that the slow path made, so that no record is described twice.
#![forbid(unsafe_code)]

mod bell;
mod chain;
mod draft;
mod ids;
mod json;
mod prepared;
mod seal;
mod segment;
mod template;
mod time;
mod writer;

pub use bell::Bell;
pub use chain::{Chain, Clocks, NotAppended, Progress, Tip, Written};
pub use draft::{Blob, Draft, Drafts, Finished, Measure, Outcome, Place};
pub use ids::Ids;
pub use json::{push_hex, push_string};
pub use prepared::{Prepared, Seat};
pub use seal::{commit, sha256, SealError, Sealer};
pub use segment::{AppendError, BatchPlace, SegmentFile, BATCH_HEADER_BYTES};
pub use template::{Slot, Template, Value, Values};
pub use time::push_time;
pub use writer::{Item, Noticed, Pause, Plan, Position, Refused, Source, Totals, Writer};
