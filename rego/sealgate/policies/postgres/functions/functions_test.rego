package sealgate.policies.postgres.functions_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.functions

calling(called) := given.request([given.statement("select", {"functions": [called]})], ["read", "execute"])

test_unknown_functions_are_denied if {
	doc := calling({"schema": "public", "name": "pay_everyone", "args": 0})
	given.rules(functions.deny) == {"postgres.functions.unknown"} with input as doc
}

test_a_function_without_a_schema_is_denied if {
	given.rules(functions.deny) == {"postgres.functions.unknown"} with input as calling({"name": "pay", "harmless": false})
}

test_harmless_functions_pass if {
	count(functions.deny) == 0 with input as calling({"schema": "pg_catalog", "name": "lower", "harmless": true})
}

test_listed_functions_pass_and_are_allowed if {
	doc := calling({"schema": "bank", "name": "balance", "harmless": false})
	count(functions.deny) == 0 with input as doc with data.site.postgres.allowed_functions as ["bank.balance"]
	"postgres.functions.listed" in given.rules(functions.allow) with input as doc
		with data.site.postgres.allowed_functions as ["bank.balance"]
}

test_harmless_functions_are_allowed if {
	doc := calling({"schema": "pg_catalog", "name": "lower", "harmless": true})
	"postgres.functions.listed" in given.rules(functions.allow) with input as doc
}

test_unlisted_functions_are_not_allowed if {
	count(functions.allow) == 0 with input as calling({"schema": "bank", "name": "balance", "harmless": false})
}

test_opaque_code_is_denied_and_never_allowed if {
	every verb in {"do", "call"} {
		doc := given.request([given.statement(verb, {})], ["execute"])
		"postgres.functions.opaque_code" in given.rules(functions.deny) with input as doc
		count(functions.allow) == 0 with input as doc
	}
}
