package sealgate.policies.postgres.schema_changes_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.schema_changes

test_production_needs_approval if {
	doc := given.request([given.statement("create_table", {})], ["define"])
	given.rules(schema_changes.approve) == {"postgres.schema_changes.production"} with input as doc
}

test_other_environments_need_none if {
	doc := given.request([given.statement("create_table", {})], ["define"])
	count(schema_changes.approve) == 0 with input as object.union(doc, {"resource": {"environment": "test"}})
}

test_reading_needs_none if {
	count(schema_changes.approve) == 0 with input as given.request([given.select_name], ["read"])
}
