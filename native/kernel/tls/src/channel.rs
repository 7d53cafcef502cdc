//! One TLS connection: the bytes of either side are handed in and out.
use std::io::{ErrorKind, Read, Write};

use openssl::error::ErrorStack;
use openssl::ssl::{Error, ErrorCode, ShutdownResult, Ssl, SslStream};
use openssl::x509::X509VerifyResult;

use crate::Failure;

/// The library's word for a certificate that did not pass; why is in the result of the check.
const UNTRUSTED: &str = "certificate verify failed";

/// Bytes the protocol may answer by itself between two plain ones: forty requests for new keys (RFC 8446 4.6.3), where an honest peer
/// makes one in gigabytes. Each costs us more than it costs the peer.
const MAX_REPLY_BYTES: usize = 1 << 10;

/// Plain bytes that may wait for the rest of a message of the protocol that arrived in part.
const MAX_HELD_BYTES: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The handshake is not over.
    Opening,
    Open,
    /// The peer said that it sends nothing more (RFC 8446 6.1).
    Ended,
    /// It stays so.
    Failed(Failure),
}

/// One connection. What was fed is taken in at once by `read`, except for the part of a record whose rest has not arrived.
pub struct Channel {
    stream: SslStream<Pipe>,
    state: State,
    /// Plain bytes the library takes once it has read more: it writes nothing in the middle of a message it is reading.
    held: Vec<u8>,
    /// Bytes of replies since the last plain byte.
    replied: usize,
}

impl Channel {
    /// A connection whose side is set.
    pub(crate) fn new(ssl: Ssl) -> Result<Channel, Failure> {
        Ok(Channel {
            stream: SslStream::new(ssl, Pipe::default())?,
            state: State::Opening,
            held: Vec::new(),
            replied: 0,
        })
    }

    /// Begins the handshake where this side speaks first; what comes of it is in `take_outgoing`.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.shake_hands()
    }

    /// Takes what the peer sent; `read` it until nothing more comes.
    pub fn feed(&mut self, arrived: &[u8]) {
        // What arrives after an end or an error is nobody's, and is not kept.
        if matches!(self.state, State::Opening | State::Open) {
            self.stream.get_mut().feed(arrived);
        }
    }

    /// Plain bytes of what was fed; 0 where there are none yet, or none any more. Goes on with the handshake first.
    ///
    /// An error stays: a connection that was tampered with never gives another byte.
    pub fn read(&mut self, plain: &mut [u8]) -> Result<usize, Failure> {
        if self.state == State::Opening {
            self.shake_hands()?;
        }
        match &self.state {
            State::Failed(failure) => return Err(failure.clone()),
            State::Opening | State::Ended => return Ok(0),
            State::Open => {}
        }
        let before = self.stream.get_ref().outgoing.len();
        forget_errors();
        let read = self.stream.ssl_read(plain);
        self.replied += self.stream.get_ref().outgoing.len() - before;
        let count = match read {
            Ok(count) => count,
            Err(error) => self.settle(&error).map(|()| 0)?,
        };
        if count > 0 {
            self.replied = 0;
        } else if self.replied > MAX_REPLY_BYTES {
            self.fail(Failure::new("the peer asks for new keys again and again"))?;
        }
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            self.write(&held)?;
        }
        Ok(count)
    }

    /// Encrypts bytes for the peer; they are in `take_outgoing` then, or once more was read where `is_holding`.
    pub fn write(&mut self, plain: &[u8]) -> Result<(), Failure> {
        match &self.state {
            State::Failed(failure) => return Err(failure.clone()),
            State::Opening => return Err(Failure::new("the handshake is not over")),
            State::Open | State::Ended => {}
        }
        let mut rest = plain;
        if !self.held.is_empty() {
            return self.hold(rest);
        }
        while !rest.is_empty() {
            forget_errors();
            match self.stream.ssl_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.code() == ErrorCode::WANT_READ => return self.hold(rest),
                Err(error) => {
                    let failure = self.describe(&error);
                    return self.fail(failure);
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, plain: &[u8]) -> Result<(), Failure> {
        if self.held.len() + plain.len() > MAX_HELD_BYTES {
            return self.fail(Failure::new("a message of the protocol stays unfinished"));
        }
        self.held.extend_from_slice(plain);
        Ok(())
    }

    /// Whether bytes that were written wait for the peer to finish a message.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Tells the peer that nothing more follows; what comes of it is in `take_outgoing`.
    pub fn end(&mut self) {
        if matches!(self.state, State::Open | State::Ended) {
            let told: Result<ShutdownResult, Error> = self.stream.shutdown();
            drop(told); // where it cannot be told, the socket's end says it
        }
    }

    /// What is to be sent to the peer: of the handshake, of `write`, alerts.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stream.get_mut().outgoing)
    }

    /// Whether the handshake is over and nothing failed.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Ended)
    }

    /// Whether nothing more can come from the peer: it said so, or the connection failed.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Failed(_))
    }

    /// The peer's certificate (DER), where it showed one.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        let certificate = self.stream.ssl().peer_certificate()?;
        certificate.to_der().ok()
    }

    /// The protocol name both sides agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.ssl().selected_alpn_protocol()
    }

    /// Such as "TLSv1.3".
    pub fn version(&self) -> &'static str {
        self.stream.ssl().version_str()
    }

    fn shake_hands(&mut self) -> Result<(), Failure> {
        forget_errors();
        match self.stream.do_handshake() {
            Ok(()) => {
                self.state = State::Open;
                Ok(())
            }
            Err(error) => self.settle(&error),
        }
    }

    /// What the library's error means for the connection.
    fn settle(&mut self, error: &Error) -> Result<(), Failure> {
        match error.code() {
            ErrorCode::WANT_READ => Ok(()),
            ErrorCode::ZERO_RETURN if self.state == State::Open => {
                self.state = State::Ended;
                Ok(())
            }
            _ => {
                let failure = self.describe(error);
                self.fail(failure)
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Result<(), Failure> {
        let pipe = self.stream.get_mut();
        (pipe.incoming, pipe.at) = (Vec::new(), 0);
        self.held = Vec::new();
        self.state = State::Failed(failure.clone());
        Err(failure)
    }

    fn describe(&self, error: &Error) -> Failure {
        let reason = match error.ssl_error() {
            Some(stack) => Failure::from(stack.clone()).reason,
            None => error.to_string(),
        };
        // A certificate that nobody checks has a result too.
        match self.stream.ssl().verify_result() {
            result if reason == UNTRUSTED && result != X509VerifyResult::OK => {
                Failure::new(format!("{reason}: {}", result.error_string()))
            }
            _ => Failure::new(reason),
        }
    }
}

/// The library keeps errors per thread, and takes one that somebody else left there for its own.
fn forget_errors() {
    drop(ErrorStack::get());
}

/// What the library takes for a socket.
#[derive(Default)]
struct Pipe {
    incoming: Vec<u8>,
    /// How much of it was read.
    at: usize,
    outgoing: Vec<u8>,
}

impl Pipe {
    fn feed(&mut self, arrived: &[u8]) {
        if self.at == self.incoming.len() {
            self.incoming.clear();
        } else {
            self.incoming.drain(..self.at);
        }
        self.at = 0;
        self.incoming.extend_from_slice(arrived);
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.incoming[self.at..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        if self.at == self.incoming.len() {
            // Nothing is left: an idle connection keeps no buffer.
            (self.incoming, self.at) = (Vec::new(), 0);
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
