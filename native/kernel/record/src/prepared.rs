//! Records that have their place, and whose bytes are made when they are written: off the path of whoever waits for nothing else.
//!
//! A record names the hash of the session's record before it, so those of one session are made in their order. They share a `Tail`,
//! which knows what is still to be made; whoever needs one of them makes those before it first.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::draft::{Drafts, Finished, Place};
use crate::seal::{SealError, Sealer};

/// Where in the log prepared records go, and when.
pub struct Seat {
    /// What the session's chunks are sealed with.
    pub sealer: Arc<Sealer>,
    /// The session.
    pub sid: Arc<str>,
    /// Index of the first record in the log.
    pub seq: u64,
    /// Its number in the session.
    pub sseq: u64,
    /// Number of the session's next chunk.
    pub chunk: u64,
    /// Time of the records.
    pub ts: String,
    /// Microseconds since the log was opened.
    pub mono_us: u64,
}

/// The end of a session's chain of records.
struct Tail {
    /// Leaf hash of the last record that was made, hexadecimal.
    hash: String,
    /// What follows it, in order.
    waiting: VecDeque<(Arc<Mutex<State>>, Drafts, Seat)>,
}

enum State {
    Waiting,
    Done(Box<Finished>),
    /// The bytes were handed on; the leaf hash of the last record is left.
    Taken(String),
    Failed(SealError),
}

/// Prepared records of one session, made when they are first needed.
#[derive(Clone)]
pub struct Prepared {
    tail: Arc<Mutex<Tail>>,
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Prepared {
    /// Records that follow a record whose leaf hash, hexadecimal, is known.
    pub fn after_hash(previous: String, drafts: Drafts, seat: Seat) -> Prepared {
        let tail = Tail {
            hash: previous,
            waiting: VecDeque::new(),
        };
        Prepared::join(Arc::new(Mutex::new(tail)), drafts, seat)
    }

    /// Records that follow these; nothing may have been put behind them by other means.
    pub fn before(&self, drafts: Drafts, seat: Seat) -> Prepared {
        Prepared::join(Arc::clone(&self.tail), drafts, seat)
    }

    fn join(tail: Arc<Mutex<Tail>>, drafts: Drafts, seat: Seat) -> Prepared {
        let state = Arc::new(Mutex::new(State::Waiting));
        lock(&tail)
            .waiting
            .push_back((Arc::clone(&state), drafts, seat));
        Prepared { tail, state }
    }

    /// Leaf hash of the last of these records, hexadecimal.
    pub fn last_hash(&self) -> Result<String, SealError> {
        self.finish()?;
        Ok(match &*lock(&self.state) {
            State::Done(done) => done.last_hash(),
            State::Taken(hash) => hash.clone(),
            _ => String::new(),
        })
    }

    /// Gives the place up: nothing was put behind these records, and they will not be written.
    pub fn cancel(&self) {
        let mut tail = lock(&self.tail);
        if let Some((state, ..)) = tail.waiting.back() {
            if Arc::ptr_eq(state, &self.state) {
                tail.waiting.pop_back();
            }
        }
    }

    /// Appends the items of the write-ahead log.
    pub fn write_items(&self, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.finish()?;
        match &*lock(&self.state) {
            State::Done(done) => {
                out.extend_from_slice(&done.items);
                Ok(())
            }
            _ => Err(SealError(
                "prepared records were handed on before they were written".into(),
            )),
        }
    }

    /// The records, once.
    pub fn take(&self) -> Result<Finished, SealError> {
        self.finish()?;
        let mut state = lock(&self.state);
        let State::Done(done) = &*state else {
            return Err(SealError("prepared records are handed on once".into()));
        };
        let left = State::Taken(done.last_hash());
        match std::mem::replace(&mut *state, left) {
            State::Done(done) => Ok(*done),
            _ => Err(SealError("prepared records are handed on once".into())),
        }
    }

    /// Makes the records ahead of need; what goes wrong shows where they are needed.
    pub fn make(&self) {
        let _ = self.finish();
    }

    /// Makes the records, and those before them that were not made.
    fn finish(&self) -> Result<(), SealError> {
        let mut tail = lock(&self.tail);
        while matches!(*lock(&self.state), State::Waiting) {
            let Some(next) = tail.waiting.pop_front() else {
                return Err(SealError("a record was lost before it was made".into()));
            };
            tail.make(next);
        }
        drop(tail);
        self.check()
    }

    fn check(&self) -> Result<(), SealError> {
        match &*lock(&self.state) {
            State::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl Tail {
    fn make(&mut self, (state, drafts, seat): (Arc<Mutex<State>>, Drafts, Seat)) {
        let place = Place {
            sid: &seat.sid,
            seq: seat.seq,
            sseq: seat.sseq,
            previous: self.hash.clone(),
            chunk: seat.chunk,
            ts: &seat.ts,
            mono_us: seat.mono_us,
        };
        *lock(&state) = match drafts.finish(place, &seat.sealer) {
            Ok(done) => {
                self.hash = done.last_hash();
                State::Done(Box::new(done))
            }
            // What follows would name a record that does not exist; the log stops at the failed one, before any of them is written.
            Err(error) => State::Failed(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{Draft, Outcome};

    fn ended(decision_id: &str) -> Drafts {
        let mut drafts = Drafts::default();
        drafts.push(Draft::Outcome {
            decision_id: decision_id.into(),
            outcome: Outcome::default(),
        });
        drafts
    }

    fn seat(sealer: &Arc<Sealer>, sseq: u64) -> Seat {
        Seat {
            sealer: Arc::clone(sealer),
            sid: "s".into(),
            seq: 10 + sseq,
            sseq,
            chunk: 0,
            ts: "t".into(),
            mono_us: 0,
        }
    }

    #[test]
    fn records_are_made_in_the_order_of_the_session_whoever_asks_first() {
        let sealer = Arc::new(Sealer::new(&[1; 32], "o", "s").unwrap());
        let first = Prepared::after_hash("00".into(), ended("d1"), seat(&sealer, 1));
        let second = first.before(ended("d2"), seat(&sealer, 2));
        let third = second.before(ended("d3"), seat(&sealer, 3));
        let mut items = Vec::new();
        second.write_items(&mut items).unwrap();
        let first = first.take().unwrap();
        let second_hash = hex_of(&items);
        assert!(first
            .leaves()
            .next()
            .unwrap()
            .windows(10)
            .any(|text| text == br#""sprev":"0"#));
        let leaf = String::from_utf8(items[5..].to_vec()).unwrap();
        assert!(leaf.contains(&first.last_hash()), "{leaf}");
        let last = third.last_hash().unwrap();
        let third = third.take().unwrap();
        assert_eq!(last, third.last_hash());
        let leaf = String::from_utf8(third.leaves().next().unwrap().to_vec()).unwrap();
        assert!(leaf.contains(&second_hash), "{leaf}");
    }

    fn hex_of(items: &[u8]) -> String {
        use sha2::{Digest, Sha256};
        let hash = Sha256::new()
            .chain_update([0])
            .chain_update(&items[5..])
            .finalize();
        let mut out = Vec::new();
        crate::json::push_hex(&mut out, &hash);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_place_given_up_leaves_no_trace() {
        let sealer = Arc::new(Sealer::new(&[1; 32], "o", "s").unwrap());
        let first = Prepared::after_hash("00".into(), ended("d1"), seat(&sealer, 1));
        first.before(ended("dropped"), seat(&sealer, 2)).cancel();
        let second = first.before(ended("d2"), seat(&sealer, 2));
        let hash = first.last_hash().unwrap();
        let taken = second.take().unwrap();
        let leaf = String::from_utf8(taken.leaves().next().unwrap().to_vec()).unwrap();
        assert!(leaf.contains(&hash) && leaf.contains("d2"), "{leaf}");
        first.take().unwrap();
        assert_eq!(first.last_hash().unwrap(), hash);
    }

    #[test]
    fn they_are_handed_on_once() {
        let sealer = Arc::new(Sealer::new(&[1; 32], "o", "s").unwrap());
        let only = Prepared::after_hash(String::new(), ended("d1"), seat(&sealer, 1));
        only.take().unwrap();
        assert!(only.take().is_err());
        assert!(only.write_items(&mut Vec::new()).is_err());
    }
}
