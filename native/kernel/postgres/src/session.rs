//! One session between a client and a server, after both have logged in.
//!
//! Bytes go in with `receive_client` and `receive_server` and come out with `take_to_server` and `take_to_client`; in between
//! the session tells what happens as events. Some events are to be judged: until the host has resolved one, its direction
//! stands still and what arrives stays in the buffer. Nothing a client asks leaves before it was judged, and no row leaves
//! before its description was.
//!
//! The client's direction also waits for the server at times (see `client`), so a host asks for client events again after it
//! has given the session bytes of the server.
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::copy_in::CopyIn;
use crate::decode::Named;
use crate::delivery::OpenResult;
use crate::event::{ClientEvent, ServerEvent};
use crate::framing::FrameBuffer;
use crate::known::Known;
use crate::lesson::Gate;
use crate::masking::TextMasker;
use crate::names::Names;
use crate::pending::{Ends, Entry, Pending, Subject};
use crate::results::JudgedServer;
use crate::state::Expect;
use crate::statement::{Portal, Statement};
use crate::verdicts::JudgedClient;
use crate::Violation;

/// What a session may hold on to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest message of either side, header included.
    pub max_message_bytes: usize,
    /// Prepared statements; beyond it the one not used for the longest time is forgotten.
    pub max_statements: usize,
    /// Portals; beyond it a Bind is refused.
    pub max_portals: usize,
    /// Replies awaited; beyond it the client's messages wait.
    pub max_pending: usize,
    /// Bytes of record lines per action.
    pub record_limit_bytes: usize,
}

/// The number given to an event to be judged is not the one that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveError {
    /// The session is dead.
    Violation(Violation),
    /// The call does not fit what waits to be resolved, or what it asks cannot be carried out. Nothing has changed.
    Rejected(String),
}

impl From<Violation> for ResolveError {
    fn from(violation: Violation) -> ResolveError {
        ResolveError::Violation(violation)
    }
}

impl ResolveError {
    pub(crate) fn rejected(message: impl Into<String>) -> ResolveError {
        ResolveError::Rejected(message.into())
    }
}

/// A session. See the module's first paragraphs.
pub struct Session {
    pub(crate) limits: Limits,
    pub(crate) error_masker: Option<Arc<dyn TextMasker>>,
    pub(crate) failed: Option<Violation>,
    pub(crate) next_id: u64,

    pub(crate) client_input: FrameBuffer,
    pub(crate) to_server: Vec<u8>,
    pub(crate) client_events: VecDeque<ClientEvent>,
    pub(crate) judged_client: Option<JudgedClient>,
    /// Messages are dropped until the client's Sync.
    pub(crate) is_discarding: bool,
    /// The client said goodbye.
    pub(crate) is_terminated: bool,
    /// The first message waits for replies of the server.
    pub(crate) is_holding: bool,
    /// The server was asked to flush its replies for the message that waits.
    pub(crate) has_flushed: bool,
    /// Extended messages were forwarded since the last Sync or Query.
    pub(crate) is_segment_open: bool,
    /// Executes among them.
    pub(crate) segment_executes: u32,
    /// The number of the pipeline being sent; Sync and Query end one.
    pub(crate) segment: u64,

    pub(crate) server_input: FrameBuffer,
    pub(crate) to_client: Vec<u8>,
    pub(crate) server_events: VecDeque<ServerEvent>,
    pub(crate) judged_server: Option<JudgedServer>,
    /// Texts of the server could quote sensitive values until the transaction is over.
    pub(crate) is_hiding_texts: bool,
    /// The last pipeline with an answer whose texts are hidden, whatever comes after it.
    pub(crate) hidden_segment: u64,
    /// Pipelines whose ReadyForQuery has come.
    pub(crate) settled: u64,
    pub(crate) pending: Pending,
    pub(crate) status: u8,
    pub(crate) result: Option<OpenResult>,
    /// The client was told an error in place of a result; replies are kept from it until ReadyForQuery.
    pub(crate) is_withholding: bool,
    /// Syncs that may have been ignored by the COPY that is running.
    pub(crate) doubtful_syncs: usize,
    /// ReadyForQuery that may come with nothing pending.
    pub(crate) surplus_ready: usize,
    pub(crate) copy_in: Option<CopyIn>,
    /// Errors of the server so far, whatever they belong to.
    pub(crate) errors: u64,
    /// The server's process number of this session, and the one its client was told.
    pub(crate) process: Option<(i32, i32)>,
    /// The server keeps text in UTF-8, so that the client encoding SQL_ASCII means the same bytes.
    pub(crate) is_ascii_utf8: bool,
    /// The client may have set its encoding to SQL_ASCII, now or before.
    pub(crate) is_client_ascii: bool,
    /// Which settings texts are read with, as a number of the host's.
    pub(crate) epoch: u64,
    /// SQL has ended names since the last time all of them were known.
    pub(crate) has_deallocated: bool,

    /// Whether the host wants to hear of every ReadyForQuery.
    pub(crate) reports_ready: bool,

    /// What need not be judged again; none where every message is.
    pub(crate) known: Option<Box<Known>>,

    pub(crate) statements: Names<Statement>,
    pub(crate) portals: Names<Portal>,
    /// Hashes of the names that Bind gave since the session was last idle: SQL reads portals as it reads cursors.
    pub(crate) bound: HashSet<u64>,
    /// SQL that may give names itself was sent in a pipeline.
    pub(crate) is_naming: bool,
}

/// Names of portals told apart at once; beyond it any name may be one.
const MAX_BOUND: usize = 10_000;

fn hash_name(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl Session {
    /// A session with nothing pending, outside a transaction.
    pub fn new(limits: Limits, error_masker: Option<Arc<dyn TextMasker>>) -> Session {
        Session {
            limits,
            error_masker,
            failed: None,
            next_id: 1,
            client_input: FrameBuffer::new(limits.max_message_bytes),
            to_server: Vec::new(),
            client_events: VecDeque::new(),
            judged_client: None,
            is_discarding: false,
            is_terminated: false,
            is_holding: false,
            has_flushed: false,
            is_segment_open: false,
            segment_executes: 0,
            segment: 1,
            server_input: FrameBuffer::new(limits.max_message_bytes),
            to_client: Vec::new(),
            server_events: VecDeque::new(),
            judged_server: None,
            is_hiding_texts: false,
            hidden_segment: 0,
            settled: 0,
            pending: Pending::default(),
            status: b'I',
            result: None,
            is_withholding: false,
            doubtful_syncs: 0,
            surplus_ready: 0,
            copy_in: None,
            errors: 0,
            process: None,
            is_ascii_utf8: false,
            is_client_ascii: false,
            epoch: 0,
            has_deallocated: false,
            reports_ready: true,
            known: None,
            statements: Names::new(),
            portals: Names::new(),
            bound: HashSet::new(),
            is_naming: false,
        }
    }

    /// Lets the session answer by itself what it has learned.
    pub fn set_known(&mut self, known: Known) {
        self.known = Some(Box::new(known));
    }

    /// Whether `ServerEvent::Ready` is told; `transaction_status` and `pending` say the same at any time.
    pub fn report_ready(&mut self, is_wanted: bool) {
        self.reports_ready = is_wanted;
    }

    /// What the session has learned.
    pub fn known(&mut self) -> Option<&mut Known> {
        self.known.as_deref_mut()
    }

    /// Takes bytes of the client.
    pub fn receive_client(&mut self, data: &[u8]) -> Result<(), Violation> {
        self.receive_client_within(data, Gate::default())
    }

    /// Takes bytes of the client; what was decided before may pass as far as `gate` says.
    pub fn receive_client_within(&mut self, data: &[u8], gate: Gate) -> Result<(), Violation> {
        self.check()?;
        self.client_input.receive(data);
        self.within(gate, |session| session.run(Session::advance_client))
    }

    /// Sends a judged message on, as `forward` does; what was decided before and waits behind it may pass as far as `gate` says.
    pub fn forward_within(
        &mut self,
        id: u64,
        action: u64,
        gate: Gate,
    ) -> Result<bool, ResolveError> {
        self.within(gate, |session| session.forward(id, action))
    }

    /// Runs a step with the gate open; it is closed whenever the host is not there to answer for it.
    fn within<R>(&mut self, gate: Gate, step: impl FnOnce(&mut Session) -> R) -> R {
        if let Some(known) = self.known() {
            known.open_gate(gate);
        }
        let result = step(self);
        if let Some(known) = self.known() {
            known.gate = Gate::default();
        }
        result
    }

    /// Tells the host an event, unless it belongs to what the session answers by itself.
    pub(crate) fn tell(&mut self, event: ServerEvent) {
        let event = match self.known() {
            Some(known) => known.absorb(event),
            None => Some(event),
        };
        self.server_events.extend(event);
    }

    /// Takes bytes of the server.
    pub fn receive_server(&mut self, data: &[u8]) -> Result<(), Violation> {
        self.receive_server_within(data, Gate::default())
    }

    /// Takes bytes of the server; see `receive_client_within`.
    pub fn receive_server_within(&mut self, data: &[u8], gate: Gate) -> Result<(), Violation> {
        self.check()?;
        self.server_input.receive(data);
        self.within(gate, |session| session.run(Session::advance_both))
    }

    /// The next event of the client's direction.
    pub fn next_client_event(&mut self) -> Result<Option<ClientEvent>, Violation> {
        match self.client_events.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.check().map(|()| None),
        }
    }

    /// The next event of the server's direction.
    pub fn next_server_event(&mut self) -> Result<Option<ServerEvent>, Violation> {
        match self.server_events.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.check().map(|()| None),
        }
    }

    /// Bytes for the client, once.
    pub fn take_to_client(&mut self) -> Result<Vec<u8>, Violation> {
        self.check()?;
        Ok(std::mem::take(&mut self.to_client))
    }

    /// Bytes for the server, once.
    pub fn take_to_server(&mut self) -> Result<Vec<u8>, Violation> {
        self.check()?;
        Ok(std::mem::take(&mut self.to_server))
    }

    /// Forgets what was decided about the rows of prepared statements, and of portals that have delivered none yet: the next
    /// description of each is judged again, and an Execute of such a portal asks for one.
    pub fn forget_plans(&mut self) -> Result<(), Violation> {
        self.check()?;
        self.statements
            .for_each(|statement| statement.set_plan(None));
        // What is being run was judged when it was sent.
        let is_run = |portal: &Portal| {
            self.pending.iter().any(|entry| {
                entry.base == Expect::Execute
                    && matches!(&entry.subject, Subject::Portal(sent) if std::ptr::eq(&**sent, portal))
            })
        };
        let mut forgotten = Vec::new();
        self.portals.for_each(|portal| {
            portal.statement.set_plan(None);
            if !is_run(portal) && portal.forget_rows() {
                forgotten.push(portal.name.clone());
            }
        });
        for name in forgotten {
            self.portals.unmark_described(&name);
        }
        Ok(())
    }

    /// Notifications of the session itself carry the process number its client was told, by which drivers know their own.
    pub fn show_process(&mut self, real: i32, shown: i32) {
        self.process = Some((real, shown));
    }

    /// Which encoding the server keeps text in. Where that is UTF-8, the client encoding SQL_ASCII means the same bytes as UTF8.
    pub fn note_server_encoding(&mut self, name: &str) {
        self.is_ascii_utf8 = name == "UTF8";
    }

    /// Lets messages of the server be longer than the limit by up to as much again, as is drawn by lot for each: whether one is refused
    /// would tell how long a masked value in it is.
    pub fn blur_server_limit(&mut self) {
        self.server_input.blur();
    }

    /// From now on texts may stand for other values, because a setting changes: what was learned is forgotten, and what was prepared before
    /// says that it was (`ClientEvent::Execute`).
    pub fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        if let Some(known) = self.known() {
            known.forget_all();
        }
    }

    /// `I`, `T` or `E`, as the server last said.
    pub fn transaction_status(&self) -> u8 {
        self.status
    }

    /// Whether everything sent to the server has been answered up to its ReadyForQuery.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.is_unsettled() && !self.is_segment_open
    }

    /// Whether every statement that was sent to be run has been answered up to its ReadyForQuery; what was only parsed, bound or
    /// described may have replies to come.
    pub fn is_caught_up(&self) -> bool {
        !self.is_unsettled() && self.segment_executes == 0
    }

    /// Whether nothing goes on until the client sends something: nothing that was sent runs, or it reads the data of a COPY.
    pub fn awaits_client(&self) -> bool {
        self.copy_in.is_some() || self.is_caught_up()
    }

    /// Whether the client has begun a pipeline and not ended it: the server may keep replies back until it does.
    pub fn is_pipeline_open(&self) -> bool {
        self.is_segment_open
    }

    /// Errors of the server so far, whatever they belong to: each has undone what its pipeline did, or its transaction.
    pub fn error_count(&self) -> u64 {
        self.errors
    }

    /// Replies awaited.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether `next_client_event` has something to say. The server's replies can bring it about.
    pub fn has_client_events(&self) -> bool {
        !self.client_events.is_empty()
    }

    /// Whether `next_server_event` has something to say.
    pub fn has_server_events(&self) -> bool {
        !self.server_events.is_empty()
    }

    /// Whether the client's first message waits for replies of the server, not for the host.
    pub fn is_holding(&self) -> bool {
        self.is_holding
    }

    /// Bytes of the client not yet looked at, because something has to be resolved or answered first.
    pub fn client_buffered(&self) -> usize {
        self.client_input.len()
    }

    /// Bytes of the server not yet looked at.
    pub fn server_buffered(&self) -> usize {
        self.server_input.len()
    }

    /// The violation that ended the session.
    pub fn failure(&self) -> Option<&Violation> {
        self.failed.as_ref()
    }

    pub(crate) fn check(&self) -> Result<(), Violation> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Runs a step; a violation in it ends the session.
    pub(crate) fn run(
        &mut self,
        step: fn(&mut Session) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.check()?;
        let result = step(self);
        if let Err(violation) = &result {
            self.failed = Some(violation.clone());
        }
        result
    }

    /// The server's direction, then the client's, which may have waited for it.
    pub(crate) fn advance_both(&mut self) -> Result<(), Violation> {
        self.advance_server()?;
        self.advance_client()
    }

    pub(crate) fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Puts an entry at the end of the queue. A refusal that nothing is ahead of is said at once.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.pending.push(entry);
        self.say_refusals();
    }

    /// Earlier pipelines have replies to come.
    /// A Bind was sent that gives a portal this name.
    pub(crate) fn note_bound(&mut self, name: &str) {
        if !name.is_empty() && self.bound.len() < MAX_BOUND {
            self.bound.insert(hash_name(name));
        }
    }

    /// Whether a portal made by Bind may have this name, so that it is not certain that a cursor made by DECLARE has it.
    pub fn may_be_portal(&self, name: &str) -> bool {
        self.bound.len() >= MAX_BOUND || self.bound.contains(&hash_name(name))
    }

    pub(crate) fn is_unsettled(&self) -> bool {
        self.settled + 1 < self.segment
    }

    /// Computes anew what names mean, from what the server confirmed and what is still on its way.
    pub(crate) fn rewind_names(&mut self) {
        self.statements.rewind(|_| false);
        for entry in self.pending.iter() {
            match (entry.base, &entry.subject) {
                (Expect::Parse, Subject::Statement(statement)) => {
                    self.statements.send(
                        &statement.name,
                        Arc::clone(statement),
                        entry.segment,
                        false,
                    );
                }
                (Expect::Close, Subject::Closed(Named::Statement, name)) => {
                    self.statements.send_close(name)
                }
                (Expect::Query, _)
                | (
                    Expect::Local,
                    Subject::Refusal(_, Ends::Statement | Ends::StatementAndPortal),
                ) => self.statements.send_close(""),
                _ => {}
            }
        }
        self.rewind_portals();
    }

    /// As `rewind_names`, for portals.
    pub(crate) fn rewind_portals(&mut self) {
        self.portals.rewind(Portal::is_described);
        for entry in self.pending.iter() {
            match (entry.base, &entry.subject) {
                (Expect::Bind, Subject::Portal(portal)) => {
                    self.portals
                        .send(&portal.name, Arc::clone(portal), entry.segment, false);
                }
                (Expect::PortalRows, Subject::Portal(portal)) => {
                    self.portals.mark_described(&portal.name)
                }
                (Expect::Close, Subject::Closed(Named::Portal, name)) => {
                    self.portals.send_close(name)
                }
                (Expect::Query, _)
                | (Expect::Local, Subject::Refusal(_, Ends::StatementAndPortal)) => {
                    self.portals.send_close("")
                }
                _ => {}
            }
        }
    }

    /// Masks a text of the server, adding findings to `detected`.
    pub(crate) fn mask_text(&self, text: &[u8], detected: &mut BTreeMap<String, u64>) -> Vec<u8> {
        match &self.error_masker {
            None => text.to_vec(),
            Some(masker) => {
                let mut out = Vec::with_capacity(text.len());
                if masker.mask(text, &mut out, detected) {
                    out
                } else {
                    text.to_vec()
                }
            }
        }
    }
}
