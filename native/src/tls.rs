//! Python face of `sealgate-tls`.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sealgate_tls::{
    Channel as KernelChannel, Checks, ClientContext as KernelClient, Failure,
    ServerContext as KernelServer,
};

create_exception!(
    sealgate_native.tls,
    TlsError,
    PyOSError,
    "A certificate cannot be used, or a connection cannot go on."
);

/// Below this many bytes the work is shorter than handing the interpreter lock over.
const DETACH_BYTES: usize = 16 << 10;

/// Plain bytes taken at a time: one record (RFC 8446 5.1).
const RECORD_BYTES: usize = 16 << 10;

fn raise(failure: Failure) -> PyErr {
    TlsError::new_err(failure.reason)
}

/// For listeners.
#[pyclass(frozen, module = "sealgate_native.tls")]
struct ServerContext {
    inner: KernelServer,
}

#[pymethods]
impl ServerContext {
    #[new]
    #[pyo3(signature = (chain, key, alpn=None, /))]
    fn new(chain: &[u8], key: &[u8], alpn: Option<&str>) -> PyResult<ServerContext> {
        let inner = KernelServer::new(chain, key, alpn.map(str::as_bytes)).map_err(raise)?;
        Ok(ServerContext { inner })
    }

    fn accept(&self) -> PyResult<Channel> {
        self.inner.accept().map(Channel::new).map_err(raise)
    }
}

/// For connections to servers.
#[pyclass(frozen, module = "sealgate_native.tls")]
struct ClientContext {
    inner: KernelClient,
}

#[pymethods]
impl ClientContext {
    #[new]
    #[pyo3(signature = (checks, authorities=None, own=None, /))]
    fn new(
        checks: &str,
        authorities: Option<&[u8]>,
        own: Option<(Vec<u8>, Vec<u8>)>,
    ) -> PyResult<ClientContext> {
        let checks = match checks {
            "require" => Checks::Require,
            "verify-ca" => Checks::VerifyCa,
            "verify-full" => Checks::VerifyFull,
            other => return Err(PyValueError::new_err(format!("no such checks: {other}"))),
        };
        let own = own.as_ref().map(|(chain, key)| (&chain[..], &key[..]));
        let inner = KernelClient::new(checks, authorities, own).map_err(raise)?;
        Ok(ClientContext { inner })
    }

    fn connect(&self, host: &str) -> PyResult<Channel> {
        self.inner.connect(host).map(Channel::new).map_err(raise)
    }
}

/// One connection, without its socket.
#[pyclass(frozen, module = "sealgate_native.tls")]
pub struct Channel {
    pub inner: Arc<Mutex<KernelChannel>>,
}

impl Channel {
    fn new(inner: KernelChannel) -> Channel {
        Channel {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, KernelChannel> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Channel {
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut channel = self.lock();
        channel.begin().map_err(raise)?;
        Ok(PyBytes::new(py, &channel.take_outgoing()))
    }

    fn receive<'py>(&self, py: Python<'py>, arrived: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        // Signatures of a handshake take milliseconds.
        let plain = if arrived.len() < DETACH_BYTES && self.is_open() {
            decrypt(&mut self.lock(), arrived)
        } else {
            py.detach(|| decrypt(&mut self.lock(), arrived))
        };
        Ok(PyBytes::new(py, &plain.map_err(raise)?))
    }

    fn send<'py>(&self, py: Python<'py>, plain: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let sealed = if plain.len() < DETACH_BYTES {
            encrypt(&mut self.lock(), plain)
        } else {
            py.detach(|| encrypt(&mut self.lock(), plain))
        };
        Ok(PyBytes::new(py, &sealed.map_err(raise)?))
    }

    fn end<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut channel = self.lock();
        channel.end();
        PyBytes::new(py, &channel.take_outgoing())
    }

    fn take_outgoing<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().take_outgoing())
    }

    #[getter]
    fn is_open(&self) -> bool {
        self.lock().is_open()
    }

    #[getter]
    fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    #[getter]
    fn is_holding(&self) -> bool {
        self.lock().is_holding()
    }

    #[getter]
    fn peer_certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let certificate = self.lock().peer_certificate()?;
        Some(PyBytes::new(py, &certificate))
    }

    #[getter]
    fn alpn(&self) -> Option<String> {
        let channel = self.lock();
        channel
            .alpn()
            .map(|name| String::from_utf8_lossy(name).into_owned())
    }

    #[getter]
    fn version(&self) -> &'static str {
        self.lock().version()
    }
}

fn encrypt(channel: &mut KernelChannel, plain: &[u8]) -> Result<Vec<u8>, Failure> {
    channel.write(plain)?;
    Ok(channel.take_outgoing())
}

fn decrypt(channel: &mut KernelChannel, arrived: &[u8]) -> Result<Vec<u8>, Failure> {
    channel.feed(arrived);
    let mut plain = Vec::new();
    loop {
        let start = plain.len();
        plain.resize(start + arrived.len().clamp(256, RECORD_BYTES), 0);
        let count = channel.read(&mut plain[start..])?;
        plain.truncate(start + count);
        if count == 0 {
            return Ok(plain);
        }
    }
}

/// Adds the submodule `sealgate_native.tls`.
pub fn register(py: Python<'_>, parent: &Bound<'_, PyModule>) -> PyResult<()> {
    let module = PyModule::new(py, "tls")?;
    module.add_class::<ServerContext>()?;
    module.add_class::<ClientContext>()?;
    module.add_class::<Channel>()?;
    module.add("TlsError", py.get_type::<TlsError>())?;
    parent.add_submodule(&module)?;
    py.import("sys")?
        .getattr("modules")?
        .set_item("sealgate_native.tls", &module)
}
