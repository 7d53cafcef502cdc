//! Detectors and maskers over byte streams and PostgreSQL rows.
//!
//! - [`Detectors`] find sensitive values by shape and check digit; [`StreamMasker`] does so over any cut of a byte stream.
//! - [`RowPlan`] masks DataRow bodies, [`CopyStream`] masks COPY data, both by column and by detector.
//!
//! Nothing here reads a clock, a file or a random source. Errors and counts name rules, detectors and positions, never values.
#![forbid(unsafe_code)]

mod cell;
mod checks;
mod classes;
mod contacts;
mod copy;
mod copy_text;
mod counts;
mod custom;
mod detectors;
mod error;
mod gate;
mod json_path;
mod numbers;
mod parts_binary;
mod parts_text;
mod path;
mod row;
mod secrets;
mod shape;
mod strategy;
mod stream;
mod structure;
mod tail;
mod text;
mod types;

pub use cell::Hint;
pub use checks::{entropy, iban_length, is_aba, is_card_number, is_iban, is_luhn, is_ssn};
pub use copy::{CopyFormat, CopyOptions, CopyPlan, CopyStream, DEFAULT_MAX_ROW_BYTES};
pub use counts::Counts;
pub use custom::{MAX_MATCH_BYTES, MAX_PATTERNS, MAX_PATTERN_BYTES};
pub use detectors::{detector_names, Detectors, Finding};
pub use error::MaskError;
pub use json_path::MAX_JSON_DEPTH;
pub use path::{Step, MAX_STEPS};
pub use row::{Apply, ColumnMask, RowPlan, Target};
pub use shape::{Kind, Shape, MAX_SHAPE_DEPTH};
pub use strategy::{Partial, Strategy, MAX_KEPT_CHARS, REDACTED};
pub use stream::StreamMasker;
pub use types::ColumnDesc;

#[cfg(test)]
mod gate_tests;
#[cfg(test)]
mod row_tests;
