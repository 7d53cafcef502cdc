//! The records of one session while native code writes them: what the host lends, and takes back with everything that was added.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::draft::{Drafts, Measure};
use crate::prepared::{Prepared, Seat};
use crate::seal::{SealError, Sealer};
use crate::segment::BATCH_HEADER_BYTES;
use crate::writer::{Item, Refused, Source, Writer};

/// The session's record before the next one.
pub enum Tip {
    /// Its leaf hash, hexadecimal.
    Hash(String),
    /// It is the last of these.
    Prepared(Prepared),
}

/// How far the records of a session have come.
pub struct Progress {
    /// Number of the next record in the session.
    pub sseq: u64,
    /// The record before it.
    pub tip: Tip,
    /// Number of the session's next chunk.
    pub chunk: u64,
    /// Decisions without an outcome, oldest first.
    pub pending: Vec<String>,
}

/// A session's chain of records. One thread appends to it.
pub struct Chain {
    sid: Arc<str>,
    sealer: Arc<Sealer>,
    progress: Mutex<Progress>,
}

/// Records as they were written, for whoever publishes them.
pub struct Written {
    /// The session.
    pub sid: Arc<str>,
    /// Its records.
    pub prepared: Prepared,
    /// How many.
    pub records: u64,
    /// Bytes of their items, at most.
    pub size: usize,
}

/// Time of a record, and microseconds since the log was opened.
pub type Clocks<'a> = &'a dyn Fn() -> (String, u64);

/// Why records were not appended, and the records.
#[derive(Debug)]
pub struct NotAppended {
    /// The records, as they came.
    pub drafts: Drafts,
    /// None where one of them could turn out too large.
    pub why: Option<Refused>,
}

impl Source for Prepared {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.write_items(out)
    }
}

impl Chain {
    /// A chain that goes on from here.
    pub fn new(sid: String, sealer: Arc<Sealer>, progress: Progress) -> Chain {
        Chain {
            sid: sid.into(),
            sealer,
            progress: Mutex::new(progress),
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues records behind those before, to be written with the next entry that rings, or when somebody does; gives the index of the last one, and the records, whose bytes may be made ahead of need.
    pub fn append(
        &self,
        writer: &Writer,
        drafts: Drafts,
        clocks: Clocks<'_>,
    ) -> Result<(u64, Prepared), NotAppended> {
        let Ok(measure) = drafts.measure() else {
            return Err(NotAppended { drafts, why: None });
        };
        let (records, size) = (measure.records, measure.bytes);
        let (mut waiting, mut placed) = (Some(drafts), None);
        let make = |index| {
            let (item, prepared) =
                self.place(waiting.take().unwrap_or_default(), measure, index, clocks);
            placed = Some(prepared);
            item
        };
        let queued = writer.append(size, make);
        match (queued, placed) {
            (Ok(index), Some(prepared)) => Ok((index + records - 1, prepared)),
            (queued, _) => Err(NotAppended {
                drafts: waiting.unwrap_or_default(),
                why: queued.err(),
            }),
        }
    }

    fn place(
        &self,
        drafts: Drafts,
        measure: Measure,
        index: u64,
        clocks: Clocks<'_>,
    ) -> (Item, Prepared) {
        let (ts, mono_us) = clocks();
        let mut progress = self.progress();
        let seat = Seat {
            sealer: Arc::clone(&self.sealer),
            sid: Arc::clone(&self.sid),
            seq: index,
            sseq: progress.sseq,
            chunk: progress.chunk,
            ts,
            mono_us,
        };
        let prepared = match &progress.tip {
            Tip::Hash(hash) => Prepared::after_hash(hash.clone(), drafts, seat),
            Tip::Prepared(before) => before.before(drafts, seat),
        };
        progress.sseq += measure.records;
        progress.chunk += measure.chunks;
        progress.tip = Tip::Prepared(prepared.clone());
        progress.pending.extend(measure.opened);
        progress.pending.retain(|id| !measure.closed.contains(id));
        let item = Item {
            parts: vec![Box::new(prepared.clone())],
            records: u32::try_from(measure.records).unwrap_or(u32::MAX),
            size: measure.bytes + BATCH_HEADER_BYTES,
            starts_segment: false,
            has_thread: false,
            foreign: Some(Box::new(Written {
                sid: Arc::clone(&self.sid),
                prepared: prepared.clone(),
                records: measure.records,
                size: measure.bytes,
            })),
        };
        (item, prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{Blob, Draft, Outcome};
    use crate::writer::{Noticed, Plan};
    use crate::SegmentFile;

    fn decided(id: &str) -> Drafts {
        let texts = ["{", "}"].map(|text| text.as_bytes().to_vec().into_boxed_slice());
        let template = crate::Template::new(texts.to_vec(), vec![crate::Slot::Seq]).unwrap();
        let mut drafts = Drafts::default();
        drafts.push(Draft::Decision {
            leaf: Arc::new(template),
            decision_id: id.into(),
            request_id: None,
            digest: [0; 32],
            input: Blob(b"{}".to_vec()),
            base: None,
        });
        drafts
    }

    fn ended(id: &str) -> Drafts {
        let mut drafts = Drafts::default();
        drafts.push(Draft::Outcome {
            decision_id: id.into(),
            outcome: Outcome::default(),
        });
        drafts
    }

    fn chain() -> Chain {
        let sealer = Arc::new(Sealer::new(&[1; 32], "o", "s").unwrap());
        let progress = Progress {
            sseq: 4,
            tip: Tip::Hash("00".into()),
            chunk: 6,
            pending: vec!["d0".into()],
        };
        Chain::new("s".into(), sealer, progress)
    }

    fn writer() -> Writer {
        let plan = Plan {
            max_entries: 9,
            max_batch: 1 << 20,
            max_queue: 1 << 20,
            first_segment: 1 << 16,
            segment: 1 << 16,
        };
        Writer::new(plan, 10).unwrap()
    }

    const CLOCKS: Clocks<'static> = &|| ("t".to_owned(), 7);

    #[test]
    fn records_follow_one_another_and_the_chain_knows_what_is_open() {
        let (chain, writer) = (chain(), writer());
        let refused = chain.append(&writer, decided("d1"), CLOCKS).err();
        let NotAppended { drafts, why } = refused.unwrap(); // the first entry of all starts a segment
        assert_eq!((why, drafts.is_empty()), (Some(Refused::Segment), false));
        assert_eq!(chain.progress().sseq, 4);
        let first = Item {
            parts: Vec::new(),
            records: 1,
            size: 40,
            starts_segment: true,
            has_thread: false,
            foreign: None,
        };
        writer.push(first, true);
        assert_eq!(chain.append(&writer, drafts, CLOCKS).unwrap().0, 11);
        assert_eq!(chain.progress().pending, ["d0", "d1"]);
        assert_eq!(chain.append(&writer, ended("d0"), CLOCKS).unwrap().0, 12);
        let progress = chain.progress();
        assert_eq!((progress.sseq, progress.chunk), (6, 7));
        assert_eq!(progress.pending, ["d1"]);
        writer.stop();
        let path = std::env::temp_dir().join(format!("sealgate-{}-chain", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let start = crate::Position {
            number: 0,
            first_index: 10,
            offset: 64,
        };
        writer.run(Some(&SegmentFile::open(&path).unwrap()), start, u64::MAX);
        let mut written = writer
            .notice()
            .into_iter()
            .filter_map(|noticed| match noticed {
                Noticed::Own(_) => None,
                Noticed::Foreign(foreign) => foreign.downcast::<Written>().ok(),
            });
        let (first, second) = (written.next().unwrap(), written.next().unwrap());
        assert_eq!(&*first.sid, "s");
        let taken = first.prepared.take().unwrap();
        assert_eq!(taken.leaves().collect::<Vec<_>>(), [b"{11}"]);
        let taken = second.prepared.take().unwrap();
        let text = String::from_utf8(taken.leaves().next().unwrap().to_vec()).unwrap();
        let previous = first.prepared.last_hash().unwrap();
        assert!(text.contains(&format!(
            "\"seq\":12,\"sid\":\"s\",\"sprev\":\"{previous}\",\"sseq\":5"
        )));
        std::fs::remove_file(path).unwrap();
    }
}
