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

fed(use, called) := given.request(
	[given.statement("select", {
		"functions": [called],
		"columns": [{"schema": "public", "table": "customers", "name": "income", "use": use, "sensitive": true}],
	})],
	["read", "execute"],
)

test_listed_functions_are_not_fed_sensitive_columns if {
	listed := {"schema": "bank", "name": "balance", "harmless": false}
	given.rules(functions.deny) == {"postgres.functions.sensitive_argument"} with input as fed("other", listed)
		with data.site.postgres.allowed_functions as ["bank.balance"]
	count(functions.deny) == 0 with input as fed("output", listed)
		with data.site.postgres.allowed_functions as ["bank.balance"]

	harmless := {"schema": "pg_catalog", "name": "lower", "harmless": true}
	count(functions.deny) == 0 with input as fed("other", harmless)
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

selecting(facts) := given.request([given.statement("select", facts)], ["read", "execute"])

test_operators_over_code_are_denied if {
	doc := selecting({"operators": [{"name": "===", "language": "plpgsql"}]})
	given.rules(functions.deny) == {"postgres.functions.operator"} with input as doc
}

test_listed_operators_pass if {
	doc := selecting({"operators": [{"schema": "public", "name": "===", "language": "plpgsql"}]})
	count(functions.deny) == 0 with input as doc with data.site.postgres.allowed_operators as ["public.==="]
}

test_casts_by_code_are_denied if {
	doc := selecting({"casts": [{"schema": "public", "name": "place", "function": "f", "language": "sql"}]})
	given.rules(functions.deny) == {"postgres.functions.cast"} with input as doc
	count(functions.deny) == 0 with input as doc with data.site.postgres.allowed_casts as ["public.place"]
}

hooked(hook) := given.request(
	[given.statement("insert", {"tables": [{"name": "t", "access": "write", "hooks": [object.union(
		{"kind": "trigger", "name": "f", "language": "plpgsql", "opaque": false, "changes": true},
		hook,
	)]}]})],
	["write"],
)

test_readable_hooks_pass if {
	count(functions.deny) == 0 with input as hooked({"schema": "public", "reads_sensitive": false})
}

test_unsafe_hooks_are_denied if {
	every hook in [{"opaque": true}, {"reads_sensitive": true}, {"kind": "view"}, {"kind": "policy"}] {
		given.rules(functions.deny) == {"postgres.functions.hook"} with input as hooked(hook)
	}
}

test_unsafe_hooks_are_denied_in_words if {
	told := {hazard: denied.message |
		some hazard, hook in {
			"judged": {"opaque": true, "reads_sensitive": true},
			"sensitive": {"reads_sensitive": true},
			"changes": {"kind": "policy", "reads_sensitive": false},
		}
		some denied in functions.deny with input as hooked(hook)
	}
	told == {
		"judged": "trigger trigger.f of table t runs code that cannot be judged",
		"sensitive": "trigger trigger.f of table t uses sensitive columns",
		"changes": "policy policy.f of table t changes something where rows are read",
	}
}

test_listed_hooks_pass if {
	doc := hooked({"schema": "public", "opaque": true})
	count(functions.deny) == 0 with input as doc with data.site.postgres.allowed_functions as ["public.f"]
}

test_defining_code_needs_approval if {
	every verb in {"create_function", "create_trigger", "create_rule", "create_cast"} {
		doc := given.request([given.statement(verb, {})], ["define"])
		given.rules(functions.approve) == {"postgres.functions.code"} with input as doc
	}
}

test_code_under_another_name_needs_approval if {
	every verb in {"rename", "alter_schema"} {
		every object_name in {"function", "operator", "text_search"} {
			doc := given.request([given.statement(verb, {"object": object_name})], ["define"])
			given.rules(functions.approve) == {"postgres.functions.renamed_code"} with input as doc
		}
		doc := given.request([given.statement(verb, {"object": "table"})], ["define"])
		count(functions.approve) == 0 with input as doc
	}
}

test_defining_tables_needs_none if {
	count(functions.approve) == 0 with input as given.request([given.statement("create_table", {})], ["define"])
}

test_a_group_can_be_left_out if {
	doc := calling({"schema": "pg_catalog", "name": "lower", "harmless": true})
	given.rules(functions.deny) == {"postgres.functions.unknown"} with input as doc
		with data.site.postgres.function_groups as ["numbers"]
}

test_functions_of_known_extensions_are_harmless_where_the_site_says_so if {
	doc := calling({"schema": "public", "name": "unaccent", "harmless": true, "extension": "unaccent"})
	given.rules(functions.deny) == set() with input as doc
	given.rules(functions.deny) == {"postgres.functions.unknown"} with input as doc
		with data.site.postgres.function_groups as ["text"]
}

test_large_objects_are_delivered_as_they_are_where_the_site_says_so if {
	doc := calling({"schema": "pg_catalog", "name": "loread", "harmless": false})
	count(functions.obligations) == 0 with input as doc
	given.rules(functions.obligations) == {"postgres.functions.opaque_result"} with input as doc
		with data.site.postgres.opaque_large_objects as true
	other := calling({"schema": "pg_catalog", "name": "lo_get", "harmless": false})
	count(functions.obligations) == 0 with input as other with data.site.postgres.opaque_large_objects as true
}
