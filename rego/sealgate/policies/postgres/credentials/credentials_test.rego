package sealgate.policies.postgres.credentials_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.credentials

test_password_resets_need_approval if {
	reset := given.statement("update", {"assigned": [{"name": "Password_Hash"}], "has_where": true})
	given.rules(credentials.approve) == {"postgres.credentials.reset"} with input as given.request([reset], ["write"])
}

test_other_columns_need_none if {
	update := given.statement("update", {"assigned": [{"name": "city"}], "has_where": true})
	count(credentials.approve) == 0 with input as given.request([update], ["write"])
}

test_a_view_of_credentials_needs_approval if {
	columns := [{"name": "password_hash", "use": "other", "sensitive": false}]
	doc := given.request([given.statement("create_view", {"columns": columns})], ["define"])
	given.rules(credentials.approve) == {"postgres.credentials.reset"} with input as doc
}
