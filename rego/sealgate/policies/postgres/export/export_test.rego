package sealgate.policies.postgres.export_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.export

test_copy_out_needs_approval if {
	doc := given.request([given.statement("copy", {})], ["export", "read"])
	given.rules(export.approve) == {"postgres.export.bulk"} with input as doc
	count(export.obligations) == 0 with input as doc
}

test_selects_are_bound if {
	doc := given.request([given.select_name], ["read"])
	count(export.approve) == 0 with input as doc
	export.obligations == {{"rule": "postgres.export.row_limit", "kind": "row_limit", "rows": 50}} with input as doc
		with data.site.postgres.export_rows as 50
}
