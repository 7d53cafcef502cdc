//! Python face of the write-ahead log's writer.
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use sealgate_record::{
    AppendError, BatchPlace, Item, Pause, Position, SealError, SegmentFile as KernelSegment,
    Source, Writer as KernelWriter,
};

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

fn raise_os(error: &std::io::Error) -> PyErr {
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
    inner: KernelWriter,
}

#[pymethods]
impl Writer {
    #[new]
    fn new(max_entries: usize, max_bytes: usize) -> PyResult<Writer> {
        let inner = KernelWriter::new(max_entries, max_bytes).map_err(|error| raise_os(&error))?;
        Ok(Writer { inner })
    }

    fn fileno(&self) -> i32 {
        self.inner.descriptor()
    }

    fn notice(&self) -> u64 {
        self.inner.notice()
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
