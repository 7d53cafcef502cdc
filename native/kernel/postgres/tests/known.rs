//! What a session answers by itself, and what it hands back.
use std::sync::Arc;

use sealgate_postgres::masking::{TextCheck, Unmasked};
use sealgate_postgres::{
    encode, ActionStatus, ClientEvent, Counters, Event, Gate, Known, Lesson, Limits, RowLesson,
    ServerEvent, Session, KNOWN_LABELS,
};
use sealgate_record::{Place, Sealer, Slot, Template};

const LIMITS: Limits = Limits {
    max_message_bytes: 4096,
    max_statements: 4,
    max_portals: 4,
    max_pending: 64,
    record_limit_bytes: 256,
};

const OPEN: Gate = Gate {
    now_ns: 1_000,
    mono_ns: 50,
    may_affect: true,
};

struct NoSecrets;

impl TextCheck for NoSecrets {
    fn is_clean(&self, _name: &str, text: &[u8]) -> bool {
        !text.windows(6).any(|window| window == b"secret")
    }
}

fn template(texts: &[&str], slots: &[Slot]) -> Template {
    let texts = texts
        .iter()
        .map(|text| text.as_bytes().to_vec().into_boxed_slice())
        .collect();
    Template::new(texts, slots.to_vec()).unwrap()
}

fn lesson(is_harmless: bool) -> Lesson {
    Lesson {
        leaf: template(&["{", "}"], &[Slot::DecisionId]),
        input: template(&["{", ",", "}"], &[Slot::Text, Slot::Actions]),
        base: Arc::from(*b"{\"select a from t\",0}"),
        material: template(&["", ""], &[Slot::Text]),
        until_mono_ns: 100,
        until_ns: 2_000,
        is_harmless,
        hides_texts: false,
        host: Arc::new("the host's"),
    }
}

fn session(is_harmless: bool) -> (Session, u64) {
    let mut session = Session::new(LIMITS, None);
    session.set_known(Known::new(
        vec![1; 32],
        Arc::new(NoSecrets),
        Arc::new(Counters::default()),
        true,
    ));
    let number = session
        .known()
        .unwrap()
        .learn(
            Event::Query,
            "select a from t where b = 1",
            Vec::new(),
            lesson(is_harmless),
        )
        .unwrap();
    (session, number)
}

fn row_description() -> Vec<u8> {
    let mut body = b"\0\x01n\0".to_vec();
    body.extend_from_slice(&[0, 0, 0, 1, 0, 1, 0, 0, 0, 25]);
    body.extend_from_slice(&[0xff; 6]);
    body.extend_from_slice(&[0, 0]);
    encode::message(b'T', &body)
}

fn answer() -> Vec<u8> {
    [
        row_description(),
        encode::message(b'D', b"\0\x01\0\0\0\x01x"),
        encode::message(b'C', b"SELECT 1\0"),
        encode::ready(b'I'),
    ]
    .concat()
}

/// The records made so far.
fn records(session: &mut Session) -> Vec<String> {
    let Some((drafts, _)) = session.known().unwrap().take_drafts() else {
        return Vec::new();
    };
    let place = Place {
        sid: "s",
        seq: 0,
        sseq: 1,
        previous: String::new(),
        chunk: 0,
        ts: "t",
        mono_us: 0,
    };
    let sealer = Sealer::new(&[2; 32], "o", "s").unwrap();
    let done = drafts.finish(place, &sealer).unwrap();
    done.leaves()
        .map(|leaf| String::from_utf8(leaf.to_vec()).unwrap())
        .collect()
}

fn asks(session: &mut Session, sql: &str, gate: Gate) -> bool {
    session
        .receive_client_within(&encode::query(sql), gate)
        .unwrap();
    session.next_client_event().unwrap().is_some()
}

#[test]
fn what_differs_in_constants_is_let_through_and_recorded() {
    let (mut session, number) = session(true);
    assert!(!asks(&mut session, "select a from t where b = 22", OPEN));
    assert_eq!(
        session.take_to_server().unwrap(),
        encode::query("select a from t where b = 22")
    );
    assert_eq!(records(&mut session).len(), 1);
    // The description was never judged: it is the host's, with the action it belongs to.
    session.receive_server_within(&answer(), OPEN).unwrap();
    let Some(ServerEvent::RowDescription { id, action, .. }) = session.next_server_event().unwrap()
    else {
        panic!("the description is judged first");
    };
    assert_eq!(action, Some(KNOWN_LABELS));
    let adopted = session.known().unwrap().adopt(KNOWN_LABELS).unwrap();
    assert_eq!(adopted.sql, "select a from t where b = 22");
    assert!(adopted.is_open);
    let row_lesson = RowLesson {
        leaf: template(&["{", "}"], &[Slot::RequestId]),
        input: template(&["{}"], &[]),
        base: Arc::from(*b"{}"),
        until_mono_ns: 100,
        until_ns: 2_000,
    };
    session
        .resolve_rows_learning(id, Arc::new(Unmasked), None, Some((number, row_lesson)))
        .unwrap();
    let mut last = None;
    while let Some(event) = session.next_server_event().unwrap() {
        if matches!(event, ServerEvent::ActionEnd { .. }) {
            last = Some(event);
        }
    }
    let expected = ServerEvent::ActionEnd {
        action: KNOWN_LABELS,
        status: ActionStatus::Completed,
    };
    assert_eq!(last, Some(expected));
    session.take_to_client().unwrap();
    // From now on nothing of it reaches the host but the state of the transaction.
    assert!(!asks(&mut session, "select a from t where b = 3", OPEN));
    session.receive_server_within(&answer(), OPEN).unwrap();
    assert_eq!(
        session.next_server_event().unwrap(),
        Some(ServerEvent::Ready { status: b'I' })
    );
    assert_eq!(session.take_to_client().unwrap(), answer());
    let made = records(&mut session);
    assert_eq!(made.len(), 3);
    assert!(made[2].contains("\"status\":\"completed\",\"tag\":\"SELECT 1\""));
}

#[test]
fn what_is_not_sure_is_asked() {
    for (sql, gate) in [
        ("select a from t where b = 2", Gate::default()),
        (
            "select a from t where b = 2",
            Gate {
                mono_ns: 100,
                ..OPEN
            },
        ),
        (
            "select a from t where b = 2",
            Gate {
                now_ns: 2_000,
                ..OPEN
            },
        ),
        ("select a from u where b = 2", OPEN),
        ("select a from t where b = 'secret'", OPEN),
        ("select a from t where b = 1 /* c */", OPEN),
    ] {
        let (mut session, _) = session(true);
        assert!(asks(&mut session, sql, gate), "{sql}");
        assert!(records(&mut session).is_empty());
    }
}

#[test]
fn effects_pass_only_where_they_may_and_say_so() {
    let (mut one, _) = session(false);
    let closed = Gate {
        may_affect: false,
        ..OPEN
    };
    assert!(asks(&mut one, "select a from t where b = 2", closed));
    let (mut other, _) = session(false);
    assert!(!asks(&mut other, "select a from t where b = 2", OPEN));
    assert!(other.known().unwrap().take_drafts().unwrap().1);
}

#[test]
fn an_error_is_handed_to_the_host() {
    let (mut session, _) = session(true);
    assert!(!asks(&mut session, "select a from t where b = 2", OPEN));
    let error = encode::message(b'E', b"SERROR\0C22012\0Mdivision by zero\0\0");
    session
        .receive_server_within(&[error, encode::ready(b'I')].concat(), OPEN)
        .unwrap();
    let mut told = Vec::new();
    while let Some(event) = session.next_server_event().unwrap() {
        told.push(event);
    }
    assert!(
        matches!(told[0], ServerEvent::Error { action: Some(label), .. } if label == KNOWN_LABELS)
    );
    let expected = ServerEvent::ActionEnd {
        action: KNOWN_LABELS,
        status: ActionStatus::Failed,
    };
    assert!(told.contains(&expected));
    assert!(session.known().unwrap().adopt(KNOWN_LABELS).is_some());
    assert_eq!(records(&mut session).len(), 1);
}

#[test]
fn nothing_is_known_after_it_was_forgotten() {
    let (mut session, _) = session(true);
    session.known().unwrap().forget_all();
    session
        .receive_client_within(&encode::query("select a from t where b = 2"), OPEN)
        .unwrap();
    let event = session.next_client_event().unwrap();
    assert!(matches!(event, Some(ClientEvent::Query { .. })));
}
