//! Python face of `sealgate-record`: sealing, and records that wait for their place in the log.
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use sealgate_postgres::{Counters as KernelCounters, RowCount as KernelRowCount};
use sealgate_record::{
    Drafts as KernelDrafts, Prepared as KernelPrepared, SealError, Sealer as KernelSealer, Seat,
    Slot, Template,
};

mod chain;
pub(crate) mod wal;
mod written;

pub use chain::Chain;
use wal::SegmentFile;
pub use wal::Writer;

/// Below this many bytes the work is shorter than handing the interpreter lock over.
const DETACH_BYTES: usize = 16 << 10;

fn raise(error: &SealError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Seals the chunks of one session.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Sealer {
    pub inner: Arc<KernelSealer>,
}

#[pymethods]
impl Sealer {
    #[new]
    fn new(data_key: &[u8], origin: &str, sid: &str) -> PyResult<Sealer> {
        let inner = KernelSealer::new(data_key, origin, sid).map_err(|error| raise(&error))?;
        Ok(Sealer {
            inner: Arc::new(inner),
        })
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

/// Rows delivered under a bound; sessions of one run share one.
#[pyclass(frozen, module = "sealgate_native.postgres")]
#[derive(Default)]
pub struct RowCount {
    pub inner: Arc<KernelRowCount>,
}

#[pymethods]
impl RowCount {
    #[new]
    fn new() -> RowCount {
        RowCount::default()
    }

    fn add(&self, rows: u64) {
        self.inner.add(rows);
    }

    fn read(&self) -> u64 {
        self.inner.read()
    }
}

/// Records of one session that lack only their place.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Drafts {
    inner: Mutex<Option<KernelDrafts>>,
    #[pyo3(get)]
    has_effects: bool,
    #[pyo3(get)]
    has_decisions: bool,
    #[pyo3(get)]
    has_data: bool,
}

impl Drafts {
    /// Records as a session made them.
    pub fn new(inner: KernelDrafts, has_effects: bool) -> Drafts {
        Drafts {
            has_effects,
            has_decisions: inner.has_decisions(),
            has_data: inner.has_data(),
            inner: Mutex::new(Some(inner)),
        }
    }
}

/// Leaves, their hashes, chunks by number.
type Records<'py> = (
    Vec<Bound<'py, PyBytes>>,
    Vec<Bound<'py, PyBytes>>,
    Vec<(u64, Bound<'py, PyBytes>)>,
);

/// The leaf hash of the session's record before, or what is behind it.
#[derive(FromPyObject)]
enum Before<'py> {
    Hash(String),
    Prepared(Bound<'py, Prepared>),
}

#[pymethods]
impl Drafts {
    /// Gives the records their place, once; their bytes are made later.
    #[allow(clippy::too_many_arguments)] // a place in the log is that many things
    fn place(
        &self,
        sealer: &Sealer,
        sid: String,
        seq: u64,
        sseq: u64,
        previous: Before<'_>,
        chunk: u64,
        ts: String,
        mono_us: u64,
    ) -> PyResult<Prepared> {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = || PyValueError::new_err("records get their place once");
        let measure = waiting.as_ref().ok_or_else(taken)?.measure();
        let measure = measure.map_err(|error| raise(&error))?;
        let drafts = waiting.take().ok_or_else(taken)?;
        let seat = Seat {
            sealer: Arc::clone(&sealer.inner),
            sid: sid.into(),
            seq,
            sseq,
            chunk,
            ts,
            mono_us,
        };
        let inner = match previous {
            Before::Hash(hash) => KernelPrepared::after_hash(hash, drafts, seat),
            Before::Prepared(before) => before.get().inner.before(drafts, seat),
        };
        Ok(Prepared {
            inner,
            records: measure.records,
            chunks: measure.chunks,
            size: measure.bytes,
            opened: measure.opened,
            closed: measure.closed,
        })
    }
}

/// Records at their place, whose bytes are made when they are written.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Prepared {
    pub inner: KernelPrepared,
    #[pyo3(get)]
    records: u64,
    #[pyo3(get)]
    chunks: u64,
    #[pyo3(get)]
    size: usize,
    #[pyo3(get)]
    opened: Vec<String>,
    #[pyo3(get)]
    closed: Vec<String>,
}

impl Prepared {
    /// Records that somebody else counted already.
    fn counted(inner: KernelPrepared) -> Prepared {
        Prepared {
            inner,
            records: 0,
            chunks: 0,
            size: 0,
            opened: Vec::new(),
            closed: Vec::new(),
        }
    }
}

#[pymethods]
impl Prepared {
    fn last_hash(&self) -> PyResult<String> {
        self.inner.last_hash().map_err(|error| raise(&error))
    }

    fn cancel(&self) {
        self.inner.cancel();
    }

    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut items = Vec::new();
        let written = self.inner.write_items(&mut items);
        written.map_err(|error| raise(&error))?;
        Ok(PyBytes::new(py, &items))
    }

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Records<'py>> {
        let done = self.inner.take().map_err(|error| raise(&error))?;
        let bytes = |data: &[u8]| PyBytes::new(py, data);
        let chunks = done.chunks();
        Ok((
            done.leaves().map(bytes).collect(),
            done.hashes.iter().map(|hash| bytes(hash)).collect(),
            chunks.map(|(number, data)| (number, bytes(data))).collect(),
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
    module.add_class::<Prepared>()?;
    module.add_class::<SegmentFile>()?;
    module.add_class::<Writer>()?;
    module.add_class::<Chain>()?;
    module.add_class::<written::Written>()?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.record", &module)
}
