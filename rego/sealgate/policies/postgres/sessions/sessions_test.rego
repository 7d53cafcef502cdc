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
	denied(given.statement("set", {"set_vars": ["work_mem"]}), ["session"]) == {"postgres.sessions.setting"}
	denied(given.statement("set", {"set_vars": ["ROLE"]}), ["session"]) == {"postgres.sessions.setting"}
}

test_listed_settings_pass if {
	denied(given.statement("set", {"set_vars": ["Statement_Timeout"]}), ["session"]) == set()
}

test_restoring_every_setting_passes if {
	denied(given.statement("reset", {"set_vars": ["all"]}), ["session"]) == set()
	denied(given.statement("discard", {"set_vars": ["all"]}), ["privilege", "session"]) == set()
}

test_going_back_to_its_role_passes if {
	denied(given.statement("reset", {"set_vars": ["role"]}), ["session"]) == set()
	denied(given.statement("reset", {"set_vars": ["work_mem"]}), ["session"]) == {"postgres.sessions.setting"}
}

test_a_computed_setting_is_not_restoring if {
	denied(given.statement("select", {"set_vars": ["all"]}), ["session"]) == {"postgres.sessions.setting"}
}

test_a_reset_never_covers_a_change_of_roles if {
	discard := given.statement("discard", {"set_vars": ["all"], "effects": ["privilege", "session"]})
	grant := given.statement("grant", {"effects": ["privilege"]})
	doc := given.request([discard, grant], ["privilege", "session"])
	"postgres.sessions.role" in given.rules(sessions.deny) with input as doc
}

test_names_that_could_mean_anything_are_denied if {
	every verb in {"fetch", "move", "execute", "explain"} {
		denied(given.statement(verb, {"flags": ["untracked"]}), ["read"]) == {"postgres.sessions.untracked"}
	}
}

test_names_that_are_tracked_pass if {
	every verb in {"declare_cursor", "fetch", "move", "close", "prepare", "deallocate", "unlisten"} {
		denied(given.statement(verb, {}), ["read", "session"]) == set()
	}
}

test_other_session_statements_are_denied if {
	every verb in {"listen", "notify", "load"} {
		denied(given.statement(verb, {}), ["session"]) == {"postgres.sessions.other"}
	}
}

test_the_message_reads_like_the_statement if {
	found := sessions.deny with input as given.request([given.statement("listen", {})], ["session"])
	some denial in found
	startswith(denial.message, "LISTEN leaves")
}

test_a_computed_name_is_said_to_be_one if {
	computed := given.statement("select", {"set_vars": ["all"], "flags": ["set_config"]})
	found := sessions.deny with input as given.request([computed], ["session"])
	some denial in found
	startswith(denial.message, "the name of the setting is computed, so it could be any")
	count(found) == 1
}

test_transactions_pass if {
	denied(given.statement("begin", {}), ["session"]) == set()
}

test_a_prepared_statement_inside_another_is_denied if {
	doc := given.request([given.statement("explain", {"nested": "execute"})], ["read", "execute"])
	"postgres.sessions.other" in given.rules(sessions.deny) with input as doc
}
