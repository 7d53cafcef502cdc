//! The loop of the writer thread: takes what is queued, makes it durable under one sync, and says so, without the interpreter.
//!
//! Whoever queues holds the lock under which records are numbered, so the order of the queue is the order of the numbers. The loop pauses
//! whenever something is the host's to do: a new segment, somebody who waits in a thread, a mark that was passed, a failure.
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::segment::{AppendError, BatchPlace, SegmentFile};
use crate::SealError;

/// Bytes of a segment before its first batch.
const SEGMENT_HEADER_BYTES: u64 = 64;

/// Bytes that one part of an entry makes.
pub trait Source: Send {
    /// Appends them.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), SealError>;
}

/// One entry on its way to disk.
pub struct Item {
    /// Its bytes, in order.
    pub parts: Vec<Box<dyn Source>>,
    /// Records in it.
    pub records: u32,
    /// Its bytes and what it adds to a batch, at most.
    pub size: usize,
    /// It must be the first of a segment.
    pub starts_segment: bool,
    /// Somebody waits for it in a thread, so the host has to be told at once.
    pub has_thread: bool,
}

/// Where the next batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its number.
    pub number: u64,
    /// Index of its first record.
    pub first_index: u64,
    /// Its offset in the segment.
    pub offset: u64,
}

/// Why the loop came back.
pub enum Pause {
    /// The next entry starts a segment.
    Segment,
    /// Somebody waits in a thread for what is durable now.
    Acknowledge,
    /// The segment is used as far as the mark.
    Mark,
    /// It was asked to stop, and everything is written.
    Stopped,
    /// Nothing may be written to the segment any more.
    Failed(AppendError),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    is_rung: bool,
    is_stopping: bool,
    is_closed: bool,
}

/// What the writer did so far.
#[derive(Default)]
pub struct Totals {
    /// Entries that are durable.
    pub entries: AtomicU64,
    /// Syncs.
    pub syncs: AtomicU64,
    /// Nanoseconds spent writing and syncing.
    pub sync_ns: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
}

/// The queue in front of the loop. See the module's first paragraphs.
pub struct Writer {
    queue: Mutex<Queue>,
    bell: Condvar,
    /// Largest batch.
    max_entries: usize,
    max_bytes: usize,
    /// What was done.
    pub totals: Totals,
    told: UnixStream,
    teller: UnixStream,
    is_told: AtomicBool,
}

impl Writer {
    /// A writer of batches of at most so many entries and bytes; one entry alone may have more.
    pub fn new(max_entries: usize, max_bytes: usize) -> std::io::Result<Writer> {
        let (told, teller) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        teller.set_nonblocking(true)?;
        Ok(Writer {
            queue: Mutex::default(),
            bell: Condvar::new(),
            max_entries,
            max_bytes,
            totals: Totals::default(),
            told,
            teller,
            is_told: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor that becomes readable once something is durable that was not taken notice of.
    pub fn descriptor(&self) -> i32 {
        self.told.as_raw_fd()
    }

    /// Takes notice: how many entries are durable in all.
    pub fn notice(&self) -> u64 {
        let mut buffer = [0; 16];
        while matches!((&self.told).read(&mut buffer), Ok(count) if count == buffer.len()) {}
        self.is_told.store(false, Ordering::SeqCst);
        self.totals.entries.load(Ordering::SeqCst)
    }

    /// Queues an entry; it is written with the next one that rings, or when somebody does.
    pub fn push(&self, item: Item, rings: bool) {
        let mut queue = self.lock();
        if queue.is_closed {
            return; // what it follows was dropped, so it must not be written
        }
        queue.items.push_back(item);
        if rings && !queue.is_rung {
            queue.is_rung = true;
            self.bell.notify_one();
        }
    }

    /// Has what is queued written.
    pub fn ring(&self) {
        let mut queue = self.lock();
        if !queue.is_rung {
            queue.is_rung = true;
            self.bell.notify_one();
        }
    }

    /// Has the loop come back once everything is written.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.bell.notify_one();
    }

    /// Drops what is queued, and whatever comes after it.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.is_closed = true;
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        drop(items); // not under the lock: entries may be the last to hold on to something of the host's
    }

    /// Writes batches to a segment until something is the host's to do. Without a segment the first entry is.
    pub fn run(
        &self,
        file: Option<&SegmentFile>,
        mut position: Position,
        mark: u64,
    ) -> (Pause, Position) {
        loop {
            let is_fresh = position.offset == SEGMENT_HEADER_BYTES;
            let batch = match self.take(file.is_some() && is_fresh) {
                Ok(batch) => batch,
                Err(pause) => return (pause, position),
            };
            let Some(file) = file else {
                return (Pause::Segment, position);
            };
            let has_thread = batch.iter().any(|item| item.has_thread);
            if let Err(error) = self.commit(file, &batch, &mut position) {
                return (Pause::Failed(error), position);
            }
            if has_thread {
                return (Pause::Acknowledge, position);
            }
            if position.offset > mark {
                return (Pause::Mark, position);
            }
        }
    }

    /// The next batch: everything queued, up to the caps and to an entry that starts a segment.
    fn take(&self, may_start: bool) -> Result<Vec<Item>, Pause> {
        let mut queue = self.lock();
        while !(queue.is_rung || queue.is_stopping) || queue.items.is_empty() {
            if queue.items.is_empty() {
                queue.is_rung = false;
                if queue.is_stopping {
                    return Err(Pause::Stopped);
                }
            }
            queue = self
                .bell
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if queue.items[0].starts_segment && !may_start {
            return Err(Pause::Segment);
        }
        let (mut count, mut size) = (1, queue.items[0].size);
        while count < queue.items.len().min(self.max_entries) {
            let item = &queue.items[count];
            size += item.size;
            if item.starts_segment || size > self.max_bytes {
                break;
            }
            count += 1;
        }
        let batch = queue.items.drain(..count).collect();
        if queue.items.is_empty() {
            queue.is_rung = false;
        }
        Ok(batch)
    }

    fn commit(
        &self,
        file: &SegmentFile,
        batch: &[Item],
        position: &mut Position,
    ) -> Result<(), AppendError> {
        let records = batch.iter().map(|item| item.records).sum();
        let room = batch.iter().map(|item| item.size).sum();
        let place = BatchPlace {
            number: position.number,
            first_index: position.first_index,
            records,
            offset: position.offset,
        };
        let started = Instant::now();
        let written = file.append(place, room, |out| {
            let mut parts = batch.iter().flat_map(|item| &item.parts);
            parts.try_for_each(|part| part.write(out))
        })?;
        position.number += 1;
        position.first_index += u64::from(records);
        position.offset += written;
        let totals = &self.totals;
        let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        totals.sync_ns.fetch_add(elapsed, Ordering::Relaxed);
        totals.syncs.fetch_add(1, Ordering::Relaxed);
        totals.bytes.fetch_add(written, Ordering::Relaxed);
        totals
            .entries
            .fetch_add(batch.len() as u64, Ordering::SeqCst);
        if !self.is_told.swap(true, Ordering::SeqCst) {
            // A full socket says the same: whoever reads it has something to take notice of.
            let _ = (&self.teller).write(&[1]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Arc;

    struct Text(&'static [u8]);

    impl Source for Text {
        fn write(&self, out: &mut Vec<u8>) -> Result<(), SealError> {
            out.extend_from_slice(self.0);
            Ok(())
        }
    }

    struct Broken;

    impl Source for Broken {
        fn write(&self, _: &mut Vec<u8>) -> Result<(), SealError> {
            Err(SealError("cannot be made".into()))
        }
    }

    fn item(text: &'static [u8], starts_segment: bool) -> Item {
        Item {
            parts: vec![Box::new(Text(text))],
            records: 1,
            size: 100,
            starts_segment,
            has_thread: false,
        }
    }

    fn segment(name: &str) -> (PathBuf, SegmentFile) {
        let path = std::env::temp_dir().join(format!("sealgate-{}-{name}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let file = SegmentFile::open(&path).unwrap();
        (path, file)
    }

    const START: Position = Position {
        number: 3,
        first_index: 10,
        offset: 64,
    };

    #[test]
    fn batches_end_at_the_cap_and_before_a_new_segment() {
        let (path, file) = segment("caps");
        let writer = Writer::new(2, 1 << 20).unwrap();
        for (number, text) in [b"aa", b"bb", b"cc", b"dd"].into_iter().enumerate() {
            writer.push(item(text, number == 0 || number == 3), number == 3);
        }
        let (pause, position) = writer.run(None, START, u64::MAX);
        assert!(matches!(pause, Pause::Segment) && position == START);
        let (pause, position) = writer.run(Some(&file), START, u64::MAX);
        assert!(matches!(pause, Pause::Segment));
        let expected = Position {
            number: 5,
            first_index: 13,
            offset: 64 + 2 * 32 + 6,
        };
        assert_eq!(position, expected);
        assert_eq!(writer.notice(), 3);
        let data = std::fs::read(&path).unwrap();
        assert_eq!(&data[96..100], b"aabb");
        assert_eq!(&data[132..134], b"cc");
        writer.stop();
        let opened = Position {
            offset: 64,
            ..position
        };
        let (pause, _) = writer.run(Some(&file), opened, u64::MAX);
        assert!(matches!(pause, Pause::Stopped));
        assert_eq!(writer.notice(), 4);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_segment_that_holds_something_never_takes_the_start_of_another() {
        let (path, file) = segment("pauses");
        let writer = Writer::new(9, 1 << 20).unwrap();
        let waited_for = Item {
            has_thread: true,
            ..item(b"aa", true)
        };
        writer.push(waited_for, true);
        let (pause, position) = writer.run(Some(&file), START, u64::MAX);
        assert!(matches!(pause, Pause::Acknowledge));
        writer.push(item(b"bb", true), true);
        let (pause, after) = writer.run(Some(&file), position, u64::MAX);
        assert!(matches!(pause, Pause::Segment) && after == position);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_mark_that_is_passed_is_told() {
        let (path, file) = segment("mark");
        let writer = Writer::new(9, 1 << 20).unwrap();
        writer.push(item(b"aa", true), true);
        let (pause, position) = writer.run(Some(&file), START, 64);
        assert!(matches!(pause, Pause::Mark));
        assert_eq!(position.offset, 64 + 32 + 2);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_nobody_waits_for_is_written_with_the_next_that_rings() {
        let (path, file) = segment("bell");
        let writer = Arc::new(Writer::new(9, 1 << 20).unwrap());
        writer.push(item(b"aa", true), false);
        writer.push(item(b"bb", false), false);
        let thread = std::thread::spawn({
            let writer = Arc::clone(&writer);
            move || writer.run(Some(&file), START, u64::MAX).1
        });
        writer.push(item(b"cc", false), true);
        writer.stop();
        assert_eq!(thread.join().unwrap().number, 4);
        assert_eq!(&std::fs::read(&path).unwrap()[96..], b"aabbcc");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_record_that_cannot_be_made_ends_it_and_nothing_follows() {
        let (path, file) = segment("broken");
        let writer = Writer::new(9, 1 << 20).unwrap();
        let broken = Item {
            parts: vec![Box::new(Broken)],
            ..item(b"", true)
        };
        writer.push(broken, true);
        let (pause, position) = writer.run(Some(&file), START, u64::MAX);
        assert!(matches!(pause, Pause::Failed(AppendError::Records(_))) && position == START);
        writer.close();
        writer.push(item(b"aa", false), true);
        writer.stop();
        let (pause, _) = writer.run(Some(&file), position, u64::MAX);
        assert!(matches!(pause, Pause::Stopped));
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::remove_file(path).unwrap();
    }
}
