//! Python face of a session's chain of records while native code writes them.
use std::sync::Arc;

use pyo3::prelude::*;
use sealgate_record::{Chain as KernelChain, Progress, Tip};

use super::{Before, Prepared, Sealer};

/// What the host lends of a session's records, and looks at meanwhile.
#[pyclass(frozen, module = "sealgate_native.record")]
pub struct Chain {
    pub inner: Arc<KernelChain>,
}

/// The session's record before the next one.
#[derive(IntoPyObject)]
enum Last<'py> {
    Hash(String),
    Prepared(Bound<'py, Prepared>),
}

#[pymethods]
impl Chain {
    #[new]
    fn new(
        sid: String,
        sealer: &Sealer,
        sseq: u64,
        tip: Before<'_>,
        chunk: u64,
        pending: Vec<String>,
    ) -> Chain {
        let tip = match tip {
            Before::Hash(hash) => Tip::Hash(hash),
            Before::Prepared(prepared) => Tip::Prepared(prepared.get().inner.clone()),
        };
        let progress = Progress {
            sseq,
            tip,
            chunk,
            pending,
        };
        let inner = KernelChain::new(sid, Arc::clone(&sealer.inner), progress);
        Chain {
            inner: Arc::new(inner),
        }
    }

    /// Number of the next record, the record before it, number of the next chunk, decisions without an outcome.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<(u64, Last<'py>, u64, Vec<String>)> {
        let progress = self.inner.progress();
        let last = match &progress.tip {
            Tip::Hash(hash) => Last::Hash(hash.clone()),
            Tip::Prepared(prepared) => {
                let prepared = Prepared::counted(prepared.clone());
                Last::Prepared(Bound::new(py, prepared)?)
            }
        };
        Ok((
            progress.sseq,
            last,
            progress.chunk,
            progress.pending.clone(),
        ))
    }
}
