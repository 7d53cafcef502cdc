//! How the body of a trigger or rule uses the row it runs for (43.10, 41.2.3), by its words: PostgreSQL's own scanner tells names from
//! strings, comments and whatever else is written to look like them.

use pg_query::protobuf::Token;

use crate::parse::locked;

/// What the row is called, as it was and as it will be.
const ROWS: [&str; 2] = ["new", "old"];

/// One word of a body, comments left out.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A name or key word, folded as the server folds it.
    Name(String),
    /// A name that is written in numbers of characters (`U&"n\0065w"`).
    Escaped,
    /// A dot, a comma, a bracket and the like.
    Mark(char),
    /// A string, a number, an operator.
    Other,
}

/// Whether a body uses the row as one value, as `to_jsonb(new)` does; also where its words cannot be told.
pub fn uses_whole_row(source: &str) -> bool {
    let Some(words) = read_words(source) else {
        return true;
    };
    (0..words.len()).any(|at| match &words[at] {
        Word::Escaped => true,
        word if is_row(word) => !(names_field(&words, at) || is_returned(&words, at)),
        _ => false,
    })
}

/// The fields of the row that a body names.
pub fn find_row_fields(source: &str) -> Vec<String> {
    let words = read_words(source).unwrap_or_default();
    words
        .windows(3)
        .filter_map(|part| match part {
            [row, Word::Mark('.'), Word::Name(field)] if is_row(row) => Some(field.clone()),
            _ => None,
        })
        .collect()
}

/// Whether a body returns a variable other than the rows of the trigger, which its tree does not tell; also where its words cannot be told.
pub(crate) fn returns_a_variable(source: &str) -> bool {
    let Some(words) = read_words(source) else {
        return true;
    };
    words.windows(3).any(|part| {
        let ends = matches!(part[2], Word::Mark(';' | '.'));
        let is_known = |name: &str| ROWS.contains(&name) || name == "null";
        is_name(&part[0], "return")
            && match &part[1] {
                Word::Name(name) => ends && !(is_known(name) && part[2] == Word::Mark(';')),
                Word::Escaped => true,
                _ => false,
            }
    })
}

/// Whether a field of the row stands here, and not all of them.
fn names_field(words: &[Word], at: usize) -> bool {
    matches!(
        words.get(at + 1..at + 3),
        Some([Word::Mark('.'), Word::Name(_)])
    )
}

/// Whether the row is what a trigger returns: `return new;` or `return coalesce(new, old);`.
fn is_returned(words: &[Word], at: usize) -> bool {
    let ends = |place: usize| matches!(words.get(place), None | Some(Word::Mark(';')));
    let before = |back: usize| at.checked_sub(back).and_then(|place| words.get(place));
    if before(1).is_some_and(|word| is_name(word, "return")) {
        return ends(at + 1);
    }
    // `return coalesce ( new , old ) ;` seen from either row.
    [3, 5].into_iter().any(|back| {
        let Some(first) = at.checked_sub(back) else {
            return false;
        };
        matches!(
            words.get(first..first + 7),
            Some([start, call, Word::Mark('('), one, Word::Mark(','), other, Word::Mark(')')])
                if is_name(start, "return") && is_name(call, "coalesce") && is_row(one) && is_row(other)
        ) && ends(first + 7)
    })
}

fn is_row(word: &Word) -> bool {
    matches!(word, Word::Name(name) if ROWS.contains(&name.as_str()))
}

fn is_name(word: &Word, wanted: &str) -> bool {
    matches!(word, Word::Name(name) if name == wanted)
}

fn read_words(source: &str) -> Option<Vec<Word>> {
    let tokens = locked(|| pg_query::scan_tokens(source)).ok()?;
    let mut words = Vec::with_capacity(tokens.len());
    for token in tokens {
        let start = usize::try_from(token.start).ok()?;
        let text = source.get(start..usize::try_from(token.end).ok()?)?;
        words.push(match Token::try_from(token.token).unwrap_or(Token::Nul) {
            Token::SqlComment | Token::CComment => continue,
            Token::Uident => Word::Escaped,
            Token::Ident => Word::Name(fold(text)),
            _ if token.keyword_kind != 0 => Word::Name(text.to_lowercase()),
            _ => match text.chars().next() {
                Some(mark) if mark.len_utf8() == text.len() => Word::Mark(mark),
                _ => Word::Other,
            },
        });
    }
    Some(words)
}

/// A name as the server has it (4.1.1).
fn fold(text: &str) -> String {
    match text.strip_prefix('"') {
        Some(quoted) => quoted.trim_end_matches('"').replace("\"\"", "\""),
        None => text.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_however_the_rest_is_written() {
        for body in [
            "r := to_jsonb(new);",
            "r := to_jsonb(NEW.*);",
            r"q := E'\''; r := to_jsonb(new); raise exception 'that''s too easy';",
            "raise debug '%', $m$can't be$m$; r := to_jsonb(new); q := 'it''s';",
            "q := $m$--$m$; r := to_jsonb(new);",
            "/* the /* old */ row isn't enough */ r := to_jsonb(new); q := 'a';",
            "r := to_jsonb(watch.new);",
            "declare \"it's\" int; begin r := to_jsonb(new); end",
            r#"r := to_jsonb(U&"n\0065w");"#,
            "r := to_jsonb(\"new\");",
            "return next new;",
            "return coalesce(new, r);",
            "r := 'an open string",
        ] {
            assert!(uses_whole_row(body), "{body}");
        }
    }

    #[test]
    fn fields_and_what_is_returned_are_not_the_whole_row() {
        for body in [
            "if new.a > old.b then return null; end if; return new;",
            "return coalesce(new, old);",
            "return old",
            "q := 'new'; -- new\n /* old */ return NEW;",
            "new . a := \"old\".\"b\"; return \"new\";",
            "perform renew(new_rows, $x$ new $x$); return new;",
        ] {
            assert!(!uses_whole_row(body), "{body}");
        }
    }

    #[test]
    fn fields_of_the_row_are_found_wherever_they_stand() {
        let body =
            "insert into t values ('new.x') returning NEW . a, f.old.\"B\", renew.c, new.* into q;";
        assert_eq!(find_row_fields(body), ["a", "B"]);
    }

    #[test]
    fn a_variable_that_is_returned_is_found() {
        for (body, is) in [
            ("return r;", true),
            ("return b.r;", true),
            ("return new.r;", true),
            ("q := '--'; return r;", true),
            (r#"return U&"r";"#, true),
            ("return \"r\";", true),
            ("return new;", false),
            ("return /* r */ old;", false),
            ("q := 'return r;'; return null;", false),
            ("return coalesce(new, old);", false),
            ("return;", false),
        ] {
            assert_eq!(returns_a_variable(body), is, "{body}");
        }
    }
}
