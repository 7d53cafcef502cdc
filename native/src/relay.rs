//! Python face of `sealgate-relay`.
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sealgate_relay::{Left as KernelLeft, Line, Loan, Relay as KernelRelay};

use crate::postgres::Session;
use crate::record::wal::raise_os;
use crate::record::{Chain, Drafts, Writer};
use crate::tls::Channel;

/// Carries lent sessions on the thread that calls `run`.
#[pyclass(frozen, module = "sealgate_native.relay")]
struct Relay {
    inner: KernelRelay,
}

/// Records to queue, bytes for the target, bytes for the agent.
type Staged<'py> = (Drafts, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// Number, state, whether records were lost, what is to be queued, what the agent and what the target has not taken.
type Left<'py> = (
    u64,
    u8,
    bool,
    Option<Staged<'py>>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
);

#[pymethods]
impl Relay {
    #[new]
    fn new(writer: &Writer, log_started_ns: u64) -> PyResult<Relay> {
        let inner = KernelRelay::new(Arc::clone(&writer.inner), log_started_ns);
        Ok(Relay {
            inner: inner.map_err(|error| raise_os(&error))?,
        })
    }

    fn fileno(&self) -> i32 {
        self.inner.descriptor()
    }

    fn run(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.run())
            .map_err(|error| raise_os(&error))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.inner.stop());
    }

    fn allow_effects(&self, until_mono_ns: u64) {
        self.inner.allow_effects(until_mono_ns);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is lent is that many things"
    )]
    fn lend(
        &self,
        py: Python<'_>,
        session: &Session,
        chain: &Chain,
        client: (i32, Option<Py<Channel>>),
        server: (i32, Option<Py<Channel>>),
        expires_ns: u64,
        until_mono_ns: u64,
    ) -> PyResult<u64> {
        let [client, server] =
            [client, server].map(|given| take(given).map_err(|error| raise_os(&error)));
        let loan = Loan {
            session: Arc::clone(&session.inner),
            chain: Arc::clone(&chain.inner),
            lines: [client?, server?],
            expires_ns,
            until_mono_ns,
        };
        py.detach(|| self.inner.lend(loan))
            .map_err(|error| raise_os(&error))
    }

    fn recall(&self, py: Python<'_>, number: u64) {
        py.detach(|| self.inner.recall(number));
    }

    fn recall_all(&self, py: Python<'_>) {
        py.detach(|| self.inner.recall_all());
    }

    fn discard<'py>(
        &self,
        py: Python<'py>,
        number: u64,
    ) -> (Bound<'py, PyBytes>, Bound<'py, PyBytes>) {
        let [client, server] = py.detach(|| self.inner.discard(number));
        (PyBytes::new(py, &client), PyBytes::new(py, &server))
    }

    fn take_left<'py>(&self, py: Python<'py>) -> Vec<Left<'py>> {
        let left = py.detach(|| self.inner.take_left());
        left.into_iter().map(|left| give_back(py, left)).collect()
    }

    fn active_ns(&self, py: Python<'_>, number: u64) -> u64 {
        py.detach(|| self.inner.active_ns(number))
    }
}

fn take((number, channel): (i32, Option<Py<Channel>>)) -> std::io::Result<Line> {
    // SAFETY: the host holds the GIL and the socket open during this call, and what comes out is a descriptor of its own.
    #[allow(unsafe_code)]
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(Line {
        socket: borrowed.try_clone_to_owned()?,
        tls: channel.map(|channel| Arc::clone(&channel.get().inner)),
    })
}

fn give_back(py: Python<'_>, left: KernelLeft) -> Left<'_> {
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    let staged = left.staged.map(|staged| {
        let drafts = Drafts::new(staged.drafts, staged.has_effects);
        (drafts, bytes(&staged.to_server), bytes(&staged.to_client))
    });
    let [client, server] = left.unsent.map(|data| bytes(&data));
    (
        left.number,
        left.state,
        left.is_lost,
        staged,
        client,
        server,
    )
}

/// Adds the submodule `sealgate_native.relay`.
pub fn register(py: Python<'_>, parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(py, "relay")?;
    module.add_class::<Relay>()?;
    module.add("FAILED", sealgate_relay::FAILED)?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.relay", &module)
}
