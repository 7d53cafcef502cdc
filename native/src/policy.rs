//! Python face of `sealgate-policy`: converts documents, releases the interpreter lock while the engine works.
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use sealgate_policy::{Failure, FailureKind, Policy, Value, MAX_DEPTH};

create_exception!(
    sealgate_native.policy,
    EvaluationError,
    PyValueError,
    "Policy gave no value; `kind` is compile, input, error, conflict, deadline or panic."
);

/// The type of `UNDEFINED`.
#[pyclass(frozen, name = "Undefined", module = "sealgate_native.policy")]
struct Undefined;

#[pymethods]
impl Undefined {
    fn __repr__(&self) -> &'static str {
        "UNDEFINED"
    }

    fn __bool__(&self) -> bool {
        false
    }
}

/// Modules and data compiled for one entry point; safe to share between threads.
#[pyclass(frozen, module = "sealgate_native.policy")]
struct CompiledPolicy {
    policy: Policy,
    undefined: Py<Undefined>,
}

#[pymethods]
impl CompiledPolicy {
    #[new]
    #[pyo3(signature = (modules, data_json, entrypoint, *, time_limit_ms = 250))]
    fn new(
        py: Python<'_>,
        modules: Vec<(String, String)>,
        data_json: &str,
        entrypoint: &str,
        time_limit_ms: u64,
    ) -> PyResult<Self> {
        let limit = Duration::from_millis(time_limit_ms);
        let policy = py
            .detach(|| Policy::compile(&modules, data_json, entrypoint, limit))
            .map_err(|failure| raise(py, failure))?;
        let undefined = py
            .import("sealgate_native.policy")?
            .getattr("UNDEFINED")?
            .cast_into::<Undefined>()?
            .unbind();
        Ok(Self { policy, undefined })
    }

    /// The value for an input given as Python objects.
    fn eval<'py>(&self, py: Python<'py>, input: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let input = to_value(input, 0)?;
        self.answer(py, input)
    }

    /// The value for an input given as JSON text.
    fn eval_json<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
        let input = py
            .detach(|| sealgate_policy::value_from_json(text))
            .map_err(|failure| raise(py, failure))?;
        self.answer(py, input)
    }
}

impl CompiledPolicy {
    fn answer<'py>(&self, py: Python<'py>, input: Value) -> PyResult<Bound<'py, PyAny>> {
        match py.detach(|| self.policy.evaluate(input)) {
            Ok(Value::Undefined) => Ok(self.undefined.bind(py).clone().into_any()),
            Ok(value) => to_python(py, &value, 0),
            Err(failure) => Err(raise(py, failure)),
        }
    }
}

/// Bounds the memory of evaluations in this process, in bytes.
#[pyfunction]
fn set_memory_limit(limit_bytes: u64) {
    sealgate_policy::set_memory_limit(limit_bytes);
}

/// Adds the submodule `sealgate_native.policy`.
pub fn register(py: Python<'_>, parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(py, "policy")?;
    module.add("UNDEFINED", Py::new(py, Undefined)?)?;
    module.add("EvaluationError", py.get_type::<EvaluationError>())?;
    module.add("MAX_DEPTH", MAX_DEPTH)?;
    module.add_class::<Undefined>()?;
    module.add_class::<CompiledPolicy>()?;
    module.add_function(wrap_pyfunction!(set_memory_limit, &module)?)?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.policy", &module)
}

fn raise(py: Python<'_>, failure: Failure) -> PyErr {
    let error = EvaluationError::new_err(failure.message);
    match error.value(py).setattr("kind", failure.kind.name()) {
        Ok(()) => error,
        Err(other) => other,
    }
}

fn refuse_input(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raise(py, Failure::new(FailureKind::Input, message))
}

/// A Python value as the engine's, exactly or not at all.
fn to_value(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    let py = object.py();
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = object.cast::<PyString>() {
        return text
            .to_str()
            .map(Value::from)
            .map_err(|_| refuse_input(py, "a text holds a lone surrogate"));
    }
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::from(flag.is_true()));
    }
    if let Ok(number) = object.cast::<PyInt>() {
        return to_integer(number);
    }
    if let Ok(number) = object.cast::<PyFloat>() {
        let number = number.value();
        return if number.is_finite() {
            Ok(Value::from(number))
        } else {
            Err(refuse_input(py, "a number is not finite"))
        };
    }
    if depth >= MAX_DEPTH {
        return Err(refuse_input(
            py,
            format!("the document nests deeper than {MAX_DEPTH}"),
        ));
    }
    if let Ok(members) = object.cast::<PyDict>() {
        let mut value = Value::new_object();
        let target = value
            .as_object_mut()
            .map_err(|_| refuse_input(py, "not an object"))?;
        for (name, member) in members.iter() {
            let name = name
                .cast::<PyString>()
                .map_err(|_| refuse_input(py, "an object has a name that is not text"))?;
            let name = name
                .to_str()
                .map_err(|_| refuse_input(py, "a text holds a lone surrogate"))?;
            target.insert(Value::from(name), to_value(&member, depth + 1)?);
        }
        return Ok(value);
    }
    if let Ok(items) = object.cast::<PyList>() {
        return items
            .iter()
            .map(|item| to_value(&item, depth + 1))
            .collect::<PyResult<Vec<_>>>()
            .map(Value::from);
    }
    if let Ok(items) = object.cast::<PyTuple>() {
        return items
            .iter()
            .map(|item| to_value(&item, depth + 1))
            .collect::<PyResult<Vec<_>>>()
            .map(Value::from);
    }
    Err(refuse_input(
        py,
        format!("a value of type {} is not JSON", object.get_type().name()?),
    ))
}

/// Integers the engine holds exactly; it would round longer ones.
fn to_integer(number: &Bound<'_, PyInt>) -> PyResult<Value> {
    if let Ok(number) = number.extract::<i64>() {
        return Ok(Value::from(number));
    }
    number
        .extract::<u64>()
        .map(Value::from)
        .map_err(|_| refuse_input(number.py(), "an integer does not fit 64 bits"))
}

/// The engine's value as Python objects; sets become lists in the engine's order.
fn to_python<'py>(py: Python<'py>, value: &Value, depth: usize) -> PyResult<Bound<'py, PyAny>> {
    if depth > MAX_DEPTH {
        return Err(raise(
            py,
            Failure::new(
                FailureKind::Error,
                format!("the answer nests deeper than {MAX_DEPTH}"),
            ),
        ));
    }
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(flag) => Ok(PyBool::new(py, *flag).to_owned().into_any()),
        Value::Number(number) => {
            if let Some(number) = number.as_i64() {
                Ok(number.into_pyobject(py)?.into_any())
            } else if let Some(number) = number.as_u64() {
                Ok(number.into_pyobject(py)?.into_any())
            } else {
                let number = number.as_f64().filter(|number| number.is_finite());
                let number = number.ok_or_else(|| {
                    raise(
                        py,
                        Failure::new(FailureKind::Error, "the answer holds a number out of range"),
                    )
                })?;
                Ok(PyFloat::new(py, number).into_any())
            }
        }
        Value::String(text) => Ok(PyString::new(py, text).into_any()),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| to_python(py, item, depth + 1))
                .collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, items)?.into_any())
        }
        Value::Set(items) => {
            let items = items
                .iter_sorted()
                .map(|item| to_python(py, item, depth + 1))
                .collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, items)?.into_any())
        }
        Value::Object(members) => {
            let target = PyDict::new(py);
            for (name, member) in members.iter_sorted() {
                let Value::String(name) = name else {
                    return Err(raise(
                        py,
                        Failure::new(
                            FailureKind::Error,
                            "the answer holds an object with a name that is not text",
                        ),
                    ));
                };
                target.set_item(PyString::new(py, name), to_python(py, member, depth + 1)?)?;
            }
            Ok(target.into_any())
        }
        Value::Undefined => Err(raise(
            py,
            Failure::new(FailureKind::Error, "the answer holds an undefined member"),
        )),
    }
}
