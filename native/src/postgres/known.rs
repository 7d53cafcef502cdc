//! Lessons of a session, and the actions it hands back.
use std::sync::Arc;

use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use sealgate_mask as mask;
use sealgate_postgres::masking::TextCheck;
use sealgate_postgres::{Adopted, Lesson, RowLesson};

use super::events::parameter;
use crate::record::extract_template;

/// Detectors as the session asks them.
pub(super) struct Checks {
    pub detectors: Arc<mask::Detectors>,
}

impl TextCheck for Checks {
    fn is_clean(&self, name: &str, text: &[u8]) -> bool {
        if name.is_empty() {
            return self.detectors.scan(text).is_empty();
        }
        let (mut out, mut counts) = (Vec::new(), mask::Counts::default());
        let hint = self.detectors.hint(name);
        !self.detectors.mask_field(hint, text, &mut out, &mut counts)
    }
}

fn member<'py>(lesson: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    lesson
        .get_item(name)?
        .ok_or_else(|| PyKeyError::new_err(name.to_owned()))
}

fn template(lesson: &Bound<'_, PyDict>, name: &str) -> PyResult<sealgate_record::Template> {
    extract_template(member(lesson, name)?.cast::<PyList>()?)
}

fn base(lesson: &Bound<'_, PyDict>) -> PyResult<Arc<[u8]>> {
    let base = member(lesson, "base")?;
    Ok(Arc::from(base.cast::<PyBytes>()?.as_bytes()))
}

pub(super) fn extract_lesson(lesson: &Bound<'_, PyDict>) -> PyResult<Lesson> {
    let host: Py<PyAny> = member(lesson, "host")?.unbind();
    Ok(Lesson {
        leaf: template(lesson, "leaf")?,
        input: template(lesson, "input")?,
        base: base(lesson)?,
        material: template(lesson, "material")?,
        until_mono_ns: member(lesson, "until_mono_ns")?.extract()?,
        until_ns: member(lesson, "until_ns")?.extract()?,
        is_harmless: member(lesson, "is_harmless")?.extract()?,
        hides_texts: member(lesson, "hides_texts")?.extract()?,
        host: Arc::new(host),
    })
}

pub(super) fn extract_row_lesson(lesson: &Bound<'_, PyDict>) -> PyResult<RowLesson> {
    Ok(RowLesson {
        leaf: template(lesson, "leaf")?,
        input: template(lesson, "input")?,
        base: base(lesson)?,
        until_mono_ns: member(lesson, "until_mono_ns")?.extract()?,
        until_ns: member(lesson, "until_ns")?.extract()?,
    })
}

pub(super) fn adopted(py: Python<'_>, adopted: Adopted) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    let host = adopted
        .host
        .downcast_ref::<Py<PyAny>>()
        .ok_or_else(|| PyValueError::new_err("a lesson of another host"))?;
    dict.set_item("host", host.bind(py))?;
    dict.set_item("lesson", adopted.lesson)?;
    dict.set_item("is_open", adopted.is_open)?;
    dict.set_item("decision_id", adopted.decision_id)?;
    dict.set_item("sql", adopted.sql)?;
    let params: Vec<_> = adopted
        .params
        .iter()
        .map(|bound| parameter(py, bound))
        .collect::<PyResult<_>>()?;
    dict.set_item("params", params)?;
    dict.set_item("rows", adopted.outcome.rows)?;
    dict.set_item("bytes", adopted.outcome.bytes)?;
    dict.set_item("masked", adopted.outcome.masked)?;
    dict.set_item("detected", adopted.outcome.detected)?;
    dict.set_item("record", PyBytes::new(py, &adopted.record))?;
    dict.set_item("record_truncated", adopted.outcome.is_truncated)?;
    dict.set_item("tags", adopted.tags)?;
    Ok(dict)
}

/// What a text has in common with those that differ from it only in constants that cannot matter.
#[pyfunction]
pub(super) fn skeleton<'py>(py: Python<'py>, sql: &str) -> Option<Bound<'py, PyBytes>> {
    sealgate_postgres::skeleton(sql).map(|skeleton| PyBytes::new(py, &skeleton))
}
