package sealgate.policies.postgres.access_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.access

test_readers_may_read if {
	"postgres.access.read" in given.rules(access.allow) with input as given.request([given.select_name], ["read"])
}

test_strangers_may_not if {
	stranger := object.union(given.request([given.select_name], ["read"]), {"subject": {"groups": ["guests"]}})
	count(access.allow) == 0 with input as stranger
}

test_a_subject_without_groups_may_not if {
	plain := given.request([given.select_name], ["read"])
	nobody := object.union(plain, {"subject": {"groups": []}})
	count(access.allow) == 0 with input as nobody
}

test_nothing_is_allowed_that_was_not_parsed if {
	plain := given.request([given.select_name], ["read"])
	unparsed := object.union(plain, {"context": {"parse": {"status": "failed", "reason": "syntax error"}}})
	count(access.allow) == 0 with input as unparsed
}

test_writers_may_write if {
	update := given.statement("update", {"effects": ["write"], "has_where": true})
	"postgres.access.write" in given.rules(access.allow) with input as given.request([update], ["write"])
}

test_maintenance_is_not_writing if {
	every verb in {"vacuum", "analyze", "checkpoint", "reindex", "cluster", "refresh_materialized_view"} {
		kept := given.statement(verb, {"effects": ["write", "lock"]})
		not "postgres.access.write" in given.rules(access.allow) with input as given.request([kept], ["write", "lock"])
	}
}

own := {"name": "mine", "access": "write", "unresolved": true, "own": true, "temporary": true}

test_what_is_not_known_is_not_written_to if {
	unknown := {"name": "mine", "access": "write", "unresolved": true}
	named := given.statement("insert", {"effects": ["write"], "tables": [unknown]})
	"postgres.access.unknown_target" in given.rules(access.deny) with input as given.request([named], ["write"])
	made := given.statement("insert", {"effects": ["write"], "tables": [own]})
	count(access.deny) == 0 with input as given.request([made], ["write"])
	read := given.statement("select", {"tables": [object.union(unknown, {"access": "read"})]})
	count(access.deny) == 0 with input as given.request([read], ["read"])
}

test_a_table_of_the_sessions_own_may_be_kept_in_order if {
	every verb in {"truncate", "analyze"} {
		kept := given.statement(verb, {"effects": ["write"], "tables": [own]})
		"postgres.access.write" in given.rules(access.allow) with input as given.request([kept], ["write"])
	}
}

test_not_beside_a_table_of_others if {
	others := {"name": "orders", "schema": "public", "access": "write"}
	lasting := object.remove(own, ["temporary"])
	every tables in [[], [others], [own, others], [lasting]] {
		kept := given.statement("analyze", {"effects": ["write"], "tables": tables})
		not "postgres.access.write" in given.rules(access.allow) with input as given.request([kept], ["write"])
	}
}

test_other_maintenance_of_ones_own_is_not_writing if {
	kept := given.statement("vacuum", {"effects": ["write"], "tables": [own]})
	not "postgres.access.write" in given.rules(access.allow) with input as given.request([kept], ["write"])
}

test_constraints_may_be_deferred if {
	deferred := given.statement("set_constraints", {"effects": ["session"]})
	"postgres.access.transaction" in given.rules(access.allow) with input as given.request([deferred], ["session"])
}

test_locking_a_table_is_not_writing if {
	kept := given.statement("lock", {"effects": ["lock"]})
	not "postgres.access.write" in given.rules(access.allow) with input as given.request([kept], ["lock"])
}

test_analysts_may_not_write if {
	analyst := object.union(given.request([given.select_name], ["write"]), {"subject": {"groups": ["analysts"]}})
	not "postgres.access.write" in given.rules(access.allow) with input as analyst
}

test_schema_owners_may_define if {
	create := given.statement("create_table", {})
	"postgres.access.define" in given.rules(access.allow) with input as given.request([create], ["define"])
}

test_transactions_are_allowed_with_what_is_in_them if {
	begin := given.statement("begin", {"effects": ["session"]})
	doc := given.request([begin, given.select_name], ["read", "session"])
	"postgres.access.transaction" in given.rules(access.allow) with input as doc
}

test_a_harmless_statement_never_covers_another if {
	begin := given.statement("begin", {"effects": ["session"]})
	mixed := given.request([begin, given.statement("listen", {"effects": ["session"]})], ["session"])
	not "postgres.access.transaction" in given.rules(access.allow) with input as mixed
}

test_responses_need_no_allow if {
	count(access.allow) == 0 with input as given.response([])
}

test_readers_may_reset_their_session if {
	discard := given.statement("discard", {"effects": ["privilege", "session"]})
	found := given.rules(access.allow) with input as given.request([discard], ["privilege", "session"])
	"postgres.access.reset" in found
	"postgres.access.transaction" in found
}

test_a_reset_covers_no_grant if {
	grant := given.statement("grant", {"effects": ["privilege"]})
	not "postgres.access.reset" in given.rules(access.allow) with input as given.request([grant], ["privilege"])
}

test_readers_may_use_cursors if {
	fetch := given.statement("fetch", {"effects": ["read", "session"]})
	"postgres.access.transaction" in given.rules(access.allow) with input as given.request([fetch], ["read", "session"])
}

test_schema_owners_may_rewrite if {
	alter := given.statement("alter_table", {"effects": ["define", "write"]})
	"postgres.access.rewrite" in given.rules(access.allow) with input as given.request([alter], ["define", "write"])
}

test_a_rewrite_covers_no_other_write if {
	alter := given.statement("alter_table", {"effects": ["define", "write"]})
	vacuum := given.statement("vacuum", {"effects": ["write"]})
	doc := given.request([alter, vacuum], ["define", "write"])
	not "postgres.access.rewrite" in given.rules(access.allow) with input as doc
}

test_dropping_a_column_is_no_rewrite if {
	drop := given.statement("alter_table", {"effects": ["define", "write"], "flags": ["drops_column"]})
	not "postgres.access.rewrite" in given.rules(access.allow) with input as given.request([drop], ["define", "write"])
}

test_exports_are_allowed_to_readers if {
	doc := given.request([given.statement("copy", {})], ["export", "read"])
	"postgres.access.export" in given.rules(access.allow) with input as doc
}
