//! Rego evaluation by the regorus tree interpreter, with every failure a value.
//!
//! A [`Policy`] is modules and data compiled once; [`Policy::evaluate`] answers one input. An answer is a value (which may be
//! [`Value::Undefined`]) or a [`Failure`] of a closed set of kinds; a panic inside the engine is one of them. What cannot be made
//! a value here is an abort of the process (stack overflow, allocation failure) or a builtin that never returns: the caller runs
//! this crate in a process it can kill.
//!
//! `print` in a policy is gathered and dropped: by default the engine would write the values, and so the input, to stderr.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::Engine;
pub use regorus::Value;

/// Deepest nesting of an input or data document. Real inputs stay below 12; the engine itself gives up at 128.
pub const MAX_DEPTH: usize = 64;

/// Shortest time limit the engine's own timer accepts. It measures wall clock, so on a busy host a shorter limit fires on
/// policies that take a third of a millisecond; the caller's deadline is the authority and may be shorter.
pub const MIN_TIME_LIMIT: Duration = Duration::from_millis(250);

/// Work units between two looks at the clock: rare enough to cost nothing, often enough to stop a loop within ten milliseconds.
const TIMER_CHECK_INTERVAL: u32 = 256;

/// Why an evaluation or a compilation gave no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The modules or the data cannot be compiled, or the entry point does not exist.
    Compile,
    /// The input is too deep or is not a JSON value the engine represents exactly.
    Input,
    /// A builtin or an expression failed; builtin errors are strict.
    Error,
    /// Two rules gave different values for one name.
    Conflict,
    /// The engine's own timer ran out.
    Deadline,
    /// The engine panicked.
    Panic,
}

impl FailureKind {
    /// The name other parts of the product know the kind by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compile => "compile",
            Self::Input => "input",
            Self::Error => "error",
            Self::Conflict => "conflict",
            Self::Deadline => "deadline",
            Self::Panic => "panic",
        }
    }
}

/// A failure: its kind and a message without any value of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which family the failure belongs to.
    pub kind: FailureKind,
    /// Where and what, for a person; values are left out of messages about evaluation.
    pub message: String,
}

impl Failure {
    /// A failure of `kind` with `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Failure {}

/// Modules and data compiled for one entry point.
#[derive(Debug)]
pub struct Policy {
    /// Prepared once; each evaluation works on a copy (copy on write, well below a microsecond).
    prepared: Mutex<Engine>,
    /// The rule to evaluate.
    entrypoint: String,
}

impl Policy {
    /// Compiles `modules` (path and text) with the data document `data_json` for `entrypoint`, such as `data.sealgate.main.decision`.
    ///
    /// # Errors
    /// [`FailureKind::Compile`] with the engine's message when a module, the data or the entry point is refused;
    /// [`FailureKind::Panic`] when the engine panics on them.
    pub fn compile(
        modules: &[(String, String)],
        data_json: &str,
        entrypoint: &str,
        time_limit: Duration,
    ) -> Result<Self, Failure> {
        if modules.is_empty() {
            return Err(Failure::new(FailureKind::Compile, "no modules"));
        }
        let data = value_from_json(data_json)
            .map_err(|failure| Failure::new(FailureKind::Compile, failure.message))?;
        guard(|| {
            let mut engine = Engine::new();
            engine.set_gather_prints(true);
            engine.set_strict_builtin_errors(true);
            engine.add_data(data).map_err(|error| refuse(&error))?;
            for (path, text) in modules {
                engine
                    .add_policy(path.clone(), text.clone())
                    .map_err(|error| refuse(&error))?;
            }
            // Names the entry point and schedules every module, so that what can be refused is refused here.
            engine
                .compile_with_entrypoint(&entrypoint.into())
                .map_err(|error| refuse(&error))?;
            let entrypoint = settle(&mut engine, entrypoint)?;
            engine
                .compile_with_entrypoint(&entrypoint.clone().into())
                .map_err(|error| refuse(&error))?;
            engine.set_execution_timer_config(ExecutionTimerConfig {
                limit: time_limit.max(MIN_TIME_LIMIT),
                check_interval: NonZeroU32::new(TIMER_CHECK_INTERVAL).unwrap_or(NonZeroU32::MIN),
            });
            Ok(Self {
                prepared: Mutex::new(engine),
                entrypoint,
            })
        })
    }

    /// The value of the entry point for `input`; [`Value::Undefined`] when no rule gives one.
    ///
    /// # Errors
    /// A [`Failure`] of kind error, conflict, deadline or panic.
    pub fn evaluate(&self, input: Value) -> Result<Value, Failure> {
        guard(|| {
            let mut engine = self
                .prepared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            engine.set_gather_prints(true);
            engine.set_input(input);
            engine
                .eval_rule(self.entrypoint.clone())
                .map_err(|error| classify(&error.to_string()))
        })
    }
}

/// Makes a look at a data document cheap, and names the rule to evaluate in place of the entry point. The engine walks every module
/// at each `data.site.…`, nine microseconds with the shipped library, until a module of that very name was evaluated. So each
/// document gets a module without rules, and a rule beside the entry point reads them first; none adds or changes a value. The
/// product's own documents are looked at once at most, which is as dear.
fn settle(engine: &mut Engine, entrypoint: &str) -> Result<String, Failure> {
    let packages = engine.get_packages().map_err(|error| refuse(&error))?;
    let data = engine.get_data();
    let mut reads = String::new();
    for (key, document) in data.as_object().map_err(|error| refuse(&error))? {
        let (Ok(name), Ok(_)) = (key.as_string(), document.as_object()) else {
            continue;
        };
        let path = format!("data.{name}");
        let is_ruled = packages.iter().any(|package| {
            package
                .strip_prefix(&path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        let is_ours = name.starts_with("sealgate");
        if is_ruled || is_ours || !is_plain_name(name) {
            continue;
        }
        engine
            .add_policy(format!("settled/{name}.rego"), format!("package {name}\n"))
            .map_err(|error| refuse(&error))?;
        reads.push_str(&format!("settled_read__ contains \"{name}\" if {path}\n"));
    }
    let Some((path, rule)) = entrypoint.rsplit_once('.').filter(|_| !reads.is_empty()) else {
        return Ok(entrypoint.to_owned());
    };
    let package = path.strip_prefix("data.").unwrap_or(path);
    let text = format!(
        "package {package}\n{reads}settled_answer__ := value if {{\n\tsettled_read__\n\tvalue := {rule}\n}}\n"
    );
    engine
        .add_policy("settled.rego".to_owned(), text)
        .map_err(|error| refuse(&error))?;
    Ok(format!("{path}.settled_answer__"))
}

/// What the engine says against a module or the data.
fn refuse(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Compile, error.to_string().trim().to_owned())
}

/// Whether a name can stand in a package clause as it is.
fn is_plain_name(name: &str) -> bool {
    const KEYWORDS: [&str; 17] = [
        "as", "contains", "data", "default", "else", "every", "false", "if", "import", "in",
        "input", "not", "null", "package", "some", "true", "with",
    ];
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_')
        && !KEYWORDS.contains(&name)
}

/// Bounds the memory the engine's allocator hands out in this process, in bytes. Cooperative: checked between steps of an
/// evaluation, not inside one builtin.
pub fn set_memory_limit(bytes: u64) {
    regorus::set_global_memory_limit(Some(bytes));
}

/// A JSON text as a value, refused when deeper than [`MAX_DEPTH`].
///
/// # Errors
/// [`FailureKind::Input`].
pub fn value_from_json(text: &str) -> Result<Value, Failure> {
    let depth = nesting_depth(text.as_bytes());
    if depth > MAX_DEPTH {
        return Err(Failure::new(
            FailureKind::Input,
            format!("the document nests {depth} deep; at most {MAX_DEPTH} is evaluated"),
        ));
    }
    guard(|| {
        Value::from_json_str(text)
            .map_err(|_| Failure::new(FailureKind::Input, "the document is not JSON"))
    })
}

/// How deep brackets nest in a JSON text, strings skipped.
fn nesting_depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The failure an engine's message stands for.
fn classify(message: &str) -> Failure {
    let kind = if message.contains("exceeded time limit") {
        FailureKind::Deadline
    } else if [
        "multiple outputs",
        "rule conflicts with",
        "conflict type with",
    ]
    .iter()
    .any(|text| message.contains(text))
    {
        FailureKind::Conflict
    } else {
        FailureKind::Error
    };
    Failure::new(kind, without_values(message))
}

/// Location and wording of an engine's message, without the values it quotes: they come from the input.
fn without_values(message: &str) -> String {
    let place = message
        .lines()
        .find_map(|line| line.trim().strip_prefix("--> "))
        .unwrap_or("")
        .trim();
    let text = message
        .lines()
        .rev()
        .find_map(|line| line.trim().strip_prefix("error: "));
    let text = text
        .or_else(|| message.lines().map(str::trim).find(|line| !line.is_empty()))
        .unwrap_or("the evaluation failed");
    let (function, text) = leading_function(text, message);
    let end = text
        .find(['`', '"', '\'', '{', '[', '<'])
        .unwrap_or(text.len());
    let wording: String = text[..end].chars().take(160).collect();
    let wording = wording
        .trim()
        .trim_end_matches(" Got")
        .trim_end_matches([' ', ':', '.']);
    let wording = [function, wording]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    match (place.is_empty(), wording.is_empty()) {
        (true, _) => wording,
        (false, true) => place.to_owned(),
        (false, false) => format!("{place}: {wording}"),
    }
}

/// The function a message starts with in backquotes, when the quoted source really calls it, and the rest of the message.
fn leading_function<'a>(text: &'a str, message: &str) -> (&'a str, &'a str) {
    let quoted = text.strip_prefix('`').and_then(|rest| rest.split_once('`'));
    match quoted {
        Some((name, rest)) if message.contains(&format!("{name}(")) => (name, rest),
        _ => ("", text),
    }
}

thread_local! {
    /// Whether this thread is inside the engine, where a panic is an answer and its message may hold values of the input.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, turning a panic into a failure and keeping its message off stderr.
fn guard<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static QUIET_HOOK: Once = Once::new();
    QUIET_HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                previous(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let answer = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    answer.unwrap_or_else(|_| Err(Failure::new(FailureKind::Panic, "the engine panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Policy, Failure> {
        compile_with_data(text, "{}")
    }

    fn compile_with_data(text: &str, data: &str) -> Result<Policy, Failure> {
        Policy::compile(
            &[("t.rego".into(), text.into())],
            data,
            "data.t.x",
            MIN_TIME_LIMIT,
        )
    }

    fn evaluate(text: &str, input: &str) -> Result<Value, Failure> {
        compile(text)?.evaluate(value_from_json(input)?)
    }

    fn kind_of(text: &str, input: &str) -> FailureKind {
        evaluate(text, input).expect_err("must fail").kind
    }

    #[test]
    fn answers_a_value() {
        assert_eq!(
            evaluate("package t\nx := input.a + 1", r#"{"a": 1}"#),
            Ok(Value::from(2i64))
        );
    }

    #[test]
    fn undefined_is_not_null() {
        assert_eq!(
            evaluate("package t\nx := input.b", "{}"),
            Ok(Value::Undefined)
        );
        assert_eq!(
            evaluate("package t\nx := input.b", r#"{"b": null}"#),
            Ok(Value::Null)
        );
    }

    #[test]
    fn builtin_errors_are_strict() {
        assert_eq!(
            kind_of("package t\nx if startswith(input.a, \"b\")", r#"{"a": 1}"#),
            FailureKind::Error
        );
    }

    #[test]
    fn conflicting_rules_are_a_conflict() {
        assert_eq!(
            kind_of(
                "package t\nx := 1 if input.a\nx := 2 if input.a",
                r#"{"a": true}"#
            ),
            FailureKind::Conflict
        );
        let function = "package t\nf(a) := 1 if a\nf(a) := 2 if a\nx := f(input.a)";
        assert_eq!(kind_of(function, r#"{"a": true}"#), FailureKind::Conflict);
    }

    #[test]
    fn a_panic_inside_the_engine_is_a_failure() {
        assert_eq!(
            kind_of(
                r#"package t
x := strings.count(input.a, "")"#,
                r#"{"a": "x"}"#
            ),
            FailureKind::Panic
        );
    }

    #[test]
    fn the_policy_still_answers_after_a_panic() {
        let policy = compile("package t\nx := strings.count(\"aa\", input.a)").expect("compiles");
        let ask = |text: &str| policy.evaluate(value_from_json(text).expect("JSON"));
        assert_eq!(
            ask(r#"{"a": ""}"#).expect_err("panics").kind,
            FailureKind::Panic
        );
        assert_eq!(ask(r#"{"a": "a"}"#), Ok(Value::from(2i64)));
    }

    #[test]
    fn a_long_loop_meets_the_timer() {
        let text = "package t\nx := count([1 | some a in input.r; some b in input.r; some c in input.r; a + b + c < 0])";
        let numbers: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
        assert_eq!(
            kind_of(text, &format!("{{\"r\": [{}]}}", numbers.join(","))),
            FailureKind::Deadline
        );
    }

    #[test]
    fn recursion_through_rules_is_an_error() {
        assert_eq!(
            kind_of("package t\nx := y\ny := x", "{}"),
            FailureKind::Error
        );
    }

    #[test]
    fn documents_deeper_than_the_limit_are_refused() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(value_from_json(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(
            value_from_json(&nested(MAX_DEPTH + 1))
                .expect_err("too deep")
                .kind,
            FailureKind::Input
        );
        assert_eq!(
            value_from_json(r#"["[[[[", "\"[[["]"#)
                .expect("brackets in strings do not count")
                .as_array()
                .map(|a| a.len())
                .ok(),
            Some(2)
        );
    }

    #[test]
    fn broken_modules_are_refused_at_compile_time() {
        for text in ["", "package t", "package t\nx := "] {
            assert_eq!(
                compile(text).map(|_| ()).expect_err(text).kind,
                FailureKind::Compile,
                "{text:?}"
            );
        }
        assert_eq!(
            Policy::compile(&[], "{}", "data.t.x", MIN_TIME_LIMIT)
                .map(|_| ())
                .expect_err("none")
                .kind,
            FailureKind::Compile
        );
    }

    /// The engine looks functions up when they are called, so the loader checks names against the capabilities before.
    #[test]
    fn an_unknown_function_fails_only_when_called() {
        assert_eq!(
            kind_of("package t\nx := nothing.known(1)", "{}"),
            FailureKind::Error
        );
    }

    #[test]
    fn messages_hold_no_values_of_the_input() {
        let failure = evaluate(
            "package t\nx if startswith(input.a, \"b\")",
            r#"{"a": ["4111111111111111"]}"#,
        )
        .expect_err("strict");
        assert_eq!(
            failure.message,
            "t.rego:2:22: startswith expects string argument"
        );
        let function = "package t\nf(a) := a.p if a\nf(a) := a.q if a\nx := f(input)";
        let failure =
            evaluate(function, r#"{"p": "secret-1", "q": "secret-2"}"#).expect_err("conflict");
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }

    #[test]
    fn data_is_read() {
        let policy = compile_with_data("package t\nx := data.site.a", r#"{"site": {"a": "b"}}"#)
            .expect("compiles");
        assert_eq!(policy.evaluate(Value::new_object()), Ok(Value::from("b")));
    }

    /// Names no package clause takes, documents that are no objects, and a package beside the data of its own name.
    #[test]
    fn every_shape_of_data_is_read() {
        let data = r#"{"a-b": {"v": 1}, "in": {"v": 2}, "n": 3, "gone": null, "no": false, "site": {"v": 4}, "q": {"v": 5}}"#;
        let modules = [
            (
                "t.rego".to_owned(),
                r#"package t
x := [data["a-b"].v, data["in"].v, data.n, data.gone, data.no, data.site.v, data.q.v, data.q.r, y]
y := "no" if not data.site.missing"#
                    .to_owned(),
            ),
            ("q.rego".to_owned(), "package q\nr := 6".to_owned()),
        ];
        let policy = Policy::compile(&modules, data, "data.t.x", MIN_TIME_LIMIT).expect("compiles");
        let expected = value_from_json(r#"[1, 2, 3, null, false, 4, 5, 6, "no"]"#).expect("JSON");
        for _ in 0..2 {
            assert_eq!(policy.evaluate(Value::new_object()), Ok(expected.clone()));
        }
    }

    #[test]
    fn a_document_that_is_not_there_stays_undefined() {
        let text = "package t\nx := data.site.v\nz := data.site";
        for data in ["{}", r#"{"other": {}}"#] {
            for entrypoint in ["data.t.x", "data.t.z"] {
                let modules = [("t.rego".to_owned(), text.to_owned())];
                let policy =
                    Policy::compile(&modules, data, entrypoint, MIN_TIME_LIMIT).expect("compiles");
                assert_eq!(policy.evaluate(Value::new_object()), Ok(Value::Undefined));
            }
        }
    }

    #[test]
    fn with_replaces_data_that_was_read_before() {
        let text = "package t\nf := data.site.v\nx := [data.site.v, y, data.site.v]\ny := v if { v := f with data.site as {\"v\": 2} }";
        let policy = compile_with_data(text, r#"{"site": {"v": 1}}"#).expect("compiles");
        let expected = value_from_json("[1, 2, 1]").expect("JSON");
        assert_eq!(policy.evaluate(Value::new_object()), Ok(expected));
    }
}
