//! What a session amounts to so far, as input documents hold it.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

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

/// Rows delivered under a bound; sessions of one run share one.
#[derive(Debug, Default)]
pub struct RowCount(AtomicU64);

impl RowCount {
    /// Adds rows.
    pub fn add(&self, rows: u64) {
        self.0.fetch_add(rows, Ordering::SeqCst);
    }

    /// Rows so far.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What rows are counted on, each count with how many it may reach.
#[derive(Debug, Default)]
pub(crate) struct RowBounds(Vec<(Arc<RowCount>, u64)>);

impl RowBounds {
    pub fn new(bounds: Vec<(Arc<RowCount>, u64)>) -> RowBounds {
        RowBounds(bounds)
    }

    /// Whether no row more may be delivered.
    pub fn is_spent(&self) -> bool {
        self.0.iter().any(|(count, bound)| count.read() >= *bound)
    }

    /// Counts one row, unless a bound is reached.
    pub fn spend(&self) -> bool {
        for (place, (count, bound)) in self.0.iter().enumerate() {
            // Other sessions of the run count at the same time, so the row is counted first and taken back where it was one too many.
            if count.0.fetch_add(1, Ordering::SeqCst) >= *bound {
                for (counted, _) in &self.0[..=place] {
                    counted.0.fetch_sub(1, Ordering::SeqCst);
                }
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_on_every_count_and_no_bound_is_passed() {
        let (session, run) = (Arc::new(RowCount::default()), Arc::new(RowCount::default()));
        let bounds = RowBounds::new(vec![
            (Arc::clone(&session), u64::MAX),
            (Arc::clone(&run), 3),
        ]);
        run.add(1);
        assert!(bounds.spend() && bounds.spend() && bounds.is_spent() && !bounds.spend());
        assert_eq!((session.read(), run.read()), (2, 3));
        assert!(RowBounds::default().spend() && !RowBounds::default().is_spent());
    }

    #[test]
    fn sessions_of_a_run_never_get_more_than_it_may_together() {
        let run = Arc::new(RowCount::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let bounds = RowBounds::new(vec![(Arc::clone(&run), 1000)]);
                std::thread::spawn(move || (0..1000).filter(|_| bounds.spend()).count())
            })
            .collect();
        let spent: usize = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        assert!(spent <= 1000 && run.read() as usize == spent);
    }
}
