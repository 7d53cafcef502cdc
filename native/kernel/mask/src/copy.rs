//! Masking of COPY data: text, CSV and binary, with rows cut anywhere into CopyData messages.
use std::sync::Arc;

use crate::copy_text::{find_row_end, write_csv_row, write_text_row, RowScan};
use crate::detectors::Detectors;
use crate::row::{ColumnMask, RowPlan, Target};
use crate::types::ColumnDesc;
use crate::{Counts, MaskError};

/// The largest row held back unless the caller sets another limit, in bytes.
pub const DEFAULT_MAX_ROW_BYTES: usize = 16 << 20;

/// The three formats of COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// Tab-separated with backslash escapes.
    Text,
    /// Comma-separated with quotes.
    Csv,
    /// PGCOPY tuples.
    Binary,
}

/// The options of the COPY statement that shape its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    /// FORMAT.
    pub format: CopyFormat,
    /// DELIMITER.
    pub delimiter: u8,
    /// NULL: what stands for null, unquoted in CSV.
    pub null: Vec<u8>,
    /// QUOTE, in CSV.
    pub quote: u8,
    /// ESCAPE, in CSV.
    pub escape: u8,
    /// HEADER: whether the first row holds names.
    pub has_header: bool,
    /// The largest row that is held back, in bytes.
    pub max_row_bytes: usize,
}

impl CopyOptions {
    /// What PostgreSQL assumes for a format.
    pub fn new(format: CopyFormat) -> CopyOptions {
        let (delimiter, null) = match format {
            CopyFormat::Csv => (b',', Vec::new()),
            CopyFormat::Text | CopyFormat::Binary => (b'\t', b"\\N".to_vec()),
        };
        CopyOptions {
            format,
            delimiter,
            null,
            quote: b'"',
            escape: b'"',
            has_header: false,
            max_row_bytes: DEFAULT_MAX_ROW_BYTES,
        }
    }

    /// Refuses what PostgreSQL refuses, because such data cannot be read back without doubt.
    fn check(&self) -> Result<(), MaskError> {
        let is_line_end = |byte: u8| byte == b'\n' || byte == b'\r';
        let is_plain = |byte: u8| byte.is_ascii() && byte != 0 && !is_line_end(byte);
        let problem = if self.format == CopyFormat::Binary {
            None
        } else if !is_plain(self.delimiter)
            || (self.format == CopyFormat::Text && self.delimiter == b'\\')
        {
            Some("a delimiter that is not one plain character")
        } else if self
            .null
            .iter()
            .any(|byte| is_line_end(*byte) || *byte == self.delimiter)
        {
            Some("a null string with a delimiter or line end in it")
        } else if self.format == CopyFormat::Text {
            None
        } else if !is_plain(self.quote) || !is_plain(self.escape) || self.quote == self.delimiter {
            Some("a quote or escape that is not one plain character of its own")
        } else if self.null.contains(&self.quote) {
            Some("a null string with a quote in it")
        } else {
            None
        };
        match problem {
            Some(problem) => Err(MaskError::Spec(format!(
                "COPY data with {problem} cannot be masked"
            ))),
            None => Ok(()),
        }
    }
}

/// A compiled plan for the rows of one COPY.
pub struct CopyPlan {
    options: CopyOptions,
    rows: RowPlan,
    columns: usize,
}

impl CopyPlan {
    /// Compiles the masks for these columns. Their format is that of the COPY; a type that is not known is 0.
    pub fn new(
        options: CopyOptions,
        mut columns: Vec<ColumnDesc>,
        masks: Vec<ColumnMask>,
        detectors: Option<Arc<Detectors>>,
        key: [u8; 32],
    ) -> Result<CopyPlan, MaskError> {
        options.check()?;
        for column in &mut columns {
            column.format = u16::from(options.format == CopyFormat::Binary);
        }
        let count = columns.len();
        Ok(CopyPlan {
            options,
            rows: RowPlan::new(columns, masks, detectors, key)?,
            columns: count,
        })
    }
}

/// Where a binary stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Rows,
    End,
}

/// One COPY on its way to one target.
///
/// Only whole rows leave; the rest is held, up to the row limit. After an error every call gives the same error.
pub struct CopyStream {
    plan: Arc<CopyPlan>,
    target: Target,
    buffer: Vec<u8>,
    scan: RowScan,
    place: Place,
    rows: u64,
    awaits_names: bool,
    failure: Option<MaskError>,
}

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const HEADER_BYTES: usize = 19;
/// Flags 16 to 31 change the file's layout; PostgreSQL refuses those it does not know.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

impl CopyStream {
    /// A stream at its start.
    pub fn new(plan: Arc<CopyPlan>, target: Target) -> CopyStream {
        let place = if plan.options.format == CopyFormat::Binary {
            Place::Header
        } else {
            Place::Rows
        };
        let awaits_names = plan.options.has_header && plan.options.format != CopyFormat::Binary;
        CopyStream {
            plan,
            target,
            buffer: Vec::new(),
            scan: RowScan::default(),
            place,
            rows: 0,
            awaits_names,
            failure: None,
        }
    }

    /// Rows written so far, without the header.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the bytes of one CopyData message and appends the masked rows that are complete.
    ///
    /// On error nothing of this call is appended.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<(), MaskError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let start = out.len();
        self.buffer.extend_from_slice(bytes);
        let result = self.write_rows(out, counts);
        if let Err(failure) = &result {
            out.truncate(start);
            self.buffer = Vec::new();
            self.failure = Some(failure.clone());
        }
        result
    }

    /// Ends the stream: nothing may be left over, and binary data must have had its trailer.
    pub fn finish(&mut self) -> Result<(), MaskError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let lacks_end = self.plan.options.format == CopyFormat::Binary && self.place != Place::End;
        if self.buffer.is_empty() && !lacks_end {
            return Ok(());
        }
        let failure = MaskError::Malformed("COPY data that ends inside a row");
        self.failure = Some(failure.clone());
        Err(failure)
    }

    fn write_rows(&mut self, out: &mut Vec<u8>, counts: &mut Counts) -> Result<(), MaskError> {
        let plan = Arc::clone(&self.plan);
        let mut at = 0;
        loop {
            let rest = &self.buffer[at..];
            let length = match (plan.options.format, self.place) {
                _ if rest.is_empty() => break,
                (_, Place::End) => return Err(MaskError::Malformed("COPY data after its end")),
                (CopyFormat::Binary, Place::Header) => header_length(rest)?,
                (CopyFormat::Binary, _) => tuple_length(rest)?,
                _ => find_row_end(&plan.options, rest, &mut self.scan),
            };
            let Some(length) = length else { break };
            if length > plan.options.max_row_bytes {
                return Err(too_large(&plan.options));
            }
            if length > rest.len() {
                break;
            }
            self.write_row(&plan, at..at + length, out, counts)?;
            at += length;
        }
        self.buffer.drain(..at);
        if self.buffer.len() > plan.options.max_row_bytes {
            return Err(too_large(&plan.options));
        }
        Ok(())
    }

    fn write_row(
        &mut self,
        plan: &CopyPlan,
        range: std::ops::Range<usize>,
        out: &mut Vec<u8>,
        counts: &mut Counts,
    ) -> Result<(), MaskError> {
        let row = &self.buffer[range];
        let is_names = std::mem::take(&mut self.awaits_names);
        match (plan.options.format, self.place) {
            (CopyFormat::Binary, Place::Header) => {
                out.extend_from_slice(row);
                self.place = Place::Rows;
                return Ok(());
            }
            (CopyFormat::Binary, _) if row == (-1i16).to_be_bytes() => {
                out.extend_from_slice(row);
                self.place = Place::End;
                return Ok(());
            }
            (CopyFormat::Binary, _) => plan.rows.apply(row, self.target, out, counts)?,
            _ if row == b"\\.\n" || row == b"\\.\r\n" => {
                out.extend_from_slice(row);
                self.place = Place::End;
                return Ok(());
            }
            (CopyFormat::Text, _) => write_text_row(
                &plan.options,
                &plan.rows,
                self.target,
                is_names,
                row,
                out,
                counts,
            )?,
            (CopyFormat::Csv, _) => write_csv_row(
                &plan.options,
                &plan.rows,
                self.target,
                is_names,
                row,
                out,
                counts,
            )?,
        }
        self.rows += u64::from(!is_names);
        Ok(())
    }

    /// How many columns each row has.
    pub fn columns(&self) -> usize {
        self.plan.columns
    }
}

fn too_large(options: &CopyOptions) -> MaskError {
    MaskError::TooLarge {
        what: "a row of COPY data",
        limit: options.max_row_bytes,
    }
}

/// Bytes of the binary header with its extension; none while it is not known.
fn header_length(rest: &[u8]) -> Result<Option<usize>, MaskError> {
    let known = rest.len().min(SIGNATURE.len());
    if rest[..known] != SIGNATURE[..known] {
        return Err(MaskError::Malformed(
            "binary COPY data without its signature",
        ));
    }
    let Some(header) = rest.get(..HEADER_BYTES) else {
        return Ok(None);
    };
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if word(11) & CRITICAL_FLAGS != 0 {
        return Err(MaskError::Malformed("binary COPY data with unknown flags"));
    }
    let extension = usize::try_from(word(15)).unwrap_or(usize::MAX);
    Ok(Some(HEADER_BYTES.saturating_add(extension)))
}

/// Bytes of the tuple or trailer at the start of `rest`, as far as its length fields are there.
fn tuple_length(rest: &[u8]) -> Result<Option<usize>, MaskError> {
    let Some((head, _)) = rest.split_first_chunk::<2>() else {
        return Ok(None);
    };
    let count = i16::from_be_bytes(*head);
    if count == -1 {
        return Ok(Some(2));
    }
    let count = usize::try_from(count)
        .map_err(|_| MaskError::Malformed("a tuple with a negative column count"))?;
    let mut at = 2usize;
    for _ in 0..count {
        let Some(head) = rest.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            // The rest is longer than what is there, so the row limit sees it once it has grown.
            return Ok(None);
        };
        at += 4;
        match i32::from_be_bytes(*head) {
            -1 => {}
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| MaskError::Malformed("a negative column length"))?;
                at = at.saturating_add(length);
            }
        }
    }
    Ok(Some(at))
}
