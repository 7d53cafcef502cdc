//! An arrival and all that came of it, in one call: what the hot path needs of a session.
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sealgate_postgres::{Session as KernelSession, Violation};

use super::raise;
use crate::record::Drafts;

/// State, bytes for the server, bytes for the client, records to queue before any of them leaves.
pub(super) type Passed<'py> = (
    u8,
    Option<Bound<'py, PyBytes>>,
    Option<Bound<'py, PyBytes>>,
    Option<Drafts>,
);

/// What an arrival left behind. While events wait, bytes stay where they are: what is decided about the events comes first.
pub(super) fn passed<'py>(py: Python<'py>, session: &mut KernelSession) -> PyResult<Passed<'py>> {
    let drafts = session.known().and_then(|known| known.take_drafts());
    let drafts = drafts.map(|(inner, has_effects)| Drafts::new(inner, has_effects));
    let has_events = [session.has_client_events(), session.has_server_events()];
    let flags = [
        has_events[0],
        has_events[1],
        session.is_holding(),
        session.is_settled(),
    ];
    let state = flags
        .iter()
        .enumerate()
        .fold(0, |state, (bit, is_set)| state | u8::from(*is_set) << bit);
    let mut take = |take: fn(&mut KernelSession) -> Result<Vec<u8>, Violation>| {
        let bytes = take(session).map_err(|violation| raise(py, &violation))?;
        Ok::<_, PyErr>((!bytes.is_empty()).then(|| PyBytes::new(py, &bytes)))
    };
    let (to_server, to_client) = if has_events.contains(&true) {
        (None, None)
    } else {
        (
            take(KernelSession::take_to_server)?,
            take(KernelSession::take_to_client)?,
        )
    };
    Ok((state, to_server, to_client, drafts))
}
