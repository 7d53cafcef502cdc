//! Paths and shapes of masks as Python hands them over.
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sealgate_mask::{Kind, Shape, Step, MAX_SHAPE_DEPTH};

/// A path as a list of names, indexes, and None for every member or element.
pub fn extract_path(path: &Bound<'_, PyAny>) -> PyResult<Vec<Step>> {
    path.try_iter()?.map(|step| extract_step(&step?)).collect()
}

fn extract_step(step: &Bound<'_, PyAny>) -> PyResult<Step> {
    if step.is_none() {
        return Ok(Step::Any);
    }
    if let Ok(name) = step.extract::<String>() {
        return Ok(Step::Name(name));
    }
    step.extract::<usize>()
        .map(Step::Index)
        .map_err(|_| PyValueError::new_err("a step of a path is a name, an index from 0, or None"))
}

/// A shape: ("own", oid), ("scalar", oid, base), ("text", oid), ("opaque", oid), ("array", oid, delimiter, element) or
/// ("composite", oid, [(name, shape), …]).
pub fn extract_shape(shape: &Bound<'_, PyAny>) -> PyResult<Shape> {
    extract_nested(shape, 0)
}

fn extract_nested(shape: &Bound<'_, PyAny>, depth: usize) -> PyResult<Shape> {
    if depth > MAX_SHAPE_DEPTH {
        return Err(PyValueError::new_err("a type is nested too deep"));
    }
    let parts = shape.cast::<PyTuple>()?;
    if parts.len() < 2 {
        return Err(PyValueError::new_err("a shape has a kind and an OID"));
    }
    let oid: u32 = parts.get_item(1)?.extract()?;
    let kind = match (
        parts.get_item(0)?.extract::<String>()?.as_str(),
        parts.len(),
    ) {
        ("own", 2) => Shape::of(oid).kind,
        ("scalar", 3) => Kind::Scalar(parts.get_item(2)?.extract()?),
        ("text", 2) => Kind::Text,
        ("opaque", 2) => Kind::Opaque,
        ("array", 4) => Kind::Array {
            element: Box::new(extract_nested(&parts.get_item(3)?, depth + 1)?),
            delimiter: extract_byte(&parts.get_item(2)?)?,
        },
        ("composite", 3) => {
            let mut fields = Vec::new();
            for field in parts.get_item(2)?.try_iter()? {
                let (name, shape): (String, Bound<'_, PyAny>) = field?.extract()?;
                fields.push((name, extract_nested(&shape, depth + 1)?));
            }
            Kind::Composite(fields)
        }
        (other, _) => {
            return Err(PyValueError::new_err(format!(
                "a shape cannot be read as {other:?}"
            )))
        }
    };
    Ok(Shape { oid, kind })
}

fn extract_byte(value: &Bound<'_, PyAny>) -> PyResult<u8> {
    match value.extract::<String>()?.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(PyValueError::new_err(
            "the delimiter of an array is one ASCII character",
        )),
    }
}
