//! From text to statements: limits, the parser call, and the isolation around both.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Mutex;

use pg_query::protobuf::Token;

use crate::facts::Statement;
use crate::locate::find_syntax_error;
use crate::walk;

/// Most statements of one text. Each is fingerprinted and judged by itself; clients that send more send scripts, not queries.
pub const MAX_STATEMENTS: usize = 1_000;

/// Most steps (nodes, names and columns) of one walk; star expansion of nested subqueries could otherwise grow exponentially.
pub const MAX_WORK: usize = 2_000_000;

/// Texts up to this size are parsed on the caller's stack. A nesting level needs at least two bytes of source, so the tree is
/// shallow enough for any thread (less so in a debug build, whose frames are large); longer texts get a stack of their own.
const INLINE_BYTES: usize = if cfg!(debug_assertions) { 128 } else { 1_024 };

/// Stack of the parsing thread. libpg_query stops at 10,000 nested messages; decoding and dropping them needs about 1 KiB each,
/// several times that in a debug build. The pages are reserved, not used, until a text is that deep.
const STACK_BYTES: usize = 256 << 20;

/// Most bytes of source the tree of a text with multiple assignments may stand for. The grammar copies the right side of
/// `SET (a, b) = (…)` once per column, so nested ones multiply: 500 bytes of text can ask for gigabytes of tree.
pub const MAX_EXPANDED_BYTES: usize = 4 << 20;

/// libpg_query swaps the process's stderr for a pipe while it parses; two parses at once would restore each other's pipe.
static PARSER: Mutex<()> = Mutex::new(());

/// Bounds on what is analyzed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest text, in bytes.
    pub max_bytes: usize,
    /// Deepest nesting of nodes. Chains of one operator or of UNION count as one level.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bytes: 1 << 20,
            max_depth: 256,
        }
    }
}

/// What every reason begins with that is a bound of the analysis: the text itself may be right.
pub(crate) const TOO: &str = "too ";

/// The parser's words for more levels than it can take.
const TOO_DEEP: [&str; 3] = [
    "nested too deeply",
    "stack depth limit exceeded",
    "memory exhausted",
];

/// The outcome of [`analyze`].
#[derive(Debug)]
pub enum Analysis {
    /// The text is understood; empty for a text without a statement.
    Ok(Vec<Statement>),
    /// The text is not understood, with the reason. Nothing about it may be assumed.
    Failed(String),
}

/// Says what every statement of a text can do.
pub fn analyze(sql: &str, limits: Limits) -> Analysis {
    if sql.len() > limits.max_bytes {
        return Analysis::Failed(format!(
            "{TOO}large: {} bytes, at most {}",
            sql.len(),
            limits.max_bytes
        ));
    }
    if sql.as_bytes().contains(&0) {
        return Analysis::Failed("the text holds a NUL character".to_owned());
    }
    if sql.len() <= INLINE_BYTES {
        return guarded(sql, limits);
    }
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || guarded(sql, limits));
        match worker.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(analysis)) => analysis,
            Ok(Err(_)) => Analysis::Failed("the parser stopped unexpectedly".to_owned()),
            Err(error) => Analysis::Failed(format!("no thread for the parser: {error}")),
        }
    })
}

fn guarded(sql: &str, limits: Limits) -> Analysis {
    match catch_unwind(AssertUnwindSafe(|| statements(sql, limits))) {
        Ok(Ok(statements)) => Analysis::Ok(statements),
        Ok(Err(reason)) => Analysis::Failed(reason),
        Err(_) => Analysis::Failed("the parser stopped unexpectedly".to_owned()),
    }
}

fn statements(sql: &str, limits: Limits) -> Result<Vec<Statement>, String> {
    if expansion(sql).is_some_and(|factor| sql.len().saturating_mul(factor) > MAX_EXPANDED_BYTES) {
        return Err(format!("{TOO}complex: nested multiple assignments"));
    }
    check_count(count_statements(sql))?;
    let tree = locked(|| pg_query::parse(sql, 0))
        .map_err(|error| describe_at(sql, &error))?
        .protobuf;
    check_count(tree.stmts.len())?;
    let mut work = 0;
    let mut found = Vec::with_capacity(tree.stmts.len());
    for raw in &tree.stmts {
        let text = slice(sql, raw.stmt_location, raw.stmt_len)?;
        let mut statement = walk::statement(raw.stmt.as_deref(), limits.max_depth, &mut work)?;
        statement.fingerprint = locked(|| pg_query::fingerprint(text, 0, 0))
            .map_err(|error| describe(&error))?
            .hex;
        statement.has_new_numbers = has_new_numbers(text);
        text.clone_into(&mut statement.text);
        found.push(statement);
    }
    Ok(found)
}

/// Whether a text has numbers that the grammar of today alone reads as such.
fn has_new_numbers(text: &str) -> bool {
    let may_have = text.as_bytes().windows(2).any(|pair| {
        pair[0].is_ascii_digit()
            && matches!(pair[1], b'_' | b'x' | b'X' | b'o' | b'O' | b'b' | b'B')
    });
    if !may_have {
        return false;
    }
    let Ok(tokens) = locked(|| pg_query::scan_tokens(text)) else {
        return true;
    };
    tokens.iter().any(|token| {
        let is_number = matches!(
            Token::try_from(token.token),
            Ok(Token::Iconst | Token::Fconst)
        );
        let start = usize::try_from(token.start).unwrap_or(0);
        let end = usize::try_from(token.end).unwrap_or(0);
        let written = text.get(start..end).unwrap_or_default();
        is_number && written.contains(|char: char| char == '_' || "xXoObB".contains(char))
    })
}

fn check_count(count: usize) -> Result<(), String> {
    if count > MAX_STATEMENTS {
        return Err(format!(
            "{TOO}long: {count} statements, at most {MAX_STATEMENTS}"
        ));
    }
    Ok(())
}

/// How many statements the tokens make, where the text has semicolons enough for too many: their trees would take hundreds of times the text.
///
/// Semicolons inside parentheses are of CREATE RULE; those of a body after BEGIN ATOMIC are told apart by the parser alone, so that
/// such a text counts for a tenth. A text that cannot be read counts for nothing: the parser says why.
fn count_statements(sql: &str) -> usize {
    let separators = sql.bytes().filter(|byte| *byte == b';').count();
    if separators < MAX_STATEMENTS {
        return 0;
    }
    let Ok(tokens) = locked(|| pg_query::scan_tokens(sql)) else {
        return 0;
    };
    let (mut count, mut depth, mut is_open, mut has_body) = (0, 0_usize, false, false);
    for token in &tokens {
        match Token::try_from(token.token) {
            Ok(Token::SqlComment | Token::CComment) => {}
            Ok(Token::Ascii59) if depth == 0 => is_open = false,
            known => {
                match known {
                    Ok(Token::Ascii40) => depth += 1,
                    Ok(Token::Ascii41) => depth = depth.saturating_sub(1),
                    Ok(Token::Atomic) => has_body = true,
                    _ => {}
                }
                count += usize::from(!is_open);
                is_open = true;
            }
        }
    }
    if has_body {
        count / 10
    } else {
        count
    }
}

/// By how much the tree can be larger than the text, from its tokens alone; `None` when nothing is copied.
///
/// Assignments nest only inside parentheses, so the copies multiply over the depths at which `( … , … ) =` occurs. A comparison
/// of rows looks the same and counts too.
fn expansion(sql: &str) -> Option<usize> {
    if !sql
        .as_bytes()
        .windows(3)
        .any(|word| word.eq_ignore_ascii_case(b"set"))
    {
        return None;
    }
    let tokens = locked(|| pg_query::scan(sql)).ok()?.tokens;
    let mut factors: Vec<usize> = Vec::new();
    let mut worst = 1;
    // Commas seen in every open parenthesis, and what the last closed one held.
    let mut open: Vec<usize> = Vec::new();
    let mut closed: Option<usize> = None;
    for token in &tokens {
        match Token::try_from(token.token) {
            Ok(Token::SqlComment | Token::CComment) => continue,
            Ok(Token::Ascii40) => open.push(1),
            Ok(Token::Ascii41) => {
                closed = open.pop();
                continue;
            }
            Ok(Token::Ascii44) => {
                if let Some(columns) = open.last_mut() {
                    *columns += 1;
                }
            }
            Ok(Token::Ascii61) => {
                if let Some(columns) = closed.filter(|columns| *columns > 1) {
                    factors.resize(factors.len().max(open.len() + 1), 1);
                    factors[open.len()] = factors[open.len()].max(columns);
                    worst = worst.max(
                        factors
                            .iter()
                            .fold(1_usize, |product, factor| product.saturating_mul(*factor)),
                    );
                }
            }
            Ok(Token::Ascii59) if open.is_empty() => factors.clear(),
            _ => {}
        }
        closed = None;
    }
    Some(worst).filter(|factor| *factor > 1)
}

pub(crate) fn locked<T>(call: impl FnOnce() -> T) -> T {
    // A panic while the lock is held leaves nothing half done: the guarded state is the C library's, which it restores itself.
    let _guard = PARSER
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    call()
}

fn slice(sql: &str, location: i32, length: i32) -> Result<&str, String> {
    let start = usize::try_from(location).map_err(|_| "the parser gave no position".to_owned())?;
    let end = match usize::try_from(length) {
        Ok(0) | Err(_) => sql.len(),
        Ok(length) => start + length,
    };
    sql.get(start..end)
        .map(str::trim)
        .ok_or_else(|| "the parser gave a position outside the text".to_owned())
}

/// The error, and where it is, which says what the quoted text would have said.
fn describe_at(sql: &str, error: &pg_query::Error) -> String {
    let place = match error {
        pg_query::Error::Parse(message) => find_syntax_error(sql, message),
        _ => None,
    };
    match place {
        Some(place) => format!("{} at character {place}", describe(error)),
        None => describe(error),
    }
}

fn describe(error: &pg_query::Error) -> String {
    let text = match error {
        // The parser quotes the text it stopped at, which may be a literal.
        pg_query::Error::Parse(message) => message
            .split('"')
            .next()
            .unwrap_or("")
            .trim_end()
            .trim_end_matches(" at or near")
            .to_owned(),
        other => other.to_string(),
    };
    if TOO_DEEP.iter().any(|words| text.contains(words)) {
        return format!("{TOO}deeply nested: {text}");
    }
    text
}
