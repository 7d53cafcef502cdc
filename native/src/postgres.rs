//! Python face of `sealgate-postgres`: converts events and fields, binds the maskers of `sealgate-mask`.
mod events;
mod known;
mod maskers;
mod messages;
mod passed;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use sealgate_postgres::masking::TextMasker;
use sealgate_postgres::{
    Cut, Event, FrameReader as KernelReader, Gate, Known, Limits, ResolveError, RowLimit,
    Session as KernelSession, Violation,
};

use crate::mask::{extract_key, extract_masks, Detectors};
use crate::record::{Counters, Drafts, RowCount};
use events::{client_event, server_event};
use known::{extract_lesson, extract_row_lesson, Checks};
use maskers::{copy_masker, Masks, Texts};
use messages::fields_of;
use passed::{passed, Passed};

/// Below this many bytes the work is shorter than handing the interpreter lock over.
const DETACH_BYTES: usize = 4096;

create_exception!(
    sealgate_native.postgres,
    ProtocolViolation,
    PyValueError,
    "The bytes break the protocol or a limit; `code` is malformed, too_large or unexpected. There is no way back."
);

fn raise(py: Python<'_>, violation: &Violation) -> PyErr {
    let error = ProtocolViolation::new_err(violation.message.clone());
    match error.value(py).setattr("code", violation.code.name()) {
        Ok(()) => error,
        Err(other) => other,
    }
}

fn raise_resolve(py: Python<'_>, error: &ResolveError) -> PyErr {
    match error {
        ResolveError::Violation(violation) => raise(py, violation),
        ResolveError::Rejected(message) => PyValueError::new_err(message.clone()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Messages out of a byte stream, for the login phases.
#[pyclass(frozen, module = "sealgate_native.postgres")]
struct FrameReader {
    inner: Mutex<KernelReader>,
}

#[pymethods]
impl FrameReader {
    #[new]
    fn new(max_message_bytes: usize) -> FrameReader {
        FrameReader {
            inner: Mutex::new(KernelReader::new(max_message_bytes)),
        }
    }

    fn receive(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        lock(&self.inner)
            .receive(data)
            .map_err(|violation| raise(py, &violation))
    }

    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<(String, Bound<'py, PyBytes>)>> {
        let message = lock(&self.inner)
            .next_message()
            .map_err(|violation| raise(py, &violation))?;
        Ok(message.map(|(kind, body)| (char::from(kind).to_string(), PyBytes::new(py, &body))))
    }

    fn take_rest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let rest = lock(&self.inner)
            .take_rest()
            .map_err(|violation| raise(py, &violation))?;
        Ok(PyBytes::new(py, &rest))
    }
}

/// One session between a client and a server.
#[pyclass(frozen, module = "sealgate_native.postgres")]
pub struct Session {
    pub inner: Arc<Mutex<KernelSession>>,
}

impl Session {
    fn receive(
        &self,
        py: Python<'_>,
        data: &[u8],
        gate: Gate,
        into: fn(&mut KernelSession, &[u8], Gate) -> Result<(), Violation>,
    ) -> PyResult<()> {
        let result = if data.len() < DETACH_BYTES {
            into(&mut lock(&self.inner), data, gate)
        } else {
            py.detach(|| into(&mut lock(&self.inner), data, gate))
        };
        result.map_err(|violation| raise(py, &violation))
    }
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (*, max_message_bytes, max_statements, max_portals, max_pending, error_detectors, record_limit_bytes))]
    fn new(
        max_message_bytes: usize,
        max_statements: usize,
        max_portals: usize,
        max_pending: usize,
        error_detectors: Option<&Detectors>,
        record_limit_bytes: usize,
    ) -> Session {
        let text_masker = |detectors: &Detectors| {
            Arc::new(Texts {
                detectors: Arc::clone(&detectors.inner),
            }) as Arc<dyn TextMasker>
        };
        let masker = error_detectors.map(text_masker);
        let limits = Limits {
            max_message_bytes,
            max_statements,
            max_portals,
            max_pending,
            record_limit_bytes,
        };
        Session {
            inner: Arc::new(Mutex::new(KernelSession::new(limits, masker))),
        }
    }

    #[pyo3(signature = (data, now_ns = 0, mono_ns = 0, may_affect = false))]
    fn receive_client(
        &self,
        py: Python<'_>,
        data: &[u8],
        now_ns: u64,
        mono_ns: u64,
        may_affect: bool,
    ) -> PyResult<()> {
        let gate = Gate {
            now_ns,
            mono_ns,
            may_affect,
        };
        self.receive(py, data, gate, KernelSession::receive_client_within)
    }

    #[pyo3(signature = (data, now_ns = 0, mono_ns = 0, may_affect = false))]
    fn receive_server(
        &self,
        py: Python<'_>,
        data: &[u8],
        now_ns: u64,
        mono_ns: u64,
        may_affect: bool,
    ) -> PyResult<()> {
        let gate = Gate {
            now_ns,
            mono_ns,
            may_affect,
        };
        self.receive(py, data, gate, KernelSession::receive_server_within)
    }

    /// An arrival of the client and all that came of it, in one call.
    fn pass_client<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        now_ns: u64,
        mono_ns: u64,
        may_affect: bool,
    ) -> PyResult<Passed<'py>> {
        self.receive_client(py, data, now_ns, mono_ns, may_affect)?;
        passed(py, &mut lock(&self.inner))
    }

    /// The same for an arrival of the server.
    fn pass_server<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        now_ns: u64,
        mono_ns: u64,
        may_affect: bool,
    ) -> PyResult<Passed<'py>> {
        self.receive_server(py, data, now_ns, mono_ns, may_affect)?;
        passed(py, &mut lock(&self.inner))
    }

    /// Lets the session answer by itself what it has learned.
    fn set_known(
        &self,
        salt: &[u8],
        detectors: &Detectors,
        counters: &Counters,
        keeps_transcript: bool,
    ) {
        let check = Arc::new(Checks {
            detectors: Arc::clone(&detectors.inner),
        });
        let known = Known::new(
            salt.to_vec(),
            check,
            Arc::clone(&counters.inner),
            keeps_transcript,
        );
        lock(&self.inner).set_known(known);
    }

    /// Keeps a decision; the number of the lesson, none when it is not kept.
    fn learn(
        &self,
        kind: &str,
        sql: &str,
        types: Vec<u32>,
        lesson: &Bound<'_, PyDict>,
    ) -> PyResult<Option<u64>> {
        let event = match kind {
            "query" => Event::Query,
            "parse" => Event::Parse,
            "execute" => Event::Execute,
            other => return Err(PyValueError::new_err(format!("no message {other:?}"))),
        };
        let lesson = extract_lesson(lesson)?;
        Ok(lock(&self.inner)
            .known()
            .and_then(|known| known.learn(event, sql, types, lesson)))
    }

    fn report_ready(&self, is_wanted: bool) {
        lock(&self.inner).report_ready(is_wanted);
    }

    fn bind_rows(&self, bounds: Vec<(PyRef<'_, RowCount>, Option<u64>)>) {
        let bound = |(count, bound): &(PyRef<'_, RowCount>, Option<u64>)| {
            (Arc::clone(&count.inner), bound.unwrap_or(u64::MAX))
        };
        if let Some(known) = lock(&self.inner).known() {
            known.bind_rows(bounds.iter().map(bound).collect());
        }
    }

    fn forget_lessons(&self) {
        if let Some(known) = lock(&self.inner).known() {
            known.forget_all();
        }
    }

    /// Everything known of an action the session let through, which is the host's from now on.
    fn adopt<'py>(&self, py: Python<'py>, label: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        let adopted = lock(&self.inner)
            .known()
            .and_then(|known| known.adopt(label));
        adopted
            .map(|adopted| known::adopted(py, adopted))
            .transpose()
    }

    fn open_labels(&self) -> Vec<u64> {
        lock(&self.inner)
            .known()
            .map_or_else(Vec::new, |known| known.open_labels())
    }

    /// Records made since the last call.
    fn take_drafts(&self) -> Option<Drafts> {
        let (inner, has_effects) = lock(&self.inner).known()?.take_drafts()?;
        Some(Drafts::new(inner, has_effects))
    }

    fn next_client_event<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let event = lock(&self.inner)
            .next_client_event()
            .map_err(|violation| raise(py, &violation))?;
        event.map(|event| client_event(py, event)).transpose()
    }

    fn next_server_event<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let event = lock(&self.inner)
            .next_server_event()
            .map_err(|violation| raise(py, &violation))?;
        event.map(|event| server_event(py, event)).transpose()
    }

    fn break_off<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let events = lock(&self.inner).break_off();
        let events = events.into_iter().map(|event| server_event(py, event));
        events.collect()
    }

    #[pyo3(signature = (id, action, now_ns = 0, mono_ns = 0, may_affect = false))]
    fn forward(
        &self,
        py: Python<'_>,
        id: u64,
        action: u64,
        now_ns: u64,
        mono_ns: u64,
        may_affect: bool,
    ) -> PyResult<bool> {
        let gate = Gate {
            now_ns,
            mono_ns,
            may_affect,
        };
        lock(&self.inner)
            .forward_within(id, action, gate)
            .map_err(|error| raise_resolve(py, &error))
    }

    fn show_process(&self, real: i32, shown: i32) {
        lock(&self.inner).show_process(real, shown);
    }

    fn note_server_encoding(&self, name: &str) {
        lock(&self.inner).note_server_encoding(name);
    }

    fn blur_server_limit(&self) {
        lock(&self.inner).blur_server_limit();
    }

    fn begin_epoch(&self, epoch: u64) {
        lock(&self.inner).begin_epoch(epoch);
    }

    fn hide_texts(&self, lasts: bool) {
        lock(&self.inner).hide_texts(lasts);
    }

    fn refuse(&self, py: Python<'_>, id: u64, fields: &Bound<'_, PyDict>) -> PyResult<()> {
        let fields = fields_of(fields)?;
        lock(&self.inner)
            .refuse(id, &fields)
            .map_err(|error| raise_resolve(py, &error))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword of the Python method"
    )]
    #[pyo3(signature = (id, masks, detectors, key, row_limit = None, lesson = None, cut = None, once = false, why = String::new()))]
    fn resolve_rows(
        &self,
        py: Python<'_>,
        id: u64,
        masks: Vec<Bound<'_, PyDict>>,
        detectors: Option<&Detectors>,
        key: &[u8],
        row_limit: Option<u64>,
        lesson: Option<(u64, Bound<'_, PyDict>)>,
        cut: Option<(String, Option<String>)>,
        once: bool,
        why: String,
    ) -> PyResult<()> {
        let cut = cut.map(|(rule, tag)| Cut {
            rule: Arc::from(rule),
            tag: tag.map(Arc::from),
        });
        if cut.is_some() && row_limit.is_none() {
            return Err(PyValueError::new_err(
                "a result without a row limit cannot be cut",
            ));
        }
        let row_limit = row_limit.map(|rows| RowLimit {
            rows,
            cut,
            is_once: once,
            why: Arc::from(why),
        });
        let lesson = lesson
            .map(|(number, lesson)| extract_row_lesson(&lesson).map(|lesson| (number, lesson)))
            .transpose()?;
        let detectors = detectors.map(|detectors| Arc::clone(&detectors.inner));
        let masking = Arc::new(Masks {
            masks: extract_masks(&masks)?,
            detectors,
            key: extract_key(key)?,
        });
        py.detach(|| lock(&self.inner).resolve_rows_learning(id, masking, row_limit, lesson))
            .map_err(|error| raise_resolve(py, &error))
    }

    #[pyo3(signature = (id, masks, detectors, key, options = None))]
    fn resolve_copy(
        &self,
        py: Python<'_>,
        id: u64,
        masks: Vec<Bound<'_, PyDict>>,
        detectors: Option<&Detectors>,
        key: &[u8],
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let detectors = detectors.map(|detectors| Arc::clone(&detectors.inner));
        let (masks, key) = (extract_masks(&masks)?, extract_key(key)?);
        let Some(shape) = lock(&self.inner).waiting_copy(id) else {
            return Err(PyValueError::new_err(format!(
                "no COPY of the server waits to be resolved as {id}"
            )));
        };
        let masker = copy_masker(shape, masks, detectors, key, options)?;
        py.detach(|| lock(&self.inner).resolve_copy(id, masker))
            .map_err(|error| raise_resolve(py, &error))
    }

    fn withhold(&self, py: Python<'_>, id: u64, fields: &Bound<'_, PyDict>) -> PyResult<()> {
        let fields = fields_of(fields)?;
        py.detach(|| lock(&self.inner).withhold(id, &fields))
            .map_err(|error| raise_resolve(py, &error))
    }

    fn forget_plans(&self, py: Python<'_>) -> PyResult<()> {
        lock(&self.inner)
            .forget_plans()
            .map_err(|violation| raise(py, &violation))
    }

    fn take_to_client<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = lock(&self.inner)
            .take_to_client()
            .map_err(|violation| raise(py, &violation))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn take_to_server<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = lock(&self.inner)
            .take_to_server()
            .map_err(|violation| raise(py, &violation))?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[getter]
    fn transaction_status(&self) -> String {
        char::from(lock(&self.inner).transaction_status()).to_string()
    }

    #[getter]
    fn is_settled(&self) -> bool {
        lock(&self.inner).is_settled()
    }

    #[getter]
    fn is_caught_up(&self) -> bool {
        lock(&self.inner).is_caught_up()
    }

    #[getter]
    fn error_count(&self) -> u64 {
        lock(&self.inner).error_count()
    }

    #[getter]
    fn is_pipeline_open(&self) -> bool {
        lock(&self.inner).is_pipeline_open()
    }

    #[getter]
    fn awaits_client(&self) -> bool {
        lock(&self.inner).awaits_client()
    }

    fn may_be_portal(&self, name: &str) -> bool {
        lock(&self.inner).may_be_portal(name)
    }

    #[getter]
    fn pending(&self) -> usize {
        lock(&self.inner).pending()
    }

    #[getter]
    fn has_client_events(&self) -> bool {
        lock(&self.inner).has_client_events()
    }

    #[getter]
    fn is_holding(&self) -> bool {
        lock(&self.inner).is_holding()
    }

    #[getter]
    fn runs_alone(&self) -> bool {
        lock(&self.inner).runs_alone()
    }

    #[getter]
    fn client_buffered(&self) -> usize {
        lock(&self.inner).client_buffered()
    }

    #[getter]
    fn server_buffered(&self) -> usize {
        lock(&self.inner).server_buffered()
    }

    #[getter]
    fn is_failed(&self) -> bool {
        lock(&self.inner).failure().is_some()
    }
}

/// Adds the submodule `sealgate_native.postgres`.
pub fn register(py: Python<'_>, parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(py, "postgres")?;
    module.add("ProtocolViolation", py.get_type::<ProtocolViolation>())?;
    module.add("CLIENT_EVENTS", sealgate_postgres::CLIENT_EVENTS)?;
    module.add("SERVER_EVENTS", sealgate_postgres::SERVER_EVENTS)?;
    module.add("HOLDING", sealgate_postgres::HOLDING)?;
    module.add("SETTLED", sealgate_postgres::SETTLED)?;
    module.add_class::<FrameReader>()?;
    module.add_class::<Session>()?;
    module.add_class::<RowCount>()?;
    module.add_function(wrap_pyfunction!(known::skeleton, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::parse_startup, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::encode_message, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::encode_error, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::encode_notice, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::encode_ready, &module)?)?;
    module.add_function(wrap_pyfunction!(
        messages::encode_parameter_status,
        &module
    )?)?;
    module.add_function(wrap_pyfunction!(messages::encode_backend_key, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::encode_startup, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::encode_query, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::encode_negotiate, &module)?)?;
    module.add_function(wrap_pyfunction!(messages::decode_error, &module)?)?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.postgres", &module)
}
