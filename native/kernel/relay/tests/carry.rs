//! Lent sessions over real sockets, in front of a real segment: what leaves, when, and how a session goes back.
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sealgate_postgres::masking::TextCheck;
use sealgate_postgres::{
    encode, Counters, Event, Known, Lesson, Limits, Session, CLIENT_EVENTS, SETTLED,
};
use sealgate_record::{
    Chain, Item, Pause, Plan, Position, Progress, Sealer, SegmentFile, Slot, Template, Tip, Writer,
};
use sealgate_relay::{Left, Line, Loan, Relay, FAILED};

const LIMITS: Limits = Limits {
    max_message_bytes: 1 << 20,
    max_statements: 4,
    max_portals: 4,
    max_pending: 64,
    record_limit_bytes: 256,
};

const PLAN: Plan = Plan {
    max_entries: 9,
    max_batch: 1 << 20,
    max_queue: 1 << 16,
    first_segment: 1 << 16,
    segment: 1 << 16,
};

/// Longer than anything here takes; a test that waits for it fails.
const LONG: Duration = Duration::from_secs(20);

struct Clean;

impl TextCheck for Clean {
    fn is_clean(&self, _name: &str, _text: &[u8]) -> bool {
        true
    }
}

fn template(texts: &[&str], slots: &[Slot]) -> Template {
    let texts = texts.iter().map(|text| text.as_bytes().to_vec());
    Template::new(texts.map(Vec::into_boxed_slice).collect(), slots.to_vec()).unwrap()
}

/// A session that knows `update t set a = 1`, whose effect waits for its record unless it is harmless.
fn session(is_harmless: bool) -> Session {
    let mut session = Session::new(LIMITS, None);
    session.report_ready(false);
    let known = Known::new(
        vec![1; 32],
        Arc::new(Clean),
        Arc::new(Counters::default()),
        true,
    );
    session.set_known(known);
    let lesson = Lesson {
        leaf: template(&["{", "}"], &[Slot::DecisionId]),
        input: template(&["{", "}"], &[Slot::Text]),
        base: Arc::from(*b"{\"update\"}"),
        material: template(&["", ""], &[Slot::Text]),
        until_mono_ns: u64::MAX,
        until_ns: u64::MAX,
        is_harmless,
        hides_texts: false,
        host: Arc::new("the host's"),
    };
    let known = session.known().unwrap();
    known
        .learn(Event::Query, "update t set a = 1", Vec::new(), lesson)
        .unwrap();
    session
}

struct World {
    relay: Arc<Relay>,
    writer: Arc<Writer>,
    chain: Arc<Chain>,
    client: UnixStream,
    server: UnixStream,
    number: u64,
    lent_ns: u64,
    threads: Vec<JoinHandle<()>>,
    path: PathBuf,
}

impl World {
    /// A lent session; nothing is written before `write`.
    fn new(is_harmless: bool, expires_ns: u64) -> World {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "sealgate-relay-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let writer = Arc::new(Writer::new(PLAN, 0).unwrap());
        let first = Item {
            parts: Vec::new(),
            records: 1,
            size: 40,
            starts_segment: true,
            has_thread: false,
            foreign: None,
        };
        writer.push(first, false);
        let relay = Arc::new(Relay::new(Arc::clone(&writer), 0).unwrap());
        relay.allow_effects(u64::MAX);
        let progress = Progress {
            sseq: 1,
            tip: Tip::Hash("00".into()),
            chunk: 0,
            pending: Vec::new(),
        };
        let sealer = Arc::new(Sealer::new(&[2; 32], "o", "s").unwrap());
        let chain = Arc::new(Chain::new("s".into(), sealer, progress));
        let [(ours, client), (theirs, server)] = [pair(), pair()];
        let loan = Loan {
            session: Arc::new(Mutex::new(session(is_harmless))),
            chain: Arc::clone(&chain),
            lines: [ours, theirs].map(|socket| Line { socket, tls: None }),
            expires_ns,
            until_mono_ns: u64::MAX,
        };
        let number = relay.lend(loan).unwrap();
        let lent_ns = relay.active_ns(number);
        let running = Arc::clone(&relay);
        let thread = std::thread::spawn(move || running.run().unwrap());
        World {
            relay,
            writer,
            chain,
            client,
            server,
            number,
            lent_ns,
            threads: vec![thread],
            path: std::env::temp_dir().join(name),
        }
    }

    /// Has records written from now on, to a file or a device.
    fn write_to(&mut self, path: PathBuf) {
        let file = SegmentFile::open(&path).unwrap();
        let writer = Arc::clone(&self.writer);
        let start = Position {
            number: 0,
            first_index: 0,
            offset: 64,
        };
        self.threads.push(std::thread::spawn(move || {
            if let Pause::Failed(error) = writer.run(Some(&file), start, u64::MAX).0 {
                eprintln!("the log stops: {error:?}");
                writer.close();
            }
        }));
        self.writer.ring();
    }

    fn write(&mut self) {
        std::fs::write(&self.path, b"").unwrap();
        self.write_to(self.path.clone());
    }

    fn ask(&mut self, sql: &str) {
        self.client.write_all(&encode::query(sql)).unwrap();
    }

    fn wait_for_left(&self) -> Left {
        let mut left = Vec::new();
        let until = std::time::Instant::now() + LONG;
        while left.is_empty() {
            assert!(std::time::Instant::now() < until, "it never went back");
            std::thread::yield_now();
            left = self.relay.take_left();
        }
        assert_eq!(
            (left.len(), left[0].number, self.relay.count()),
            (1, self.number, 0)
        );
        left.remove(0)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.relay.stop();
        self.writer.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(LONG)).unwrap();
    (OwnedFd::from(ours), theirs)
}

fn read(peer: &mut UnixStream, expected: &[u8]) {
    let mut buffer = vec![0; expected.len()];
    peer.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, expected);
}

/// Whether nothing has arrived, also where the session went back and the socket with it.
fn is_silent(peer: &mut UnixStream) -> bool {
    peer.set_nonblocking(true).unwrap();
    let silent = match peer.read(&mut [0; 8]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    peer.set_nonblocking(false).unwrap();
    silent
}

fn done() -> Vec<u8> {
    [encode::message(b'C', b"UPDATE 1\0"), encode::ready(b'I')].concat()
}

#[test]
fn an_effect_leaves_once_its_record_is_durable_and_the_answer_comes_back() {
    let mut world = World::new(false, 0);
    world.ask("update t set a = 7");
    while world.writer.next_index() < 2 {
        std::thread::yield_now();
    }
    assert!(is_silent(&mut world.server)); // queued, and not written
    world.write();
    read(&mut world.server, &encode::query("update t set a = 7"));
    assert!(world.writer.durable() >= 2);
    world.server.write_all(&done()).unwrap();
    read(&mut world.client, &done());
    assert!(world.relay.active_ns(world.number) > 0);
    let progress = world.chain.progress();
    assert_eq!(
        (progress.sseq, progress.chunk, progress.pending.len()),
        (3, 1, 0)
    );
}

#[test]
fn a_harmless_read_leaves_at_once_and_its_answer_waits() {
    let mut world = World::new(true, 0);
    world.write();
    while world.writer.durable() < 1 {
        std::thread::yield_now(); // what was queued before it was lent
    }
    world.ask("update t set a = 7");
    read(&mut world.server, &encode::query("update t set a = 7"));
    world.server.write_all(&done()).unwrap();
    read(&mut world.client, &done());
    assert!(world.writer.durable() >= 2);
}

#[test]
fn what_the_host_queued_before_a_loan_is_durable_before_anything_leaves() {
    let mut world = World::new(true, 0);
    world.ask("update t set a = 7");
    while world.writer.next_index() < 2 {
        std::thread::yield_now();
    }
    assert!(is_silent(&mut world.server));
    world.write();
    read(&mut world.server, &encode::query("update t set a = 7"));
}

#[test]
fn what_was_not_learned_goes_back_to_be_judged() {
    let mut world = World::new(true, 0);
    world.write();
    world.ask("delete from t");
    let left = world.wait_for_left();
    assert_eq!(left.state & CLIENT_EVENTS, CLIENT_EVENTS);
    assert!(!left.is_lost && left.staged.is_none());
    assert!(is_silent(&mut world.server) && is_silent(&mut world.client));
}

#[test]
fn bytes_that_break_the_protocol_go_back_with_the_kernel_in_error() {
    let mut world = World::new(true, 0);
    world.write();
    world.client.write_all(b"?\0\0\0\x04").unwrap();
    assert_eq!(world.wait_for_left().state, FAILED);
}

#[test]
fn a_peer_that_left_is_the_hosts_to_notice() {
    for is_client in [true, false] {
        let mut world = World::new(true, 0);
        world.write();
        let peer = if is_client {
            &world.client
        } else {
            &world.server
        };
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(world.wait_for_left().state, 0);
    }
}

#[test]
fn nothing_passes_once_the_proof_of_identity_has_ended() {
    let mut world = World::new(true, 1);
    world.write();
    world.ask("update t set a = 7");
    assert_eq!(world.wait_for_left().state, 0);
    assert!(is_silent(&mut world.server));
    assert_eq!(world.writer.next_index(), 1);
}

#[test]
fn effects_pass_only_while_they_are_allowed() {
    let mut world = World::new(false, 0);
    world.write();
    world.relay.allow_effects(1);
    world.ask("update t set a = 7");
    assert_eq!(world.wait_for_left().state & CLIENT_EVENTS, CLIENT_EVENTS);
    assert!(is_silent(&mut world.server));
}

#[test]
fn a_session_that_is_recalled_goes_back_once_nothing_waits() {
    let mut world = World::new(false, 0);
    world.ask("update t set a = 7");
    while world.writer.next_index() < 2 {
        std::thread::yield_now();
    }
    world.relay.recall(world.number);
    world.ask("update t set a = 8"); // stays in the socket
    assert!(world.relay.take_left().is_empty());
    world.write();
    let left = world.wait_for_left();
    assert_eq!(left.state & SETTLED, 0);
    read(&mut world.server, &encode::query("update t set a = 7"));
    assert!(is_silent(&mut world.server));
    assert_eq!(world.chain.progress().pending.len(), 1);
    world.relay.recall_all();
}

#[test]
fn records_that_cannot_be_queued_go_back_with_what_follows_them() {
    let mut world = World::new(false, 0);
    let much = Item {
        parts: Vec::new(),
        records: 1,
        size: PLAN.max_queue - 64,
        starts_segment: false,
        has_thread: false,
        foreign: None,
    };
    world.writer.push(much, false);
    world.ask("update t set a = 7");
    while world.relay.active_ns(world.number) == world.lent_ns {
        std::thread::yield_now();
    }
    world.write();
    let left = world.wait_for_left();
    let staged = left.staged.unwrap();
    assert!(staged.has_effects && staged.drafts.has_decisions());
    assert_eq!(staged.to_server, encode::query("update t set a = 7"));
    assert!(is_silent(&mut world.server) && !left.is_lost);
    assert_eq!(world.chain.progress().sseq, 1);
}

#[test]
fn a_log_that_fails_loses_what_waits_and_nothing_of_it_leaves() {
    let mut world = World::new(false, 0);
    world.ask("update t set a = 7");
    while world.writer.next_index() < 2 {
        std::thread::yield_now();
    }
    world.write_to(PathBuf::from("/dev/full"));
    assert!(world.wait_for_left().is_lost);
    assert!(is_silent(&mut world.server) && is_silent(&mut world.client));
}

#[test]
fn a_session_that_is_discarded_does_not_go_back() {
    let mut world = World::new(true, 0);
    world.relay.discard(world.number);
    assert_eq!(
        (world.relay.count(), world.relay.active_ns(world.number)),
        (0, 0)
    );
    assert!(world.client.write_all(b"Q").is_err()); // nobody reads it any more
    assert!(world.relay.take_left().is_empty() && is_silent(&mut world.server));
}

/// Asks for an update and returns at the moment its record has become durable, most likely before the relay has heard of it.
fn ask_until_durable(world: &mut World) {
    world.ask("update t set a = 7");
    while world.writer.next_index() < 2 {
        std::thread::yield_now();
    }
    world.write();
    while world.writer.durable() < 2 {
        std::hint::spin_loop();
    }
}

#[test]
fn what_has_just_become_durable_leaves_before_a_session_goes_back() {
    for _ in 0..100 {
        let mut world = World::new(false, 0);
        ask_until_durable(&mut world);
        world.relay.recall(world.number);
        read(&mut world.server, &encode::query("update t set a = 7"));
        let left = world.wait_for_left();
        assert!(!left.is_lost && left.staged.is_none());
    }
}

#[test]
fn what_has_just_become_durable_leaves_although_the_agent_goes_on_at_once() {
    for _ in 0..100 {
        let mut world = World::new(false, 0);
        ask_until_durable(&mut world);
        world.ask("update t set a = 7");
        read(&mut world.server, &encode::query("update t set a = 7"));
    }
}
