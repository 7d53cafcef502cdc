//! One segment of the write-ahead log as its writer appends to it (`docs/evidence-format.md`, section 7).
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use crate::SealError;

/// First bytes of a batch; 0xff never occurs in UTF-8, so no record text can look like one.
const MAGIC: &[u8; 4] = b"\xffSGB";

/// Bytes of a batch before its body.
pub const BATCH_HEADER_BYTES: usize = 32;

/// What direct writes are aligned to: no disk has larger blocks.
const BLOCK_BYTES: usize = 4 << 10;

/// Largest buffer kept for the next batch.
const MAX_KEPT_BYTES: usize = 1 << 20;

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
///
/// Batches are written past the page cache where the file system can: `docs/decisions/0016-segments-past-the-page-cache.md`.
pub struct SegmentFile {
    file: File,
    bench: Mutex<Bench>,
}

/// The bytes being written, from a block's start on.
struct Bench {
    data: Vec<u8>,
    /// Where in `data` they begin: what is written past the page cache is aligned in memory too.
    skipped: usize,
    /// Where in the file they end; the bytes of the last block before that are kept.
    end: u64,
}

impl SegmentFile {
    /// Opens a segment that exists.
    pub fn open(path: &Path) -> io::Result<SegmentFile> {
        let mut bench = Bench {
            data: Vec::new(),
            skipped: 0,
            end: 0,
        };
        let open = |flags: OFlags| {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options.custom_flags(flags.bits() as i32).open(path)
        };
        // Some file systems take the flag and refuse every read.
        let direct = open(OFlags::DIRECT).and_then(|file| {
            bench.load(&file, 1)?;
            Ok(file)
        });
        bench.end = 0;
        Ok(SegmentFile {
            file: direct.or_else(|_| open(OFlags::empty()))?,
            bench: Mutex::new(bench),
        })
    }

    /// Writes one batch and makes it durable; `fill` appends its body. Gives the bytes it takes.
    pub fn append(
        &self,
        place: BatchPlace,
        room: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), SealError>,
    ) -> Result<u64, AppendError> {
        let mut bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
        if bench.end != place.offset {
            bench.load(&self.file, place.offset)?;
        }
        bench.align(BATCH_HEADER_BYTES + room);
        let start = bench.data.len();
        bench.data.resize(start + BATCH_HEADER_BYTES, 0);
        fill(&mut bench.data)?;
        seal_header(&mut bench.data[start..], place)?;
        let written = (bench.data.len() - start) as u64;
        bench.write(&self.file, place.offset + written)?;
        self.file.sync_data()?;
        bench.keep_last_block();
        Ok(written)
    }
}

impl Bench {
    /// Starts over with the bytes of the block that `end` is in.
    fn load(&mut self, file: &File, end: u64) -> io::Result<()> {
        self.end = end;
        self.data.clear();
        self.skipped = 0;
        let used = usize::try_from(end % BLOCK_BYTES as u64).unwrap_or(0);
        if used == 0 {
            return Ok(());
        }
        self.align(0);
        let start = self.skipped;
        self.data.resize(start + BLOCK_BYTES, 0);
        // A file gives all there is at once, and what it does not hold yet is zeros.
        file.read_at(&mut self.data[start..], end - used as u64)?;
        self.data.truncate(start + used);
        Ok(())
    }

    /// Makes room for `more` bytes and whatever fills their last block, and sees to it that the first byte is aligned.
    fn align(&mut self, more: usize) {
        let length = self.data.len() - self.skipped;
        let room = length + more + 2 * BLOCK_BYTES;
        if self.data.capacity() >= room && self.is_aligned() {
            return;
        }
        let mut data: Vec<u8> = Vec::with_capacity(room);
        let skipped = data.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        data.resize(skipped, 0);
        data.extend_from_slice(&self.data[self.skipped..]);
        (self.data, self.skipped) = (data, skipped);
    }

    fn is_aligned(&self) -> bool {
        let first = self.data.as_ptr().wrapping_add(self.skipped);
        first.align_offset(BLOCK_BYTES) == 0
    }

    /// Writes everything, the rest of the last block as zeros, as a segment holds them before anything is written there.
    fn write(&mut self, file: &File, end: u64) -> io::Result<()> {
        let length = self.data.len() - self.skipped;
        let from = end - length as u64;
        let padded = length.next_multiple_of(BLOCK_BYTES);
        if !self.is_aligned() {
            self.align(BLOCK_BYTES); // the body was larger than it was said to be
        }
        self.data.resize(self.skipped + padded, 0);
        file.write_all_at(&self.data[self.skipped..], from)?;
        self.data.truncate(self.skipped + length);
        self.end = end;
        Ok(())
    }

    fn keep_last_block(&mut self) {
        let whole = (self.data.len() - self.skipped) / BLOCK_BYTES * BLOCK_BYTES;
        if self.data.capacity() > MAX_KEPT_BYTES {
            let last = self.data.split_off(self.skipped + whole);
            (self.data, self.skipped) = (last, 0);
        } else {
            self.data.drain(self.skipped..self.skipped + whole);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64, offset: u64) -> BatchPlace {
        BatchPlace {
            number,
            first_index: number,
            records: 1,
            offset,
        }
    }

    #[test]
    fn batches_of_any_size_follow_one_another_wherever_the_file_is_opened() {
        let name = format!("sealgate-{}-blocks", std::process::id());
        // Both: a file system that is written past the page cache, most likely, and one of memory.
        for folder in [std::env::current_dir().unwrap(), std::env::temp_dir()] {
            let path = folder.join(&name);
            std::fs::write(&path, vec![7; 64]).unwrap();
            std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(4 << 20))
                .unwrap();
            let mut file = SegmentFile::open(&path).unwrap();
            let (mut offset, mut expected) = (64, vec![7; 64]);
            let sizes = [1, 4_000, 3_968, 4_096, 100_000, 2 << 20, 5, 8_128];
            for (number, size) in (0..).zip(sizes) {
                if number % 3 == 2 {
                    file = SegmentFile::open(&path).unwrap();
                }
                let body = vec![number as u8 + 1; size];
                // Every other time the body is larger than was said.
                let room = size * (number as usize % 2);
                let written = file.append(place(number, offset), room, |out| {
                    out.extend_from_slice(&body);
                    Ok(())
                });
                offset += written.unwrap();
                expected.resize(expected.len() + BATCH_HEADER_BYTES, 0);
                let start = expected.len() - BATCH_HEADER_BYTES;
                expected.extend_from_slice(&body);
                seal_header(&mut expected[start..], place(number, 0)).unwrap();
            }
            let found = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(expected.len() as u64, offset);
            assert!(found.starts_with(&expected));
            assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
        }
    }
}
