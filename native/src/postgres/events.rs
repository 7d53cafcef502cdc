//! Events as dictionaries.
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use sealgate_postgres::{BoundParameter, ClientEvent, Field, ResultEnd, ServerEvent};

use super::messages::fields_dict;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn parameter<'py>(
    py: Python<'py>,
    bound: &BoundParameter,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(value) = &bound.parameter.value else {
        return Ok(None);
    };
    let dict = PyDict::new(py);
    dict.set_item("format", bound.parameter.format)?;
    dict.set_item("type_oid", bound.type_oid)?;
    match std::str::from_utf8(value) {
        Ok(text) if bound.parameter.format == 0 => dict.set_item("text", text)?,
        _ => dict.set_item("hex", hex(value))?,
    }
    Ok(Some(dict))
}

pub(super) fn client_event<'py>(
    py: Python<'py>,
    event: ClientEvent,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let kind = match event {
        ClientEvent::Query { id, sql } => {
            dict.set_item("id", id)?;
            dict.set_item("sql", sql)?;
            "query"
        }
        ClientEvent::Parse {
            id,
            statement,
            sql,
            param_oids,
        } => {
            dict.set_item("id", id)?;
            dict.set_item("statement", statement)?;
            dict.set_item("sql", sql)?;
            dict.set_item("param_oids", param_oids)?;
            "parse"
        }
        ClientEvent::Execute {
            id,
            portal,
            statement,
            sql,
            params,
            max_rows,
            needs_describe,
            epoch,
        } => {
            dict.set_item("id", id)?;
            dict.set_item("portal", portal)?;
            dict.set_item("statement", statement)?;
            dict.set_item("sql", sql)?;
            let params: Vec<_> = params
                .iter()
                .map(|bound| parameter(py, bound))
                .collect::<PyResult<_>>()?;
            dict.set_item("params", params)?;
            dict.set_item("max_rows", max_rows)?;
            dict.set_item("needs_describe", needs_describe)?;
            dict.set_item("epoch", epoch)?;
            "execute"
        }
        ClientEvent::FunctionCall { id, oid, params } => {
            dict.set_item("id", id)?;
            dict.set_item("oid", oid)?;
            let params: Vec<_> = params
                .iter()
                .map(|bound| parameter(py, bound))
                .collect::<PyResult<_>>()?;
            dict.set_item("params", params)?;
            "function_call"
        }
        ClientEvent::Undecodable { id } => {
            dict.set_item("id", id)?;
            dict.set_item(
                "reason",
                "the text is not UTF-8, so what it says cannot be known",
            )?;
            "refused"
        }
        ClientEvent::CopyInEnd {
            action,
            ok,
            bytes,
            rows,
            sha256,
        } => {
            dict.set_item("action", action)?;
            dict.set_item("ok", ok)?;
            dict.set_item("bytes", bytes)?;
            dict.set_item("rows", rows)?;
            dict.set_item("sha256", hex(&sha256))?;
            "copy_in_end"
        }
        ClientEvent::Terminate => "terminate",
    };
    dict.set_item("kind", kind)?;
    Ok(dict)
}

pub(super) fn field_list<'py>(py: Python<'py>, fields: &[Field]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for field in fields {
        let dict = PyDict::new(py);
        dict.set_item("name", &field.name)?;
        dict.set_item("table_oid", field.table_oid)?;
        dict.set_item("attnum", field.attnum)?;
        dict.set_item("type_oid", field.type_oid)?;
        dict.set_item("type_size", field.type_size)?;
        dict.set_item("type_modifier", field.type_modifier)?;
        list.append(dict)?;
    }
    Ok(list)
}

pub(super) fn server_event<'py>(
    py: Python<'py>,
    event: ServerEvent,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let kind = match event {
        ServerEvent::RowDescription {
            id,
            action,
            statement,
            index,
            described_by,
            fields,
            formats,
        } => {
            dict.set_item("id", id)?;
            dict.set_item("action", action)?;
            dict.set_item("statement", statement)?;
            dict.set_item("index", index)?;
            dict.set_item("described_by", described_by.name())?;
            dict.set_item("fields", field_list(py, &fields)?)?;
            dict.set_item("formats", formats)?;
            "row_description"
        }
        ServerEvent::CopyOut {
            id,
            action,
            index,
            format,
            columns,
        } => {
            dict.set_item("id", id)?;
            dict.set_item("action", action)?;
            dict.set_item("index", index)?;
            dict.set_item("format", format)?;
            dict.set_item("columns", columns)?;
            "copy_out"
        }
        ServerEvent::CopyIn {
            action,
            index,
            format,
            columns,
        } => {
            dict.set_item("action", action)?;
            dict.set_item("index", index)?;
            dict.set_item("format", format)?;
            dict.set_item("columns", columns)?;
            "copy_in"
        }
        ServerEvent::CommandComplete {
            action,
            index,
            tag,
            is_suspended,
            is_withheld,
        } => {
            dict.set_item("action", action)?;
            dict.set_item("index", index)?;
            dict.set_item("tag", tag)?;
            dict.set_item("suspended", is_suspended)?;
            dict.set_item("withheld", is_withheld)?;
            "command_complete"
        }
        ServerEvent::Error {
            action,
            fields,
            detected,
        } => {
            dict.set_item("action", action)?;
            dict.set_item("fields", fields_dict(py, &fields)?)?;
            dict.set_item("detected", detected)?;
            "error"
        }
        ServerEvent::Notice { fields, detected } => {
            dict.set_item("fields", fields_dict(py, &fields)?)?;
            dict.set_item("detected", detected)?;
            "notice"
        }
        ServerEvent::ParameterStatus { name, value } => {
            dict.set_item("name", name)?;
            dict.set_item("value", value)?;
            "parameter_status"
        }
        ServerEvent::Notification {
            pid,
            channel,
            payload,
            detected,
        } => {
            dict.set_item("pid", pid)?;
            dict.set_item("channel", channel)?;
            dict.set_item("payload", payload)?;
            dict.set_item("detected", detected)?;
            "notification"
        }
        ServerEvent::ActionEnd { action, status } => {
            dict.set_item("action", action)?;
            dict.set_item("status", status.name())?;
            "action_end"
        }
        ServerEvent::ResultEnd(end) => {
            result_end(py, &dict, *end)?;
            "result_end"
        }
        ServerEvent::Ready { status } => {
            dict.set_item("status", char::from(status).to_string())?;
            "ready"
        }
    };
    dict.set_item("kind", kind)?;
    Ok(dict)
}

pub(super) fn result_end(py: Python<'_>, dict: &Bound<'_, PyDict>, end: ResultEnd) -> PyResult<()> {
    dict.set_item("action", end.action)?;
    dict.set_item("index", end.index)?;
    dict.set_item("rows", end.rows)?;
    dict.set_item("bytes", end.bytes)?;
    dict.set_item("rows_withheld", end.rows_withheld)?;
    dict.set_item("withheld", end.withheld.map(|reason| reason.name()))?;
    if let Some(rule) = &end.cut_by {
        dict.set_item("cut_by", &**rule)?;
    }
    dict.set_item("masked", end.masked)?;
    dict.set_item("detected", end.detected)?;
    dict.set_item("record", PyBytes::new(py, &end.record))?;
    dict.set_item("record_truncated", end.is_record_truncated)?;
    dict.set_item("sha256", hex(&end.sha256))
}
