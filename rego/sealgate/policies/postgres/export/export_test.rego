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
	limit := {"rule": "postgres.export.row_limit", "kind": "row_limit", "rows": 50, "on_excess": "block"}
	limit in export.obligations with input as doc with data.site.postgres.export_rows as 50
}

test_the_site_chooses_what_happens_to_more_rows if {
	every said, done in {"truncate": "truncate", "block": "block", "odd": "block"} {
		some limit in export.obligations with input as reading with data.site.postgres.export_excess as said
		limit.kind == "row_limit"
		limit.on_excess == done
	}
}

reading := given.request([given.statement("select", {})], ["read"])

test_a_run_has_a_volume if {
	"postgres.export.volume" in given.rules(export.obligations) with input as reading
}

test_the_rate_is_off_unless_set if {
	not "postgres.export.rate" in given.rules(export.obligations) with input as reading
	"postgres.export.rate" in given.rules(export.obligations) with input as reading
		with data.site.postgres.statements_per_minute as 60
}
