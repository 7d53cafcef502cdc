//! `sealgate_native`: the Python face of the kernel crates.
//!
//! Conversion only: what a statement can do, what a rule says, where a frame ends and what is sensitive is decided in the kernel crates.
use pyo3::prelude::*;

mod mask;
mod policy;
mod postgres;
mod record;
mod relay;
mod shapes;
mod sql;
mod tls;

#[pymodule]
fn sealgate_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    mask::register(py, module)?;
    policy::register(py, module)?;
    postgres::register(py, module)?;
    record::register(py, module)?;
    relay::register(py, module)?;
    sql::register(py, module)?;
    tls::register(py, module)
}
