//! One lent session: an arrival in, records queued, bytes out behind them.
use std::sync::{Arc, Mutex, PoisonError};

use sealgate_postgres::{Gate, Passed, Session, Violation, CLIENT_EVENTS, HOLDING, SERVER_EVENTS};
use sealgate_record::{Chain, Drafts, Prepared, Writer};

use crate::clock;
use crate::side::{Arrival, Line, Side};

/// Beside the flags of `sealgate_postgres`: the kernel is in error, and tells whoever asks it next.
pub const FAILED: u8 = 16;

/// The agent's side.
pub const CLIENT: usize = 0;
/// The target's.
pub const SERVER: usize = 1;

/// Bytes that wait for the agent's records above which its target is not read on.
const MAX_HELD_BYTES: usize = 256 << 10;

/// What the host lends.
pub struct Loan {
    /// The session's kernel.
    pub session: Arc<Mutex<Session>>,
    /// Its chain of records.
    pub chain: Arc<Chain>,
    /// Its connections: the agent's, the target's.
    pub lines: [Line; 2],
    /// Nanoseconds since the epoch at which the agent's proof of identity ends; 0 for never.
    pub expires_ns: u64,
    /// Monotonic nanoseconds at which what was learned is too old.
    pub until_mono_ns: u64,
}

/// Records that could not be queued, and what is to leave behind them.
#[derive(Debug)]
pub struct Staged {
    /// The records.
    pub drafts: Drafts,
    /// Whether one of them lets another effect than reading through.
    pub has_effects: bool,
    /// Bytes for the target.
    pub to_server: Vec<u8>,
    /// Bytes for the agent.
    pub to_client: Vec<u8>,
}

/// A session on its way back.
#[derive(Debug)]
pub struct Left {
    /// Its number.
    pub number: u64,
    /// Flags of the kernel after the last arrival, and `FAILED`; 0 where nothing arrived.
    pub state: u8,
    /// Records of it were lost, and what waited for them was dropped.
    pub is_lost: bool,
    /// What the host has to queue.
    pub staged: Option<Staged>,
    /// What the peers have not taken, in the order of `Loan::lines`.
    pub unsent: [Vec<u8>; 2],
}

/// What all sessions go by.
pub struct Common<'a> {
    /// Takes records.
    pub writer: &'a Writer,
    /// Monotonic nanoseconds at which the log was opened.
    pub log_started_ns: u64,
    /// Monotonic nanoseconds until which other effects than reading may pass.
    pub affects_until_ns: u64,
}

/// Records that were queued in no hurry.
pub struct Queued {
    /// Their bytes may be made now.
    pub prepared: Prepared,
    /// Whether somebody waits for them: the writer is to be told.
    pub is_awaited: bool,
}

/// A lent session.
pub struct Lane {
    session: Arc<Mutex<Session>>,
    chain: Arc<Chain>,
    pub sides: [Side; 2],
    expires_ns: u64,
    until_mono_ns: u64,
    /// Index of the newest record that bytes for the agent depend on.
    answers_after: Option<u64>,
    /// The same for the target.
    effects_after: Option<u64>,
    /// Monotonic nanoseconds of the last arrival.
    pub active_ns: u64,
    /// Set once the session is to go back: with these flags.
    leaving: Option<u8>,
    staged: Option<Staged>,
    is_lost: bool,
}

impl Lane {
    /// A session whose bytes wait for every record up to `after`: what the host queued last may be of it.
    pub fn new(loan: Loan, after: Option<u64>) -> Lane {
        Lane {
            session: loan.session,
            chain: loan.chain,
            sides: loan.lines.map(Side::new),
            expires_ns: loan.expires_ns,
            until_mono_ns: loan.until_mono_ns,
            answers_after: after,
            effects_after: after,
            active_ns: clock::mono_ns(),
            leaving: None,
            staged: None,
            is_lost: false,
        }
    }

    /// Reads one side and carries on what came of it; once the session is leaving, nothing is read.
    pub fn carry(&mut self, side: usize, buffer: &mut [u8], common: &Common<'_>) -> Option<Queued> {
        if self.leaving.is_some() {
            return None;
        }
        let other = &self.sides[1 - side];
        // A peer that does not take what it could is the host's to hold back, and so is a client that sends on ahead of its records.
        let is_behind = if side == CLIENT {
            !other.is_released()
        } else {
            other.size() > MAX_HELD_BYTES
        };
        let gate = self.open_gate(common);
        if is_behind || !other.is_sent() || gate.now_ns == 0 {
            self.leave(0);
            return None;
        }
        let count = match self.sides[side].receive(buffer) {
            Arrival::Bytes(count) => count,
            Arrival::Nothing => return None,
            Arrival::Gone => {
                self.leave(0);
                return None;
            }
        };
        self.active_ns = gate.mono_ns;
        match self.ask(side, &buffer[..count], gate) {
            Ok(passed) => self.pass(passed, common),
            Err(_) => {
                self.leave(FAILED);
                None
            }
        }
    }

    /// Gives the session back where its sockets alone may never tell that something is wrong.
    pub fn leave_if_unusual(&mut self) {
        if self
            .sides
            .iter()
            .any(|side| !side.is_sent() || side.is_unusual())
        {
            self.leave(0);
        }
    }

    /// Lets everything leave whose record is durable.
    pub fn release(&mut self, durable: u64) {
        self.sides.iter_mut().for_each(|side| side.release(durable));
    }

    fn open_gate(&self, common: &Common<'_>) -> Gate {
        let (now_ns, mono_ns) = (clock::now_ns(), clock::mono_ns());
        if (self.expires_ns != 0 && now_ns >= self.expires_ns) || mono_ns >= self.until_mono_ns {
            return Gate::default();
        }
        Gate {
            now_ns,
            mono_ns,
            may_affect: mono_ns < common.affects_until_ns,
        }
    }

    fn ask(&self, side: usize, data: &[u8], gate: Gate) -> Result<Passed, Violation> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if side == CLIENT {
            session.receive_client_within(data, gate)?;
        } else {
            session.receive_server_within(data, gate)?;
        }
        session.take_passed()
    }

    fn pass(&mut self, passed: Passed, common: &Common<'_>) -> Option<Queued> {
        let Passed {
            state,
            to_server,
            to_client,
            drafts,
        } = passed;
        let mut queued = None;
        if let Some((drafts, has_effects)) = drafts {
            let (has_decisions, has_data) = (drafts.has_decisions(), drafts.has_data());
            let is_awaited = has_effects || has_data;
            let stamp = || clock::stamp(common.log_started_ns);
            match self.chain.append(common.writer, drafts, &stamp) {
                Ok((index, prepared)) => {
                    queued = Some(Queued {
                        prepared,
                        is_awaited,
                    });
                    if has_effects {
                        self.effects_after = Some(index);
                    }
                    if has_decisions || has_data {
                        self.answers_after = Some(index);
                    }
                }
                Err(refused) => {
                    self.staged = Some(Staged {
                        drafts: refused.drafts,
                        has_effects,
                        to_server,
                        to_client,
                    });
                    self.leave(state);
                    return None;
                }
            }
        }
        let durable = common.writer.durable();
        let mut waits = self.sides[SERVER].put(to_server, self.effects_after, durable);
        waits |= self.sides[CLIENT].put(to_client, self.answers_after, durable);
        if waits {
            match &mut queued {
                Some(queued) => queued.is_awaited = true,
                None => common.writer.ring(), // somebody waits for what was in no hurry
            }
        }
        if state & (CLIENT_EVENTS | SERVER_EVENTS | HOLDING) != 0 {
            self.leave(state);
        }
        queued
    }

    /// Gives the session back as soon as nothing waits for a record.
    pub fn leave(&mut self, state: u8) {
        *self.leaving.get_or_insert(0) |= state;
    }

    /// Whether it is to go back.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Index of the newest record that something of the session waits for; what is still to come would wait for it too.
    pub fn waits_for(&self, durable: u64) -> Option<u64> {
        let held = self.sides.iter().filter_map(Side::last_index).max();
        held.max(self.answers_after)
            .max(self.effects_after)
            .filter(|index| *index >= durable)
    }

    /// Drops what waits for records that were lost. What became durable before still leaves: nobody would send it otherwise.
    pub fn cut(&mut self, durable: u64) {
        self.release(durable);
        self.is_lost |= self.waits_for(durable).is_some();
        self.sides.iter_mut().for_each(Side::cut);
        (self.answers_after, self.effects_after) = (None, None);
    }

    /// The session as the host gets it back.
    pub fn give_back(mut self, number: u64) -> Left {
        let unsent = [CLIENT, SERVER].map(|side| self.sides[side].take_unsent());
        Left {
            number,
            state: self.leaving.unwrap_or(0),
            is_lost: self.is_lost,
            staged: self.staged,
            unsent,
        }
    }
}
