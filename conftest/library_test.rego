package library_test

import data.library

rule(id, row) := {
	"annotations": {
		"scope": "rule",
		"title": "A rule",
		"description": "What it is for.",
		"custom": {
			"id": id,
			"severity": "high",
			"controls": ["NIST-AC-3"],
			"failure_msg": "No.",
			"solution": "Do it differently.",
		},
	},
	"location": {"file": "rego/sealgate/policies/postgres/access/access.rego", "row": row, "col": 1},
}

document(annotations) := {
	"annotations": annotations,
	"namespaces": {
		"data.sealgate.policies.postgres.access": ["access.rego"],
		"data.sealgate.policies.postgres.access_test": ["access_test.rego"],
	},
}

without(member) := json.remove(rule("a", 1), [sprintf("annotations/%v", [member])])

test_a_documented_rule_passes if {
	count(library.deny) == 0 with input as document([rule("a", 1), rule("b", 2)])
}

test_each_text_is_asked_for if {
	every member in {"title", "description", "custom/id", "custom/severity", "custom/failure_msg", "custom/solution"} {
		count(library.deny) == 1 with input as document([without(member)])
	}
}

test_controls_are_asked_for if {
	count(library.deny) == 1 with input as document([without("custom/controls")])
}

test_an_unknown_severity_is_refused if {
	odd := json.patch(rule("a", 1), [{"op": "replace", "path": "/annotations/custom/severity", "value": "urgent"}])
	library.deny["rego/sealgate/policies/postgres/access/access.rego:1: severity urgent is not one of low, medium, high, critical"] with input as document([odd])
}

test_ids_are_unique if {
	count(library.deny) == 2 with input as document([rule("a", 1), rule("a", 2)])
}

test_tests_are_asked_for if {
	untested := json.remove(document([rule("a", 1)]), ["namespaces/data.sealgate.policies.postgres.access_test"])
	library.deny["data.sealgate.policies.postgres.access has no tests: add data.sealgate.policies.postgres.access_test"] with input as untested
}

test_topics_have_their_place if {
	misplaced := {"annotations": [rule("a", 1)], "namespaces": {
		"data.sealgate.policies.access": ["access.rego"],
		"data.sealgate.policies.access_test": ["access_test.rego"],
	}}
	library.deny["data.sealgate.policies.access is not a topic: use sealgate.policies.<protocol>.<topic>"] with input as misplaced
}

test_an_empty_library_fails if {
	count(library.deny) == 1 with input as {"annotations": [], "namespaces": {}}
}

test_annotations_of_tests_are_left_alone if {
	helper := {"annotations": {"scope": "rule"}, "location": {"file": "x_test.rego", "row": 1}}
	count(library.deny) == 0 with input as document([rule("a", 1), helper])
}
