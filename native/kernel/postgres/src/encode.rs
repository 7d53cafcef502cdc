//! Writing the messages the gateway itself says.
use crate::framing::HEADER_BYTES;

/// Field codes and texts of an ErrorResponse or NoticeResponse, in the order they are sent.
pub type Fields = Vec<(u8, String)>;

/// Opens a message in `out` and returns where it began; `finish` writes its length.
pub(crate) fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    start
}

/// Closes the message begun at `start`.
pub(crate) fn finish(out: &mut [u8], start: usize) {
    let length =
        u32::try_from(out.len() - start - 1).expect("a message shorter than the largest Int32");
    out[start + 1..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// Any message.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + HEADER_BYTES);
    let start = begin(&mut out, kind);
    out.extend_from_slice(body);
    finish(&mut out, start);
    out
}

/// Appends a string and its zero byte. A zero byte inside would end it early for the reader, so it is left out.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

/// ErrorResponse (`E`) or NoticeResponse (`N`).
pub fn fields_message(kind: u8, fields: &[(u8, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin(&mut out, kind);
    for (code, text) in fields {
        out.push(*code);
        push_string(&mut out, text);
    }
    out.push(0);
    finish(&mut out, start);
    out
}

/// ReadyForQuery with a transaction status byte.
pub fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    let mut body = Vec::new();
    push_string(&mut body, name);
    push_string(&mut body, value);
    message(b'S', &body)
}

/// BackendKeyData; the secret is 4 bytes in protocol 3.0 and up to 256 in 3.2.
pub fn backend_key(pid: i32, secret: &[u8]) -> Vec<u8> {
    message(b'K', &[&pid.to_be_bytes(), secret].concat())
}

/// A startup packet of protocol 3.`minor`.
pub fn startup(minor: u16, params: &[(String, String)]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 0, 3];
    out.extend_from_slice(&minor.to_be_bytes());
    for (name, value) in params {
        push_string(&mut out, name);
        push_string(&mut out, value);
    }
    out.push(0);
    let length = u32::try_from(out.len()).expect("a startup packet shorter than the largest Int32");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(sql.len() + 1);
    push_string(&mut body, sql);
    message(b'Q', &body)
}

/// NegotiateProtocolVersion: the newest minor version spoken here and the options not understood.
pub fn negotiate(minor: u16, options: &[String]) -> Vec<u8> {
    let mut body = (u32::from(minor) | 3 << 16).to_be_bytes().to_vec();
    let count = u32::try_from(options.len()).expect("fewer options than the largest Int32");
    body.extend_from_slice(&count.to_be_bytes());
    for option in options {
        push_string(&mut body, option);
    }
    message(b'v', &body)
}

/// Describe of a portal.
pub(crate) fn describe_portal(out: &mut Vec<u8>, portal: &str) {
    let start = begin(out, b'D');
    out.push(b'P');
    push_string(out, portal);
    finish(out, start);
}

/// Parse of a named statement with no parameter types.
pub(crate) fn parse(out: &mut Vec<u8>, name: &str, sql: &str) {
    let start = begin(out, b'P');
    push_string(out, name);
    push_string(out, sql);
    out.extend_from_slice(&[0, 0]);
    finish(out, start);
}

/// CommandComplete.
pub(crate) fn command_complete(tag: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(tag.len() + 1);
    push_string(&mut body, tag);
    message(b'C', &body)
}

/// A NoticeResponse of severity WARNING in the gateway's own words.
pub(crate) fn local_warning(code: &str, message: &str, detail: &str, hint: &str) -> Vec<u8> {
    say(b'N', "WARNING", [code, message, detail, hint])
}

/// An ErrorResponse of severity ERROR in the gateway's own words.
pub(crate) fn local_error(code: &str, message: &str, hint: &str) -> Vec<u8> {
    detailed_error(code, message, "", hint)
}

/// The same with a detail, where there is one.
pub(crate) fn detailed_error(code: &str, message: &str, detail: &str, hint: &str) -> Vec<u8> {
    say(b'E', "ERROR", [code, message, detail, hint])
}

/// Says code, message, detail and hint, as far as there are any.
fn say(kind: u8, severity: &str, texts: [&str; 4]) -> Vec<u8> {
    let [code, message, detail, hint] = texts;
    let texts = [severity, severity, code, message, detail, hint];
    let fields = b"SVCMDH".iter().zip(texts);
    let said = fields.filter(|(_, text)| !text.is_empty());
    let fields: Vec<_> = said.map(|(name, text)| (*name, text.to_owned())).collect();
    fields_message(kind, &fields)
}
