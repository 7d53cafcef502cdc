//! The least that a relay with durable records can do: bytes go on as they are, and an answer leaves once a record of it is durable.
//!
//!     bare_relay TARGET_PORT SEGMENT_FILE
//!
//! Prints the port it listens on. Nothing is read, decided, masked, sealed, hashed or published, so whatever stands between this and
//! the gateway is what those cost; whatever stands between this and a relay without records is what the disk costs.
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use sealgate_record::{BatchPlace, Bell, SegmentFile, BATCH_HEADER_BYTES};

/// What one answer adds to the log: about what the gateway writes for a short statement.
const RECORD_BYTES: usize = 1_500;

/// Answers under one sync, at most.
const MAX_RECORDS: u64 = 512;

/// The segment, written once before so that a sync changes no metadata; from its end the log goes on at its start.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Bytes before the first batch.
const START: u64 = 64;

const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// How many records are queued, and how many of them are durable.
#[derive(Default)]
struct Log {
    queued: Mutex<u64>,
    work: Condvar,
    durable: AtomicU64,
}

/// Writes whatever is queued under one sync, over and over.
fn write(log: &Log, file: &SegmentFile, bell: &Bell) {
    let record = vec![b'x'; RECORD_BYTES];
    let mut place = BatchPlace {
        number: 0,
        first_index: 0,
        records: 0,
        offset: START,
    };
    loop {
        let mut queued = log.queued.lock().unwrap_or_else(PoisonError::into_inner);
        while *queued == place.first_index {
            queued = log
                .work
                .wait(queued)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let count = (*queued - place.first_index).min(MAX_RECORDS);
        drop(queued);
        place.records = count as u32;
        let room = count as usize * RECORD_BYTES;
        if place.offset + (BATCH_HEADER_BYTES + room) as u64 > SEGMENT_BYTES {
            place.offset = START;
        }
        let appended = file.append(place, room, |out| {
            (0..count).for_each(|_| out.extend_from_slice(&record));
            Ok(())
        });
        place.offset += appended.expect("the segment can be written");
        place.number += 1;
        place.first_index += count;
        log.durable.store(place.first_index, Ordering::SeqCst);
        bell.ring();
    }
}

/// One client and its target. The sockets block: whoever sends short statements reads their answers.
struct Pair {
    streams: [TcpStream; 2],
    held: VecDeque<(u64, Vec<u8>)>,
}

const TARGET: usize = 1;

struct Relay {
    epoll: OwnedFd,
    pairs: HashMap<u64, Pair>,
    next: u64,
    log: Arc<Log>,
    buffer: Vec<u8>,
}

impl Relay {
    fn watch(&self, what: impl AsFd, number: u64) -> rustix::io::Result<()> {
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.epoll, what, data, epoll::EventFlags::IN)
    }

    fn accept(&mut self, listener: &TcpListener, target_port: u16) -> Result<(), Box<dyn Error>> {
        let (client, _) = listener.accept()?;
        let target = TcpStream::connect((Ipv4Addr::LOCALHOST, target_port))?;
        for (side, stream) in [&client, &target].into_iter().enumerate() {
            stream.set_nodelay(true)?;
            self.watch(stream, self.next << 1 | side as u64)?;
        }
        let held = VecDeque::new();
        let streams = [client, target];
        self.pairs.insert(self.next, Pair { streams, held });
        self.next += 1;
        Ok(())
    }

    /// Reads one side; whether a record was queued.
    fn carry(&mut self, number: u64, side: usize) -> bool {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return false; // its other side has ended it
        };
        let count = pair.streams[side].read(&mut self.buffer).unwrap_or(0);
        let bytes = &self.buffer[..count];
        if count > 0 && side == TARGET {
            let mut queued = self
                .log
                .queued
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *queued += 1;
            pair.held.push_back((*queued, bytes.to_vec()));
            return true;
        }
        if count == 0 || pair.streams[TARGET].write_all(bytes).is_err() {
            self.pairs.remove(&number); // closing both sockets is what their peers expect
        }
        false
    }

    /// Sends what has become durable.
    fn release(&mut self) {
        let durable = self.log.durable.load(Ordering::SeqCst);
        self.pairs.retain(|_, pair| {
            let mut is_open = true;
            while is_open
                && pair
                    .held
                    .front()
                    .is_some_and(|(index, _)| *index <= durable)
            {
                if let Some((_, bytes)) = pair.held.pop_front() {
                    is_open = pair.streams[1 - TARGET].write_all(&bytes).is_ok();
                }
            }
            is_open
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, target_port, segment] = arguments.as_slice() else {
        return Err("usage: bare_relay TARGET_PORT SEGMENT_FILE".into());
    };
    let target_port: u16 = target_port.parse()?;
    let mut made = File::create(segment)?;
    std::io::copy(&mut std::io::repeat(0).take(SEGMENT_BYTES), &mut made)?;
    made.sync_all()?;
    let file = SegmentFile::open(Path::new(segment))?;
    let bell = Arc::new(Bell::new()?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut relay = Relay {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        pairs: HashMap::new(),
        next: 0,
        log: Arc::default(),
        buffer: vec![0; 64 << 10],
    };
    relay.watch(&listener, LISTENER)?;
    relay.watch(&*bell, BELL)?;
    let (log, rung) = (Arc::clone(&relay.log), Arc::clone(&bell));
    std::thread::spawn(move || write(&log, &file, &rung));
    println!("{}", listener.local_addr()?.port());
    let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
    loop {
        events.clear();
        epoll::wait(&relay.epoll, spare_capacity(&mut events), None)?;
        let mut is_queued = false;
        for event in &events {
            match event.data.u64() {
                LISTENER => relay.accept(&listener, target_port)?,
                BELL => {
                    bell.hear();
                    relay.release();
                }
                at => is_queued |= relay.carry(at >> 1, (at & 1) as usize),
            }
        }
        if is_queued {
            relay.log.work.notify_one();
        }
    }
}
