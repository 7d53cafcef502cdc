//! What a PostgreSQL statement can do, read from PostgreSQL's own grammar.
//!
//! [`analyze`] parses with libpg_query and walks the whole tree. Every kind of node is named in one match (`walk::visit`), so a
//! kind that is new, or that a raw tree should not hold, has the effect `unknown` instead of passing unseen. Bad SQL is a value
//! ([`Analysis::Failed`]), never a panic: input is bounded in bytes, nesting and work before and during the walk.
#![forbid(unsafe_code)]

mod effects;
mod facts;
mod locate;
mod parse;
mod row;
mod walk;

pub use effects::{Effect, EffectSet};
pub use facts::{
    Access, Column, Copy, Function, Name, Output, OutputKind, Said, Statement, Table, Usage,
};
pub use parse::{analyze, Analysis, Limits, MAX_STATEMENTS, MAX_WORK};
pub use row::{find_row_fields, uses_whole_row};
