//! Masks that look inside a value: by path in JSON, and part by part in arrays and composites.
//!
//! Arrays and composites are written as in sections 8.15.6 and 8.16.6 of the PostgreSQL manual, in binary as array_send and record_send
//! write them. Whatever does not follow that to the letter, or is not of the shape it was announced with, becomes null as a whole.
use std::sync::Arc;

use crate::json_path::mask_document;
use crate::path::{Active, Cover, Entry, Paths, Step};
use crate::shape::{Kind, Shape};
use crate::strategy::Strategy;
use crate::types::{carrier, Carrier, ColumnDesc};
use crate::{parts_binary, parts_text, Counts};

/// A value that does not follow its type's format; nothing of it may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// What became of a value or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing was written; it stays as it is.
    Unchanged,
    /// The new value was appended.
    Replaced,
    /// Nothing was written; it is null now.
    Null,
}

/// Which entries replaced something in a cell.
#[derive(Debug, Default)]
pub(crate) struct Touched(Vec<usize>);

impl Touched {
    pub(crate) fn note(&mut self, entry: usize) {
        if !self.0.contains(&entry) {
            self.0.push(entry);
        }
    }
}

/// The masks of one column that has an inner structure, or of which only parts are masked.
pub(crate) struct Structure {
    shape: Shape,
    is_binary: bool,
    paths: Paths,
}

/// What is to be masked in a value: what paths still lead into, or all of it.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Paths(&'a Active),
    All(Cover),
}

impl Structure {
    /// Masks as (steps, strategy, rule); there is at least one.
    pub(crate) fn new(
        column: &ColumnDesc,
        shape: Shape,
        masks: Vec<(Vec<Step>, Strategy, Arc<str>)>,
        key: &[u8; 32],
    ) -> Structure {
        let entries = masks
            .into_iter()
            .map(|(steps, strategy, rule)| Entry::new(steps, strategy, &rule, key))
            .collect();
        Structure {
            shape,
            is_binary: column.format != 0,
            paths: Paths::new(entries, key),
        }
    }

    /// Appends the masked cell, and counts the rules that masked something of it once each.
    pub(crate) fn write(&self, cell: &[u8], out: &mut Vec<u8>, counts: &mut Counts) -> Written {
        let mut touched = Touched::default();
        let start = out.len();
        let active = self.paths.start();
        let written = self.part(&self.shape, Wanted::Paths(&active), cell, out, &mut touched);
        let written = written.unwrap_or_else(|Unreadable| {
            touched = Touched(vec![0]);
            Written::Null
        });
        if written != Written::Replaced {
            out.truncate(start);
        }
        if written != Written::Unchanged {
            let mut rules: Vec<&Arc<str>> = Vec::new();
            for rule in touched.0.iter().map(|entry| &self.paths.entry(*entry).rule) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                    counts.add_masked(rule);
                }
            }
        }
        written
    }

    /// Masks a value, or a part of one, that is not null.
    pub(crate) fn part(
        &self,
        shape: &Shape,
        wanted: Wanted<'_>,
        value: &[u8],
        out: &mut Vec<u8>,
        touched: &mut Touched,
    ) -> Result<Written, Unreadable> {
        let wanted = match wanted {
            Wanted::Paths(active) if active.is_empty() => return Ok(Written::Unchanged),
            Wanted::Paths(active) => self.settle(shape, active),
            all @ Wanted::All(_) => all,
        };
        match wanted {
            Wanted::All(cover) => {
                touched.note(cover.counted);
                self.whole(shape, cover, value, out, touched)
            }
            Wanted::Paths(active) => match &shape.kind {
                Kind::Array { .. } | Kind::Composite(_) => {
                    self.walk(shape, wanted, value, out, touched)
                }
                Kind::Scalar(_) | Kind::Text | Kind::Opaque => {
                    self.document(self.carrier(shape), active, value, out, touched)
                }
            },
        }
    }

    /// All of it, where a path ends here.
    fn settle<'a>(&self, shape: &Shape, active: &'a Active) -> Wanted<'a> {
        let cover = match shape.kind {
            Kind::Array { .. } => self.paths.cover(active),
            Kind::Composite(_) => self.paths.cover_object(active),
            Kind::Scalar(_) | Kind::Text if self.carrier(shape) != Carrier::None => {
                self.paths.cover(active)
            }
            // No path leads into a value that carries nothing.
            Kind::Scalar(_) | Kind::Text | Kind::Opaque => self.paths.cover_all(active),
        };
        cover.map_or(Wanted::Paths(active), Wanted::All)
    }

    fn whole(
        &self,
        shape: &Shape,
        cover: Cover,
        value: &[u8],
        out: &mut Vec<u8>,
        touched: &mut Touched,
    ) -> Result<Written, Unreadable> {
        let entry = self.paths.entry(cover.by);
        if matches!(entry.strategy, Strategy::Drop | Strategy::Null) || !self.carries(shape) {
            return Ok(Written::Null);
        }
        match &shape.kind {
            Kind::Array { .. } | Kind::Composite(_) => {
                self.walk(shape, Wanted::All(cover), value, out, touched)
            }
            Kind::Scalar(_) | Kind::Text | Kind::Opaque => {
                if entry.write(self.carrier(shape), value, out) {
                    Ok(Written::Replaced)
                } else {
                    Ok(Written::Null)
                }
            }
        }
    }

    fn walk(
        &self,
        shape: &Shape,
        wanted: Wanted<'_>,
        value: &[u8],
        out: &mut Vec<u8>,
        touched: &mut Touched,
    ) -> Result<Written, Unreadable> {
        let start = out.len();
        let is_changed = match (&shape.kind, self.is_binary) {
            (Kind::Array { element, delimiter }, false) => {
                parts_text::mask_array(self, element, *delimiter, wanted, value, out, touched)
            }
            (Kind::Array { element, .. }, true) => {
                parts_binary::mask_array(self, element, wanted, value, out, touched)
            }
            (Kind::Composite(fields), false) => {
                parts_text::mask_composite(self, fields, wanted, value, out, touched)
            }
            (Kind::Composite(fields), true) => {
                parts_binary::mask_composite(self, fields, wanted, value, out, touched)
            }
            (Kind::Scalar(_) | Kind::Text | Kind::Opaque, _) => Err(Unreadable),
        }?;
        if is_changed {
            return Ok(Written::Replaced);
        }
        out.truncate(start);
        Ok(Written::Unchanged)
    }

    fn document(
        &self,
        carrier: Carrier,
        active: &Active,
        value: &[u8],
        out: &mut Vec<u8>,
        touched: &mut Touched,
    ) -> Result<Written, Unreadable> {
        let start = out.len();
        let text = match (carrier, value) {
            (Carrier::BinaryJsonb, [1, text @ ..]) => {
                out.push(1);
                text
            }
            // A version of binary jsonb that is not known, or a type without JSON in it.
            (Carrier::BinaryJsonb | Carrier::None, _) => return Err(Unreadable),
            (Carrier::Json | Carrier::Text, text) => text,
        };
        if mask_document(&self.paths, active, text, out, touched)? {
            return Ok(Written::Replaced);
        }
        out.truncate(start);
        Ok(Written::Unchanged)
    }

    /// What to mask of the element at `index` of an array.
    pub(crate) fn element(&self, wanted: Wanted<'_>, index: Option<usize>) -> Part {
        match wanted {
            Wanted::All(cover) => Part::All(cover),
            Wanted::Paths(active) => Part::Paths(self.paths.element(active, index)),
        }
    }

    /// What to mask of the field `name` of a composite.
    pub(crate) fn field(&self, wanted: Wanted<'_>, name: &str) -> Part {
        match wanted {
            Wanted::All(cover) => Part::All(cover),
            Wanted::Paths(active) => Part::Paths(self.paths.member(active, name)),
        }
    }

    /// Checks that the paths into a composite name fields it has.
    pub(crate) fn check_fields(
        &self,
        wanted: Wanted<'_>,
        fields: &[(String, Shape)],
    ) -> Result<(), Unreadable> {
        let Wanted::Paths(active) = wanted else {
            return Ok(());
        };
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        if self.paths.knows_all(active, &names) {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    /// Whether any part of a value of this shape can carry a replacement; else it becomes null as a whole.
    fn carries(&self, shape: &Shape) -> bool {
        match &shape.kind {
            Kind::Array { element, .. } => self.carries(element),
            Kind::Composite(fields) => fields.iter().any(|(_, field)| self.carries(field)),
            Kind::Scalar(_) | Kind::Text | Kind::Opaque => self.carrier(shape) != Carrier::None,
        }
    }

    fn carrier(&self, shape: &Shape) -> Carrier {
        match shape.kind {
            Kind::Scalar(base) => carrier(base, self.is_binary),
            Kind::Text if !self.is_binary => Carrier::Text,
            _ => Carrier::None,
        }
    }
}

/// What to mask of a part, as `Wanted`, owned.
pub(crate) enum Part {
    Paths(Active),
    All(Cover),
}

impl Part {
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        match self {
            Part::Paths(active) => Wanted::Paths(active),
            Part::All(cover) => Wanted::All(*cover),
        }
    }
}
