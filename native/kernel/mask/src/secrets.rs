//! Verdicts on keys, tokens and passwords.
use crate::checks::entropy;
use crate::classes::{is_digit, Verdict, View};
use crate::tail::{PemTail, Tail};
use crate::text::{follows_word, run_end};

/// The longest token that is held back to be checked; a longer one is redacted to its end unchecked.
const MAX_JWT_BYTES: usize = 8192;
/// The longest secret value that is held back to be checked; a longer one is redacted to its end unchecked.
const MAX_SECRET_BYTES: usize = 256;

/// None where these bytes stand at a position, else the verdict on what does.
fn unless_begun(view: View<'_>, at: usize, begin: &[u8]) -> Option<Verdict> {
    let rest = &view.hay[at..];
    if rest.starts_with(begin) {
        return None;
    }
    let may_follow = begin.starts_with(rest) && !view.is_complete;
    Some(if may_follow {
        Verdict::NeedMore
    } else {
        Verdict::Reject
    })
}

/// Where a run of such bytes ends, looked for in a bounded number of them.
fn run_within(view: View<'_>, from: usize, most: usize, accepts: fn(u8) -> bool) -> usize {
    let limit = (from + most).min(view.hay.len());
    run_end(&view.hay[..limit], from, accepts)
}

pub(crate) fn pem_key(view: View<'_>, at: usize) -> Verdict {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const MAX_LABEL_BYTES: usize = 48;
    if let Some(verdict) = unless_begun(view, at, BEGIN) {
        return verdict;
    }
    let label_at = at + BEGIN.len();
    let label_end = run_end(view.hay, label_at, |byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
    });
    let dashes_end = run_end(view.hay, label_end, |byte| byte == b'-').min(label_end + 5);
    let label = &view.hay[label_at..label_end];
    if label.len() > MAX_LABEL_BYTES {
        return Verdict::Reject;
    }
    if dashes_end < label_end + 5 {
        return if view.is_cut(dashes_end) {
            Verdict::NeedMore
        } else {
            Verdict::Reject
        };
    }
    if label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK") {
        return Verdict::Open {
            start: at,
            end: dashes_end,
            tail: Tail::Pem(PemTail::default()),
        };
    }
    Verdict::Reject
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn is_jwt_byte(byte: u8) -> bool {
    is_base64url(byte) || byte == b'.'
}

/// Three to five base64url parts behind dots, the first a JSON object: a signed, unsigned or encrypted token.
pub(crate) fn jwt(view: View<'_>, at: usize) -> Verdict {
    const MIN_HEADER_BYTES: usize = 12;
    const MIN_BODY_BYTES: usize = 4;
    let rest = &view.hay[at..];
    let common = rest
        .iter()
        .zip(b"eyJ")
        .take_while(|(one, two)| one == two)
        .count();
    if common < 3 || (at > 0 && is_base64url(view.hay[at - 1])) {
        return if common == rest.len() && !view.is_complete {
            Verdict::NeedMore
        } else {
            Verdict::Reject
        };
    }
    let limit = (at + MAX_JWT_BYTES).min(view.hay.len());
    let end = run_end(&view.hay[..limit], at, is_jwt_byte);
    if end == at + MAX_JWT_BYTES {
        return Verdict::Open {
            start: at,
            end,
            tail: Tail::Run(is_jwt_byte),
        };
    }
    if view.is_cut(end) {
        return Verdict::NeedMore;
    }
    let mut parts = view.hay[at..end].split(|byte| *byte == b'.');
    let header = parts.next().unwrap_or_default();
    let Some(body) = parts.next() else {
        return Verdict::Reject;
    };
    if header.len() < MIN_HEADER_BYTES
        || (parts.next().is_none())
        || (body.len() < MIN_BODY_BYTES && parts.next().is_none())
    {
        return Verdict::Reject;
    }
    Verdict::Accept { start: at, end }
}

pub(crate) const fn is_aws_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'+'
}

const AWS_SECRET_BYTES: usize = 40;

static AWS_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_aws_byte(byte as u8);
        byte += 1;
    }
    table
};

/// Where the first run of key characters that is as long as a secret, and mixes cases as one, begins, from `from` on.
///
/// The gate asks this beside its joined search: the length of such a run, as one more pattern there, would multiply the states of
/// every other shape. A run that is longer is none, so digests in hexadecimal and base64 are passed over.
pub(crate) fn find_secret_run(hay: &[u8], from: usize) -> Option<usize> {
    let is_key = |at: usize| {
        hay.get(at)
            .is_some_and(|byte| AWS_BYTES[usize::from(*byte)])
    };
    let mut start = from;
    while let Some(run) = hay.get(start..start + AWS_SECRET_BYTES) {
        let end = start + AWS_SECRET_BYTES;
        match run.iter().rposition(|byte| !AWS_BYTES[usize::from(*byte)]) {
            Some(other) => start += other + 1,
            None if !is_key(end) && (start == 0 || !is_key(start - 1)) && is_mixed(run) => {
                return Some(start)
            }
            None => start = end,
        }
    }
    None
}

/// Whether there are letters of both cases.
fn is_mixed(run: &[u8]) -> bool {
    run.iter().any(u8::is_ascii_lowercase) && run.iter().any(u8::is_ascii_uppercase)
}

/// A key id by its prefix and length, or a secret of 40 characters near a word that says so.
pub(crate) fn aws_key(view: View<'_>, at: usize) -> Verdict {
    const ID_PREFIXES: [&[u8]; 4] = [b"AKIA", b"ASIA", b"ABIA", b"ACCA"];
    const ID_BYTES: usize = 20;
    const MIN_SECRET_BITS: f64 = 4.0;
    if at > 0 && is_aws_byte(view.hay[at - 1]) {
        // Behind a slash, as in the path of a URL, only a key id begins; its prefix may lie across the end of the bytes at hand.
        let rest = &view.hay[at..];
        let is_path = view.hay[at - 1] == b'/';
        if !is_path || !ID_PREFIXES.iter().any(|id| rest.starts_with(id)) {
            let is_open = is_path && ID_PREFIXES.iter().any(|id| id.starts_with(rest));
            return if is_open && !view.is_complete {
                Verdict::NeedMore
            } else {
                Verdict::Reject
            };
        }
    }
    let limit = (at + AWS_SECRET_BYTES + 1).min(view.hay.len());
    let end = run_end(&view.hay[..limit], at, is_aws_byte);
    if end < at + AWS_SECRET_BYTES + 1 && view.is_cut(end) {
        return Verdict::NeedMore;
    }
    let id_end = run_end(&view.hay[..limit], at, |byte| byte.is_ascii_alphanumeric());
    let run = &view.hay[at..id_end];
    let is_id = run.len() == ID_BYTES
        && run
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || is_digit(*byte));
    if is_id && ID_PREFIXES.iter().any(|prefix| run.starts_with(prefix)) {
        return Verdict::Accept {
            start: at,
            end: id_end,
        };
    }
    let run = &view.hay[at..end];
    if run.len() == AWS_SECRET_BYTES
        && is_mixed(run)
        && entropy(run) >= MIN_SECRET_BITS
        && follows_word(view.hay, at, &["secret", "aws"])
    {
        return Verdict::Accept { start: at, end };
    }
    Verdict::Reject
}

/// Words that announce a secret. Compared without case; `_` and `-` inside a word are optional.
const SECRET_WORDS: [&[u8]; 14] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"pwd",
    b"secret",
    b"token",
    b"api_key",
    b"api-key",
    b"apikey",
    b"access_key",
    b"accesskey",
    b"auth_key",
    b"credential",
    b"bearer",
];

/// Pattern of the words and prefixes below, and of a URL, for the gate.
pub(crate) const SECRET_SHAPE: &str = "://|(?i:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access_?key|auth_key|credential|bearer)|\
gh[pousr]_|glpat-|xox[abeprs]-|sk_live_|sk_test_|github_pat_";

/// Prefixes that issuers put on their tokens, so that no key word is needed.
const TOKEN_PREFIXES: [&[u8]; 15] = [
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"glpat-",
    b"xoxa-",
    b"xoxb-",
    b"xoxe-",
    b"xoxp-",
    b"xoxr-",
    b"xoxs-",
    b"sk_live_",
    b"sk_test_",
];

/// The value behind a key word (`password = …`, `"api_key": "…"`, `Bearer …`) when it looks random enough, an issuer's token, or the
/// password of a URL (`postgresql://user:password@host`).
pub(crate) fn generic_secret(view: View<'_>, at: usize) -> Verdict {
    let rest = &view.hay[at..];
    if rest[0] == b':' {
        return url_password(view, at);
    }
    let first = rest[0].to_ascii_lowercase();
    let mut is_open = false;
    for prefix in TOKEN_PREFIXES.iter().filter(|prefix| prefix[0] == rest[0]) {
        let common = rest
            .iter()
            .zip(*prefix)
            .take_while(|(one, two)| one == two)
            .count();
        if common == prefix.len() {
            let is_inside = at > 0 && view.hay[at - 1].is_ascii_alphanumeric();
            return if is_inside {
                Verdict::Reject
            } else {
                issued_token(view, at, prefix.len())
            };
        }
        is_open |= common == rest.len();
    }
    for word in SECRET_WORDS.iter().filter(|word| word[0] == first) {
        let common = rest
            .iter()
            .zip(*word)
            .take_while(|(one, two)| one.eq_ignore_ascii_case(two))
            .count();
        if common == word.len() {
            return secret_value(view, at + common, word == b"bearer");
        }
        is_open |= common == rest.len();
    }
    if is_open && !view.is_complete {
        Verdict::NeedMore
    } else {
        Verdict::Reject
    }
}

/// The password in the authority of a URL (RFC 3986 3.2.1), whatever it looks like: a reference to one is none.
fn url_password(view: View<'_>, at: usize) -> Verdict {
    const BEGIN: &[u8] = b"://";
    const MAX_USER_BYTES: usize = 64;
    if let Some(verdict) = unless_begun(view, at, BEGIN) {
        return verdict;
    }
    let user = at + BEGIN.len();
    let user_end = run_within(view, user, MAX_USER_BYTES, |byte| {
        is_authority_byte(byte) && byte != b':'
    });
    if view.is_cut(user_end) {
        return Verdict::NeedMore;
    }
    if view.byte(user_end) != Some(b':') {
        return Verdict::Reject;
    }
    let start = user_end + 1;
    let end = run_within(view, start, MAX_SECRET_BYTES, is_authority_byte);
    if view.is_cut(end) {
        return Verdict::NeedMore;
    }
    let is_reference = [&b"$"[..], b"{", b"<", b"[masked:"]
        .iter()
        .any(|mark| view.hay[start..end].starts_with(mark));
    if end == start || is_reference || view.byte(end) != Some(b'@') {
        return Verdict::Reject;
    }
    Verdict::Accept { start, end }
}

fn is_authority_byte(byte: u8) -> bool {
    (byte.is_ascii_graphic() && !b"/?#@\"'`\\".contains(&byte)) || byte >= 0x80
}

fn issued_token(view: View<'_>, at: usize, prefix: usize) -> Verdict {
    const MIN_BYTES: usize = 16;
    let limit = (at + MAX_SECRET_BYTES).min(view.hay.len());
    let end = run_end(&view.hay[..limit], at, is_base64url);
    match end - at {
        MAX_SECRET_BYTES => Verdict::Open {
            start: at,
            end,
            tail: Tail::Run(is_base64url),
        },
        _ if view.is_cut(end) => Verdict::NeedMore,
        length if length >= prefix + MIN_BYTES => Verdict::Accept { start: at, end },
        _ => Verdict::Reject,
    }
}

fn is_secret_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"'`<>,;(){}[]|\\".contains(&byte) || byte >= 0x80
}

/// What stands between key word and value: the rest of the name, quotes, and `=`, `:`, `:=` or `=>`.
fn secret_value(view: View<'_>, at: usize, is_bearer: bool) -> Verdict {
    const MAX_NAME_BYTES: usize = 24;
    const MAX_GAP_BYTES: usize = 4;
    let bounded =
        |from: usize, most: usize, accepts: fn(u8) -> bool| run_within(view, from, most, accepts);
    let is_gap: fn(u8) -> bool = |byte| byte == b' ' || byte == b'\t';
    let is_quote: fn(u8) -> bool = |byte| b"\"'`\\".contains(&byte);
    let mut next = bounded(at, MAX_NAME_BYTES, is_base64url);
    if is_bearer {
        next = at;
    } else {
        next = bounded(next, 2, is_quote);
    }
    let gap_at = next;
    next = bounded(next, MAX_GAP_BYTES, is_gap);
    if view.is_cut(next) {
        return Verdict::NeedMore;
    }
    if is_bearer {
        if next == gap_at {
            return Verdict::Reject;
        }
    } else {
        let sign = next;
        next = bounded(next, 2, |byte| b":=>".contains(&byte));
        if next == sign || view.hay[sign] == b'>' {
            return if view.is_cut(next) {
                Verdict::NeedMore
            } else {
                Verdict::Reject
            };
        }
        next = bounded(next, MAX_GAP_BYTES, is_gap);
        next = bounded(next, 2, is_quote);
        if view.is_cut(next) {
            return Verdict::NeedMore;
        }
    }
    let end = bounded(next, MAX_SECRET_BYTES, is_secret_byte);
    if end - next == MAX_SECRET_BYTES {
        return Verdict::Open {
            start: next,
            end,
            tail: Tail::Run(is_secret_byte),
        };
    }
    if view.is_cut(end) {
        return Verdict::NeedMore;
    }
    if is_secret(&view.hay[next..end]) {
        return Verdict::Accept { start: next, end };
    }
    Verdict::Reject
}

/// Eight characters or more that look chosen at random or by a person as a password: not a plain word, a reference or a
/// placeholder.
fn is_secret(value: &[u8]) -> bool {
    const MIN_BYTES: usize = 8;
    const MIN_BITS: f64 = 2.5;
    const PLAIN_WORD_BYTES: usize = 16;
    if value.len() < MIN_BYTES {
        return false;
    }
    let is_plain_word =
        value.iter().all(u8::is_ascii_alphabetic) && value[1..].iter().all(u8::is_ascii_lowercase);
    let is_reference =
        value.starts_with(b"$") || value.starts_with(b"%") || value.starts_with(b"[masked:");
    let is_word = is_plain_word && value.len() < PLAIN_WORD_BYTES;
    !is_reference && !is_word && entropy(value) >= MIN_BITS
}
