//! Python face of the write-ahead log's writer.
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sealgate_record::{
    AppendError, BatchPlace, Item, Noticed, Pause, Plan, Position, SealError,
    SegmentFile as KernelSegment, Source, Writer as KernelWriter, Written as KernelWritten,
};

use super::written::Written;
use super::{raise, Prepared};

/// A part of an entry.
#[derive(FromPyObject)]
enum Part {
    Bytes(PyBackedBytes),
    Prepared(Py<Prepared>),
}

impl Source for Part {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), SealError> {
        match self {
            Part::Bytes(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
            Part::Prepared(prepared) => prepared.get().inner.write_items(out),
        }
    }
}

fn raise_append(error: &AppendError) -> PyErr {
    match error {
        AppendError::Disk(error) => raise_os(error),
        AppendError::Records(error) => raise(error),
    }
}

pub(crate) fn raise_os(error: &std::io::Error) -> PyErr {
    PyOSError::new_err((error.raw_os_error().unwrap_or_default(), error.to_string()))
}

/// One segment of the write-ahead log, appended to without the interpreter.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct SegmentFile {
    inner: KernelSegment,
}

#[pymethods]
impl SegmentFile {
    #[new]
    fn new(path: PathBuf) -> PyResult<SegmentFile> {
        let inner = KernelSegment::open(&path).map_err(|error| raise_os(&error))?;
        Ok(SegmentFile { inner })
    }

    /// Writes one batch and makes it durable; the bytes it takes.
    fn append(
        &self,
        py: Python<'_>,
        parts: Vec<Part>,
        number: u64,
        first_index: u64,
        records: u32,
        offset: u64,
    ) -> PyResult<u64> {
        let place = BatchPlace {
            number,
            first_index,
            records,
            offset,
        };
        let fill = |out: &mut Vec<u8>| parts.iter().try_for_each(|part| part.write(out));
        py.detach(|| self.inner.append(place, 0, fill))
            .map_err(|error| raise_append(&error))
    }
}

/// The queue in front of the writer thread, and its loop.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Writer {
    pub inner: Arc<KernelWriter>,
}

/// Entries of the host, or records it did not queue.
#[derive(IntoPyObject)]
enum Notice<'py> {
    Own(u64),
    Foreign(Bound<'py, Written>),
}

#[pymethods]
impl Writer {
    #[new]
    fn new(
        max_entries: usize,
        max_batch: usize,
        max_queue: usize,
        first_segment: usize,
        segment: usize,
        next_index: u64,
    ) -> PyResult<Writer> {
        let plan = Plan {
            max_entries,
            max_batch,
            max_queue,
            first_segment,
            segment,
        };
        let inner = KernelWriter::new(plan, next_index).map_err(|error| raise_os(&error))?;
        Ok(Writer {
            inner: Arc::new(inner),
        })
    }

    /// Takes the turn to number records.
    fn __enter__(&self, py: Python<'_>) {
        if !self.inner.try_hold() {
            py.detach(|| self.inner.hold());
        }
    }

    /// Gives it back.
    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, pyo3::types::PyTuple>) {
        self.inner.release();
    }

    fn fileno(&self) -> i32 {
        self.inner.descriptor()
    }

    fn notice<'py>(&self, py: Python<'py>) -> PyResult<Vec<Notice<'py>>> {
        let mut notices = Vec::new();
        let mut foreign = Vec::new();
        for noticed in self.inner.notice() {
            match noticed {
                Noticed::Own(count) => {
                    gather(py, &mut foreign, &mut notices)?;
                    notices.push(Notice::Own(count));
                }
                Noticed::Foreign(written) => {
                    let unknown = "an entry of an unknown kind was written";
                    let written = written.downcast::<KernelWritten>();
                    foreign.push(*written.map_err(|_| PyRuntimeError::new_err(unknown))?);
                }
            }
        }
        gather(py, &mut foreign, &mut notices)?;
        Ok(notices)
    }

    #[getter]
    fn durable(&self) -> u64 {
        self.inner.durable()
    }

    #[getter]
    fn next_index(&self) -> u64 {
        self.inner.next_index()
    }

    #[getter]
    fn queued_bytes(&self) -> usize {
        self.inner.queued_bytes()
    }

    fn has_room(&self, size: usize) -> bool {
        self.inner.has_room(size)
    }

    fn needs_segment(&self, size: usize) -> bool {
        self.inner.needs_segment(size)
    }

    fn plan_segment(&self) {
        self.inner.plan_segment();
    }

    /// Records and bytes that the host did not queue and that are not durable.
    fn count_foreign(&self) -> (u64, usize) {
        self.inner.count_foreign()
    }

    fn push(
        &self,
        parts: Vec<Part>,
        records: u32,
        size: usize,
        starts_segment: bool,
        has_thread: bool,
        rings: bool,
    ) {
        let boxed = |part| Box::new(part) as Box<dyn Source>;
        let item = Item {
            parts: parts.into_iter().map(boxed).collect(),
            records,
            size,
            starts_segment,
            has_thread,
            foreign: None,
        };
        self.inner.push(item, rings);
    }

    fn ring(&self) {
        self.inner.ring();
    }

    fn stop(&self) {
        self.inner.stop();
    }

    fn close(&self) {
        self.inner.close();
    }

    fn totals(&self) -> (u64, u64, u64) {
        let totals = &self.inner.totals;
        let read = |total: &std::sync::atomic::AtomicU64| total.load(Ordering::Relaxed);
        (
            read(&totals.syncs),
            read(&totals.sync_ns),
            read(&totals.bytes),
        )
    }

    /// Writes until something is the host's to do: why, the next batch's number and offset, and what went wrong.
    fn run(
        &self,
        py: Python<'_>,
        file: Option<&SegmentFile>,
        number: u64,
        first_index: u64,
        offset: u64,
        mark: u64,
    ) -> (&'static str, u64, u64, Option<Py<PyAny>>) {
        let position = Position {
            number,
            first_index,
            offset,
        };
        let file = file.map(|file| &file.inner);
        let (pause, position) = py.detach(|| self.inner.run(file, position, mark));
        let (why, error) = match pause {
            Pause::Segment => ("segment", None),
            Pause::Acknowledge => ("acknowledge", None),
            Pause::Mark => ("mark", None),
            Pause::Stopped => ("stopped", None),
            Pause::Failed(error) => {
                let error = raise_append(&error).into_value(py).into_any();
                ("failed", Some(error))
            }
        };
        (why, position.number, position.offset, error)
    }
}

fn gather<'py>(
    py: Python<'py>,
    foreign: &mut Vec<KernelWritten>,
    notices: &mut Vec<Notice<'py>>,
) -> PyResult<()> {
    if !foreign.is_empty() {
        let written = Written::new(std::mem::take(foreign));
        notices.push(Notice::Foreign(Bound::new(py, written)?));
    }
    Ok(())
}
