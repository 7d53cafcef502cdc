//! Verdicts on card, bank and social security numbers.
use crate::checks::{iban_length, is_aba, is_card_number, is_iban, is_luhn, is_ssn};
use crate::classes::{is_digit, Verdict, View};
use crate::text::{continues_number, follows_word, has_word, run_end, starts_number};

/// Digits with single spaces or dashes between them, from `at`: (digits, position after each), and where the walk stopped.
fn walk_digits(hay: &[u8], at: usize, most: usize) -> ([u8; 20], [usize; 20], usize, usize) {
    let (mut digits, mut ends, mut count, mut next) = ([0; 20], [0; 20], 0, at);
    while count < most {
        match hay.get(next) {
            Some(byte) if byte.is_ascii_digit() => {
                digits[count] = *byte;
                next += 1;
                ends[count] = next;
                count += 1;
            }
            Some(b' ' | b'-') if count > 0 && hay.get(next + 1).is_some_and(u8::is_ascii_digit) => {
                next += 1
            }
            Some(b' ' | b'-') if count > 0 && next + 1 == hay.len() => {
                return (digits, ends, count, next + 1)
            }
            _ => break,
        }
    }
    (digits, ends, count, next)
}

/// The longest stretch of 13 to 19 digits, from one group border to another, that has a network's prefix and passes Luhn.
pub(crate) fn payment_card(view: View<'_>, at: usize) -> Verdict {
    if !starts_number(view.hay, at) {
        return Verdict::Reject;
    }
    let (digits, ends, count, next) = walk_digits(view.hay, at, 19);
    if view.is_cut(next) {
        return Verdict::NeedMore;
    }
    let is_border = |end: usize| {
        !view
            .byte(end)
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    let found = (13..=count)
        .rev()
        .find(|&n| is_border(ends[n - 1]) && is_card_number(&digits[..n]) && is_luhn(&digits[..n]));
    found.map_or(Verdict::Reject, |n| Verdict::Accept {
        start: at,
        end: ends[n - 1],
    })
}

/// Country, check digits and the country's length, in either case, with single spaces or dashes between groups of four.
pub(crate) fn iban(view: View<'_>, at: usize) -> Verdict {
    if at > 0 && view.hay[at - 1].is_ascii_alphanumeric() {
        return Verdict::Reject;
    }
    let (mut characters, mut count, mut next, mut wanted) = ([0u8; 34], 0, at, 4);
    while count < wanted {
        let Some(byte) = view.byte(next) else { break };
        let fits = match count {
            0 | 1 => byte.is_ascii_alphabetic(),
            2 | 3 => byte.is_ascii_digit(),
            _ => byte.is_ascii_alphanumeric(),
        };
        if fits {
            characters[count] = byte;
            count += 1;
            if count == 2 {
                match iban_length(&characters[..2]) {
                    Some(length) => wanted = length,
                    None => return Verdict::Reject,
                }
            }
        } else if !(count >= 4
            && count % 4 == 0
            && (byte == b' ' || byte == b'-')
            && view.hay[next - 1].is_ascii_alphanumeric())
        {
            return Verdict::Reject;
        }
        next += 1;
    }
    if view.is_cut(next) {
        return Verdict::NeedMore;
    }
    let is_whole = count == wanted
        && !view
            .byte(next)
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if is_whole && is_iban(&characters[..count]) {
        return Verdict::Accept {
            start: at,
            end: next,
        };
    }
    Verdict::Reject
}

/// Nine digits in a row between borders, or the way there.
fn nine_digits(view: View<'_>, at: usize) -> Result<usize, Verdict> {
    if !starts_number(view.hay, at) || continues_number(view.hay, at) {
        return Err(Verdict::Reject);
    }
    let end = run_end(&view.hay[..(at + 10).min(view.hay.len())], at, is_digit);
    if end < at + 10 && view.is_cut(end) {
        return Err(Verdict::NeedMore);
    }
    let ends_number = !view
        .byte(end)
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if end == at + 9 && ends_number {
        Ok(end)
    } else {
        Err(Verdict::Reject)
    }
}

/// Written 3-2-4 with dashes or spaces; nine plain digits only after a word that says what they are.
pub(crate) fn ssn(view: View<'_>, at: usize) -> Verdict {
    const WRITTEN_BYTES: usize = 11;
    if !starts_number(view.hay, at) || continues_number(view.hay, at) {
        return Verdict::Reject;
    }
    let rest = &view.hay[at..(at + WRITTEN_BYTES).min(view.hay.len())];
    let is_place = |(place, byte): (usize, &u8)| match place {
        3 | 6 => *byte == rest[3] && (*byte == b'-' || *byte == b' '),
        _ => byte.is_ascii_digit(),
    };
    let fits = rest
        .iter()
        .enumerate()
        .take_while(|(place, byte)| is_place((*place, byte)))
        .count();
    if fits == rest.len() && view.is_cut(at + fits) {
        return Verdict::NeedMore;
    }
    if fits == WRITTEN_BYTES {
        let end = at + WRITTEN_BYTES;
        let after = (view.byte(end), view.byte(end + 1));
        if view.is_cut(end) || (after.0 == Some(b'-') && view.is_cut(end + 1)) {
            return Verdict::NeedMore;
        }
        let goes_on = after.0.is_some_and(|byte| byte.is_ascii_alphanumeric())
            || (after.0 == Some(b'-') && after.1.is_some_and(|byte| byte.is_ascii_digit()));
        let digits = [&rest[..3], &rest[4..6], &rest[7..]].concat();
        return if !goes_on && is_ssn(&digits) {
            Verdict::Accept { start: at, end }
        } else {
            Verdict::Reject
        };
    }
    match nine_digits(view, at) {
        Ok(end)
            if is_ssn(&view.hay[at..end])
                && follows_word(view.hay, at, &["ssn", "social sec", "social_sec"]) =>
        {
            Verdict::Accept { start: at, end }
        }
        Ok(_) => Verdict::Reject,
        Err(verdict) => verdict,
    }
}

/// Nine digits with a right check digit, and a word near them: one in ten of all nine-digit numbers passes the check alone.
pub(crate) fn aba_routing(view: View<'_>, at: usize) -> Verdict {
    const WORDS: [&str; 4] = ["routing", "aba", "rtn", "transit"];
    const AHEAD_BYTES: usize = 24;
    let end = match nine_digits(view, at) {
        Ok(end) => end,
        Err(verdict) => return verdict,
    };
    if !is_aba(&view.hay[at..end]) {
        return Verdict::Reject;
    }
    if follows_word(view.hay, at, &WORDS) {
        return Verdict::Accept { start: at, end };
    }
    let limit = (end + AHEAD_BYTES).min(view.hay.len());
    let line_end = run_end(&view.hay[..limit], end, |byte| byte != b'\n');
    if has_word(view.hay, end, line_end, &WORDS) {
        return Verdict::Accept { start: at, end };
    }
    if line_end < end + AHEAD_BYTES && view.is_cut(line_end) {
        return Verdict::NeedMore;
    }
    Verdict::Reject
}

/// Six to seventeen digits directly behind "account", "acct" and the like, with only "number", "no", "#", quotes and
/// punctuation between. Columns and fields go by their name instead (see `Hint`). The position is that of the word.
pub(crate) fn account_number(view: View<'_>, at: usize) -> Verdict {
    const HEADS: [&[u8]; 2] = [b"account", b"acct"];
    const BETWEEN: [&[u8]; 9] = [
        b"", b"s", b"number", b"numbers", b"num", b"no", b"nr", b"nbr", b"is",
    ];
    const MAX_BETWEEN_BYTES: usize = 32;
    let hay = view.hay;
    if at > 0 && hay[at - 1].is_ascii_lowercase() && !hay[at].is_ascii_uppercase() {
        return Verdict::Reject;
    }
    let common = |word: &[u8]| {
        hay[at..]
            .iter()
            .zip(word)
            .take_while(|(one, two)| one.eq_ignore_ascii_case(two))
            .count()
    };
    let Some(head) = HEADS.iter().find(|head| common(head) == head.len()) else {
        let is_open = !view.is_complete && HEADS.iter().any(|head| common(head) == hay.len() - at);
        return if is_open {
            Verdict::NeedMore
        } else {
            Verdict::Reject
        };
    };
    let words_at = at + head.len();
    let limit = (words_at + MAX_BETWEEN_BYTES).min(hay.len());
    let number_at = run_end(&hay[..limit], words_at, |byte| {
        byte != b'\n' && !byte.is_ascii_digit()
    });
    if view.is_cut(number_at) {
        return Verdict::NeedMore;
    }
    let mut words = hay[words_at..number_at].split(|byte| !byte.is_ascii_alphabetic());
    if !words.all(|word| BETWEEN.iter().any(|known| word.eq_ignore_ascii_case(known)))
        || !starts_number(hay, number_at)
    {
        return Verdict::Reject;
    }
    let (_, ends, count, next) = walk_digits(hay, number_at, 18);
    if view.is_cut(next) {
        return Verdict::NeedMore;
    }
    if (6..=17).contains(&count)
        && !view
            .byte(next)
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
    {
        return Verdict::Accept {
            start: number_at,
            end: ends[count - 1],
        };
    }
    Verdict::Reject
}
