//! Paths into a value, followed for several masks at once.
//!
//! A path that meets another shape than it was written for covers more, never less: a step into an object's member is taken in every
//! element of an array, a step into an array is left out where there is none, and a path that would go on inside a scalar covers it.
use std::sync::Arc;

use crate::strategy::{Replacement, Strategy};
use crate::types::Carrier;

/// Longest path, in steps.
pub const MAX_STEPS: usize = 64;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of an object, or a field of a composite.
    Name(String),
    /// An element of an array, from 0.
    Index(usize),
    /// Every member or element.
    Any,
}

/// One mask with its path; an empty path covers the whole value.
pub(crate) struct Entry {
    pub steps: Vec<Step>,
    pub strategy: Strategy,
    pub rule: Arc<str>,
    /// The replacement for each carrier: text, JSON, binary jsonb.
    replacements: [Replacement; 3],
}

impl Entry {
    pub(crate) fn new(
        steps: Vec<Step>,
        strategy: Strategy,
        rule: &Arc<str>,
        key: &[u8; 32],
    ) -> Entry {
        let made = |carrier| Replacement::new(strategy, carrier, rule, key);
        Entry {
            steps,
            strategy,
            rule: Arc::clone(rule),
            replacements: [
                made(Carrier::Text),
                made(Carrier::Json),
                made(Carrier::BinaryJsonb),
            ],
        }
    }

    /// Appends what stands in place of `value`; false means null.
    pub(crate) fn write(&self, carrier: Carrier, value: &[u8], out: &mut Vec<u8>) -> bool {
        let place = match carrier {
            Carrier::Text => 0,
            Carrier::Json => 1,
            Carrier::BinaryJsonb => 2,
            Carrier::None => return false,
        };
        self.replacements[place].write(value, out)
    }
}

/// How far each mask that may still apply has come: (number of the entry, steps taken).
pub(crate) type Active = Vec<(usize, usize)>;

/// The masks of one column. The last entry is one of strategy redact, for where two partials meet.
pub(crate) struct Paths {
    entries: Vec<Entry>,
}

/// What covers a whole value: the number of the entry that replaces it and of the one it is counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cover {
    pub by: usize,
    pub counted: usize,
}

impl Paths {
    /// Entries in the order of `Strategy::rank`, then rule.
    pub(crate) fn new(mut entries: Vec<Entry>, key: &[u8; 32]) -> Paths {
        entries.sort_by(|one, two| {
            (one.strategy.rank(), &one.rule).cmp(&(two.strategy.rank(), &two.rule))
        });
        let rule = entries
            .first()
            .map_or_else(|| Arc::from(""), |first| Arc::clone(&first.rule));
        entries.push(Entry::new(Vec::new(), Strategy::Redact, &rule, key));
        Paths { entries }
    }

    pub(crate) fn entry(&self, number: usize) -> &Entry {
        &self.entries[number]
    }

    pub(crate) fn start(&self) -> Active {
        (0..self.entries.len() - 1)
            .map(|entry| (entry, 0))
            .collect()
    }

    fn next(&self, (entry, taken): (usize, usize)) -> Option<&Step> {
        self.entries[entry].steps.get(taken)
    }

    /// The mask that covers the whole value, where one of the paths ends here. The strongest of all that reach so far wins, also of
    /// those that would go on: they may be meant for any part of it.
    pub(crate) fn cover(&self, active: &Active) -> Option<Cover> {
        let ends = active.iter().any(|state| self.next(*state).is_none());
        if ends {
            self.cover_all(active)
        } else {
            None
        }
    }

    /// The mask of a value that no path can go into.
    pub(crate) fn cover_all(&self, active: &Active) -> Option<Cover> {
        // Entries are sorted, so the first is the strongest.
        let first = active.iter().map(|(entry, _)| *entry).min()?;
        let combined = active
            .iter()
            .fold(self.entries[first].strategy, |strategy, (entry, _)| {
                strategy.combine(self.entries[*entry].strategy)
            });
        let is_first = combined == self.entries[first].strategy;
        Some(Cover {
            by: if is_first {
                first
            } else {
                self.entries.len() - 1
            },
            counted: first,
        })
    }

    /// The masks for the member `name` of an object.
    pub(crate) fn member(&self, active: &Active, name: &str) -> Active {
        let mut found = Active::new();
        for state in self.without_indexes(active) {
            let fits = match self.next(state) {
                Some(Step::Name(wanted)) => wanted == name,
                Some(Step::Any) => true,
                Some(Step::Index(_)) | None => false,
            };
            if fits {
                push(&mut found, (state.0, state.1 + 1));
            }
        }
        found
    }

    /// Whether every name the paths ask for here is one of `known`; a path to a name that is not there would cover nothing.
    pub(crate) fn knows_all(&self, active: &Active, known: &[&str]) -> bool {
        self.without_indexes(active).iter().all(|state| {
            !matches!(self.next(*state), Some(Step::Name(wanted)) if !known.contains(&wanted.as_str()))
        })
    }

    /// The masks for the element at `index` of an array; none for an element whose place is not known.
    pub(crate) fn element(&self, active: &Active, index: Option<usize>) -> Active {
        let mut found = Active::new();
        for state in active {
            match self.next(*state) {
                Some(Step::Name(_)) => push(&mut found, *state),
                Some(Step::Any) => push(&mut found, (state.0, state.1 + 1)),
                Some(Step::Index(wanted)) if index.is_none_or(|index| index == *wanted) => {
                    push(&mut found, (state.0, state.1 + 1));
                }
                Some(Step::Index(_)) | None => {}
            }
        }
        found
    }

    /// The states at an object: steps into an array are left out as well as taken.
    fn without_indexes(&self, active: &Active) -> Active {
        let mut found = active.clone();
        let mut at = 0;
        while let Some(state) = found.get(at).copied() {
            if matches!(self.next(state), Some(Step::Index(_) | Step::Any)) {
                push(&mut found, (state.0, state.1 + 1));
            }
            at += 1;
        }
        found
    }

    /// The mask that covers an object because a path that only asks for elements ends at it.
    pub(crate) fn cover_object(&self, active: &Active) -> Option<Cover> {
        // `$.a[*]` on an object is about its members, which `member` covers; `$.a[0]` is about the object itself.
        let reaches = |state: &(usize, usize)| {
            let rest = &self.entries[state.0].steps[state.1..];
            rest.iter().all(|step| matches!(step, Step::Index(_)))
        };
        active.iter().any(reaches).then(|| self.cover_all(active))?
    }
}

fn push(found: &mut Active, state: (usize, usize)) {
    if !found.contains(&state) {
        found.push(state);
    }
}
