package sealgate.policies.postgres.sessions_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.sessions

denied(statement, effects) := names if {
	names := given.rules(sessions.deny) with input as given.request([statement], effects)
}

test_roles_are_denied if {
	denied(given.statement("grant", {}), ["privilege"]) == {"postgres.sessions.role"}
}

test_unlisted_settings_are_denied if {
	denied(given.statement("set", {"set_vars": ["search_path"]}), ["session"]) == {"postgres.sessions.setting"}
	denied(given.statement("set", {"set_vars": ["ROLE"]}), ["session"]) == {"postgres.sessions.setting"}
}

test_listed_settings_pass if {
	denied(given.statement("set", {"set_vars": ["Statement_Timeout"]}), ["session"]) == set()
}

test_other_session_statements_are_denied if {
	every verb in {"listen", "notify", "load", "discard", "prepare", "execute"} {
		denied(given.statement(verb, {}), ["session"]) == {"postgres.sessions.other"}
	}
}

test_the_message_reads_like_the_statement if {
	found := sessions.deny with input as given.request([given.statement("declare_cursor", {})], ["session"])
	some denial in found
	startswith(denial.message, "DECLARE CURSOR leaves")
}

test_transactions_pass if {
	denied(given.statement("begin", {}), ["session"]) == set()
}

test_a_prepared_statement_inside_another_is_denied if {
	doc := given.request([given.statement("explain", {"nested": "execute"})], ["read", "execute"])
	"postgres.sessions.other" in given.rules(sessions.deny) with input as doc
}
