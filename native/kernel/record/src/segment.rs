//! One segment of the write-ahead log as its writer appends to it (`docs/evidence-format.md`, section 7).
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::SealError;

/// First bytes of a batch; 0xff never occurs in UTF-8, so no record text can look like one.
const MAGIC: &[u8; 4] = b"\xffSGB";

/// Bytes of a batch before its body.
pub const BATCH_HEADER_BYTES: usize = 32;

/// What stops an append.
#[derive(Debug)]
pub enum AppendError {
    /// The disk.
    Disk(io::Error),
    /// A record that could not be made.
    Records(SealError),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> AppendError {
        AppendError::Disk(error)
    }
}

impl From<SealError> for AppendError {
    fn from(error: SealError) -> AppendError {
        AppendError::Records(error)
    }
}

/// Where a batch stands in the log.
#[derive(Debug, Clone, Copy)]
pub struct BatchPlace {
    /// Its number, counted over all segments.
    pub number: u64,
    /// Index of its first record.
    pub first_index: u64,
    /// Records in it.
    pub records: u32,
    /// Where in the file it begins.
    pub offset: u64,
}

/// A segment that batches are appended to. Once an append has failed the state of the file is unknown, and nothing may be appended.
pub struct SegmentFile {
    file: File,
}

impl SegmentFile {
    /// Opens a segment that exists.
    pub fn open(path: &Path) -> io::Result<SegmentFile> {
        Ok(SegmentFile {
            file: OpenOptions::new().write(true).open(path)?,
        })
    }

    /// Writes one batch and makes it durable; `fill` appends its body. Gives the bytes it takes.
    pub fn append(
        &self,
        place: BatchPlace,
        room: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), SealError>,
    ) -> Result<u64, AppendError> {
        let mut data = Vec::with_capacity(BATCH_HEADER_BYTES + room);
        data.resize(BATCH_HEADER_BYTES, 0);
        fill(&mut data)?;
        seal_header(&mut data, place)?;
        self.file.write_all_at(&data, place.offset)?;
        self.file.sync_data()?;
        Ok(data.len() as u64)
    }
}

/// Fills the header in; its checksum covers the header's numbers and the body.
fn seal_header(data: &mut [u8], place: BatchPlace) -> io::Result<()> {
    let length = u32::try_from(data.len() - BATCH_HEADER_BYTES)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a batch of 4 GiB"))?;
    let (header, body) = data.split_at_mut(BATCH_HEADER_BYTES);
    header[..4].copy_from_slice(MAGIC);
    header[4..12].copy_from_slice(&place.number.to_be_bytes());
    header[12..20].copy_from_slice(&place.first_index.to_be_bytes());
    header[20..24].copy_from_slice(&place.records.to_be_bytes());
    header[24..28].copy_from_slice(&length.to_be_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&header[..28]);
    checksum.update(body);
    header[28..].copy_from_slice(&checksum.finalize().to_be_bytes());
    Ok(())
}
