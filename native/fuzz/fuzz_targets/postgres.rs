//! Any bytes of either side, in any order, judged in any way: no panic, no growth without bound, and a failure is for good.
#![no_main]
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sealgate_postgres::masking::Unmasked;
use sealgate_postgres::{
    error_fields, parse_startup, ClientEvent, Cut, FrameReader, Limits, RowLimit, ServerEvent, Session,
    READ_AHEAD_BYTES,
};

const LIMITS: Limits = Limits {
    max_message_bytes: 4096,
    max_statements: 4,
    max_portals: 4,
    max_pending: 8,
    record_limit_bytes: 512,
};

fn fields() -> Vec<(u8, String)> {
    vec![(b'S', "ERROR".to_owned()), (b'C', "42501".to_owned())]
}

/// Resolves what waits; the low bit of `choice` says how.
fn judge(session: &mut Session, choice: u8) {
    let is_allowed = choice & 1 == 0;
    if let Ok(Some(event)) = session.next_client_event() {
        let resolved = match event {
            ClientEvent::Query { id, .. }
            | ClientEvent::Parse { id, .. }
            | ClientEvent::Execute { id, .. }
            | ClientEvent::FunctionCall { id, .. }
                if is_allowed =>
            {
                session.forward(id, id).map(|_| ())
            }
            ClientEvent::Query { id, .. }
            | ClientEvent::Parse { id, .. }
            | ClientEvent::Execute { id, .. }
            | ClientEvent::FunctionCall { id, .. }
            | ClientEvent::Undecodable { id } => session.refuse(id, &fields()),
            ClientEvent::CopyInEnd { .. } | ClientEvent::Terminate => Ok(()),
        };
        assert!(resolved.is_ok() || session.failure().is_some());
    }
    if let Ok(Some(event)) = session.next_server_event() {
        let resolved = match event {
            ServerEvent::RowDescription { id, .. } if is_allowed => {
                session.resolve_rows(id, Arc::new(Unmasked), Some(RowLimit { rows: u64::from(choice), cut: (choice % 2 == 0).then(|| Cut { rule: "rule".into(), tag: None }), is_once: choice % 3 == 0, why: "".into() }))
            }
            ServerEvent::CopyOut { id, .. } if is_allowed => {
                session.resolve_copy(id, Box::new(Unmasked))
            }
            ServerEvent::RowDescription { id, .. } | ServerEvent::CopyOut { id, .. } => {
                session.withhold(id, &fields())
            }
            _ => Ok(()),
        };
        assert!(resolved.is_ok() || session.failure().is_some());
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = parse_startup(data, 256);
    let _ = error_fields(data);
    let mut reader = FrameReader::new(256);
    if reader.receive(data).is_ok() {
        while let Ok(Some(_)) = reader.next_message() {}
    }
    let mut session = Session::new(LIMITS, None);
    let mut rest = data;
    // Each step: what to do, a length, that many bytes.
    while let [step, length, tail @ ..] = rest {
        let (part, next) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = next;
        let had_failed = session.failure().is_some();
        let result = match step & 3 {
            0 => session.receive_client(part),
            1 => session.receive_server(part),
            _ => {
                judge(&mut session, step >> 2);
                Ok(())
            }
        };
        assert!(result.is_ok() || session.failure().is_some());
        assert!(!had_failed || session.take_to_client().is_err());
        assert!(
            session.client_buffered()
                <= LIMITS.max_message_bytes + READ_AHEAD_BYTES + usize::from(*length)
        );
    }
});
