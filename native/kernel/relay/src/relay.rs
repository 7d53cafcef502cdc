//! The thread that carries lent sessions, and how the host speaks with it.
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::event::{epoll, Timespec};
use rustix::fd::OwnedFd;
use sealgate_record::{Bell, Writer};

use crate::clock;
use crate::lane::{Common, Lane, Left, Loan, Queued, CLIENT, SERVER};
use crate::side::BUFFER_BYTES;

/// Sockets looked at in one go.
const MAX_EVENTS: usize = 64;

/// How long a record in no hurry may wait for company (`evidence.log.MAX_DELAY_S`).
const MAX_DELAY_NS: u64 = 20_000_000;

/// What the bell is known as among the sockets.
const BELL: u64 = u64::MAX;

#[derive(Default)]
struct State {
    lanes: HashMap<u64, Lane>,
    next: u64,
    /// Records somebody's bytes wait for, with the session.
    waiting: BTreeSet<(u64, u64)>,
    left: Vec<Left>,
    is_stopping: bool,
}

/// Carries lent sessions. One thread calls `run`; everything else may be called from any.
pub struct Relay {
    writer: Arc<Writer>,
    log_started_ns: u64,
    affects_until_ns: AtomicU64,
    epoll: OwnedFd,
    /// Rung by the writer, and to stop.
    bell: Arc<Bell>,
    /// Rung when a session goes back.
    host: Bell,
    state: Mutex<State>,
}

impl Relay {
    /// A relay in front of a writer whose log was opened at this time of the monotonic clock.
    pub fn new(writer: Arc<Writer>, log_started_ns: u64) -> std::io::Result<Relay> {
        let bell = Arc::new(Bell::new()?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(BELL);
        epoll::add(&epoll, &*bell, data, epoll::EventFlags::IN)?;
        writer.listen(Arc::clone(&bell));
        Ok(Relay {
            writer,
            log_started_ns,
            affects_until_ns: AtomicU64::new(0),
            epoll,
            bell,
            host: Bell::new()?,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor that becomes readable once a session goes back.
    pub fn descriptor(&self) -> i32 {
        self.host.number()
    }

    /// Monotonic nanoseconds until which other effects than reading may pass.
    pub fn allow_effects(&self, until_mono_ns: u64) {
        self.affects_until_ns.store(until_mono_ns, Ordering::SeqCst);
    }

    /// Takes a session; gives the number it is known as.
    pub fn lend(&self, loan: Loan) -> std::io::Result<u64> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let lane = Lane::new(loan, self.writer.next_index().checked_sub(1));
        for side in [CLIENT, SERVER] {
            let data = epoll::EventData::new_u64(number << 1 | side as u64);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            if let Err(error) = epoll::add(&self.epoll, &lane.sides[side], data, flags) {
                self.unwatch(&lane);
                return Err(error.into());
            }
        }
        state.lanes.insert(number, lane);
        Ok(number)
    }

    /// Has a session go back once nothing of it waits for a record; nothing more is read from now on.
    pub fn recall(&self, number: u64) {
        let mut state = self.lock();
        if let Some(lane) = state.lanes.get_mut(&number) {
            lane.leave(0);
            self.finish(&mut state, number);
        }
    }

    /// The same for every session.
    pub fn recall_all(&self) {
        let mut state = self.lock();
        for number in numbers(&state) {
            if let Some(lane) = state.lanes.get_mut(&number) {
                lane.leave(0);
            }
            self.finish(&mut state, number);
        }
    }

    /// Lets go of a session whatever waits for a record; it does not go back. Gives what the peers have not taken, as `Left::unsent`.
    pub fn discard(&self, number: u64) -> [Vec<u8>; 2] {
        let mut state = self.lock();
        let left = match state.lanes.remove(&number) {
            Some(lane) => {
                self.unwatch(&lane);
                Some(lane.give_back(number))
            }
            None => {
                let place = state.left.iter().position(|left| left.number == number);
                place.map(|place| state.left.remove(place))
            }
        };
        left.map(|left| left.unsent).unwrap_or_default()
    }

    /// Sessions that went back since the last call.
    pub fn take_left(&self) -> Vec<Left> {
        self.host.hear();
        std::mem::take(&mut self.lock().left)
    }

    /// Monotonic nanoseconds of a session's last arrival; 0 where it is not here.
    pub fn active_ns(&self, number: u64) -> u64 {
        let state = self.lock();
        state.lanes.get(&number).map_or(0, |lane| lane.active_ns)
    }

    /// Sessions that are here.
    pub fn count(&self) -> usize {
        self.lock().lanes.len()
    }

    /// Has `run` come back.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.bell.ring();
    }

    /// Carries until it is stopped. Fails where the system gives no news of sockets any more.
    pub fn run(&self) -> std::io::Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(MAX_EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut company_until_ns = None;
        let mut queued: Vec<Queued> = Vec::new();
        loop {
            events.clear();
            let timeout = company_until_ns.map(wait_until);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if company_until_ns.is_some_and(|until_ns| until_ns <= clock::mono_ns()) {
                self.writer.ring();
                company_until_ns = None;
            }
            let mut state = self.lock();
            if state.is_stopping {
                return Ok(());
            }
            for event in &events {
                let data = event.data;
                match data.u64() {
                    BELL => self.release(&mut state),
                    at => queued.extend(self.carry(
                        &mut state,
                        at >> 1,
                        (at & 1) as usize,
                        &mut buffer,
                    )),
                }
            }
            drop(state);
            // The writer most likely waits for the disk; once it is told, all it has to do is to write.
            queued.iter().for_each(|queued| queued.prepared.make());
            if queued.iter().any(|queued| queued.is_awaited) {
                self.writer.ring();
            } else if !queued.is_empty() {
                // The answer's records will most likely come first, and take those of the question along under their sync.
                company_until_ns.get_or_insert_with(|| clock::mono_ns() + MAX_DELAY_NS);
            }
            queued.clear();
        }
    }

    fn carry(
        &self,
        state: &mut State,
        number: u64,
        side: usize,
        buffer: &mut [u8],
    ) -> Option<Queued> {
        let lane = state.lanes.get_mut(&number)?; // none where it went back meanwhile
        let common = Common {
            writer: &self.writer,
            log_started_ns: self.log_started_ns,
            affects_until_ns: self.affects_until_ns.load(Ordering::SeqCst),
        };
        let queued = lane.carry(side, buffer, &common);
        let held = lane.sides.iter().filter_map(|side| side.last_index());
        state.waiting.extend(held.map(|index| (index, number)));
        self.finish(state, number);
        queued
    }

    /// Lets bytes go whose records have become durable.
    fn release(&self, state: &mut State) {
        self.bell.hear();
        if self.writer.is_closed() {
            return self.cut(state);
        }
        let durable = self.writer.durable();
        while state
            .waiting
            .first()
            .is_some_and(|(index, _)| *index < durable)
        {
            let Some((_, number)) = state.waiting.pop_first() else {
                break;
            };
            if let Some(lane) = state.lanes.get_mut(&number) {
                lane.release(durable);
            }
            self.finish(state, number);
        }
    }

    /// The log takes nothing more: what waits for a record is never sent.
    fn cut(&self, state: &mut State) {
        state.waiting.clear();
        for number in numbers(state) {
            if let Some(lane) = state.lanes.get_mut(&number) {
                lane.cut(self.writer.durable());
                lane.leave(0);
            }
            self.finish(state, number);
        }
    }

    /// Gives a session back that leaves, or whose peer is slow, once nothing of it waits.
    fn finish(&self, state: &mut State, number: u64) {
        let Some(lane) = state.lanes.get_mut(&number) else {
            return;
        };
        lane.leave_if_unusual();
        if !lane.is_leaving() {
            return;
        }
        self.unwatch(lane);
        let durable = self.writer.durable();
        lane.release(durable); // the bell for it may not have been heard yet
        if let Some(index) = lane.waits_for(durable) {
            if self.writer.is_closed() {
                lane.cut(durable);
            } else {
                state.waiting.insert((index, number));
                self.writer.ring();
                return;
            }
        }
        if let Some(lane) = state.lanes.remove(&number) {
            state.left.push(lane.give_back(number));
            self.host.ring();
        }
    }

    /// Closing a lane's descriptors would not do: the host has others for the same sockets.
    fn unwatch(&self, lane: &Lane) {
        for side in &lane.sides {
            let _ = epoll::delete(&self.epoll, side); // it may not be watched any more
        }
    }
}

fn numbers(state: &State) -> Vec<u64> {
    state.lanes.keys().copied().collect()
}

/// How long to wait for a time of the monotonic clock.
fn wait_until(until_ns: u64) -> Timespec {
    let left_ns = until_ns.saturating_sub(clock::mono_ns());
    Timespec {
        tv_sec: i64::try_from(left_ns / 1_000_000_000).unwrap_or(0),
        tv_nsec: i64::try_from(left_ns % 1_000_000_000).unwrap_or(0),
    }
}
