//! Verdicts on e-mail addresses and telephone numbers.
use crate::classes::{Verdict, View};
use crate::text::{continues_number, run_end, starts_number};

/// The longest run of an e-mail's local part, and of its domain (RFC 5321 allows 64 and 255; real ones are longer).
pub(crate) const MAX_LOCAL_BYTES: usize = 256;
const MAX_DOMAIN_BYTES: usize = 255;

/// How far from the end of unfinished bytes a start can lie that has not shown its shape yet: an e-mail at its longest.
pub(crate) const MAX_UNSHAPED_BYTES: usize = MAX_LOCAL_BYTES + 1 + MAX_DOMAIN_BYTES + 1;

pub(crate) fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte)
}

pub(crate) fn email(view: View<'_>, at: usize) -> Verdict {
    if at > 0 && is_local(view.hay[at - 1]) {
        return Verdict::Reject;
    }
    let limit = (at + MAX_LOCAL_BYTES + 1).min(view.hay.len());
    let sign = run_end(&view.hay[..limit], at, is_local);
    if sign == at + MAX_LOCAL_BYTES + 1 || sign == at {
        return Verdict::Reject;
    }
    match view.byte(sign) {
        None if view.is_cut(sign) => return Verdict::NeedMore,
        Some(b'@') => {}
        _ => return Verdict::Reject,
    }
    let domain_at = sign + 1;
    if view
        .byte(domain_at)
        .is_some_and(|byte| !byte.is_ascii_alphanumeric())
    {
        return Verdict::Reject;
    }
    let limit = (domain_at + MAX_DOMAIN_BYTES).min(view.hay.len());
    let end = run_end(&view.hay[..limit], domain_at, |byte| {
        byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-'
    });
    if end < domain_at + MAX_DOMAIN_BYTES && view.is_cut(end) {
        return Verdict::NeedMore;
    }
    match domain_end(&view.hay[domain_at..end]) {
        Some(length) => Verdict::Accept {
            start: at,
            end: domain_at + length,
        },
        None => Verdict::Reject,
    }
}

/// The longest stretch of dotted labels from the start whose last label is a top-level domain: two letters or more.
fn domain_end(domain: &[u8]) -> Option<usize> {
    let (mut at, mut found) = (0, None);
    for (place, label) in domain.split(|byte| *byte == b'.').enumerate() {
        let is_top = label.len() >= 2
            && (label.iter().all(u8::is_ascii_alphabetic)
                || label.to_ascii_lowercase().starts_with(b"xn--"));
        if label.is_empty() {
            break;
        }
        if place > 0 && is_top {
            found = Some(at + label.len());
        }
        at += label.len() + 1;
    }
    found
}

/// E.164 behind a plus sign, or a North American number written with separators. Ten plain digits are not enough.
pub(crate) fn phone(view: View<'_>, at: usize) -> Verdict {
    if view.hay[at] == b'+' {
        return international_phone(view, at);
    }
    if !starts_number(view.hay, at)
        || continues_number(view.hay, at)
        || (at > 0 && view.hay[at - 1] == b'+')
    {
        return Verdict::Reject;
    }
    north_american_phone(view, at)
}

fn international_phone(view: View<'_>, at: usize) -> Verdict {
    const MAX_DIGITS: usize = 15;
    const MIN_DIGITS: usize = 8;
    if at > 0 && (view.hay[at - 1].is_ascii_alphanumeric() || view.hay[at - 1] == b'+') {
        return Verdict::Reject;
    }
    // `end` is behind the last digit of the longest stretch of whole groups that is not too long.
    let (mut next, mut count, mut separators, mut end, mut counted) = (at + 1, 0, 0, at, 0);
    loop {
        match view.byte(next) {
            Some(b'0') if count == 0 => return Verdict::Reject,
            Some(byte) if byte.is_ascii_digit() => {
                count += 1;
                separators = 0;
                if count > MAX_DIGITS {
                    break;
                }
            }
            Some(b' ' | b'-' | b'.' | b'(' | b')') if count > 0 && separators < 2 => {
                if separators == 0 {
                    (end, counted) = (next, count);
                }
                separators += 1;
            }
            after => {
                let is_border =
                    separators == 0 && !after.is_some_and(|byte| byte.is_ascii_alphanumeric());
                if is_border {
                    (end, counted) = (next, count);
                }
                break;
            }
        }
        next += 1;
    }
    if view.is_cut(next) {
        return Verdict::NeedMore;
    }
    if counted >= MIN_DIGITS {
        return Verdict::Accept { start: at, end };
    }
    Verdict::Reject
}

fn north_american_phone(view: View<'_>, at: usize) -> Verdict {
    // 1 optional; (area) or area and a separator; exchange, separator, line. `?` as separator: none or one.
    const FORMS: [&[u8]; 4] = [
        b"(a00) a00s0000",
        b"(a00)a00s0000",
        b"a00sa00s0000",
        b"1sa00sa00s0000",
    ];
    let mut is_open = false;
    for form in FORMS {
        let rest = &view.hay[at..];
        let fits = form
            .iter()
            .zip(rest)
            .take_while(|(place, byte)| match place {
                b'a' => (b'2'..=b'9').contains(byte),
                b'0' => byte.is_ascii_digit(),
                b's' => matches!(byte, b'-' | b'.' | b' '),
                literal => literal == byte,
            });
        let fits = fits.count();
        let end = at + form.len();
        if fits == form.len() {
            if view.is_cut(end) || (view.byte(end) == Some(b'-') && view.is_cut(end + 1)) {
                return Verdict::NeedMore;
            }
            let goes_on = view
                .byte(end)
                .is_some_and(|byte| byte.is_ascii_alphanumeric())
                || (view.byte(end) == Some(b'-')
                    && view.byte(end + 1).is_some_and(|byte| byte.is_ascii_digit()));
            return if goes_on {
                Verdict::Reject
            } else {
                Verdict::Accept { start: at, end }
            };
        }
        is_open |= fits == rest.len() && !view.is_complete;
    }
    if is_open {
        Verdict::NeedMore
    } else {
        Verdict::Reject
    }
}
