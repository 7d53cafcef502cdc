//! Messages outside a session: the first packet, the login phases, what the gateway says itself.
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use sealgate_postgres::{
    encode, error_fields, parse_startup as kernel_parse_startup, Fields, Startup, MAX_STARTUP_BYTES,
};

use super::raise;

pub(super) fn one_byte(text: &str, what: &str) -> PyResult<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && *byte != 0 => Ok(*byte),
        _ => Err(PyValueError::new_err(format!(
            "{what} is one ASCII character, not {text:?}"
        ))),
    }
}

pub(super) fn without_nul<'a>(text: &'a str, what: &str) -> PyResult<&'a str> {
    if text.contains('\0') {
        return Err(PyValueError::new_err(format!(
            "{what} cannot hold a zero byte"
        )));
    }
    Ok(text)
}

pub(super) fn fields_of(fields: &Bound<'_, PyDict>) -> PyResult<Fields> {
    let pair = |(code, text): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<(u8, String)> {
        let (code, text): (String, String) = (code.extract()?, text.extract()?);
        Ok((one_byte(&code, "a field code")?, text))
    };
    fields.iter().map(pair).collect()
}

pub(super) fn fields_dict<'py>(py: Python<'py>, fields: &Fields) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (code, text) in fields {
        dict.set_item(char::from(*code).to_string(), text)?;
    }
    Ok(dict)
}

pub(super) fn pairs_of(params: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    let pair = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<(String, String)> {
        let (name, value): (String, String) = (name.extract()?, value.extract()?);
        without_nul(&name, "a parameter name")?;
        without_nul(&value, "a parameter value")?;
        Ok((name, value))
    };
    params.iter().map(pair).collect()
}

/// Reads the first packet of a connection.
#[pyfunction]
#[pyo3(signature = (data, max_bytes = MAX_STARTUP_BYTES))]
pub(super) fn parse_startup<'py>(
    py: Python<'py>,
    data: &[u8],
    max_bytes: usize,
) -> PyResult<Option<(Bound<'py, PyDict>, usize)>> {
    let Some((startup, consumed)) =
        kernel_parse_startup(data, max_bytes).map_err(|violation| raise(py, &violation))?
    else {
        return Ok(None);
    };
    let event = PyDict::new(py);
    match startup {
        Startup::Ssl => event.set_item("kind", "ssl")?,
        Startup::GssEnc => event.set_item("kind", "gssenc")?,
        Startup::Cancel { pid, secret } => {
            event.set_item("kind", "cancel")?;
            event.set_item("pid", pid)?;
            event.set_item("secret", PyBytes::new(py, &secret))?;
        }
        Startup::Session {
            major,
            minor,
            params,
        } => {
            event.set_item("kind", "startup")?;
            event.set_item("major", major)?;
            event.set_item("minor", minor)?;
            let dict = PyDict::new(py);
            for (name, value) in params {
                dict.set_item(name, value)?;
            }
            event.set_item("params", dict)?;
        }
    }
    Ok(Some((event, consumed)))
}

#[pyfunction]
pub(super) fn encode_message<'py>(
    py: Python<'py>,
    r#type: &str,
    body: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(
        py,
        &encode::message(one_byte(r#type, "a message type")?, body),
    ))
}

#[pyfunction]
pub(super) fn encode_error<'py>(
    py: Python<'py>,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(
        py,
        &encode::fields_message(b'E', &fields_of(fields)?),
    ))
}

#[pyfunction]
pub(super) fn encode_notice<'py>(
    py: Python<'py>,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(
        py,
        &encode::fields_message(b'N', &fields_of(fields)?),
    ))
}

#[pyfunction]
pub(super) fn encode_ready<'py>(py: Python<'py>, status: &str) -> PyResult<Bound<'py, PyBytes>> {
    match status {
        "I" | "T" | "E" => Ok(PyBytes::new(
            py,
            &encode::ready(one_byte(status, "a status")?),
        )),
        _ => Err(PyValueError::new_err("a transaction status is I, T or E")),
    }
}

#[pyfunction]
pub(super) fn encode_parameter_status<'py>(
    py: Python<'py>,
    name: &str,
    value: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let (name, value) = (without_nul(name, "a name")?, without_nul(value, "a value")?);
    Ok(PyBytes::new(py, &encode::parameter_status(name, value)))
}

#[pyfunction]
pub(super) fn encode_backend_key<'py>(
    py: Python<'py>,
    pid: i32,
    secret: &[u8],
) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &encode::backend_key(pid, secret))
}

#[pyfunction]
#[pyo3(signature = (params, minor = 0))]
pub(super) fn encode_startup<'py>(
    py: Python<'py>,
    params: &Bound<'py, PyDict>,
    minor: u16,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(
        py,
        &encode::startup(minor, &pairs_of(params)?),
    ))
}

#[pyfunction]
pub(super) fn encode_query<'py>(py: Python<'py>, sql: &str) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(
        py,
        &encode::query(without_nul(sql, "a query")?),
    ))
}

#[pyfunction]
pub(super) fn encode_negotiate<'py>(
    py: Python<'py>,
    minor: u16,
    options: Vec<String>,
) -> PyResult<Bound<'py, PyBytes>> {
    for option in &options {
        without_nul(option, "an option")?;
    }
    Ok(PyBytes::new(py, &encode::negotiate(minor, &options)))
}

#[pyfunction]
pub(super) fn decode_error<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    fields_dict(
        py,
        &error_fields(body).map_err(|violation| raise(py, &violation))?,
    )
}
