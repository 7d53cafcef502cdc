//! Any text is analyzed without a crash, within its limits, and every statement of it has an effect.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sealgate_sql::{analyze, Analysis, Effect, Limits};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = Limits {
        max_bytes: 1 << 16,
        max_depth: 128,
    };
    let Analysis::Ok(statements) = analyze(text, limits) else { return };
    for statement in &statements {
        assert!(!statement.effects.is_empty());
        assert!(!statement.verb.is_empty());
        assert!(text.contains(&statement.text));
        // What is written shows in the effects, unless EXPLAIN only plans it or a definition only stores it.
        let writes = statement.tables.iter().any(|table| table.access.name() == "write");
        let deferred = statement.verb == "explain" || statement.verb.starts_with("create");
        assert!(!writes || deferred || statement.effects.contains(Effect::Write) || statement.nested == Some("explain"));
    }
    // The same text is the same statement inside another one.
    if let [only] = statements.as_slice() {
        if let Analysis::Ok(twice) = analyze(&format!("SELECT 1;{text}"), limits) {
            assert_eq!(twice.last().map(|last| last.effects), Some(only.effects));
        }
    }
});
