//! Masking of DataRow bodies: one plan per result description, one pass per row.
use std::sync::Arc;

use crate::cell::{Cell, Hint};
use crate::detectors::Detectors;
use crate::path::{Step, MAX_STEPS};
use crate::shape::{Kind, Shape, MAX_SHAPE_DEPTH};
use crate::strategy::{Replacement, Strategy};
use crate::structure::{Structure, Written};
use crate::types::{carrier, reading, Carrier, ColumnDesc, Reading};
use crate::{Counts, MaskError};

/// Where a row goes: to the agent or into the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// What the agent receives.
    Delivered,
    /// What evidence keeps.
    Record,
}

/// Which of the two targets a mask is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Only what the agent receives.
    Delivered,
    /// Only what evidence keeps.
    Record,
    /// Both.
    Both,
}

impl Apply {
    /// The value called `name` in a decision.
    pub fn parse(name: &str) -> Result<Apply, MaskError> {
        match name {
            "delivered" => Ok(Apply::Delivered),
            "record" => Ok(Apply::Record),
            "both" => Ok(Apply::Both),
            other => Err(MaskError::Spec(format!(
                "a mask applies to delivered, record or both, not to {other:?}"
            ))),
        }
    }

    fn covers(self, target: Target) -> bool {
        matches!(
            (self, target),
            (Apply::Both, _)
                | (Apply::Delivered, Target::Delivered)
                | (Apply::Record, Target::Record)
        )
    }
}

/// One mask of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMask {
    /// Position of the column in the result, from 0.
    pub index: u16,
    /// How its cells are replaced.
    pub strategy: Strategy,
    /// The rule that asked for it: the name it is counted under, and part of the key of tokens and hashes.
    pub rule: Arc<str>,
    /// Which targets it is for.
    pub apply: Apply,
    /// The part of each value it is for; the whole value where it is empty.
    pub path: Vec<Step>,
    /// What is known of the column's type beyond its OID.
    pub shape: Option<Shape>,
    /// A null is replaced too: of a computed value it tells as much as any other value would. Has no effect on parts.
    pub fills_null: bool,
}

/// What happens to the cells of one column on the way to one target.
#[derive(Clone)]
pub(crate) enum CellAction {
    Copy,
    Replace {
        rule: Arc<str>,
        replacement: Replacement,
        fills_null: bool,
    },
    /// Parts are masked; what stays is read by detectors where the reading says so.
    Parts {
        structure: Arc<Structure>,
        scan: Option<(Reading, Hint)>,
    },
    Scan {
        reading: Reading,
        hint: Hint,
    },
}

impl CellAction {
    /// Whether a null is masked as a value would be.
    pub(crate) fn fills_null(&self) -> bool {
        matches!(
            self,
            CellAction::Replace {
                fills_null: true,
                ..
            }
        )
    }
}

/// The cell actions of every column, for both targets. Shared by rows and COPY.
pub(crate) struct CellPlan {
    delivered: Vec<CellAction>,
    record: Vec<CellAction>,
    pub(crate) detectors: Option<Arc<Detectors>>,
}

/// What became of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing was written; the cell passes as it is.
    Unchanged,
    /// The new value was appended.
    Replaced,
    /// Nothing was written; the cell is null now.
    Null,
}

impl CellPlan {
    pub(crate) fn new(
        columns: &[ColumnDesc],
        masks: &[ColumnMask],
        detectors: Option<Arc<Detectors>>,
        key: &[u8; 32],
    ) -> Result<CellPlan, MaskError> {
        if let Some(column) = columns.iter().find(|column| column.format > 1) {
            return Err(MaskError::Spec(format!(
                "format code {} is neither text (0) nor binary (1)",
                column.format
            )));
        }
        if let Some(mask) = masks
            .iter()
            .find(|mask| usize::from(mask.index) >= columns.len())
        {
            let count = columns.len();
            return Err(MaskError::Spec(format!(
                "rule {} masks column {} of a result with {count} columns",
                mask.rule, mask.index
            )));
        }
        check_masks(masks)?;
        let compile = |target: Target| -> Vec<CellAction> {
            let action = |(index, column)| {
                compile_column(index, column, masks, target, detectors.as_deref(), key)
            };
            columns.iter().enumerate().map(action).collect()
        };
        Ok(CellPlan {
            delivered: compile(Target::Delivered),
            record: compile(Target::Record),
            detectors,
        })
    }

    pub(crate) fn actions(&self, target: Target) -> &[CellAction] {
        match target {
            Target::Delivered => &self.delivered,
            Target::Record => &self.record,
        }
    }

    /// Whether `action` can change this cell at all; the quick answer for most cells.
    pub(crate) fn concerns(&self, action: &CellAction, cell: &[u8]) -> bool {
        match (action, &self.detectors) {
            (CellAction::Replace { .. } | CellAction::Parts { .. }, _) => true,
            (CellAction::Scan { reading, hint }, Some(detectors)) => {
                detectors.may_find(*reading, *hint, cell)
            }
            _ => false,
        }
    }

    /// Carries out `action` on a cell that is not null, appending a new value to `out` where there is one.
    pub(crate) fn apply(
        &self,
        action: &CellAction,
        cell: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Outcome {
        match (action, &self.detectors) {
            (
                CellAction::Replace {
                    rule, replacement, ..
                },
                _,
            ) => {
                counts.add_masked(rule);
                if replacement.write(cell, out) {
                    Outcome::Replaced
                } else {
                    Outcome::Null
                }
            }
            (CellAction::Parts { structure, scan }, detectors) => {
                let scan = detectors.as_deref().zip(*scan);
                mask_parts(structure, scan, cell, out, counts)
            }
            (CellAction::Scan { reading, hint }, Some(detectors)) => {
                scan_cell(detectors, (*reading, *hint), cell, out, counts)
            }
            _ => Outcome::Unchanged,
        }
    }
}

fn scan_cell(
    detectors: &Detectors,
    (reading, hint): (Reading, Hint),
    cell: &[u8],
    out: &mut Vec<u8>,
    counts: &mut Counts,
) -> Outcome {
    match detectors.mask_cell(reading, hint, cell, out, counts) {
        Cell::Clean => Outcome::Unchanged,
        Cell::Masked => Outcome::Replaced,
        Cell::Withheld => Outcome::Null,
    }
}

/// Masks the parts of a cell, and lets the detectors read what is left of it.
fn mask_parts(
    structure: &Structure,
    scan: Option<(&Detectors, (Reading, Hint))>,
    cell: &[u8],
    out: &mut Vec<u8>,
    counts: &mut Counts,
) -> Outcome {
    let start = out.len();
    let written = structure.write(cell, out, counts);
    let Some((detectors, how)) = scan else {
        return match written {
            Written::Unchanged => Outcome::Unchanged,
            Written::Replaced => Outcome::Replaced,
            Written::Null => Outcome::Null,
        };
    };
    match written {
        Written::Null => Outcome::Null,
        Written::Unchanged => scan_cell(detectors, how, cell, out, counts),
        Written::Replaced => {
            let masked = out.split_off(start);
            let outcome = scan_cell(detectors, how, &masked, out, counts);
            if outcome != Outcome::Unchanged {
                return outcome;
            }
            out.extend_from_slice(&masked);
            Outcome::Replaced
        }
    }
}

fn check_masks(masks: &[ColumnMask]) -> Result<(), MaskError> {
    for mask in masks {
        let depth = mask.shape.as_ref().map_or(0, Shape::depth);
        if mask.path.len() > MAX_STEPS || depth > MAX_SHAPE_DEPTH {
            return Err(MaskError::Spec(format!(
                "rule {} looks deeper into a value than {MAX_STEPS} steps or {MAX_SHAPE_DEPTH} types",
                mask.rule
            )));
        }
    }
    Ok(())
}

/// The strongest mask on a value wins; what no mask covers is read by the detectors.
fn compile_column(
    index: usize,
    column: &ColumnDesc,
    masks: &[ColumnMask],
    target: Target,
    detectors: Option<&Detectors>,
    key: &[u8; 32],
) -> CellAction {
    let mut met: Vec<&ColumnMask> = masks
        .iter()
        .filter(|mask| usize::from(mask.index) == index && mask.apply.covers(target))
        .collect();
    // Between equals the first rule by name wins, so that the order of masks does not show in counts and tokens.
    met.sort_by_key(|mask| (mask.strategy.rank(), Arc::clone(&mask.rule)));
    let scan = || {
        let detectors = detectors?;
        let reading = reading(column);
        (reading != Reading::Skip).then(|| (reading, detectors.hint(&column.name)))
    };
    let Some(first) = met.first() else {
        return scan().map_or(CellAction::Copy, |(reading, hint)| CellAction::Scan {
            reading,
            hint,
        });
    };
    let known = met.iter().find_map(|mask| mask.shape.clone());
    let shape = known.unwrap_or_else(|| Shape::of(column.type_oid));
    let is_whole = met.iter().all(|mask| mask.path.is_empty());
    let carrier = match shape.kind {
        Kind::Scalar(base) => carrier(base, column.format != 0),
        Kind::Text if column.format == 0 => Carrier::Text,
        _ => Carrier::None,
    };
    let has_parts = matches!(shape.kind, Kind::Array { .. } | Kind::Composite(_));
    if is_whole && !has_parts {
        let strategy = met.iter().fold(first.strategy, |strategy, mask| {
            strategy.combine(mask.strategy)
        });
        return CellAction::Replace {
            rule: Arc::clone(&first.rule),
            replacement: Replacement::new(strategy, carrier, &first.rule, key),
            fills_null: met.iter().any(|mask| mask.fills_null),
        };
    }
    let masks = met
        .iter()
        .map(|mask| (mask.path.clone(), mask.strategy, Arc::clone(&mask.rule)));
    CellAction::Parts {
        structure: Arc::new(Structure::new(column, shape, masks.collect(), key)),
        scan: if is_whole { None } else { scan() },
    }
}

/// A plan for the rows of one result description.
pub struct RowPlan {
    plan: CellPlan,
}

impl RowPlan {
    /// Compiles the masks for these columns.
    ///
    /// A strategy that a column's type and format cannot carry becomes null. Errors name what cannot be used: a mask on a
    /// column that is not there, or an unknown format code.
    pub fn new(
        columns: Vec<ColumnDesc>,
        masks: Vec<ColumnMask>,
        detectors: Option<Arc<Detectors>>,
        key: [u8; 32],
    ) -> Result<RowPlan, MaskError> {
        Ok(RowPlan {
            plan: CellPlan::new(&columns, &masks, detectors, &key)?,
        })
    }

    pub(crate) fn actions(&self, target: Target) -> &[CellAction] {
        self.plan.actions(target)
    }

    /// Masks one cell in text form; see [`CellPlan::apply`].
    pub(crate) fn mask_cell(
        &self,
        action: &CellAction,
        cell: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Outcome {
        if self.plan.concerns(action, cell) {
            self.plan.apply(action, cell, out, counts)
        } else {
            Outcome::Unchanged
        }
    }

    /// Appends the masked form of one DataRow body (Int16 count, then Int32 length and bytes per cell) to `out`.
    ///
    /// On error nothing is appended and nothing may be delivered.
    pub fn apply(
        &self,
        body: &[u8],
        target: Target,
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<(), MaskError> {
        let start = out.len();
        let result = self.write_row(body, target, out, counts);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn write_row(
        &self,
        body: &[u8],
        target: Target,
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<(), MaskError> {
        let actions = self.plan.actions(target);
        let Some((head, _)) = body.split_first_chunk::<2>() else {
            return Err(MaskError::Malformed("a row without a column count"));
        };
        if usize::from(u16::from_be_bytes(*head)) != actions.len() {
            return Err(MaskError::Malformed(
                "a row whose column count is not that of its description",
            ));
        }
        out.reserve(body.len());
        let (mut copied, mut at) = (0, 2);
        for action in actions {
            let cell = read_cell(body, at)?;
            let after = at + 4 + cell.map_or(0, <[u8]>::len);
            let cell = cell.or(action.fills_null().then_some(&[]));
            if let Some(cell) = cell.filter(|cell| self.plan.concerns(action, cell)) {
                let mark = out.len();
                out.extend_from_slice(&body[copied..at]);
                let length_at = out.len();
                out.extend_from_slice(&[0; 4]);
                let length = match self.plan.apply(action, cell, out, counts) {
                    Outcome::Unchanged => None,
                    Outcome::Null => Some(-1),
                    Outcome::Replaced => {
                        Some(i32::try_from(out.len() - length_at - 4).map_err(|_| TOO_LONG)?)
                    }
                };
                match length {
                    None => out.truncate(mark),
                    Some(length) => {
                        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
                        copied = after;
                    }
                }
            }
            at = after;
        }
        if at != body.len() {
            return Err(MaskError::Malformed("bytes after the last column of a row"));
        }
        out.extend_from_slice(&body[copied..]);
        Ok(())
    }
}

/// A length field is an Int32.
const TOO_LONG: MaskError = MaskError::TooLarge {
    what: "a masked cell",
    limit: i32::MAX as usize,
};

/// The cell whose length field begins at `at`; none for null.
fn read_cell(body: &[u8], at: usize) -> Result<Option<&[u8]>, MaskError> {
    const SHORT: MaskError = MaskError::Malformed("a row that ends inside a column");
    let rest = body.get(at..).ok_or(SHORT)?;
    let (head, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    match i32::from_be_bytes(*head) {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length)
                .map_err(|_| MaskError::Malformed("a negative column length"))?;
            rest.get(..length).map(Some).ok_or(SHORT)
        }
    }
}
