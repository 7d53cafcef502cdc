//! Inputs of any shape against a small policy: an answer or a failure, never a panic that escapes.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sealgate_policy::{value_from_json, Policy, MIN_TIME_LIMIT};

const MODULE: &str = r#"package t

deny contains statement.verb if {
	some statement in input.statements
	not statement.has_where
	startswith(statement.verb, "d")
}

x := {"deny": deny, "groups": [group | some group in input.groups; group in input.allowed], "whole": input}
"#;

fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| {
        Policy::compile(
            &[("t.rego".into(), MODULE.into())],
            "{}",
            "data.t.x",
            MIN_TIME_LIMIT,
        )
        .expect("the module compiles")
    })
}

fuzz_target!(|text: &str| {
    if let Ok(input) = value_from_json(text) {
        let first = policy().evaluate(input.clone());
        assert_eq!(first, policy().evaluate(input), "one input has one answer");
    }
});
