package sealgate.policies.postgres.schema_changes_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.schema_changes

test_production_needs_approval if {
	doc := given.request([_plain], ["define"])
	given.rules(schema_changes.approve) == {"postgres.schema_changes.production"} with input as doc
}

test_plain_definitions_pass_elsewhere if {
	count(schema_changes.approve) == 0 with input as _elsewhere([_plain], "test")
}

test_others_need_approval_elsewhere if {
	doc := _elsewhere([_plain, _rename], "test")
	given.rules(schema_changes.approve) == {"postgres.schema_changes.not_plain"} with input as doc
}

test_sandboxes_are_free if {
	count(schema_changes.approve) == 0 with input as _elsewhere([_rename], "sandbox")
}

test_own_temporary_tables_are_free if {
	tables := [{"name": "t", "access": "define", "own": true, "temporary": true}]
	altered := given.statement("alter_table", {"effects": ["define"], "tables": tables})
	count(schema_changes.approve) == 0 with input as _elsewhere([altered], "test")
	named := object.union(altered, {"flags": ["takes_name"]})
	count(schema_changes.approve) == 1 with input as _elsewhere([named], "test")
	renamed := given.statement("rename", {"effects": ["define"], "tables": tables})
	count(schema_changes.approve) == 1 with input as _elsewhere([renamed], "test")
}

test_reading_needs_none if {
	count(schema_changes.approve) == 0 with input as given.request([given.select_name], ["read"])
	count(schema_changes.approve) == 0 with input as _elsewhere([given.select_name], "test")
}

_plain := given.statement("create_table", {"flags": ["plain_definition"], "effects": ["define"]})

_rename := given.statement("rename", {"effects": ["define"]})

_elsewhere(statements, environment) := object.union(
	given.request(statements, ["define"]),
	{"resource": {"environment": environment}},
)
