//! The maskers of `sealgate-mask` as the session asks for them.
use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use sealgate_mask as mask;
use sealgate_postgres::masking::{
    Column, CopyMasker, Counts, Masking, RowMasker, Target, TextMasker, Unmasked,
};

use crate::mask::{extract_copy_options, to_value_error};

/// Masks of a decision, ready for any formats.
pub(super) struct Masks {
    pub masks: Vec<mask::ColumnMask>,
    pub detectors: Option<Arc<mask::Detectors>>,
    pub key: [u8; 32],
}

impl Masking for Masks {
    fn rows(&self, columns: &[Column]) -> Result<Box<dyn RowMasker>, String> {
        if self.masks.is_empty() && self.detectors.is_none() {
            return Ok(Box::new(Unmasked));
        }
        let column = |column: &Column| mask::ColumnDesc {
            type_oid: column.type_oid,
            format: column.format,
            name: column.name.clone(),
        };
        let columns = columns.iter().map(column).collect();
        let plan = mask::RowPlan::new(
            columns,
            self.masks.clone(),
            self.detectors.clone(),
            self.key,
        )
        .map_err(|error| error.to_string())?;
        let record_differs = self
            .masks
            .iter()
            .any(|mask| mask.apply != mask::Apply::Both);
        Ok(Box::new(Rows {
            plan,
            counts: mask::Counts::default(),
            unkept: mask::Counts::default(),
            record_differs,
        }))
    }
}

pub(super) struct Rows {
    plan: mask::RowPlan,
    counts: mask::Counts,
    /// Counts of the record's own masking: the cells were counted when they were delivered.
    unkept: mask::Counts,
    record_differs: bool,
}

pub(super) fn take_counts(counts: &mut mask::Counts) -> Counts {
    let taken = std::mem::take(counts);
    Counts {
        masked: taken.masked(),
        detected: taken.detected(),
    }
}

impl RowMasker for Rows {
    fn mask(&mut self, row: &[u8], target: Target, out: &mut Vec<u8>) -> Result<(), String> {
        let (target, counts) = match target {
            Target::Delivered => (mask::Target::Delivered, &mut self.counts),
            Target::Record => (mask::Target::Record, &mut self.unkept),
        };
        self.plan
            .apply(row, target, out, counts)
            .map_err(|error| error.to_string())
    }

    fn is_identity(&self) -> bool {
        false
    }

    fn record_differs(&self) -> bool {
        self.record_differs
    }

    fn take_counts(&mut self) -> Counts {
        take_counts(&mut self.counts)
    }
}

pub(super) struct Texts {
    pub detectors: Arc<mask::Detectors>,
}

impl TextMasker for Texts {
    fn mask(&self, text: &[u8], out: &mut Vec<u8>, detected: &mut BTreeMap<String, u64>) -> bool {
        let mut counts = mask::Counts::default();
        let found = self.detectors.mask(text, out, &mut counts);
        for (name, count) in counts.detected() {
            *detected.entry(name).or_default() += count;
        }
        found
    }
}

/// One COPY on its way to the agent, and a second reading of it where the record is masked in another way.
pub(super) struct Copy {
    delivered: mask::CopyStream,
    record: Option<mask::CopyStream>,
    counts: mask::Counts,
    unkept: mask::Counts,
}

impl CopyMasker for Copy {
    fn feed(&mut self, data: &[u8], out: &mut Vec<u8>, record: &mut Vec<u8>) -> Result<(), String> {
        self.delivered
            .feed(data, out, &mut self.counts)
            .map_err(|error| error.to_string())?;
        match &mut self.record {
            None => Ok(()),
            Some(stream) => stream
                .feed(data, record, &mut self.unkept)
                .map_err(|error| error.to_string()),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.delivered.finish().map_err(|error| error.to_string())
    }

    fn record_differs(&self) -> bool {
        self.record.is_some()
    }

    fn rows(&self) -> Option<u64> {
        Some(self.delivered.rows())
    }

    fn take_counts(&mut self) -> Counts {
        take_counts(&mut self.counts)
    }
}

/// Members of a COPY statement's description that do not shape its data.
const COPY_FACTS: [&str; 5] = ["direction", "source", "relation", "query", "columns"];

/// A masker for COPY data of `columns` columns in `format`, as the server announced them.
pub(super) fn copy_masker(
    (format, columns): (u16, usize),
    masks: Vec<mask::ColumnMask>,
    detectors: Option<Arc<mask::Detectors>>,
    key: [u8; 32],
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<Box<dyn CopyMasker>> {
    if masks.is_empty() && detectors.is_none() {
        return Ok(Box::new(Unmasked));
    }
    let mut names: Vec<String> = Vec::new();
    let shaping = match options {
        None => {
            return Err(PyValueError::new_err(
                "COPY data can be masked only with the options of its statement",
            ))
        }
        Some(options) => options.copy()?,
    };
    if let Some(given) = shaping.get_item("columns")? {
        names = given.extract()?;
    }
    for fact in COPY_FACTS {
        if shaping.contains(fact)? {
            shaping.del_item(fact)?;
        }
    }
    if !shaping.contains("format")? {
        shaping.set_item("format", if format == 0 { "text" } else { "binary" })?;
    }
    let options = extract_copy_options(&shaping)?;
    if (options.format == mask::CopyFormat::Binary) != (format == 1) {
        return Err(PyValueError::new_err(
            "the server sends COPY data in another format than its statement asked for",
        ));
    }
    if names.len() != columns {
        names = vec![String::new(); columns];
    }
    let column = |name: String| mask::ColumnDesc {
        type_oid: 0,
        format,
        name,
    };
    let record_differs = masks.iter().any(|mask| mask.apply != mask::Apply::Both);
    let plan = mask::CopyPlan::new(
        options,
        names.into_iter().map(column).collect(),
        masks,
        detectors,
        key,
    );
    let plan = Arc::new(plan.map_err(to_value_error)?);
    Ok(Box::new(Copy {
        delivered: mask::CopyStream::new(Arc::clone(&plan), mask::Target::Delivered),
        record: record_differs.then(|| mask::CopyStream::new(plan, mask::Target::Record)),
        counts: mask::Counts::default(),
        unkept: mask::Counts::default(),
    }))
}
