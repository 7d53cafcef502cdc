package sealgate.policies.postgres.internals_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.internals

using(table) := given.request([given.statement("select", {"tables": [table]})], ["read"])

test_the_catalogue_is_not_written if {
	every access in {"write", "define"} {
		doc := using({"schema": "pg_catalog", "name": "pg_proc", "access": access})
		given.rules(internals.deny) == {"postgres.internals.catalog"} with input as doc
	}
}

test_the_catalogue_is_read if {
	count(internals.deny) == 0 with input as using({"schema": "pg_catalog", "name": "pg_class", "access": "read"})
}

test_secrets_of_the_server_are_not_read if {
	doc := using({"schema": "pg_catalog", "name": "pg_authid", "access": "read"})
	given.rules(internals.deny) == {"postgres.internals.credentials"} with input as doc
}

subscriptions(name) := given.request(
	[given.statement("select", {
		"tables": [{"schema": "pg_catalog", "name": "pg_subscription", "access": "read"}],
		"columns": [{"name": "subname", "use": "output"}, {"name": name, "use": "other"}],
	})],
	["read"],
)

test_columns_beside_secrets_are_read if {
	count(internals.deny) == 0 with input as subscriptions("subenabled")
	given.rules(internals.deny) == {"postgres.internals.credentials"} with input as subscriptions("subconninfo")
	given.rules(internals.deny) == {"postgres.internals.credentials"} with input as subscriptions("*")
}

test_a_table_of_the_same_name_elsewhere_is_read if {
	count(internals.deny) == 0 with input as using({"schema": "public", "name": "pg_authid", "access": "read"})
}

test_toast_is_not_read if {
	doc := using({"schema": "pg_toast", "name": "pg_toast_1", "access": "read"})
	given.rules(internals.deny) == {"postgres.internals.storage"} with input as doc
}
