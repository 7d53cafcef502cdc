//! What the host has decided before and need not be asked again: the hot path.
//!
//! The host teaches a session its decisions (`learn`, `learn_rows`): what was recorded of the action, cut at the members that differ
//! from one time to the next. A message that differs from a learned one in nothing but those members is then let through by the
//! session itself, and leaves the same record the host would have made. A lesson is good for one session, one skeleton of a text
//! (see `skeleton`), one list of parameter types and one kind of message; until a time the host gives; while the host holds the gate open; and for texts and
//! parameters in which no detector finds anything. Whatever else happens (an error, a COPY, a description that was not judged) is
//! handed to the host with everything that is known of the action, and goes on as if it had never been taken.
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use sealgate_record::{commit, Blob, Draft, Drafts, Ids, Outcome, Slot, Template};

use crate::counters::{Counters, RowBounds, RowCount};
use crate::decode::Field;
use crate::event::{ActionStatus, ServerEvent};
use crate::filling::{push_params, InputFilling};
use crate::lesson::{Event, Gate, Lesson, RowLesson};
use crate::masking::TextCheck;
use crate::skeleton::skeleton;
use crate::statement::{Plan, Portal};
use crate::taken::{Adopted, Open, Taken, What};

/// Labels of actions the session let through by itself; the host's own are below.
pub const KNOWN_LABELS: u64 = 1 << 52;

/// Lessons kept at once; the oldest goes first.
const MAX_LESSONS: usize = 32;

/// Bytes of templates kept at once.
const MAX_LESSON_BYTES: usize = 384 << 10;

/// Prepared statements that can still be described.
const MAX_PREPARED: usize = 1_000;

/// Largest transcript of one action.
const MAX_TRANSCRIPT_BYTES: usize = 16 << 20;

/// Longest tag in an outcome.
const MAX_TAG_CHARS: usize = 256;

struct Rows {
    fields: Vec<Field>,
    formats: Vec<u16>,
    leaf: Arc<Template>,
    input: Template,
    base: Arc<[u8]>,
    until_mono_ns: u64,
    until_ns: u64,
    plan: Plan,
}

/// What a lesson is about: the kind of message, the types of its parameters, and what its text has in common with its like.
type Key = (Event, Vec<u32>, Vec<u8>);

struct Memo {
    key: Key,
    leaf: Arc<Template>,
    lesson: Lesson,
    rows: Vec<Rows>,
}

/// What a session may do by itself. See the module's first paragraphs.
pub struct Known {
    salt: Vec<u8>,
    check: Arc<dyn TextCheck>,
    keeps_transcript: bool,
    pub(crate) gate: Gate,
    counters: Arc<Counters>,
    memos: BTreeMap<u64, Memo>,
    by_key: HashMap<Key, u64>,
    next_memo: u64,
    weight: usize,
    open: BTreeMap<u64, Open>,
    prepared: VecDeque<(u64, Open)>,
    next_label: u64,
    ids: Ids,
    drafts: Drafts,
    has_effects: bool,
    rows: RowBounds,
}

impl Known {
    /// Nothing learned yet.
    ///
    /// `salt` keys the digests of the session's records; `check` says in which texts nothing is found; `counters` are those of the
    /// session, which the host counts on too.
    pub fn new(
        salt: Vec<u8>,
        check: Arc<dyn TextCheck>,
        counters: Arc<Counters>,
        keeps_transcript: bool,
    ) -> Known {
        Known {
            salt,
            check,
            keeps_transcript,
            gate: Gate::default(),
            counters,
            memos: BTreeMap::new(),
            by_key: HashMap::new(),
            next_memo: 1,
            weight: 0,
            open: BTreeMap::new(),
            prepared: VecDeque::new(),
            next_label: KNOWN_LABELS,
            ids: Ids::default(),
            drafts: Drafts::default(),
            has_effects: false,
            rows: RowBounds::default(),
        }
    }

    /// What rows that are let through here count on, and how many each count may reach.
    pub fn bind_rows(&mut self, bounds: Vec<(Arc<RowCount>, u64)>) {
        self.rows = RowBounds::new(bounds);
    }

    /// Opens the gate for an arrival, unless no row may be delivered any more: the host refuses then, and says so.
    pub(crate) fn open_gate(&mut self, gate: Gate) {
        self.gate = if self.rows.is_spent() {
            Gate::default()
        } else {
            gate
        };
    }

    /// Whether one row more may be delivered; it is counted then.
    pub(crate) fn spend_row(&self) -> bool {
        self.rows.spend()
    }

    /// Keeps a decision about a message of this kind, text and types of parameters, 0 where one is not known; its number for
    /// `learn_rows`, none when such a text is not kept.
    pub fn learn(
        &mut self,
        event: Event,
        sql: &str,
        types: Vec<u32>,
        mut lesson: Lesson,
    ) -> Option<u64> {
        let key = (event, types, skeleton(sql)?);
        let weight = weigh(&lesson.leaf, &lesson);
        if weight > MAX_LESSON_BYTES / 4 {
            return None;
        }
        if let Some(old) = self.by_key.get(&key).copied() {
            self.forget(old);
        }
        while self.memos.len() >= MAX_LESSONS || self.weight + weight > MAX_LESSON_BYTES {
            let oldest = self.memos.keys().next().copied()?;
            self.forget(oldest);
        }
        let number = self.next_memo;
        self.next_memo += 1;
        self.weight += weight;
        self.by_key.insert(key.clone(), number);
        let nothing = Template::new(vec![Box::default()], Vec::new())?;
        let leaf = Arc::new(std::mem::replace(&mut lesson.leaf, nothing));
        let memo = Memo {
            key,
            leaf,
            lesson,
            rows: Vec::new(),
        };
        self.memos.insert(number, memo);
        Some(number)
    }

    fn forget(&mut self, number: u64) {
        if let Some(memo) = self.memos.remove(&number) {
            self.weight -= weigh(&memo.leaf, &memo.lesson);
            self.by_key.remove(&memo.key);
        }
    }

    /// Forgets every lesson: something that all of them depend on has changed.
    pub fn forget_all(&mut self) {
        self.memos.clear();
        self.by_key.clear();
        self.weight = 0;
        self.prepared.shrink_to_fit();
    }

    /// Keeps how a described result of a lesson is delivered.
    pub(crate) fn learn_rows(
        &mut self,
        memo: u64,
        lesson: RowLesson,
        formats: Vec<u16>,
        plan: Plan,
    ) {
        let Some(memo) = self.memos.get_mut(&memo) else {
            return;
        };
        // One description per lesson and formats; a new one means that the old one is no longer what the server says.
        memo.rows.retain(|rows| rows.formats != formats);
        memo.rows.truncate(3);
        memo.rows.push(Rows {
            fields: plan.fields.clone(),
            formats,
            leaf: Arc::new(lesson.leaf),
            input: lesson.input,
            base: lesson.base,
            until_mono_ns: lesson.until_mono_ns,
            until_ns: lesson.until_ns,
            plan,
        });
    }

    /// Whether any lesson can apply at the moment: what is asked first, because most calls end here.
    fn is_gate_open(&self) -> bool {
        self.gate.now_ns != 0 && !self.memos.is_empty()
    }

    pub(crate) fn take_query(&mut self, sql: &str) -> Option<Taken> {
        if !self.is_gate_open() {
            return None;
        }
        self.take(Event::Query, sql, Vec::new(), None, || {
            What::Text(sql.to_owned())
        })
    }

    pub(crate) fn take_statement(&mut self, name: &str, sql: &str, types: &[u32]) -> Option<Taken> {
        if !self.is_gate_open() {
            return None;
        }
        let what = || What::Statement(name.to_owned(), sql.to_owned());
        self.take(Event::Parse, sql, types.to_vec(), None, what)
    }

    pub(crate) fn take_portal(&mut self, portal: &Arc<Portal>) -> Option<Taken> {
        if !self.is_gate_open() {
            return None;
        }
        let mut params = Vec::new();
        let bound = portal.bound_params();
        push_params(&mut params, &bound, self.check.as_ref())?;
        let types: Vec<_> = bound.iter().map(|bound| bound.type_oid).collect();
        let params = (!bound.is_empty()).then_some(params);
        let sql = &portal.statement.sql;
        self.take(Event::Execute, sql, types, params, || {
            What::Portal(Arc::clone(portal))
        })
    }

    fn take(
        &mut self,
        event: Event,
        sql: &str,
        types: Vec<u32>,
        params: Option<Vec<u8>>,
        what: impl FnOnce() -> What,
    ) -> Option<Taken> {
        let number = *self.by_key.get(&(event, types, skeleton(sql)?))?;
        let memo = self.memos.get(&number)?;
        let (lesson, gate) = (&memo.lesson, self.gate);
        if gate.mono_ns >= lesson.until_mono_ns
            || gate.now_ns >= lesson.until_ns
            || !(lesson.is_harmless || gate.may_affect)
            || params.is_some() != lesson.input.has(Slot::Params)
            || !self.check.is_clean("", sql.as_bytes())
        {
            return None;
        }
        let params = params.unwrap_or_default();
        let filling = InputFilling {
            gate,
            counters: &self.counters,
            sql,
            params: &params,
        };
        let input = lesson.input.fill(&filling)?;
        let digest = commit(&self.salt, &lesson.material.fill(&filling)?).ok()?;
        let decision_id = self.ids.next_id().ok()?;
        self.drafts.push(Draft::Decision {
            leaf: Arc::clone(&memo.leaf),
            decision_id: decision_id.clone(),
            request_id: None,
            digest,
            input: Blob(input),
            base: Some(Arc::clone(&lesson.base)),
        });
        self.counters.add(1, 0, 0, 0);
        self.has_effects |= !lesson.is_harmless;
        let label = self.next_label;
        self.next_label += 1;
        let taken = Taken {
            label,
            hides_texts: lesson.hides_texts,
            is_harmless: lesson.is_harmless,
        };
        let open = Open {
            memo: number,
            host: Arc::clone(&lesson.host),
            what: what(),
            params,
            decision_id,
            digest,
            outcome: Outcome::default(),
            record: Vec::new(),
            tags: Vec::new(),
            is_handed_over: false,
        };
        self.open.insert(label, open);
        Some(taken)
    }

    fn find(&self, label: u64) -> Option<&Open> {
        let prepared = || self.prepared.iter().find(|(known, _)| *known == label);
        self.open
            .get(&label)
            .or_else(|| prepared().map(|(_, open)| open))
            .filter(|open| !open.is_handed_over)
    }

    /// The plan of a description that was judged before. The caller calls `record_rows` if it can be carried out.
    pub(crate) fn plan_rows(&self, label: u64, fields: &[Field], formats: &[u16]) -> Option<Plan> {
        self.rows_of(label, fields, formats)
            .map(|(_, rows)| rows.plan.clone())
    }

    fn rows_of(&self, label: u64, fields: &[Field], formats: &[u16]) -> Option<(&Open, &Rows)> {
        let open = self.find(label)?;
        let rows = &self.memos.get(&open.memo)?.rows;
        let (now, mono) = (self.gate.now_ns, self.gate.mono_ns);
        let is_good = |rows: &&Rows| now != 0 && now < rows.until_ns && mono < rows.until_mono_ns;
        rows.iter()
            .find(|rows| rows.formats == formats && rows.fields == fields)
            .filter(is_good)
            .map(|rows| (open, rows))
    }

    /// Records the decision about a description; false when it cannot be, and then nothing of it may be delivered by itself.
    pub(crate) fn record_rows(&mut self, label: u64, fields: &[Field], formats: &[u16]) -> bool {
        let Ok(decision_id) = self.ids.next_id() else {
            return false;
        };
        let Some((open, rows)) = self.rows_of(label, fields, formats) else {
            return false;
        };
        let sql = open.what.sql();
        let filling = InputFilling {
            gate: self.gate,
            counters: &self.counters,
            sql,
            params: &open.params,
        };
        let Some(input) = rows.input.fill(&filling) else {
            return false;
        };
        let draft = Draft::Decision {
            leaf: Arc::clone(&rows.leaf),
            decision_id,
            request_id: Some(open.decision_id.clone()),
            digest: open.digest,
            input: Blob(input),
            base: Some(Arc::clone(&rows.base)),
        };
        self.drafts.push(draft);
        true
    }

    /// Takes an event of an action of its own; gives back what the host has to see.
    pub(crate) fn absorb(&mut self, event: ServerEvent) -> Option<ServerEvent> {
        let label = match label_of(&event) {
            Some(label) if label >= KNOWN_LABELS => label,
            _ => return Some(event),
        };
        let Some(open) = self
            .open
            .get_mut(&label)
            .filter(|open| !open.is_handed_over)
        else {
            self.hand_over_prepared(label);
            return Some(event);
        };
        match event {
            ServerEvent::ResultEnd(end)
                if end.withheld.is_none()
                    && open.record.len() + end.record.len() <= MAX_TRANSCRIPT_BYTES =>
            {
                let outcome = &mut open.outcome;
                outcome.rows += end.rows;
                outcome.bytes += end.bytes;
                add(&mut outcome.masked, end.masked);
                add(&mut outcome.detected, end.detected);
                outcome.is_truncated |= end.is_record_truncated;
                if open.record.is_empty() {
                    open.record = end.record;
                } else {
                    open.record.extend_from_slice(&end.record);
                }
            }
            ServerEvent::CommandComplete {
                tag,
                is_withheld: false,
                ..
            } => {
                if !tag.is_empty() {
                    open.tags.push(tag);
                }
            }
            ServerEvent::ActionEnd {
                status: ActionStatus::Completed | ActionStatus::Suspended,
                ..
            } => self.finish(label),
            other => {
                open.is_handed_over = true;
                return Some(other);
            }
        }
        None
    }

    fn hand_over_prepared(&mut self, label: u64) {
        if let Some((_, open)) = self.prepared.iter_mut().find(|(known, _)| *known == label) {
            open.is_handed_over = true;
        }
    }

    fn finish(&mut self, label: u64) {
        let Some(mut open) = self.open.remove(&label) else {
            return;
        };
        self.counters
            .add(0, 0, open.outcome.rows, open.outcome.bytes);
        let mut outcome = std::mem::take(&mut open.outcome);
        outcome.tag = open.tags.join("; ").chars().take(MAX_TAG_CHARS).collect();
        let record = std::mem::take(&mut open.record);
        if self.keeps_transcript && !record.is_empty() {
            outcome.transcript = Some(Blob(record));
        }
        self.drafts.push(Draft::Outcome {
            decision_id: open.decision_id.clone(),
            outcome,
        });
        if let What::Statement(name, _) = &open.what {
            // What was prepared under this name before can have no description outstanding: replies come in order.
            self.prepared.retain(
                |(_, other)| !matches!(&other.what, What::Statement(known, _) if known == name),
            );
            self.prepared.push_back((label, open));
            if self.prepared.len() > MAX_PREPARED {
                self.prepared.pop_front();
            }
        }
    }

    /// Everything known of an action that was handed to the host, or is to be now.
    pub fn adopt(&mut self, label: u64) -> Option<Adopted> {
        let under_way = self.open.remove(&label);
        let is_open = under_way.is_some();
        let open = match under_way {
            Some(open) => open,
            None => {
                let place = self
                    .prepared
                    .iter()
                    .position(|(known, _)| *known == label)?;
                self.prepared.remove(place)?.1
            }
        };
        let sql = open.what.sql().to_owned();
        let params = match open.what {
            What::Portal(portal) => portal.bound_params(),
            _ => Vec::new(),
        };
        Some(Adopted {
            host: open.host,
            lesson: open.memo,
            is_open,
            decision_id: open.decision_id,
            sql,
            params,
            outcome: open.outcome,
            record: open.record,
            tags: open.tags,
        })
    }

    /// Labels of the actions under way.
    pub fn open_labels(&self) -> Vec<u64> {
        self.open.keys().copied().collect()
    }

    /// The records since the last call, and whether one of them lets another effect than reading through.
    pub fn take_drafts(&mut self) -> Option<(Drafts, bool)> {
        if self.drafts.is_empty() {
            return None;
        }
        let has_effects = std::mem::take(&mut self.has_effects);
        Some((std::mem::take(&mut self.drafts), has_effects))
    }
}

fn weigh(leaf: &Template, lesson: &Lesson) -> usize {
    leaf.weight() + lesson.input.weight() + lesson.base.len() + lesson.material.weight()
}

fn add(counts: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        *counts.entry(name).or_default() += count;
    }
}

fn label_of(event: &ServerEvent) -> Option<u64> {
    match event {
        ServerEvent::RowDescription { action, .. }
        | ServerEvent::CopyOut { action, .. }
        | ServerEvent::CopyIn { action, .. }
        | ServerEvent::CommandComplete { action, .. }
        | ServerEvent::Error { action, .. } => *action,
        ServerEvent::ResultEnd(end) => end.action,
        ServerEvent::ActionEnd { action, .. } => Some(*action),
        _ => None,
    }
}
