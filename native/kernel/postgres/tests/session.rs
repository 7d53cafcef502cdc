//! Whole conversations through a session, without the masking crate: order of replies, waiting, cutting, limits.
use std::sync::Arc;

use sealgate_postgres::masking::{Column, Counts, Masking, RowMasker, Target, Unmasked};
use sealgate_postgres::{
    encode, ActionStatus, ClientEvent, Code, Limits, ResolveError, ServerEvent, Session, Violation,
};

const LIMITS: Limits = Limits {
    max_message_bytes: 4096,
    max_statements: 4,
    max_portals: 4,
    max_pending: 64,
    record_limit_bytes: 256,
};

fn session() -> Session {
    Session::new(LIMITS, None)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    encode::message(kind, body)
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(
        b'B',
        format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes(),
    )
}

fn execute(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn row_description(table_oid: u8) -> Vec<u8> {
    let mut body = b"\0\x01n\0\0\0\0".to_vec();
    body.push(table_oid);
    body.extend_from_slice(&[0, 1, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    message(b'T', &body)
}

fn row(text: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0, 0, u8::try_from(text.len()).unwrap()];
    body.extend_from_slice(text.as_bytes());
    message(b'D', &body)
}

fn error(text: &str) -> Vec<u8> {
    encode::fields_message(b'E', &fields(text))
}

fn fields(text: &str) -> Vec<(u8, String)> {
    vec![(b'S', "ERROR".to_owned()), (b'C', text.to_owned())]
}

fn kinds(mut stream: &[u8]) -> String {
    let mut kinds = String::new();
    while let Some(kind) = stream.first() {
        kinds.push(char::from(*kind));
        let length = u32::from_be_bytes([stream[1], stream[2], stream[3], stream[4]]);
        stream = &stream[1 + usize::try_from(length).unwrap()..];
    }
    kinds
}

/// Forwards everything that is judged and delivers every result as it is; returns the events of the server's direction.
fn pass(session: &mut Session, action: &mut u64) -> Vec<ServerEvent> {
    let mut events = Vec::new();
    loop {
        match session.next_client_event().unwrap() {
            Some(ClientEvent::Query { id, .. })
            | Some(ClientEvent::Parse { id, .. })
            | Some(ClientEvent::Execute { id, .. }) => {
                *action += 1;
                session.forward(id, *action).unwrap();
                continue;
            }
            Some(_) => continue,
            None => {}
        }
        match session.next_server_event().unwrap() {
            Some(event) => {
                if let ServerEvent::RowDescription { id, .. } = &event {
                    session.resolve_rows(*id, Arc::new(Unmasked), None).unwrap();
                }
                events.push(event);
            }
            None => return events,
        }
    }
}

/// Replaces each row by one without columns, to be told apart from the server's.
struct Emptied;

impl Masking for Emptied {
    fn rows(&self, _columns: &[Column]) -> Result<Box<dyn RowMasker>, String> {
        Ok(Box::new(Emptied))
    }
}

impl RowMasker for Emptied {
    fn mask(&mut self, _row: &[u8], _target: Target, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&[0, 0]);
        Ok(())
    }

    fn is_identity(&self) -> bool {
        false
    }

    fn record_differs(&self) -> bool {
        false
    }

    fn take_counts(&mut self) -> Counts {
        Counts::default()
    }
}

/// A masking that cannot be carried out.
struct Impossible;

impl Masking for Impossible {
    fn rows(&self, _columns: &[Column]) -> Result<Box<dyn RowMasker>, String> {
        Err("no".to_owned())
    }
}

#[test]
fn nothing_leaves_before_it_was_judged_and_rows_only_masked() {
    let mut session = session();
    session.receive_client(&encode::query("select 1")).unwrap();
    assert!(session.take_to_server().unwrap().is_empty());
    let Some(ClientEvent::Query { id, sql }) = session.next_client_event().unwrap() else {
        panic!()
    };
    assert_eq!(sql, "select 1");
    assert!(session.forward(id, 7).unwrap());
    assert_eq!(kinds(&session.take_to_server().unwrap()), "Q");
    let answer = [
        row_description(1),
        row("a"),
        message(b'C', b"SELECT 1\0"),
        encode::ready(b'I'),
    ];
    session.receive_server(&answer.concat()).unwrap();
    assert!(session.take_to_client().unwrap().is_empty());
    let Some(ServerEvent::RowDescription { id, action, .. }) = session.next_server_event().unwrap()
    else {
        panic!()
    };
    assert_eq!(action, Some(7));
    let rejected = session.resolve_rows(id, Arc::new(Impossible), None);
    assert_eq!(rejected, Err(ResolveError::Rejected("no".to_owned())));
    assert!(session.take_to_client().unwrap().is_empty());
    session.resolve_rows(id, Arc::new(Emptied), None).unwrap();
    let shown = session.take_to_client().unwrap();
    assert_eq!(kinds(&shown), "TDCZ");
    assert!(!shown
        .windows(row("a").len())
        .any(|window| window == row("a")));
    let Some(ServerEvent::ResultEnd(end)) = session.next_server_event().unwrap() else {
        panic!()
    };
    assert_eq!(
        (end.rows, end.bytes, end.record.as_slice()),
        (1, 7, &b"[]\n"[..])
    );
}

#[test]
fn a_refusal_waits_for_the_replies_before_it() {
    let mut session = session();
    let mut action = 0;
    session.receive_client(&encode::query("insert")).unwrap();
    pass(&mut session, &mut action);
    session.receive_client(&encode::query("drop")).unwrap();
    let Some(ClientEvent::Query { id, .. }) = session.next_client_event().unwrap() else {
        panic!()
    };
    session.refuse(id, &fields("42501")).unwrap();
    assert_eq!(kinds(&session.take_to_server().unwrap()), "QS");
    assert!(session.take_to_client().unwrap().is_empty());
    let done = [message(b'C', b"INSERT 0 1\0"), encode::ready(b'T')].concat();
    session.receive_server(&done).unwrap();
    assert_eq!(kinds(&session.take_to_client().unwrap()), "CZE");
    session.receive_server(&encode::ready(b'T')).unwrap();
    assert_eq!(session.take_to_client().unwrap(), encode::ready(b'T'));
}

#[test]
fn a_description_is_asked_for_and_kept_from_the_client() {
    let mut session = session();
    let mut action = 0;
    session
        .receive_client(&[parse("s", "select"), bind("", "s"), execute(""), sync()].concat())
        .unwrap();
    pass(&mut session, &mut action);
    assert_eq!(kinds(&session.take_to_server().unwrap()), "PBDES");
    let answer = [
        message(b'1', b""),
        message(b'2', b""),
        row_description(1),
        row("a"),
        message(b'C', b"SELECT 1\0"),
        encode::ready(b'I'),
    ];
    session.receive_server(&answer.concat()).unwrap();
    let events = pass(&mut session, &mut action);
    assert!(events.contains(&ServerEvent::ActionEnd {
        action: 2,
        status: ActionStatus::Completed
    }));
    assert_eq!(kinds(&session.take_to_client().unwrap()), "12DCZ");
    assert_eq!(session.pending(), 0);
}

#[test]
fn only_the_one_statement_of_a_pipeline_runs_alone() {
    let alone = |messages: &[Vec<u8>], passed: usize| {
        let mut session = session();
        session.receive_client(&messages.concat()).unwrap();
        for action in 0..passed {
            let id = match session.next_client_event().unwrap().unwrap() {
                ClientEvent::Query { id, .. }
                | ClientEvent::Parse { id, .. }
                | ClientEvent::Execute { id, .. } => id,
                other => panic!("{other:?}"),
            };
            session.forward(id, action as u64).unwrap();
        }
        session.runs_alone()
    };
    let query = || message(b'Q', b"a\0");
    let begun = || vec![parse("", "a"), bind("", ""), execute("")];
    assert!(alone(&[query()], 0));
    assert!(alone(&[query(), query()], 0));
    assert!(!alone(&[query(), query()], 1));
    assert!(!alone(&[query()], 1), "nothing is to be judged");
    assert!(
        !alone(&[begun(), vec![sync()]].concat(), 0),
        "a Parse runs nothing"
    );
    assert!(alone(&[begun(), vec![sync()]].concat(), 1));
    assert!(!alone(&begun(), 1), "what follows is not known");
    assert!(!alone(&[begun(), vec![query()]].concat(), 1));
    assert!(!alone(&[begun(), begun(), vec![sync()]].concat(), 1));
    assert!(!alone(&[begun(), begun(), vec![sync()]].concat(), 3));
    assert!(!alone(
        &[begun(), vec![sync()], begun(), vec![sync()]].concat(),
        3
    ));
}

#[test]
fn a_name_that_may_mean_two_things_waits() {
    let mut session = session();
    let mut action = 0;
    // The server has not said whether the first Parse worked, so nobody can say what the Bind after the Sync runs.
    session
        .receive_client(&[parse("s", "a"), sync(), bind("", "s"), execute(""), sync()].concat())
        .unwrap();
    pass(&mut session, &mut action);
    assert!(session.is_holding());
    assert_eq!(kinds(&session.take_to_server().unwrap()), "PS");
    session
        .receive_server(&[error("42601"), encode::ready(b'I')].concat())
        .unwrap();
    // It did not work, so the name means nothing: the client is told, and the server gets something that fails.
    assert_eq!(kinds(&session.take_to_server().unwrap()), "PS");
    session
        .receive_server(&[error("42601"), encode::ready(b'I')].concat())
        .unwrap();
    assert_eq!(kinds(&session.take_to_client().unwrap()), "EZEZ");
    assert!(!session.is_holding());
}

#[test]
fn any_cut_gives_the_same_bytes() {
    let client = [
        parse("", "select"),
        bind("", ""),
        execute(""),
        sync(),
        encode::query("x"),
    ]
    .concat();
    let server = [
        message(b'1', b""),
        message(b'2', b""),
        row_description(1),
        row("a"),
        row("b"),
        message(b'C', b"SELECT 2\0"),
        encode::ready(b'I'),
        error("42P01"),
        encode::ready(b'I'),
    ]
    .concat();
    let run = |step: usize| {
        let (mut session, mut action) = (session(), 0);
        let mut events = Vec::new();
        for part in client.chunks(step) {
            session.receive_client(part).unwrap();
            events.extend(pass(&mut session, &mut action));
        }
        for part in server.chunks(step) {
            session.receive_server(part).unwrap();
            events.extend(pass(&mut session, &mut action));
        }
        (
            session.take_to_client().unwrap(),
            session.take_to_server().unwrap(),
            events,
        )
    };
    let whole = run(usize::MAX);
    assert_eq!(kinds(&whole.0), "12DDCZEZ");
    for step in 1..64 {
        assert_eq!(run(step), whole);
    }
}

#[test]
fn a_violation_is_for_good() {
    let mut session = session();
    let first = session.receive_client(&message(b'?', b"")).unwrap_err();
    assert_eq!(first.code, Code::Unexpected);
    assert_eq!(session.receive_client(b"").unwrap_err(), first);
    assert_eq!(session.receive_server(b"").unwrap_err(), first);
    assert_eq!(session.take_to_client().unwrap_err(), first);
    assert_eq!(session.next_client_event().unwrap_err(), first);
    assert_eq!(
        session.forward(1, 1),
        Err(ResolveError::Violation(first.clone()))
    );
    assert_eq!(session.failure(), Some(&first));
}

#[test]
fn messages_over_the_limit_and_copy_both_are_violations() {
    let large: Violation = session()
        .receive_client(&[b'Q', 0, 0, 0x10, 0])
        .unwrap_err();
    assert_eq!(large.code, Code::TooLarge);
    let (mut session, mut action) = (session(), 0);
    session
        .receive_client(&encode::query("start_replication"))
        .unwrap();
    pass(&mut session, &mut action);
    let both = session
        .receive_server(&message(b'W', b"\0\0\0"))
        .unwrap_err();
    assert_eq!(both.code, Code::Unexpected);
}

#[test]
fn a_cursor_made_in_sql_can_be_described_and_not_run() {
    let mut session = session();
    let describe = message(b'D', b"Prows\0");
    session
        .receive_client(&[describe, execute("rows"), sync()].concat())
        .unwrap();
    let mut action = 0;
    pass(&mut session, &mut action);
    // The Execute was answered here, and makes the server fail what was sent before it.
    assert_eq!(kinds(&session.take_to_server().unwrap()), "DPS");
    let failed = error("42601");
    session
        .receive_server(&[row_description(7), failed, encode::ready(b'I')].concat())
        .unwrap();
    assert_eq!(kinds(&session.take_to_client().unwrap()), "TEZ");
}

#[test]
fn a_notification_of_its_own_carries_the_process_number_the_client_was_told() {
    let mut session = session();
    session.show_process(77, 1);
    let notify = |pid: i32| message(b'A', &[&pid.to_be_bytes()[..], b"c\0p\0"].concat());
    session
        .receive_server(&[notify(77), notify(78)].concat())
        .unwrap();
    let said = session.take_to_client().unwrap();
    assert_eq!(said, [notify(1), notify(78)].concat());
}
