package sealgate.policies.postgres.regulated_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.regulated

denied(statement, effects) := names if {
	names := given.rules(regulated.deny) with input as given.request([statement], effects)
}

with_columns(verb, columns) := given.statement(verb, {"columns": columns, "has_where": true})

test_searching_is_denied if {
	denied(with_columns("select", [given.ssn("predicate")]), ["read"]) == {"postgres.regulated.predicate"}
}

test_a_whole_row_is_not_called_a_column if {
	whole_row := object.union(given.ssn("predicate"), {"name": "*"})
	some denial in regulated.deny with input as given.request([with_columns("select", [whole_row])], ["read"])
	startswith(denial.message, "a column that * or NATURAL stands for, or that the catalogue does not have, is sensitive")
}

test_columns_of_unknown_relations_are_said_to_be_of_these if {
	unknown := given.statement("select", {
		"columns": [given.ssn("predicate")],
		"tables": [
			{"name": "nosuch", "access": "read", "unresolved": true},
			{"name": "mine", "access": "read", "unresolved": true, "own": true},
		],
	})
	some denial in regulated.deny with input as given.request([unknown], ["read"])
	startswith(denial.message, "relation nosuch is not known here, so column ssn counts as sensitive and may not be used")
}

test_selecting_is_not if {
	denied(with_columns("select", [given.ssn("output")]), ["read"]) == set()
}

test_copying_is_denied if {
	denied(with_columns("create_table_as", [given.ssn("output")]), ["define", "read"]) == {"postgres.regulated.copied"}
	denied(with_columns("insert", [given.ssn("output")]), ["write", "read"]) == {"postgres.regulated.copied"}
	denied(with_columns("update", [given.ssn("other")]), ["write"]) == {"postgres.regulated.copied"}
}

test_locking_what_was_computed_is_denied if {
	locking := given.statement("select", {"columns": [given.ssn("other")], "effects": ["lock", "read"]})
	denied(locking, ["lock", "read"]) == {"postgres.regulated.locked"}

	showing := given.statement("select", {"columns": [given.ssn("output")], "effects": ["lock", "read"]})
	denied(showing, ["lock", "read"]) == set()
}

test_returning_its_own_rows_is_not_copying if {
	returning := given.statement("insert", {
		"columns": [given.ssn("output")],
		"tables": [{"schema": "public", "name": "customers", "access": "write", "sensitive": true}],
	})
	denied(returning, ["write"]) == set()
}

test_returning_an_expression_is_copying if {
	returning := given.statement("update", {
		"columns": [given.ssn("other")],
		"has_where": true,
		"tables": [{"schema": "public", "name": "customers", "access": "write", "sensitive": true}],
	})
	denied(returning, ["write"]) == {"postgres.regulated.copied"}
}

test_analyzing_is_denied if {
	analyzed := object.union(with_columns("explain", [given.ssn("output")]), {"is_explain_analyze": true})
	denied(analyzed, ["read"]) == {"postgres.regulated.analyzed"}
}

test_deriving_is_masked_or_refused_as_the_site_says if {
	derived := with_columns("select", [given.ssn("other")])
	denied(derived, ["read"]) == set()
	given.rules(regulated.deny) == {"postgres.regulated.derived"} with input as given.request([derived], ["read"])
		with data.site.postgres.derived as "refuse"
}

test_work_that_depends_on_values_is_refused_unless_the_site_takes_it if {
	computed := with_columns("select", [given.ssn("other"), given.ssn("computed")])
	denied(computed, ["read"]) == {"postgres.regulated.computed"}
	count(regulated.deny) == 0 with input as given.request([computed], ["read"])
		with data.site.postgres.derived as "mask"
}

ssn_column := {
	"index": 1,
	"name": "ssn",
	"type": "text",
	"origin": {"schema": "public", "table": "customers", "column": "ssn"},
	"lineage": "known",
	"sensitive": true,
}

test_sensitive_columns_are_masked if {
	wanted := {
		"rule": "postgres.regulated.column",
		"selector": {"index": 1},
		"strategy": "redact",
		"params": {},
		"apply": "both",
	}
	wanted in regulated.masks with input as given.response([ssn_column])
}

test_the_site_chooses_the_strategy if {
	partial := {"public.customers.ssn": {"strategy": "partial", "params": {"keep_last": 4}}}
	some mask in regulated.masks with input as given.response([ssn_column]) with data.site.postgres.strategies as partial
	mask.selector == {"index": 1}
	mask.strategy == "partial"
	mask.params == {"keep_last": 4}
}

test_unknown_lineage_is_redacted_whole if {
	some mask in regulated.masks with input as given.response([{
		"index": 0,
		"name": "x",
		"type": "text",
		"lineage": "unknown",
		"sensitive": true,
	}])
		with data.site.postgres.strategies as {"public.customers.ssn": {"strategy": "partial"}}
	mask.selector == {"index": 0}
	mask.strategy == "redact"
}

payload_column := object.union(ssn_column, {"origin": {"schema": "public", "table": "orders", "column": "payload"}})

test_the_site_lists_the_parts_of_a_column if {
	parts := {"public.orders.payload": {
		"$.card.number": {"strategy": "partial", "params": {"keep_last": 4}},
		"$.holder": {},
		"$.note": "odd",
	}}
	masks := regulated.masks with input as given.response([payload_column])
		with data.site.postgres.paths as parts
		with data.site.postgres.detectors as []
	{[mask.rule, mask.selector, mask.strategy, mask.params] | some mask in masks} == {
		["postgres.regulated.path", {"index": 1, "path": "$.card.number"}, "partial", {"keep_last": 4}],
		["postgres.regulated.path", {"index": 1, "path": "$.holder"}, "redact", {}],
		["postgres.regulated.path", {"index": 1, "path": "$.note"}, "redact", {}],
	}
}

test_without_parts_the_whole_column_is_masked if {
	odd := [
		{},
		{"public.orders.payload": {}},
		{"public.orders.payload": "$.card"},
		{"public.orders.other": {"$.a": {}}},
	]
	every paths in odd {
		masks := regulated.masks with input as given.response([payload_column])
			with data.site.postgres.paths as paths
			with data.site.postgres.detectors as []
		{[mask.rule, mask.selector] | some mask in masks} == {["postgres.regulated.column", {"index": 1}]}
	}
}

test_parts_of_a_column_of_unknown_origin_do_not_count if {
	computed := {"index": 0, "name": "x", "lineage": "unknown", "sensitive": true}
	masks := regulated.masks with input as given.response([computed])
		with data.site.postgres.paths as {"public.orders.payload": {"$.card": {}}}
		with data.site.postgres.detectors as []
	{[mask.rule, mask.selector] | some mask in masks} == {["postgres.regulated.column", {"index": 0}]}
}

test_ordinary_columns_are_left_to_the_detectors if {
	masks := regulated.masks with input as given.response([{
		"index": 0,
		"name": "city",
		"type": "text",
		"lineage": "known",
		"sensitive": false,
	}])
		with data.site.postgres.detectors as ["ssn"]
	masks == {{
		"rule": "postgres.regulated.detected",
		"selector": {"detector": "ssn"},
		"strategy": "redact",
		"apply": "both",
	}}
}

test_requests_carry_no_masks if {
	count(regulated.masks) == 0 with input as given.request([given.select_name], ["read"])
}

reshaping(facts) := given.request([given.statement("rename", object.union({"flags": ["reshapes"]}, facts))], ["define"])

test_renaming_sensitive_columns_is_denied if {
	doc := reshaping({"object": "column", "tables": [{"name": "customers", "access": "define", "sensitive": true}]})
	given.rules(regulated.deny) == {"postgres.regulated.altered"} with input as doc
}

test_renaming_a_schema_is_denied if {
	doc := reshaping({"object": "schema", "tables": []})
	given.rules(regulated.deny) == {"postgres.regulated.altered"} with input as doc
}

test_renaming_other_tables_passes if {
	doc := reshaping({"object": "table", "tables": [{"name": "orders", "access": "define", "sensitive": false}]})
	count(regulated.deny) == 0 with input as doc
}

using_ssn(use) := given.request(
	[given.statement("select", {"columns": [{"name": "ssn", "use": use, "sensitive": true}]})],
	["read"],
)

test_computing_is_counted if {
	given.rules(regulated.obligations) == {"postgres.regulated.budget"} with input as using_ssn("other")
	count(regulated.obligations) == 0 with input as using_ssn("output")
}

test_writing_over_values_is_counted if {
	assigned := [{"schema": "public", "table": "customers", "name": "ssn", "sensitive": true}]
	given.rules(regulated.obligations) == {"postgres.regulated.budget"} with input as changing("update", [], assigned)
	upsert := changing("insert", ["on_conflict_update"], assigned)
	given.rules(regulated.obligations) == {"postgres.regulated.budget"} with input as upsert
	count(regulated.obligations) == 0 with input as changing("insert", [], assigned)
	count(regulated.obligations) == 0 with input as changing("update", [], [])
}

test_guesses_that_an_index_compares_are_counted if {
	column := {"schema": "public", "table": "customers", "name": "ssn", "sensitive": true, "compared": true}
	every verb in ["insert", "copy"] {
		given.rules(regulated.obligations) == {"postgres.regulated.budget"} with input as changing(verb, [], [column])
	}
}

test_guesses_of_triggers_are_counted if {
	hook := {
		"kind": "trigger",
		"name": "fill",
		"language": "plpgsql",
		"security_definer": false,
		"opaque": false,
		"changes": true,
		"compared": true,
	}
	table := {"name": "notes", "access": "write", "sensitive": false, "hooks": [hook]}
	doc := given.request([given.statement("insert", {"effects": ["write"], "tables": [table]})], ["write"])
	given.rules(regulated.obligations) == {"postgres.regulated.budget"} with input as doc
}

changing(verb, flags, assigned) := given.request(
	[given.statement(verb, {"effects": ["write"], "flags": flags, "assigned": assigned})],
	["write"],
)

test_changes_are_not_measured if {
	table := {"schema": "public", "name": "customers", "access": "write", "sensitive": false, "kind": "r"}
	changed := given.statement("explain", {"effects": ["write"], "is_explain_analyze": true, "tables": [table]})
	denied(changed, ["write"]) == set()
	sensitive := object.union(changed, {"tables": [object.union(table, {"sensitive": true})]})
	denied(sensitive, ["write"]) == {"postgres.regulated.measured"}
	denied(object.union(sensitive, {"is_explain_analyze": false}), ["write"]) == set()
	unknown := object.union(changed, {"tables": [object.remove(table, ["sensitive"])]})
	"postgres.regulated.measured" in denied(unknown, ["write"])
	denied(object.union(changed, {"meets_sensitive": true}), ["write"]) == {"postgres.regulated.measured"}
}
