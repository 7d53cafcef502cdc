//! Python face of `sealgate-sql`.
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use sealgate_sql::{
    analyze as run, find_row_fields as find_fields, uses_whole_row as find_whole_row, Analysis,
    Column, Copy, Limits, Name, Said, Statement,
};

/// Adds the submodule `sealgate_native.sql`.
pub fn register(py: Python<'_>, parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(py, "sql")?;
    module.add_function(wrap_pyfunction!(analyze, &module)?)?;
    module.add_function(wrap_pyfunction!(uses_whole_row, &module)?)?;
    module.add_function(wrap_pyfunction!(find_row_fields, &module)?)?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.sql", &module)
}

/// Says what every statement of a text can do; bad SQL is a result with status "failed", never an exception.
#[pyfunction]
#[pyo3(signature = (sql, *, max_bytes = 1 << 20, max_depth = 256))]
fn analyze<'py>(
    py: Python<'py>,
    sql: &Bound<'py, PyString>,
    max_bytes: usize,
    max_depth: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    let outcome = match sql.to_str() {
        Ok(text) => py.detach(|| {
            run(
                text,
                Limits {
                    max_bytes,
                    max_depth,
                },
            )
        }),
        Err(_) => Analysis::Failed("the text is not valid Unicode".to_owned()),
    };
    match outcome {
        Analysis::Failed(reason) => {
            result.set_item("status", "failed")?;
            result.set_item("reason", reason)?;
            result.set_item("statement_count", 0)?;
            result.set_item("statements", PyList::empty(py))?;
        }
        Analysis::Ok(statements) => {
            result.set_item("status", "ok")?;
            result.set_item("statement_count", statements.len())?;
            let facts = statements
                .iter()
                .map(|found| statement(py, found))
                .collect::<PyResult<Vec<_>>>()?;
            result.set_item("statements", facts)?;
        }
    }
    Ok(result)
}

/// The fields of the row it runs for that the body of a trigger or rule names.
#[pyfunction]
fn find_row_fields(source: &str) -> Vec<String> {
    find_fields(source)
}

/// Whether the body of a trigger or rule uses the row it runs for as one value.
#[pyfunction]
fn uses_whole_row(source: &str) -> bool {
    find_whole_row(source)
}

fn statement<'py>(py: Python<'py>, found: &Statement) -> PyResult<Bound<'py, PyDict>> {
    let facts = PyDict::new(py);
    facts.set_item("verb", found.verb)?;
    facts.set_item("text", &found.text)?;
    facts.set_item("effects", found.effects.names())?;
    let tables = PyList::empty(py);
    for table in &found.tables {
        let entry = name(py, table.schema.as_deref(), &table.name)?;
        entry.set_item("access", table.access.name())?;
        tables.append(entry)?;
    }
    facts.set_item("tables", tables)?;
    let columns = PyList::empty(py);
    for (used, usage) in &found.columns {
        let entry = column(py, used)?;
        entry.set_item("use", usage.name())?;
        columns.append(entry)?;
    }
    facts.set_item("columns", columns)?;
    facts.set_item(
        "assigned",
        found
            .assigned
            .iter()
            .map(|used| column(py, used))
            .collect::<PyResult<Vec<_>>>()?,
    )?;
    facts.set_item(
        "blended",
        found
            .blended
            .iter()
            .map(|used| column(py, used))
            .collect::<PyResult<Vec<_>>>()?,
    )?;
    facts.set_item("filled", PyList::new(py, &found.filled)?)?;
    facts.set_item("reassigned", PyList::new(py, &found.reassigned)?)?;
    facts.set_item("makes_values", found.makes_values)?;
    facts.set_item("has_new_numbers", found.has_new_numbers)?;
    facts.set_item("stated_rows", found.stated_rows)?;
    let keyed = PyList::empty(py);
    for rows in &found.keyed_rows {
        let entry = name(py, rows.table.schema.as_deref(), &rows.table.name)?;
        entry.set_item("columns", PyList::new(py, &rows.columns)?)?;
        entry.set_item("times", rows.times)?;
        let said = PyDict::new(py);
        for (column, value) in &rows.said {
            match value {
                Said::Constant(text) => said.set_item(column, text)?,
                Said::Parameter(number) => said.set_item(column, number)?,
            }
        }
        entry.set_item("said", said)?;
        keyed.append(entry)?;
    }
    facts.set_item("keyed_rows", keyed)?;
    let functions = PyList::empty(py);
    for function in &found.functions {
        let entry = name(py, function.schema.as_deref(), &function.name)?;
        entry.set_item("args", function.args)?;
        functions.append(entry)?;
    }
    facts.set_item("functions", functions)?;
    facts.set_item("attributes", PyList::new(py, &found.attributes)?)?;
    facts.set_item("operators", names(py, found.operators.iter())?)?;
    facts.set_item("types", names(py, found.types.iter())?)?;
    facts.set_item("has_where", found.has_where)?;
    facts.set_item("has_limit", found.has_limit)?;
    facts.set_item("set_vars", PyList::new(py, &found.set_vars)?)?;
    facts.set_item("is_explain_analyze", found.is_explain_analyze)?;
    facts.set_item("fingerprint", &found.fingerprint)?;
    facts.set_item("flags", PyList::new(py, &found.flags)?)?;
    facts.set_item("new_names", PyList::new(py, &found.new_names)?)?;
    facts.set_item("altered", &found.altered)?;
    facts.set_item("index_names", PyList::new(py, &found.index_names)?)?;
    facts.set_item("added_columns", PyList::new(py, &found.added_columns)?)?;
    facts.set_item("outputs", outputs(py, found)?)?;
    if let Some(details) = &found.copy {
        facts.set_item("copy", copy(py, details)?)?;
    }
    set_present(&facts, "object", found.object)?;
    set_present(&facts, "prepared_name", found.prepared_name.as_deref())?;
    set_present(&facts, "cursor_name", found.cursor_name.as_deref())?;
    set_present(&facts, "nested", found.nested)?;
    Ok(facts)
}

fn outputs<'py>(py: Python<'py>, found: &Statement) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for output in &found.outputs {
        let entry = PyDict::new(py);
        set_present(&entry, "name", output.name.as_deref())?;
        entry.set_item("kind", output.kind.name())?;
        entry.set_item(
            "columns",
            output
                .columns
                .iter()
                .map(|used| column(py, used))
                .collect::<PyResult<Vec<_>>>()?,
        )?;
        list.append(entry)?;
    }
    Ok(list)
}

fn copy<'py>(py: Python<'py>, details: &Copy) -> PyResult<Bound<'py, PyDict>> {
    let entry = PyDict::new(py);
    entry.set_item("direction", if details.is_from { "from" } else { "to" })?;
    entry.set_item("source", details.source)?;
    if let Some(relation) = &details.relation {
        entry.set_item(
            "relation",
            name(py, relation.schema.as_deref(), &relation.name)?,
        )?;
    }
    entry.set_item("query", details.query)?;
    entry.set_item("columns", &details.columns)?;
    entry.set_item("format", &details.format)?;
    entry.set_item("header", details.header)?;
    set_present(&entry, "delimiter", details.delimiter.as_deref())?;
    set_present(&entry, "null", details.null.as_deref())?;
    set_present(&entry, "quote", details.quote.as_deref())?;
    set_present(&entry, "escape", details.escape.as_deref())?;
    set_present(&entry, "encoding", details.encoding.as_deref())?;
    Ok(entry)
}

fn column<'py>(py: Python<'py>, used: &Column) -> PyResult<Bound<'py, PyDict>> {
    let entry = PyDict::new(py);
    set_present(&entry, "schema", used.schema.as_deref())?;
    set_present(&entry, "table", used.table.as_deref())?;
    entry.set_item("name", &used.name)?;
    Ok(entry)
}

fn name<'py>(py: Python<'py>, schema: Option<&str>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let entry = PyDict::new(py);
    set_present(&entry, "schema", schema)?;
    entry.set_item("name", name)?;
    Ok(entry)
}

fn names<'a, 'py>(
    py: Python<'py>,
    all: impl Iterator<Item = &'a Name>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    all.map(|each| name(py, each.schema.as_deref(), &each.name))
        .collect()
}

/// Absent means unknown or not applicable.
fn set_present(entry: &Bound<'_, PyDict>, key: &str, value: Option<&str>) -> PyResult<()> {
    match value {
        Some(value) => entry.set_item(key, value),
        None => Ok(()),
    }
}
