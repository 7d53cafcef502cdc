//! Statements that differ only in constants whose value cannot change what a statement is.
//!
//! The skeleton of a text is the text with such constants replaced. Two texts with one skeleton have the same facts, whatever the
//! constants are, because only these are replaced, and anything doubtful stays in the skeleton word for word:
//!
//!   - whole numbers below 2^31 and plain strings, in SELECT, INSERT, UPDATE and DELETE;
//!   - directly after a comparison, after arithmetic (numbers), or as an element of VALUES (…) or IN (…);
//!   - and not followed by a cast or another string.
//!
//! So the argument of a function, a name in quotation marks that a cast resolves, the ordinal of ORDER BY 1 or the number of LIMIT
//! are never taken for one another. A text that writes a literal in a way that does not show its value has no skeleton, nor has one
//! that this reader could cut into other tokens than the server does: dollar signs that are no parameter, digits with letters behind.

const REPLACED_NUMBER: u8 = 1;
const REPLACED_STRING: u8 = 2;

/// Longest text that has a skeleton; longer ones are rarely sent twice.
pub(crate) const MAX_BYTES: usize = 4_096;

/// Digits of a number that is surely below 2^31.
const MAX_DIGITS: usize = 9;

const COMPARISONS: [&[u8]; 7] = [b"=", b"<", b">", b"<=", b">=", b"<>", b"!="];
const ARITHMETIC: [&[u8]; 5] = [b"+", b"-", b"*", b"/", b"%"];
const ABSTRACTED: [&[u8]; 4] = [b"SELECT", b"INSERT", b"UPDATE", b"DELETE"];

/// Words after which a sign begins a number that may stand for a column or a count.
const COUNTING: [&[u8]; 8] = [
    b"BY", b"LIMIT", b"OFFSET", b"FETCH", b"FIRST", b"NEXT", b"TO", b"SET",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    String,
    Quoted,
    Operator,
    Punctuation,
}

/// Words a query begins with: what is in it is no list, whatever stands before it.
const QUERIES: [&[u8]; 4] = [b"SELECT", b"WITH", b"VALUES", b"TABLE"];

/// What an open parenthesis holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Values,
    In,
    Other,
}

#[derive(Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a [u8],
}

/// The skeleton of a text; none when the text must be looked at anew each time.
pub fn skeleton(sql: &str) -> Option<Vec<u8>> {
    let text = sql.as_bytes();
    if text.len() > MAX_BYTES || !text.is_ascii() || hides_values(text) {
        return None;
    }
    let tokens = read(text)?;
    let first = tokens.first()?;
    let is_single = tokens[..tokens.len() - 1]
        .iter()
        .all(|token| token.text != b";");
    if !is_single || !ABSTRACTED.iter().any(|word| is(*first, word)) {
        return Some(text.to_vec());
    }
    Some(replace(text, &tokens))
}

/// Whether a literal of the text may say something else than it shows, or be sensitive by the word before it.
fn hides_values(text: &[u8]) -> bool {
    let has_word = text
        .windows(8)
        .any(|word| word.eq_ignore_ascii_case(b"password"));
    has_word
        || text.contains(&b'\\')
        || text
            .windows(2)
            .any(|pair| pair == b"''" || pair == b"--" || pair == b"/*")
        || text.windows(2).any(|pair| {
            pair[1] == b'\'' && matches!(pair[0].to_ascii_uppercase(), b'B' | b'X')
                || pair[1] == b'&' && pair[0].eq_ignore_ascii_case(&b'U')
        })
}

/// The tokens of a text without comments and escapes; none when one does not end or is of a kind that is not expected.
fn read(text: &[u8]) -> Option<Vec<Token<'_>>> {
    let mut tokens: Vec<Token<'_>> = Vec::with_capacity(text.len() / 4);
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        let run = |is: fn(u8) -> bool| text[at..].iter().take_while(|byte| is(**byte)).count();
        let (kind, length) = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b'\'' | b'"' => {
                // E'…', N'…', U&"…": what is inside is not what it looks like.
                if at > 0 && (is_word(text[at - 1]) || text[at - 1] == b'&') {
                    return None;
                }
                let end = text[at + 1..].iter().position(|other| *other == byte)?;
                let kind = if byte == b'"' {
                    Kind::Quoted
                } else {
                    Kind::String
                };
                // Two strings in a row are one to the server.
                if kind == Kind::String && tokens.last().is_some_and(|last| last.kind == kind) {
                    return None;
                }
                (kind, end + 2)
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => (Kind::Word, run(is_word)),
            b'0'..=b'9' => (
                Kind::Number,
                run(|byte| byte.is_ascii_digit() || byte == b'.'),
            ),
            // A parameter; anything else begins a string that ends where its tag comes again.
            b'$' => (Kind::Number, 1 + count_digits(&text[at + 1..])?),
            _ if is_operator(byte) => (Kind::Operator, run(is_operator)),
            b'(' | b')' | b',' | b';' | b'.' | b'[' | b']' | b':' => (Kind::Punctuation, 1),
            _ => return None,
        };
        let end = at + length;
        // Servers differ in what `1a` and `$1a` are, and `a$b` and `1$b$` are one thing or two.
        let goes_on = text.get(end).is_some_and(|next| is_word(*next));
        if matches!(kind, Kind::Word | Kind::Number) && (goes_on || text.get(end) == Some(&b'$')) {
            return None;
        }
        tokens.push(Token {
            kind,
            text: &text[at..end],
        });
        at = end;
    }
    Some(tokens)
}

/// How many digits a text begins with; none when it begins with another byte.
fn count_digits(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then_some(digits)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?".contains(&byte)
}

/// The text with what may be replaced replaced.
fn replace(text: &[u8], tokens: &[Token<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut copied = 0;
    for token in find_constants(tokens) {
        let start = token.text.as_ptr() as usize - text.as_ptr() as usize;
        out.extend_from_slice(&text[copied..start]);
        out.push(if token.kind == Kind::Number {
            REPLACED_NUMBER
        } else {
            REPLACED_STRING
        });
        copied = start + token.text.len();
    }
    out.extend_from_slice(&text[copied..]);
    out
}

/// What may be replaced, in order.
fn find_constants<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut found = Vec::new();
    // For each open parenthesis whether it is a list of values. Only those of VALUES come one after another: behind the list of an IN
    // a comma begins something else, such as the next key of ORDER BY.
    let mut lists: Vec<List> = Vec::new();
    let mut closed_values = false;
    let is_insert = tokens.first().is_some_and(|first| is(*first, b"INSERT"));
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map(|at| tokens[at]);
        match token.text {
            b"(" => {
                let holds_query = tokens.get(index + 1).is_none_or(|next| {
                    next.text == b"(" || QUERIES.iter().any(|word| is(*next, word))
                });
                lists.push(match before {
                    _ if holds_query => List::Other,
                    Some(before) if is(before, b"IN") => List::In,
                    // Elsewhere the word can be the alias of a table.
                    Some(before) if is_insert && is(before, b"VALUES") => List::Values,
                    Some(before) if before.text == b"," && closed_values => List::Values,
                    _ => List::Other,
                });
            }
            b")" => closed_values = lists.pop() == Some(List::Values),
            b"," => {}
            _ => closed_values = false,
        }
        let in_list = lists.last().is_some_and(|list| *list != List::Other);
        if is_replaceable(tokens, index, in_list) {
            found.push(*token);
        }
    }
    found
}

fn is(token: Token<'_>, word: &[u8]) -> bool {
    token.kind == Kind::Word && token.text.eq_ignore_ascii_case(word)
}

fn is_replaceable(tokens: &[Token<'_>], index: usize, in_list: bool) -> bool {
    let token = tokens[index];
    let is_number = token.kind == Kind::Number
        && token.text.len() <= MAX_DIGITS
        && token.text.iter().all(u8::is_ascii_digit);
    let is_plain = is_number || token.kind == Kind::String;
    let follows_well = tokens.get(index + 1).is_none_or(|next| match next.kind {
        Kind::Word => true,
        Kind::Operator => is_number,
        Kind::Punctuation => matches!(next.text, b")" | b"," | b";"),
        _ => false,
    });
    if !is_plain || !follows_well || index == 0 {
        return false;
    }
    let before = tokens[index - 1];
    if COMPARISONS.contains(&before.text) {
        // `name := value` gives an argument, which may name something.
        return index < 2 || tokens[index - 2].text != b":";
    }
    if matches!(before.text, b"(" | b",") {
        return in_list;
    }
    is_number && ARITHMETIC.contains(&before.text) && {
        let Some(left) = index.checked_sub(2).map(|at| tokens[at]) else {
            return false;
        };
        match left.kind {
            Kind::Word => !COUNTING
                .iter()
                .any(|word| left.text.eq_ignore_ascii_case(word)),
            Kind::Operator => COMPARISONS.contains(&left.text) || ARITHMETIC.contains(&left.text),
            Kind::Punctuation => match left.text {
                b")" => true,
                b"(" | b"," => in_list,
                _ => false,
            },
            Kind::Number | Kind::Quoted => true,
            Kind::String => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> bool {
        skeleton(one).is_some() && skeleton(one) == skeleton(other)
    }

    #[test]
    fn constants_that_cannot_matter_are_replaced() {
        for (one, other) in [
            (
                "SELECT a FROM t WHERE id = 1;",
                "SELECT a FROM t WHERE id = 999999999;",
            ),
            (
                "select a from t where n='k' and m <> 'y'",
                "select a from t where n='zz' and m <> ''",
            ),
            (
                "UPDATE t SET a = a + -30 WHERE id = 1",
                "UPDATE t SET a = a + -4 WHERE id = 77",
            ),
            (
                "INSERT INTO h (a, b) VALUES (1, -2, CURRENT_TIMESTAMP), (3, 'k')",
                "INSERT INTO h (a, b) VALUES (9, -9, CURRENT_TIMESTAMP), (8, 'y')",
            ),
            (
                "DELETE FROM t WHERE a IN (1, 2) OR b < 'k'",
                "DELETE FROM t WHERE a IN (3, 4) OR b < 'm'",
            ),
        ] {
            // '' has no skeleton: it could be an escape.
            let other = other.replace("''", "'q'");
            assert!(alike(one, &other), "{one} / {other}");
        }
    }

    #[test]
    fn constants_that_could_matter_are_kept() {
        for (one, other) in [
            (
                "SELECT a, b FROM t ORDER BY 1",
                "SELECT a, b FROM t ORDER BY 2",
            ),
            (
                "SELECT a FROM t GROUP BY 1, 2",
                "SELECT a FROM t GROUP BY 1, 3",
            ),
            (
                "SELECT a FROM t ORDER BY a, + 1",
                "SELECT a FROM t ORDER BY a, + 2",
            ),
            ("SELECT a FROM t LIMIT 5", "SELECT a FROM t LIMIT 6"),
            ("SELECT a FROM t LIMIT - 5", "SELECT a FROM t LIMIT - 6"),
            ("SELECT f(1)", "SELECT f(2)"),
            (
                "SELECT set_config('search_path', 'a', false)",
                "SELECT set_config('search_path', 'b', false)",
            ),
            (
                "SELECT a FROM t WHERE o = 'x'::regclass",
                "SELECT a FROM t WHERE o = 'y'::regclass",
            ),
            (
                "SELECT a FROM t WHERE o = regclass 'x'",
                "SELECT a FROM t WHERE o = regclass 'y'",
            ),
            (
                "SELECT a FROM t WHERE o = CAST('x' AS regclass)",
                "SELECT a FROM t WHERE o = CAST('y' AS regclass)",
            ),
            (
                "SELECT set_config(name := 'a')",
                "SELECT set_config(name := 'b')",
            ),
            (
                "SELECT set_config(name => 'a')",
                "SELECT set_config(name => 'b')",
            ),
            ("SET work_mem = 5", "SET work_mem = 6"),
            ("SELECT 1; SET work_mem = 5", "SELECT 1; SET work_mem = 6"),
            (
                "SELECT a FROM t WHERE b = 1; DELETE FROM t WHERE b = 1",
                "SELECT a FROM t WHERE b = 1; DELETE FROM t WHERE b = 2",
            ),
            ("EXECUTE p(1)", "EXECUTE p(2)"),
            (
                "SELECT a FROM t WHERE x = 5000000000",
                "SELECT a FROM t WHERE x = 6000000000",
            ),
            (
                "SELECT a FROM t WHERE x = 1.5",
                "SELECT a FROM t WHERE x = 2.5",
            ),
            (
                "INSERT INTO t VALUES (nextval('a'))",
                "INSERT INTO t VALUES (nextval('b'))",
            ),
            (
                "SELECT a FROM \"x1\" WHERE b = 1",
                "SELECT a FROM \"x2\" WHERE b = 1",
            ),
        ] {
            assert!(!alike(one, other), "{one} / {other}");
        }
    }

    /// What a text could be made of that this reader and the server might cut differently.
    const PIECES: [&str; 70] = [
        "SELECT ",
        "INSERT ",
        "VALUES ",
        "(",
        ")",
        ",",
        ";",
        "IN ",
        "IN(",
        "=",
        "<",
        "+",
        "-",
        "*",
        "/",
        "@",
        "&",
        "|",
        ":",
        "::",
        ":=",
        ".",
        "[",
        "]",
        "'",
        "''",
        "'a'",
        "'a b'",
        "\"",
        "\"a\"",
        "$",
        "$$",
        "$a$",
        "$b$",
        "$1",
        "$1$",
        "$1a",
        "1",
        "12",
        "1.5",
        "1.",
        ".5",
        "1e3",
        "0x1F",
        "1_000",
        "a",
        "a$",
        "E'",
        "N'x'",
        "U&'x'",
        "U&\"x\"",
        "b'1'",
        "x'1f'",
        "--",
        "/*",
        "*/",
        "\n",
        " ",
        "\t",
        "\u{b}",
        "\u{c}",
        "a ",
        "a = 1 ",
        "a < 'b' ",
        "1 + 2 ",
        "IN (1, 2) ",
        "a, ",
        "and ",
        "= 'a",
        "b' ",
    ];

    #[test]
    fn what_is_replaced_is_a_constant_to_the_grammar_too() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let mut replaced = 0;
        for _ in 0..400_000 {
            let mut sql = String::from("SELECT ");
            for _ in 0..3 + next(14) {
                sql.push_str(PIECES[next(PIECES.len())]);
            }
            if skeleton(&sql).is_none() {
                continue;
            }
            let tokens = read(sql.as_bytes()).unwrap();
            let constants = find_constants(&tokens);
            if constants.is_empty() {
                continue;
            }
            // What the grammar cannot even cut into tokens, no server runs.
            let Ok(scanned) = pg_query::scan(&sql) else {
                continue;
            };
            let base = sql.as_ptr() as usize;
            for constant in constants {
                let start = constant.text.as_ptr() as usize - base;
                let end = start + constant.text.len();
                let is_one = scanned.tokens.iter().any(|token| {
                    (token.start, token.end)
                        == (i32::try_from(start).unwrap(), i32::try_from(end).unwrap())
                        && matches!(
                            pg_query::protobuf::Token::try_from(token.token),
                            Ok(pg_query::protobuf::Token::Iconst
                                | pg_query::protobuf::Token::Sconst)
                        )
                });
                assert!(
                    is_one,
                    "{sql:?}: {:?}",
                    String::from_utf8_lossy(constant.text)
                );
                replaced += 1;
            }
        }
        assert!(replaced > 5_000, "{replaced}");
    }

    #[test]
    fn texts_that_hide_values_have_no_skeleton() {
        for sql in [
            "SELECT 'it''s'",
            "SELECT E'\\x41'",
            "SELECT e'a'",
            "SELECT $$a$$",
            "SELECT U&'x'",
            "SELECT x'41'",
            "SELECT 'a'\n'b'",
            "ALTER ROLE a PASSWORD 'x'",
            "SELECT 1 -- c",
            "SELECT /* c */ 1",
            "SELECT 'ä'",
            "SELECT 'open",
            "SELECT $a$ ='$a$, b, $b$' x$b$",
            "SELECT $_$a$_$",
            "SELECT $1$a$ ='$a$",
            "SELECT $1a FROM t",
            "SELECT a$b FROM t",
            "SELECT a$1 FROM t",
            "SELECT 1$a$ ='$a$",
            "SELECT 1a FROM t",
            "SELECT 1.5e3 FROM t",
            "SELECT $ FROM t",
        ] {
            assert_eq!(skeleton(sql), None, "{sql}");
        }
    }
}
