//! What this crate asks of a masker. The maskers themselves live elsewhere; a session only knows when to call them.
use std::collections::BTreeMap;

/// Where bytes go: to the agent or into the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// What the agent receives.
    Delivered,
    /// What evidence keeps.
    Record,
}

/// One column of a described result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name of the column in the result.
    pub name: String,
    /// OID of its type.
    pub type_oid: u32,
    /// 0 for text, 1 for binary.
    pub format: u16,
}

/// Masked cells by rule and findings by detector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Cells masked, by rule id.
    pub masked: BTreeMap<String, u64>,
    /// Findings, by detector name.
    pub detected: BTreeMap<String, u64>,
}

/// What a decision asked of a result; it makes a masker for each set of formats the result is asked for in.
pub trait Masking: Send + Sync {
    /// A masker for rows of these columns. The text of an error says what cannot be carried out; the result is then withheld.
    fn rows(&self, columns: &[Column]) -> Result<Box<dyn RowMasker>, String>;
}

/// Masks DataRow bodies.
pub trait RowMasker: Send {
    /// Appends the masked form of a DataRow body to `out`. An error means the row cannot be read: nothing may be delivered.
    fn mask(&mut self, row: &[u8], target: Target, out: &mut Vec<u8>) -> Result<(), String>;
    /// Whether rows pass to the agent unchanged, so that they need not be read.
    fn is_identity(&self) -> bool;
    /// Whether the record is masked in another way than what is delivered.
    fn record_differs(&self) -> bool;
    /// Counts since the last call.
    fn take_counts(&mut self) -> Counts;
}

/// Masks the data of one COPY TO STDOUT; rows may span messages, so a masker may hold bytes back.
pub trait CopyMasker: Send {
    /// Appends what can be delivered so far to `out`, and to `record` what evidence keeps, where that is another thing.
    fn feed(&mut self, data: &[u8], out: &mut Vec<u8>, record: &mut Vec<u8>) -> Result<(), String>;
    /// The data has ended. An error means it ended in the middle of a row.
    fn finish(&mut self) -> Result<(), String>;
    /// Whether `record` is used.
    fn record_differs(&self) -> bool;
    /// Rows so far, where the masker reads them.
    fn rows(&self) -> Option<u64>;
    /// Counts since the last call.
    fn take_counts(&mut self) -> Counts;
}

/// Masks findings in the texts a server says beside its results: errors, notices, notifications, settings.
pub trait TextMasker: Send + Sync {
    /// Appends the masked text to `out` and adds findings to `detected`; returns whether anything was found.
    fn mask(&self, text: &[u8], out: &mut Vec<u8>, detected: &mut BTreeMap<String, u64>) -> bool;
}

/// Says in which texts nothing would be masked.
pub trait TextCheck: Send + Sync {
    /// Whether no detector finds anything in a text that belongs to a member of this name; an empty name for none.
    fn is_clean(&self, name: &str, text: &[u8]) -> bool;
}

/// A masking that changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmasked;

impl Masking for Unmasked {
    fn rows(&self, _columns: &[Column]) -> Result<Box<dyn RowMasker>, String> {
        Ok(Box::new(Unmasked))
    }
}

impl RowMasker for Unmasked {
    fn mask(&mut self, row: &[u8], _target: Target, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(row);
        Ok(())
    }

    fn is_identity(&self) -> bool {
        true
    }

    fn record_differs(&self) -> bool {
        false
    }

    fn take_counts(&mut self) -> Counts {
        Counts::default()
    }
}

impl CopyMasker for Unmasked {
    fn feed(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        _record: &mut Vec<u8>,
    ) -> Result<(), String> {
        out.extend_from_slice(data);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn record_differs(&self) -> bool {
        false
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn take_counts(&mut self) -> Counts {
        Counts::default()
    }
}
