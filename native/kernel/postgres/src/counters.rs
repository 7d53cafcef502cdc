//! What a session amounts to so far, as input documents hold it.
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that a session and its host count on together.
#[derive(Debug, Default)]
pub struct Counters {
    actions: AtomicU64,
    refused: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    /// Adds actions attempted, refusals among them, rows and bytes delivered.
    pub fn add(&self, actions: u64, refused: u64, rows: u64, bytes: u64) {
        self.actions.fetch_add(actions, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Actions, refusals, rows, bytes.
    pub fn read(&self) -> [u64; 4] {
        [&self.actions, &self.refused, &self.rows, &self.bytes]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}
