//! Waking somebody who watches a descriptor: rung any number of times, heard once.
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{eventfd, EventfdFlags};

/// A bell. `docs/decisions/0014-learned-sessions-have-a-thread.md`.
pub struct Bell {
    descriptor: OwnedFd,
    is_rung: AtomicBool,
}

impl Bell {
    /// A bell that was not rung.
    pub fn new() -> std::io::Result<Bell> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell {
            descriptor,
            is_rung: AtomicBool::new(false),
        })
    }

    /// Makes the descriptor readable until somebody hears it.
    pub fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::SeqCst) {
            // A counter that is full says the same: whoever reads it has something to look at.
            let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
        }
    }

    /// Makes it unreadable. What was done before anybody rang is seen by whoever looks after this.
    pub fn hear(&self) {
        let mut buffer = [0; 8];
        let _ = rustix::io::read(&self.descriptor, &mut buffer);
        self.is_rung.store(false, Ordering::SeqCst);
    }

    /// The descriptor's number.
    pub fn number(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_heard_once_however_often_it_rang() {
        let bell = Bell::new().unwrap();
        let mut buffer = [0; 8];
        bell.ring();
        bell.ring();
        bell.hear();
        assert!(rustix::io::read(&bell.descriptor, &mut buffer).is_err());
        bell.ring();
        assert_eq!(rustix::io::read(&bell.descriptor, &mut buffer), Ok(8));
        assert!(bell.number() > 2);
    }
}
