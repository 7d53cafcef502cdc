//! Where a text stops being SQL: the parser names the word it stopped at, not its place.

use crate::parse::locked;

/// Longest text that is searched, in bytes: each try parses a part of it.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// How many places are tried where a word occurs more than once.
const MAX_TRIES: usize = 8;

/// The character, counted from one as the server counts, at which the parser gave `message`; `None` where that is not certain.
///
/// A text cut behind the word the parser stopped at makes it stop there, too, and one cut behind an earlier such word does not:
/// the grammar looks at no word behind the first it cannot take.
pub(crate) fn find_syntax_error(sql: &str, message: &str) -> Option<usize> {
    if sql.len() > MAX_TEXT_BYTES {
        return None;
    }
    if message.starts_with("unterminated ") {
        return find_open_quote(sql, message);
    }
    let word = message
        .strip_prefix("syntax error at or near \"")?
        .strip_suffix('"')?;
    let tokens = locked(|| pg_query::scan_tokens(sql)).ok()?;
    let mut places = tokens
        .iter()
        .filter_map(|token| {
            let start = usize::try_from(token.start).ok()?;
            let end = usize::try_from(token.end).ok()?;
            (sql.get(start..end)? == word).then_some((start, end))
        })
        .peekable();
    let mut place = places.next()?;
    for _ in 0..MAX_TRIES {
        if places.peek().is_none() || stops_at(sql.get(..place.1)?, message) {
            return Some(sql.get(..place.0)?.chars().count() + 1);
        }
        place = places.next()?;
    }
    None
}

/// Where a quote or comment begins that does not end: the parser says all of the text from there.
fn find_open_quote(sql: &str, message: &str) -> Option<usize> {
    let rest = message.split_once(" at or near \"")?.1.strip_suffix('"')?;
    Some(sql.strip_suffix(rest)?.chars().count() + 1)
}

fn stops_at(part: &str, message: &str) -> bool {
    match locked(|| pg_query::parse(part, 0)) {
        Err(pg_query::Error::Parse(said)) => said == message,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(sql: &str) -> Option<usize> {
        match pg_query::parse(sql, 0) {
            Err(pg_query::Error::Parse(message)) => find_syntax_error(sql, &message),
            other => panic!("{sql} parses: {}", other.is_ok()),
        }
    }

    #[test]
    fn the_place_is_that_of_the_server() {
        for (sql, place) in [
            ("select name frm customers", Some(17)),
            ("selec 1", Some(1)),
            ("select 'é' from where a", Some(17)),
            ("select a from b where c = ; select 1;", Some(27)),
            ("select from from t", Some(13)),
            ("select a b c, a b, c b from", Some(12)),
            ("select (1", None), // at the end of the text
            ("select 'é', 'open", Some(13)),
            ("select \"open", Some(8)),
            ("select $a$open", Some(8)),
            ("select 1 /* open", Some(10)),
        ] {
            assert_eq!(locate(sql), place, "{sql}");
        }
    }

    #[test]
    fn what_takes_too_long_to_find_is_not_looked_for() {
        let many = format!("select {} where where", "a as b, ".repeat(2));
        assert!(locate(&many).is_some());
        let far = format!("select {} , , 1", "(1), ".repeat(20));
        assert_eq!(locate(&far), None);
        let long = format!("select {} frm x y", "a,".repeat(MAX_TEXT_BYTES));
        assert_eq!(locate(&long), None);
    }
}
