//! Python face of `sealgate-record`: sealing, and records that wait for their place in the log.
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use sealgate_postgres::Counters as KernelCounters;
use sealgate_record::{
    Drafts as KernelDrafts, Place, SealError, Sealer as KernelSealer, Slot, Template,
};
use std::sync::Arc;

/// Below this many bytes the work is shorter than handing the interpreter lock over.
const DETACH_BYTES: usize = 16 << 10;

fn raise(error: &SealError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Seals the chunks of one session.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Sealer {
    inner: KernelSealer,
}

#[pymethods]
impl Sealer {
    #[new]
    fn new(data_key: &[u8], origin: &str, sid: &str) -> PyResult<Sealer> {
        let inner = KernelSealer::new(data_key, origin, sid).map_err(|error| raise(&error))?;
        Ok(Sealer { inner })
    }

    fn seal<'py>(
        &self,
        py: Python<'py>,
        number: u64,
        plain: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let sealed = if plain.len() < DETACH_BYTES {
            self.inner.seal(number, plain)
        } else {
            py.detach(|| self.inner.seal(number, plain))
        };
        Ok(PyBytes::new(py, &sealed.map_err(|error| raise(&error))?))
    }
}

/// What a session amounts to so far.
#[pyclass(frozen, module = "sealgate_native.record")]
#[derive(Default)]
pub struct Counters {
    pub inner: Arc<KernelCounters>,
}

#[pymethods]
impl Counters {
    #[new]
    fn new() -> Counters {
        Counters::default()
    }

    #[pyo3(signature = (*, actions = 0, refused = 0, rows = 0, bytes = 0))]
    fn add(&self, actions: u64, refused: u64, rows: u64, bytes: u64) {
        self.inner.add(actions, refused, rows, bytes);
    }

    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let names = ["actions", "refused", "rows", "bytes"];
        for (name, count) in names.iter().zip(self.inner.read()) {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }
}

/// Records of one session that lack only their place.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Drafts {
    pub inner: KernelDrafts,
    #[pyo3(get)]
    pub has_effects: bool,
}

type Finished<'py> = (
    Bound<'py, PyBytes>,
    Vec<Bound<'py, PyBytes>>,
    Vec<Bound<'py, PyBytes>>,
    Vec<(u64, Bound<'py, PyBytes>)>,
    Vec<String>,
    Vec<String>,
);

#[pymethods]
impl Drafts {
    #[allow(clippy::too_many_arguments)] // a place in the log is that many things
    fn finish<'py>(
        &self,
        py: Python<'py>,
        sealer: &Sealer,
        sid: &str,
        seq: u64,
        sseq: u64,
        previous: String,
        chunk: u64,
        ts: &str,
        mono_us: u64,
    ) -> PyResult<Finished<'py>> {
        let place = Place {
            sid,
            seq,
            sseq,
            previous,
            chunk,
            ts,
            mono_us,
        };
        let done = self
            .inner
            .finish(place, &sealer.inner)
            .map_err(|error| raise(&error))?;
        let bytes = |data: &Vec<u8>| PyBytes::new(py, data);
        Ok((
            PyBytes::new(py, &done.items),
            done.leaves.iter().map(bytes).collect(),
            done.hashes
                .iter()
                .map(|hash| PyBytes::new(py, hash))
                .collect(),
            done.chunks
                .iter()
                .map(|(number, data)| (*number, PyBytes::new(py, data)))
                .collect(),
            done.opened,
            done.closed,
        ))
    }
}

/// A template: bytes as they are, and names of slots, by turns.
pub fn extract_template(parts: &Bound<'_, PyList>) -> PyResult<Template> {
    let (mut texts, mut slots) = (Vec::new(), Vec::new());
    for part in parts.iter() {
        if let Ok(text) = part.cast::<PyBytes>() {
            texts.push(text.as_bytes().to_vec().into_boxed_slice());
        } else {
            let name: String = part.extract()?;
            let unknown = || PyValueError::new_err(format!("there is no slot {name:?}"));
            slots.push(Slot::named(&name).ok_or_else(unknown)?);
        }
    }
    Template::new(texts, slots)
        .ok_or_else(|| PyValueError::new_err("a template is bytes and slots by turns"))
}

/// Adds the submodule `sealgate_native.record`.
pub fn register(py: Python<'_>, parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(py, "record")?;
    module.add_class::<Sealer>()?;
    module.add_class::<Counters>()?;
    module.add_class::<Drafts>()?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.record", &module)
}
