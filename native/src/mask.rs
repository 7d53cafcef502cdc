//! Python face of `sealgate-mask`.
use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use sealgate_mask::{
    detector_names, Apply, ColumnDesc, ColumnMask, CopyFormat, CopyOptions, CopyPlan, CopyStream,
    Counts, MaskError, Strategy, Target,
};

use crate::shapes::{extract_path, extract_shape};

/// Adds the submodule `sealgate_native.mask`.
pub fn register(py: Python<'_>, parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(py, "mask")?;
    module.add("DETECTORS", detector_names().collect::<Vec<_>>())?;
    module.add("REDACTED", "[redacted]")?;
    module.add_class::<Detectors>()?;
    module.add_class::<StreamMasker>()?;
    module.add_class::<RowPlan>()?;
    module.add_class::<CopyMasker>()?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.mask", &module)
}

/// Every error of the kernel is a ValueError: a plan that cannot be built, or bytes that do not follow their format.
pub fn to_value_error(error: MaskError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

type Tally = BTreeMap<String, u64>;

/// A compiled set of detectors; shared by plans and streams.
#[pyclass(frozen, module = "sealgate_native.mask")]
pub struct Detectors {
    /// The kernel's detectors.
    pub inner: Arc<sealgate_mask::Detectors>,
}

#[pymethods]
impl Detectors {
    #[new]
    #[pyo3(signature = (enabled, custom = Vec::new()))]
    fn new(
        py: Python<'_>,
        enabled: Vec<String>,
        custom: Vec<(String, String)>,
    ) -> PyResult<Detectors> {
        let names: Vec<&str> = enabled.iter().map(String::as_str).collect();
        let inner = py
            .detach(|| sealgate_mask::Detectors::new(&names, &custom))
            .map_err(to_value_error)?;
        Ok(Detectors {
            inner: Arc::new(inner),
        })
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.inner.names().iter().map(ToString::to_string).collect()
    }

    fn scan(&self, py: Python<'_>, data: &[u8]) -> Vec<(String, usize, usize)> {
        let findings = py.detach(|| self.inner.scan(data));
        findings
            .iter()
            .map(|finding| {
                (
                    self.inner.name_of(finding).to_string(),
                    finding.start,
                    finding.end,
                )
            })
            .collect()
    }

    fn mask<'py>(&self, py: Python<'py>, data: &[u8]) -> (Bound<'py, PyBytes>, Tally) {
        self.run(py, data, "")
    }

    fn mask_field<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        data: &[u8],
    ) -> (Bound<'py, PyBytes>, Tally) {
        self.run(py, data, name)
    }
}

impl Detectors {
    fn run<'py>(&self, py: Python<'py>, data: &[u8], name: &str) -> (Bound<'py, PyBytes>, Tally) {
        let (masked, counts) = py.detach(|| {
            let (mut out, mut counts) = (Vec::with_capacity(data.len()), Counts::default());
            self.inner
                .mask_field(self.inner.hint(name), data, &mut out, &mut counts);
            (out, counts.detected())
        });
        (PyBytes::new(py, &masked), counts)
    }
}

/// Masks a byte stream whose chunks are cut anywhere.
#[pyclass(module = "sealgate_native.mask")]
struct StreamMasker {
    inner: sealgate_mask::StreamMasker,
    counts: Counts,
}

#[pymethods]
impl StreamMasker {
    #[new]
    fn new(detectors: &Detectors) -> StreamMasker {
        StreamMasker {
            inner: sealgate_mask::StreamMasker::new(Arc::clone(&detectors.inner)),
            counts: Counts::default(),
        }
    }

    fn feed<'py>(&mut self, py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
        let (inner, counts) = (&mut self.inner, &mut self.counts);
        let out = py.detach(|| {
            let mut out = Vec::with_capacity(data.len());
            inner.feed(data, &mut out, counts);
            out
        });
        PyBytes::new(py, &out)
    }

    fn finish<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let (inner, counts) = (&mut self.inner, &mut self.counts);
        let out = py.detach(|| {
            let mut out = Vec::new();
            inner.finish(&mut out, counts);
            out
        });
        PyBytes::new(py, &out)
    }

    #[getter]
    fn counts(&self) -> Tally {
        self.counts.detected()
    }

    #[getter]
    fn held_bytes(&self) -> usize {
        self.inner.held_bytes()
    }
}

/// Masks DataRow bodies of one result description.
#[pyclass(frozen, module = "sealgate_native.mask")]
struct RowPlan {
    inner: sealgate_mask::RowPlan,
}

#[pymethods]
impl RowPlan {
    #[new]
    #[pyo3(signature = (columns, masks, detectors, key))]
    fn new(
        columns: Vec<Bound<'_, PyAny>>,
        masks: Vec<Bound<'_, PyDict>>,
        detectors: Option<&Detectors>,
        key: &[u8],
    ) -> PyResult<RowPlan> {
        let (columns, masks) = (extract_columns(&columns)?, extract_masks(&masks)?);
        let detectors = detectors.map(|detectors| Arc::clone(&detectors.inner));
        let inner = sealgate_mask::RowPlan::new(columns, masks, detectors, extract_key(key)?)
            .map_err(to_value_error)?;
        Ok(RowPlan { inner })
    }

    fn apply<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
        target: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyDict>)> {
        let target = extract_target(target)?;
        let (out, counts) = py
            .detach(|| {
                let (mut out, mut counts) = (Vec::with_capacity(body.len()), Counts::default());
                self.inner
                    .apply(body, target, &mut out, &mut counts)
                    .map(|()| (out, counts))
            })
            .map_err(to_value_error)?;
        Ok((PyBytes::new(py, &out), count_dict(py, &counts)?))
    }
}

/// Masks the data of one COPY on its way to one target.
#[pyclass(module = "sealgate_native.mask", name = "CopyPlan")]
struct CopyMasker {
    inner: CopyStream,
    counts: Counts,
}

#[pymethods]
impl CopyMasker {
    #[new]
    #[pyo3(signature = (options, columns, masks, detectors, key, target = "delivered"))]
    fn new(
        options: &Bound<'_, PyDict>,
        columns: Vec<Bound<'_, PyAny>>,
        masks: Vec<Bound<'_, PyDict>>,
        detectors: Option<&Detectors>,
        key: &[u8],
        target: &str,
    ) -> PyResult<CopyMasker> {
        let (options, columns, masks) = (
            extract_copy_options(options)?,
            extract_columns(&columns)?,
            extract_masks(&masks)?,
        );
        let detectors = detectors.map(|detectors| Arc::clone(&detectors.inner));
        let plan = CopyPlan::new(options, columns, masks, detectors, extract_key(key)?)
            .map_err(to_value_error)?;
        Ok(CopyMasker {
            inner: CopyStream::new(Arc::new(plan), extract_target(target)?),
            counts: Counts::default(),
        })
    }

    fn feed<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let (inner, counts) = (&mut self.inner, &mut self.counts);
        let out = py.detach(|| {
            let mut out = Vec::with_capacity(data.len());
            inner.feed(data, &mut out, counts).map(|()| out)
        });
        Ok(PyBytes::new(py, &out.map_err(to_value_error)?))
    }

    fn finish(&mut self) -> PyResult<()> {
        self.inner.finish().map_err(to_value_error)
    }

    #[getter]
    fn rows(&self) -> u64 {
        self.inner.rows()
    }

    #[getter]
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        count_dict(py, &self.counts)
    }
}

/// `{"masked": {rule: cells}, "detected": {detector: findings}}`.
pub fn count_dict<'py>(py: Python<'py>, counts: &Counts) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    result.set_item("masked", counts.masked())?;
    result.set_item("detected", counts.detected())?;
    Ok(result)
}

/// Columns as `(type_oid, format)` or `(type_oid, format, name)`.
pub fn extract_columns(columns: &[Bound<'_, PyAny>]) -> PyResult<Vec<ColumnDesc>> {
    let extract = |column: &Bound<'_, PyAny>| match column.extract::<(u32, u16, String)>() {
        Ok((type_oid, format, name)) => Ok(ColumnDesc {
            type_oid,
            format,
            name,
        }),
        Err(_) => {
            let (type_oid, format) = column.extract::<(u32, u16)>()?;
            Ok(ColumnDesc {
                type_oid,
                format,
                name: String::new(),
            })
        }
    };
    columns.iter().map(extract).collect()
}

/// Masks as `{"index", "strategy", "rule", "apply"?, "params"?: {"keep_last" | "keep_first" | "email"}, "path"?, "shape"?, "fills_null"?}`; an unknown
/// member is an error.
pub fn extract_masks(masks: &[Bound<'_, PyDict>]) -> PyResult<Vec<ColumnMask>> {
    masks.iter().map(extract_mask).collect()
}

fn extract_mask(mask: &Bound<'_, PyDict>) -> PyResult<ColumnMask> {
    only_members(
        mask,
        &[
            "index",
            "strategy",
            "rule",
            "apply",
            "params",
            "path",
            "shape",
            "fills_null",
        ],
    )?;
    let params = match mask.get_item("params")? {
        Some(params) => params.cast_into::<PyDict>()?,
        None => PyDict::new(mask.py()),
    };
    only_members(&params, &["keep_last", "keep_first", "email"])?;
    let number = |name: &str| {
        params
            .get_item(name)?
            .map(|value| value.extract::<i64>())
            .transpose()
    };
    let email = params
        .get_item("email")?
        .map(|value| value.extract::<bool>())
        .transpose()?
        .unwrap_or(false);
    let strategy = required(mask, "strategy")?.extract::<String>()?;
    let apply = mask
        .get_item("apply")?
        .map(|value| value.extract::<String>())
        .transpose()?;
    Ok(ColumnMask {
        index: required(mask, "index")?.extract()?,
        strategy: Strategy::parse(
            &strategy,
            number("keep_last")?,
            number("keep_first")?,
            email,
        )
        .map_err(to_value_error)?,
        rule: Arc::from(required(mask, "rule")?.extract::<String>()?),
        apply: Apply::parse(apply.as_deref().unwrap_or("both")).map_err(to_value_error)?,
        path: match mask.get_item("path")? {
            Some(path) => extract_path(&path)?,
            None => Vec::new(),
        },
        shape: mask
            .get_item("shape")?
            .map(|shape| extract_shape(&shape))
            .transpose()?,
        fills_null: match mask.get_item("fills_null")? {
            Some(value) => value.extract()?,
            None => false,
        },
    })
}

/// COPY options as `{"format", "delimiter"?, "null"?, "quote"?, "escape"?, "header"?, "max_row_bytes"?}`; the rest is what
/// PostgreSQL assumes for the format.
pub fn extract_copy_options(options: &Bound<'_, PyDict>) -> PyResult<CopyOptions> {
    only_members(
        options,
        &[
            "format",
            "delimiter",
            "null",
            "quote",
            "escape",
            "header",
            "max_row_bytes",
        ],
    )?;
    let format = match required(options, "format")?.extract::<String>()?.as_str() {
        "text" => CopyFormat::Text,
        "csv" => CopyFormat::Csv,
        "binary" => CopyFormat::Binary,
        other => {
            return Err(PyValueError::new_err(format!(
                "unknown COPY format {other:?}"
            )))
        }
    };
    let mut result = CopyOptions::new(format);
    let text = |name: &str| {
        options
            .get_item(name)?
            .map(|value| value.extract::<String>())
            .transpose()
    };
    let byte = |name: &str| match text(name)? {
        None => Ok(None),
        Some(value) if value.len() == 1 => Ok(Some(value.as_bytes()[0])),
        Some(_) => Err(PyValueError::new_err(format!(
            "COPY {name} must be one ASCII character"
        ))),
    };
    result.delimiter = byte("delimiter")?.unwrap_or(result.delimiter);
    result.quote = byte("quote")?.unwrap_or(result.quote);
    // ESCAPE is the quote character unless it is given.
    result.escape = byte("escape")?.unwrap_or(result.quote);
    if let Some(null) = text("null")? {
        result.null = null.into_bytes();
    }
    if let Some(header) = options.get_item("header")? {
        result.has_header = header.extract()?;
    }
    if let Some(limit) = options.get_item("max_row_bytes")? {
        result.max_row_bytes = limit.extract()?;
    }
    Ok(result)
}

/// The key of tokens and hashes: 32 bytes.
pub fn extract_key(key: &[u8]) -> PyResult<[u8; 32]> {
    key.try_into()
        .map_err(|_| PyValueError::new_err("the masking key must have 32 bytes"))
}

fn extract_target(target: &str) -> PyResult<Target> {
    match target {
        "delivered" => Ok(Target::Delivered),
        "record" => Ok(Target::Record),
        other => Err(PyValueError::new_err(format!(
            "a row goes to delivered or record, not to {other:?}"
        ))),
    }
}

fn required<'py>(members: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    members
        .get_item(name)?
        .ok_or_else(|| PyValueError::new_err(format!("{name} is missing")))
}

fn only_members(members: &Bound<'_, PyDict>, known: &[&str]) -> PyResult<()> {
    for name in members.keys() {
        let name = name.extract::<String>()?;
        if !known.contains(&name.as_str()) {
            return Err(PyValueError::new_err(format!(
                "unknown member {name:?}; known are {}",
                known.join(", ")
            )));
        }
    }
    Ok(())
}
