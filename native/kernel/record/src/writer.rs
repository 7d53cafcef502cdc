//! The loop of the writer thread: takes what is queued, makes it durable under one sync, and says so, without the interpreter.
//!
//! Records are numbered where they are queued, so the order of the queue is the order of the numbers: by the host, which holds the turn
//! meanwhile, or by native code in `append`. The loop pauses whenever something is the host's to do: a new segment, somebody who waits
//! in a thread, a mark that was passed, a failure.
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::bell::Bell;
use crate::segment::{AppendError, BatchPlace, SegmentFile, BATCH_HEADER_BYTES};
use crate::SealError;

/// Bytes of a segment before its first batch.
const SEGMENT_HEADER_BYTES: usize = 64;

/// Entries the host did not queue, nobody of it waits for, and it is told of all the same once there are so many.
const MAX_UNNOTICED: usize = 2_048;

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
    /// What the host is given back once it is durable, where the host did not queue it itself.
    pub foreign: Option<Box<dyn Any + Send>>,
}

/// What became durable, in order.
pub enum Noticed {
    /// So many entries the host queued.
    Own(u64),
    /// An entry it did not.
    Foreign(Box<dyn Any + Send>),
}

/// Why an entry was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nothing is written any more.
    Closed,
    /// Too much waits for the disk.
    Busy,
    /// It has to start a segment, which is the host's to do.
    Segment,
}

/// Sizes the queue keeps to, bytes but for `max_entries`.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Entries of a batch, at most.
    pub max_entries: usize,
    /// A batch, at most; one entry alone may have more.
    pub max_batch: usize,
    /// What may wait, at most.
    pub max_queue: usize,
    /// The first segment.
    pub first_segment: usize,
    /// Every other.
    pub segment: usize,
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

struct Queue {
    items: VecDeque<Item>,
    is_rung: bool,
    is_stopping: bool,
    is_closed: bool,
    /// The host numbers records.
    is_held: bool,
    /// Index of the next record.
    next_index: u64,
    /// Bytes that wait.
    bytes: usize,
    /// Bytes of the segment being planned, and what it would hold: full at the start, so that the first entry starts one.
    limit: usize,
    planned: usize,
    has_begun: bool,
    /// Entries queued that start a segment.
    starts: usize,
    /// Records and bytes that the host did not queue and that are not durable.
    foreign: (u64, usize),
}

/// What the writer did so far.
#[derive(Default)]
pub struct Totals {
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
    work: Condvar,
    turn: Condvar,
    plan: Plan,
    /// What was done.
    pub totals: Totals,
    durable: AtomicU64,
    done: Mutex<Vec<Noticed>>,
    host: Bell,
    listeners: Mutex<Vec<Arc<Bell>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// A writer whose first record has this index.
    pub fn new(plan: Plan, next_index: u64) -> std::io::Result<Writer> {
        let queue = Queue {
            items: VecDeque::new(),
            is_rung: false,
            is_stopping: false,
            is_closed: false,
            is_held: false,
            next_index,
            bytes: 0,
            limit: plan.first_segment,
            planned: plan.first_segment,
            has_begun: false,
            starts: 0,
            foreign: (0, 0),
        };
        Ok(Writer {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            turn: Condvar::new(),
            plan,
            totals: Totals::default(),
            durable: AtomicU64::new(next_index),
            done: Mutex::default(),
            host: Bell::new()?,
            listeners: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// The descriptor that becomes readable once something is durable that was not taken notice of.
    pub fn descriptor(&self) -> i32 {
        self.host.number()
    }

    /// Has a bell rung too whenever something has become durable, or nothing will any more.
    pub fn listen(&self, bell: Arc<Bell>) {
        lock(&self.listeners).push(bell);
    }

    /// Takes notice: what has become durable since the last time, in order.
    pub fn notice(&self) -> Vec<Noticed> {
        self.host.hear();
        std::mem::take(&mut lock(&self.done))
    }

    /// Records that are durable: every one with a smaller index.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    /// Takes the turn to number records, where nobody has it.
    pub fn try_hold(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_held, true)
    }

    /// Takes the turn to number records, waiting for it.
    pub fn hold(&self) {
        let mut queue = self.wait_for_turn();
        queue.is_held = true;
    }

    /// Gives the turn back.
    pub fn release(&self) {
        self.lock().is_held = false;
        self.turn.notify_all(); // `append` takes no turn, so it would not pass the news on
    }

    fn wait_for_turn(&self) -> MutexGuard<'_, Queue> {
        let mut queue = self.lock();
        while queue.is_held {
            queue = self
                .turn
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue
    }

    /// Index of the next record. Meant for who has the turn.
    pub fn next_index(&self) -> u64 {
        self.lock().next_index
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Records and bytes that the host did not queue and that are not durable.
    pub fn count_foreign(&self) -> (u64, usize) {
        self.lock().foreign
    }

    /// Whether an entry of so many bytes may wait too.
    pub fn has_room(&self, size: usize) -> bool {
        has_room(&self.lock(), self.plan, size)
    }

    /// Whether an entry of so many bytes has to start a segment.
    pub fn needs_segment(&self, size: usize) -> bool {
        needs_segment(&self.lock(), size)
    }

    /// Has the next entry start a segment.
    pub fn plan_segment(&self) {
        let mut queue = self.lock();
        queue.planned = queue.limit;
    }

    /// Queues an entry of who has the turn; it is written with the next one that rings, or when somebody does.
    pub fn push(&self, item: Item, rings: bool) {
        self.enter(&mut self.lock(), item, rings);
    }

    /// Queues records that `make` gives their place, from the index it is given on; returns that index. Whoever waits for them rings.
    pub fn append(&self, size: usize, make: impl FnOnce(u64) -> Item) -> Result<u64, Refused> {
        let mut queue = self.wait_for_turn();
        if queue.is_closed {
            return Err(Refused::Closed);
        }
        if !has_room(&queue, self.plan, size) {
            return Err(Refused::Busy);
        }
        if needs_segment(&queue, size) {
            return Err(Refused::Segment);
        }
        let index = queue.next_index;
        self.enter(&mut queue, make(index), false);
        Ok(index)
    }

    fn enter(&self, queue: &mut Queue, item: Item, rings: bool) {
        if queue.is_closed {
            return; // what it follows was dropped, so it must not be written
        }
        if item.starts_segment {
            queue.starts += 1;
            queue.planned = SEGMENT_HEADER_BYTES;
            if queue.has_begun {
                queue.limit = self.plan.segment;
            }
            queue.has_begun = true;
        }
        queue.planned += item.size;
        queue.bytes += item.size;
        queue.next_index += u64::from(item.records);
        if item.foreign.is_some() {
            queue.foreign.0 += u64::from(item.records);
            queue.foreign.1 += item.size;
        }
        queue.items.push_back(item);
        if rings && !queue.is_rung {
            queue.is_rung = true;
            self.work.notify_one();
        }
    }

    /// Has what is queued written.
    pub fn ring(&self) {
        let mut queue = self.lock();
        if !queue.is_rung {
            queue.is_rung = true;
            self.work.notify_one();
        }
    }

    /// Has the loop come back once everything is written.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.work.notify_one();
    }

    /// Drops what is queued, and whatever comes after it.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.is_closed = true;
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        drop(items); // not under the lock: entries may be the last to hold on to something of the host's
        self.tell();
    }

    /// Whether what is queued was dropped.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn tell(&self) {
        for bell in lock(&self.listeners).iter() {
            bell.ring();
        }
    }

    /// Writes batches to a segment until something is the host's to do. Without a segment the first entry is.
    pub fn run(
        &self,
        file: Option<&SegmentFile>,
        mut position: Position,
        mark: u64,
    ) -> (Pause, Position) {
        loop {
            let is_fresh = position.offset == SEGMENT_HEADER_BYTES as u64;
            let batch = match self.take(file.is_some() && is_fresh) {
                Ok(batch) => batch,
                Err(pause) => return (pause, position),
            };
            let Some(file) = file else {
                return (Pause::Segment, position);
            };
            let has_thread = batch.iter().any(|item| item.has_thread);
            if let Err(error) = self.commit(file, batch, &mut position) {
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
                .work
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if queue.items[0].starts_segment && !may_start {
            return Err(Pause::Segment);
        }
        let (mut count, mut size) = (1, queue.items[0].size);
        while count < queue.items.len().min(self.plan.max_entries) {
            let item = &queue.items[count];
            size += item.size;
            if item.starts_segment || size > self.plan.max_batch {
                break;
            }
            count += 1;
        }
        queue.starts -= usize::from(queue.items[0].starts_segment);
        let batch = queue.items.drain(..count).collect();
        if queue.items.is_empty() {
            queue.is_rung = false;
        }
        Ok(batch)
    }

    fn commit(
        &self,
        file: &SegmentFile,
        batch: Vec<Item>,
        position: &mut Position,
    ) -> Result<(), AppendError> {
        let records = batch.iter().map(|item| item.records).sum();
        let room: usize = batch.iter().map(|item| item.size).sum();
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
        self.give_room_back(room, written);
        if self.note(batch, position.first_index) {
            self.host.ring();
        }
        self.tell();
        Ok(())
    }

    /// Entries take less than they could have.
    fn give_room_back(&self, room: usize, written: u64) {
        let mut queue = self.lock();
        if queue.starts == 0 {
            let written = usize::try_from(written).unwrap_or(room);
            queue.planned -= room.saturating_sub(written);
        }
    }

    /// Counts a batch that is durable, and keeps what the host is to be told of it; whether it is in a hurry.
    fn note(&self, batch: Vec<Item>, end_index: u64) -> bool {
        let mut queue = self.lock();
        for item in &batch {
            queue.bytes -= item.size;
            if item.foreign.is_some() {
                queue.foreign.0 -= u64::from(item.records);
                queue.foreign.1 -= item.size;
            }
        }
        drop(queue);
        let mut done = lock(&self.done);
        let mut is_own = false;
        for item in batch {
            is_own |= item.foreign.is_none();
            match (item.foreign, done.last_mut()) {
                (Some(foreign), _) => done.push(Noticed::Foreign(foreign)),
                (None, Some(Noticed::Own(count))) => *count += 1,
                (None, _) => done.push(Noticed::Own(1)),
            }
        }
        self.durable.store(end_index, Ordering::SeqCst);
        is_own || done.len() >= MAX_UNNOTICED
    }
}

fn has_room(queue: &Queue, plan: Plan, size: usize) -> bool {
    queue.items.is_empty() || queue.bytes + size + BATCH_HEADER_BYTES <= plan.max_queue
}

fn needs_segment(queue: &Queue, size: usize) -> bool {
    queue.planned + size + BATCH_HEADER_BYTES > queue.limit
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
