//! An arrival and all that came of it, in one call: what the hot path needs of a session.
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sealgate_postgres::Session as KernelSession;

use super::raise;
use crate::record::Drafts;

/// State, bytes for the server, bytes for the client, records to queue before any of them leaves.
pub(super) type Passed<'py> = (
    u8,
    Option<Bound<'py, PyBytes>>,
    Option<Bound<'py, PyBytes>>,
    Option<Drafts>,
);

pub(super) fn passed<'py>(py: Python<'py>, session: &mut KernelSession) -> PyResult<Passed<'py>> {
    let passed = session
        .take_passed()
        .map_err(|violation| raise(py, &violation))?;
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| PyBytes::new(py, bytes));
    let drafts = passed
        .drafts
        .map(|(inner, has_effects)| Drafts::new(inner, has_effects));
    Ok((
        passed.state,
        some(&passed.to_server),
        some(&passed.to_client),
        drafts,
    ))
}
