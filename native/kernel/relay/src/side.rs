//! One socket of a lent session, and the bytes that wait to leave through it.
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sealgate_tls::Channel;

/// Bytes taken from a socket at a time: what it usually holds.
const ARRIVAL_BYTES: usize = 64 << 10;

/// Room for an arrival: its bytes as they came, and plain with as much as may have waited for the end of a record (RFC 8446 5.2).
pub const BUFFER_BYTES: usize = ARRIVAL_BYTES * 2 + (32 << 10);

/// A connected socket that does not block, of TCP or a Unix socket, and the TLS channel of what passes through it.
pub struct Line {
    /// The socket.
    pub socket: OwnedFd,
    /// None where nothing is encrypted.
    pub tls: Option<Arc<Mutex<Channel>>>,
}

/// What reading a socket gave.
pub enum Arrival {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The peer is gone.
    Gone,
}

/// A socket with its queue. What is put first leaves first, and nothing before its record is durable.
pub struct Side {
    stream: TcpStream,
    tls: Option<Arc<Mutex<Channel>>>,
    waiting: VecDeque<(u64, Vec<u8>)>,
    unsent: Vec<u8>,
    is_gone: bool,
    /// The TLS channel answered by itself, as when the peer asks for new keys.
    has_replied: bool,
}

impl Side {
    /// A side that nothing waits for.
    pub fn new(line: Line) -> Side {
        Side {
            stream: TcpStream::from(line.socket), // reads and writes a Unix socket alike
            tls: line.tls,
            waiting: VecDeque::new(),
            unsent: Vec::new(),
            is_gone: false,
            has_replied: false,
        }
    }

    /// Reads what has arrived; the plain bytes are at the start of the buffer, of `BUFFER_BYTES`.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Arrival {
        let Some(tls) = self.tls.clone() else {
            return self.read(&mut buffer[..ARRIVAL_BYTES]);
        };
        let (plain, sealed) = buffer.split_at_mut(BUFFER_BYTES - ARRIVAL_BYTES);
        let count = match self.read(sealed) {
            Arrival::Bytes(count) => count,
            other => return other,
        };
        let mut channel = lock(&tls);
        let read = decrypt(&mut channel, &sealed[..count], plain);
        let reply = channel.take_outgoing();
        self.has_replied = !reply.is_empty();
        self.transmit(&reply);
        match read {
            Some(0) if !channel.is_over() => Arrival::Nothing,
            Some(count) if count > 0 => Arrival::Bytes(count),
            _ => Arrival::Gone,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Arrival {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Arrival::Gone,
                Ok(count) => return Arrival::Bytes(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Arrival::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Arrival::Gone,
            }
        }
    }

    /// Sends bytes once the record with index `after` is durable, and never earlier than what was put before; whether they wait.
    pub fn put(&mut self, bytes: Vec<u8>, after: Option<u64>, durable: u64) -> bool {
        if bytes.is_empty() {
            return false;
        }
        match after.max(self.last_index()) {
            Some(index) if index >= durable => {
                self.waiting.push_back((index, bytes));
                true
            }
            _ => {
                self.release(durable);
                self.send(&bytes);
                false
            }
        }
    }

    /// Lets everything leave whose record is durable: those with an index below `durable`.
    pub fn release(&mut self, durable: u64) {
        let mut ready: Vec<u8> = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|(index, _)| *index < durable)
        {
            let Some((_, bytes)) = self.waiting.pop_front() else {
                break;
            };
            if ready.is_empty() {
                ready = bytes;
            } else {
                ready.extend_from_slice(&bytes);
            }
        }
        self.send(&ready);
    }

    /// Encrypts where the peer expects it, and sends.
    fn send(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Some(tls) = self.tls.clone() else {
            return self.transmit(bytes);
        };
        let mut channel = lock(&tls);
        match channel.write(bytes) {
            Ok(()) => self.transmit(&channel.take_outgoing()),
            Err(_) => self.is_gone = true, // it stays so, and the host is told by the channel itself
        }
    }

    /// Sends what the peer takes now and keeps the rest.
    fn transmit(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() && self.unsent.is_empty() && !self.is_gone {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_gone = true, // reading tells the host, which ends the session
            }
        }
        self.unsent.extend_from_slice(&bytes[sent..]);
    }

    /// Whether nothing waits for a record.
    pub fn is_released(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the peer took everything that was released.
    pub fn is_sent(&self) -> bool {
        self.unsent.is_empty() && !self.tls.as_ref().is_some_and(|tls| lock(tls).is_holding())
    }

    /// Whether the host has to look at the connection itself: it is over, although its socket may say nothing of it, or the peer wants
    /// something of the protocol.
    pub fn is_unusual(&self) -> bool {
        self.has_replied || self.tls.as_ref().is_some_and(|tls| lock(tls).is_over())
    }

    /// Bytes that wait for a record.
    pub fn size(&self) -> usize {
        self.waiting.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Index of the record the last bytes wait for.
    pub fn last_index(&self) -> Option<u64> {
        self.waiting.back().map(|(index, _)| *index)
    }

    /// Drops what waits for a record.
    pub fn cut(&mut self) {
        self.waiting.clear();
    }

    /// What the peer has not taken, as it would have been sent.
    pub fn take_unsent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }
}

fn lock(channel: &Mutex<Channel>) -> MutexGuard<'_, Channel> {
    channel.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Plain bytes of what arrived; None where the connection cannot go on.
fn decrypt(channel: &mut Channel, sealed: &[u8], plain: &mut [u8]) -> Option<usize> {
    channel.feed(sealed);
    let mut total = 0;
    loop {
        match channel.read(&mut plain[total..]) {
            Ok(0) => return Some(total),
            Ok(count) => total += count,
            Err(_) => return None,
        }
    }
}

impl AsFd for Side {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Side, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let line = Line {
            socket: OwnedFd::from(ours),
            tls: None,
        };
        (Side::new(line), theirs)
    }

    fn read(peer: &mut UnixStream) -> Vec<u8> {
        let mut buffer = [0; 64];
        match peer.read(&mut buffer) {
            Ok(count) => buffer[..count].to_vec(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                Vec::new()
            }
        }
    }

    #[test]
    fn nothing_leaves_before_its_record_nor_out_of_its_turn() {
        let (mut side, mut peer) = pair();
        assert!(!side.put(b"a".to_vec(), None, 5));
        assert!(side.put(b"b".to_vec(), Some(7), 5));
        assert!(side.put(b"c".to_vec(), Some(6), 5)); // what it depends on comes first, but it was put behind
        assert!(side.put(b"d".to_vec(), None, 5));
        assert!(!side.put(Vec::new(), Some(9), 5));
        assert_eq!(read(&mut peer), b"a");
        side.release(7);
        assert_eq!((read(&mut peer), side.size()), (Vec::new(), 3));
        side.release(8);
        assert_eq!(read(&mut peer), b"bcd");
        assert!(side.is_released() && side.is_sent());
    }

    #[test]
    fn what_the_peer_does_not_take_is_kept_in_order() {
        let (mut side, mut peer) = pair();
        let much = vec![7; 4 << 20];
        assert!(!side.put(much.clone(), None, 0));
        assert!(!side.put(b"last".to_vec(), None, 0));
        assert!(!side.is_sent());
        let unsent = side.take_unsent();
        assert!(unsent.ends_with(b"last"));
        let mut taken = 0;
        let mut buffer = vec![0; 1 << 20];
        while let Ok(count) = peer.read(&mut buffer) {
            taken += count;
        }
        assert_eq!(taken + unsent.len(), much.len() + 4);
    }

    #[test]
    fn a_peer_that_left_is_told_apart_from_one_that_is_silent() {
        let (mut side, peer) = pair();
        let mut buffer = vec![0; BUFFER_BYTES];
        assert!(matches!(side.receive(&mut buffer), Arrival::Nothing));
        (&peer).write_all(b"hi").unwrap();
        assert!(matches!(side.receive(&mut buffer), Arrival::Bytes(2)));
        drop(peer);
        assert!(matches!(side.receive(&mut buffer), Arrival::Gone));
        side.put(b"x".to_vec(), Some(1), 0);
        side.cut();
        assert!(side.is_released());
    }
}
