//! Records of sessions that were lent, once they are durable: handed on for publishing in as few pieces as their order allows.
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sealgate_record::{SealError, Written as KernelWritten};

use super::raise;

/// Records that follow one another in the log.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Written {
    inner: Mutex<Vec<KernelWritten>>,
    #[pyo3(get)]
    records: u64,
    #[pyo3(get)]
    size: usize,
}

/// Session, number of the first chunk, frames as a chunk file holds them.
type Frames<'py> = (String, u64, Bound<'py, PyBytes>);

/// Records, their leaf hashes, chunks by session.
type Taken<'py> = (
    Vec<Bound<'py, PyBytes>>,
    Vec<Bound<'py, PyBytes>>,
    Vec<Frames<'py>>,
);

impl Written {
    pub fn new(written: Vec<KernelWritten>) -> Written {
        Written {
            records: written.iter().map(|one| one.records).sum(),
            size: written.iter().map(|one| one.size).sum(),
            inner: Mutex::new(written),
        }
    }
}

#[pymethods]
impl Written {
    /// The records, once.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Taken<'py>> {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return Err(raise(&SealError("records are handed on once".into())));
        }
        let (mut leaves, mut hashes) = (Vec::new(), Vec::new());
        let mut chunks: Vec<(Arc<str>, u64, Vec<u8>)> = Vec::new();
        for one in waiting.drain(..) {
            let done = one.prepared.take().map_err(|error| raise(&error))?;
            leaves.extend(done.leaves().map(|leaf| PyBytes::new(py, leaf)));
            hashes.extend(done.hashes.iter().map(|hash| PyBytes::new(py, hash)));
            for (number, sealed) in done.chunks() {
                // The chunks of a session follow one another, whatever others come between.
                let known = chunks.iter().position(|(sid, ..)| *sid == one.sid);
                let place = known.unwrap_or_else(|| {
                    chunks.push((Arc::clone(&one.sid), number, Vec::new()));
                    chunks.len() - 1
                });
                push_frame(&mut chunks[place].2, number, sealed);
            }
        }
        let frames = |(sid, number, data): (Arc<str>, u64, Vec<u8>)| {
            (sid.to_string(), number, PyBytes::new(py, &data))
        };
        Ok((leaves, hashes, chunks.into_iter().map(frames).collect()))
    }
}

/// A chunk as a chunk file holds it (`evidence/chunks.py`).
fn push_frame(out: &mut Vec<u8>, number: u64, sealed: &[u8]) {
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
    out.extend_from_slice(sealed);
}
