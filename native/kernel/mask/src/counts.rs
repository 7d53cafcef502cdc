//! How often each rule masked a cell and each detector found something. Names and numbers only, never values.
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counters by name, kept as a short list: a result has a handful of rules and detectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tally(Vec<(Arc<str>, u64)>);

impl Tally {
    fn add(&mut self, name: &Arc<str>, by: u64) {
        for (known, count) in &mut self.0 {
            if Arc::ptr_eq(known, name) || known == name {
                *count += by;
                return;
            }
        }
        self.0.push((Arc::clone(name), by));
    }

    fn to_map(&self) -> BTreeMap<String, u64> {
        self.0
            .iter()
            .map(|(name, count)| (name.to_string(), *count))
            .collect()
    }
}

/// Masked cells by rule id and findings by detector name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    masked: Tally,
    detected: Tally,
}

impl Counts {
    /// Counts one cell masked for `rule`.
    pub fn add_masked(&mut self, rule: &Arc<str>) {
        self.masked.add(rule, 1);
    }

    /// Counts one finding of `detector`.
    pub fn add_detected(&mut self, detector: &Arc<str>) {
        self.detected.add(detector, 1);
    }

    /// Adds everything counted in `other`.
    pub fn merge(&mut self, other: &Counts) {
        for (name, count) in &other.masked.0 {
            self.masked.add(name, *count);
        }
        for (name, count) in &other.detected.0 {
            self.detected.add(name, *count);
        }
    }

    /// Masked cells by rule id, sorted.
    pub fn masked(&self) -> BTreeMap<String, u64> {
        self.masked.to_map()
    }

    /// Findings by detector name, sorted.
    pub fn detected(&self) -> BTreeMap<String, u64> {
        self.detected.to_map()
    }

    /// Whether nothing was masked and nothing found.
    pub fn is_empty(&self) -> bool {
        self.masked.0.is_empty() && self.detected.0.is_empty()
    }
}
