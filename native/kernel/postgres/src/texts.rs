//! What a server says beside its results: errors, notices, settings, notifications. All of it can carry data.
use std::collections::BTreeMap;

use crate::decode;
use crate::encode::{self, Fields};
use crate::event::ServerEvent;
use crate::session::Session;
use crate::Violation;

/// Settings the judged text depends on: with another value the server would read other words than were judged.
const PINNED_SETTINGS: [(&str, &str); 2] = [
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
];

/// Classes of SQLSTATE, and one code, whose messages name states and limits of the server, never values of rows.
const CLASSES_WITHOUT_DATA: [&[u8]; 7] = [b"08", b"25", b"26", b"40", b"53", b"55P03", b"57"];

/// Classes whose messages name objects. What the parser says of the text points to a place in it; a function that looks an object up by a
/// name it was given at run time (`current_setting`, `::regclass`, `has_table_privilege`) does not, and quotes that name.
const CLASSES_OF_OBJECTS: [&[u8]; 7] = [b"0A", b"28", b"34", b"3D", b"3F", b"42", b"54"];

/// Routines of the server (field R) whose messages are fixed, also where they come up through a body that runs with the statement.
const SERVER_ROUTINES: [&[u8]; 10] = [
    b"ProcessInterrupts",
    b"DeadLockReport",
    b"ExecUpdate",
    b"ExecDelete",
    b"ExecLockRows",
    b"ExecMergeMatched",
    b"CheckForSerializableConflictIn",
    b"CheckForSerializableConflictOut",
    b"OnConflict_CheckForSerializationFailure",
    b"PreCommit_CheckForSerializationFailure",
];

/// Those that name the constraint, table or column that stood in the way, which RAISE could give any text.
const CONSTRAINT_ROUTINES: [&[u8]; 6] = [
    b"_bt_check_unique",
    b"check_exclusion_or_unique_constraint",
    b"ExecConstraints",
    b"ReportNotNullViolationError",
    b"ExecPartitionCheckEmitError",
    b"ri_ReportViolation",
];

/// The routine of RAISE, which gives any code and any text (43.9).
const RAISE: &[u8] = b"exec_stmt_raise";

/// What stands in for a message that could quote a value, such as that of a failed cast or a violated constraint.
const HIDDEN_TEXT: &[u8] = b"text withheld by the gateway: it could quote sensitive columns";

/// An ErrorResponse or NoticeResponse after masking.
pub(crate) struct MaskedFields {
    message: Vec<u8>,
    fields: Fields,
    detected: BTreeMap<String, u64>,
}

impl Session {
    pub(crate) fn error(&mut self, body: &[u8]) -> Result<(), Violation> {
        let action = self.pending.head().and_then(|entry| entry.action);
        let MaskedFields {
            message,
            fields,
            detected,
        } = self.mask_fields(b'E', body)?;
        self.tell(ServerEvent::Error {
            action,
            fields,
            detected,
        });
        // The answer to a question the client did not ask: without it the client could not make sense of what is missing.
        if !self.is_withholding {
            self.to_client.extend_from_slice(&message);
        }
        Ok(())
    }

    pub(crate) fn notice(&mut self, body: &[u8]) -> Result<(), Violation> {
        let MaskedFields {
            message,
            fields,
            detected,
        } = self.mask_fields(b'N', body)?;
        // How many come, and which, can tell of the values a function was given. Nobody depends on a notice.
        let is_silent = is_of_the_log(&fields)
            || self.hides_texts()
                && (!is_of_transactions(&fields) || is_by_a_body(&decode::fields(body)?));
        self.tell(ServerEvent::Notice { fields, detected });
        if !is_silent {
            self.to_client.extend_from_slice(&message);
        }
        Ok(())
    }

    /// Whether what the server says now could quote what an answer must not show.
    fn hides_texts(&self) -> bool {
        let segment = self
            .pending
            .head()
            .map_or(self.segment, |entry| entry.segment);
        self.is_hiding_texts || segment <= self.hidden_segment
    }

    /// Masks every field that holds text of the data or of statements; severity, code, positions and source lines stay.
    fn mask_fields(&self, kind: u8, body: &[u8]) -> Result<MaskedFields, Violation> {
        let mut detected = BTreeMap::new();
        let (mut out, mut fields) = (Vec::with_capacity(body.len() + 5), Vec::new());
        let start = encode::begin(&mut out, kind);
        let given = decode::fields(body)?;
        let sqlstate = find_sqlstate(&given).map(<[u8]>::to_vec);
        let has = |code: u8| given.iter().any(|(given, _)| *given == code);
        let is_of_the_text = has(b'P') && !has(b'W') && !has(b'q');
        let is_by_a_body = is_by_a_body(&given);
        let is_foreign = is_by_a_body && !is_by(&given, &SERVER_ROUTINES);
        let is_hidden = self.hides_texts()
            && (is_foreign || may_quote_data(kind, sqlstate.as_deref(), is_of_the_text));
        let has_foreign_names =
            self.hides_texts() && is_by_a_body && !is_by(&given, &CONSTRAINT_ROUTINES);
        // The constraint of a domain, which anybody may make: which one of them a value fails tells of it.
        let has_domain = has(b'd');
        for (code, text) in given {
            // Detail, hint, context and inner query can quote values as well as the message can; without them nothing is missing.
            // Nor is a position needed: that of a type's name read at run time counts characters of the data.
            if is_hidden && matches!(code, b'D' | b'H' | b'W' | b'q' | b'P' | b'p') {
                continue;
            }
            if is_hidden && has_domain && matches!(code, b'd' | b'n' | b's') {
                continue;
            }
            // Where a body stood, and what it ran, tells which way it went.
            if self.hides_texts() && is_by_a_body && matches!(code, b'D' | b'W' | b'q' | b'p') {
                continue;
            }
            if has_foreign_names && matches!(code, b'c' | b'd' | b'n' | b's' | b't') {
                continue;
            }
            let is_fixed = matches!(code, b'S' | b'V' | b'C' | b'P' | b'p' | b'F' | b'L' | b'R');
            let text = if is_fixed {
                text.to_vec()
            } else if is_hidden && code == b'M' {
                HIDDEN_TEXT.to_vec()
            } else {
                self.mask_text(text, &mut detected)
            };
            push_field(&mut out, &mut fields, code, &text);
        }
        if let (true, b'E', Some(code)) = (is_hidden, kind, &sqlstate) {
            push_field(&mut out, &mut fields, b'H', &explain_hidden(code));
        }
        out.push(0);
        encode::finish(&mut out, start);
        Ok(MaskedFields {
            message: out,
            fields,
            detected,
        })
    }

    pub(crate) fn parameter_status(&mut self, body: &[u8]) -> Result<(), Violation> {
        let (name, value) = decode::parameter_status(body)?;
        if let Some((_, pinned)) = PINNED_SETTINGS.iter().find(|(pinned, _)| *pinned == name) {
            let is_as_good = *pinned == "UTF8" && value == "SQL_ASCII" && self.is_ascii_utf8;
            if value != *pinned && !is_as_good {
                let message = format!(
                    "the setting {name} was changed; statements are judged with the value {pinned}"
                );
                return Err(Violation::unexpected(message));
            }
        }
        if name == "client_encoding" {
            self.is_client_ascii |= value == "SQL_ASCII";
        }
        let masked = self.mask_text(value.as_bytes(), &mut BTreeMap::new());
        let value = String::from_utf8_lossy(&masked).into_owned();
        self.to_client
            .extend_from_slice(&encode::parameter_status(name, &value));
        self.tell(ServerEvent::ParameterStatus {
            name: name.to_owned(),
            value,
        });
        Ok(())
    }

    pub(crate) fn notification(&mut self, body: &[u8]) -> Result<(), Violation> {
        let (pid, channel, payload) = decode::notification(body)?;
        let mut detected = BTreeMap::new();
        let payload = self.mask_text(payload, &mut detected);
        let start = encode::begin(&mut self.to_client, b'A');
        let shown = match self.process {
            Some((real, shown)) if real == pid => shown,
            _ => pid,
        };
        self.to_client.extend_from_slice(&shown.to_be_bytes());
        self.to_client.extend_from_slice(channel.as_bytes());
        self.to_client.push(0);
        self.to_client.extend_from_slice(&payload);
        self.to_client.push(0);
        encode::finish(&mut self.to_client, start);
        let (channel, payload) = (
            channel.to_owned(),
            String::from_utf8_lossy(&payload).into_owned(),
        );
        self.tell(ServerEvent::Notification {
            pid,
            channel,
            payload,
            detected,
        });
        Ok(())
    }
}

fn push_field(out: &mut Vec<u8>, fields: &mut Fields, code: u8, text: &[u8]) {
    out.push(code);
    out.extend_from_slice(text);
    out.push(0);
    fields.push((code, String::from_utf8_lossy(text).into_owned()));
}

/// What a person can do with an error whose message is hidden: most clients show the code only when asked to.
fn explain_hidden(sqlstate: &[u8]) -> Vec<u8> {
    [
        b"SQLSTATE ",
        sqlstate,
        b" says what went wrong; appendix A of the PostgreSQL manual lists the codes.",
    ]
    .concat()
}

fn find_sqlstate<'a>(fields: &[(u8, &'a [u8])]) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|(code, _)| *code == b'C')
        .map(|(_, text)| *text)
}

/// Whether a body says it that runs with the statement: PL/pgSQL and its like tell where they stand, in the field W.
fn is_by_a_body(given: &[(u8, &[u8])]) -> bool {
    given.iter().any(|(code, _)| *code == b'W') || is_by(given, &[RAISE])
}

/// Whether one of these routines says it.
fn is_by(given: &[(u8, &[u8])], routines: &[&[u8]]) -> bool {
    given
        .iter()
        .any(|(code, text)| *code == b'R' && routines.contains(text))
}

/// Whether a notice is about BEGIN, COMMIT and the like, which no value decides.
fn is_of_transactions(fields: &Fields) -> bool {
    fields
        .iter()
        .any(|(code, text)| *code == b'C' && text.starts_with("25"))
}

/// Whether a notice is meant for the server's log: what it says there of statements, as auto_explain does, is for who runs it.
fn is_of_the_log(fields: &Fields) -> bool {
    fields.iter().any(|(code, text)| {
        matches!(code, b'S' | b'V') && (text.starts_with("LOG") || text.starts_with("DEBUG"))
    })
}

/// Whether the message of an error or notice can quote values of rows: any but those of the classes above, where the server says it of itself.
fn may_quote_data(kind: u8, sqlstate: Option<&[u8]>, is_of_the_text: bool) -> bool {
    let is_one_of = |classes: &[&[u8]]| {
        sqlstate.is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
    };
    kind == b'N'
        || !(is_one_of(&CLASSES_WITHOUT_DATA) || is_of_the_text && is_one_of(&CLASSES_OF_OBJECTS))
}
