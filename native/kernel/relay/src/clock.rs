//! The clocks records and gates go by.
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{clock_gettime, ClockId};
use sealgate_record::push_time;

/// Nanoseconds since the epoch.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// Nanoseconds of the monotonic clock, as the host reads it.
pub fn mono_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let parts = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    match parts {
        (Ok(seconds), Ok(nanos)) => seconds * 1_000_000_000 + nanos,
        _ => 0,
    }
}

/// Time of a record that is queued now, and microseconds since the log was opened.
pub fn stamp(log_started_ns: u64) -> (String, u64) {
    let mut text = Vec::with_capacity(32);
    push_time(&mut text, now_ns());
    let elapsed = mono_ns().saturating_sub(log_started_ns);
    (String::from_utf8_lossy(&text).into_owned(), elapsed / 1000)
}
