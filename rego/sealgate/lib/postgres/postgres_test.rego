# METADATA
# title: Tests of the PostgreSQL helpers
# description: Also home of the input documents that the tests of all PostgreSQL topics start from.
package sealgate.lib.postgres_test

import data.sealgate.lib.postgres as lib

# A request by a reader and writer on a production database, with these statements and effects.
request(statements, effects) := {
	"schema": "sealgate.input/1",
	"phase": "request",
	"protocol": "postgres",
	"subject": {"id": "corp/agent-7", "kind": "agent", "groups": ["agents"]},
	"resource": {"connection": "core", "type": "postgres", "environment": "production", "risk": "high"},
	"action": {"name": "postgres.query", "effects": effects},
	"context": {
		"now": "2026-11-21T04:00:00.000000Z",
		"now_ns": 1795233600000000000,
		"session": {"id": "s1", "started_at": "2026-11-21T03:59:00.000000Z"},
		"client": {"ip": "127.0.0.1"},
		"parse": {"status": "ok"},
	},
	"postgres": {"facts": {
		"database": "bank",
		"mode": "simple",
		"statements": statements,
		"statement_count": count(statements),
	}},
}

# The description of one result with these columns.
response(columns) := {
	"schema": "sealgate.input/1",
	"phase": "response",
	"protocol": "postgres",
	"subject": {"id": "corp/agent-7", "kind": "agent", "groups": ["agents"]},
	"resource": {"connection": "core", "type": "postgres", "environment": "production", "risk": "high"},
	"action": {"name": "postgres.query", "effects": ["read"]},
	"context": {
		"now": "2026-11-21T04:00:00.000000Z",
		"now_ns": 1795233600000000000,
		"session": {"id": "s1", "started_at": "2026-11-21T03:59:00.000000Z"},
		"client": {"ip": "127.0.0.1"},
		"parse": {"status": "ok"},
	},
	"postgres": {
		"facts": {"database": "bank", "statements": [select_name], "statement_count": 1},
		"response": {"columns": columns},
	},
}

# One statement with all its members, over public.customers unless told otherwise.
statement(verb, members) := object.union(
	{
		"verb": verb,
		"effects": ["read"],
		"tables": [{"schema": "public", "name": "customers", "access": "read", "sensitive": true}],
		"columns": [],
		"functions": [],
		"assigned": [],
		"flags": [],
		"set_vars": [],
		"has_where": false,
		"has_limit": false,
		"is_explain_analyze": false,
		"fingerprint": "0123456789abcdef",
	},
	members,
)

# The statement SELECT name FROM customers.
select_name := statement("select", {"columns": [{
	"schema": "public",
	"table": "customers",
	"name": "name",
	"use": "output",
	"sensitive": false,
}]})

# A sensitive column in one use.
ssn(use) := {"schema": "public", "table": "customers", "name": "ssn", "use": use, "sensitive": true}

# The names of the rules that contribute to a set.
rules(contributions) := {item.rule | some item in contributions}

test_with_verb if {
	lib.with_verb([select_name, statement("drop_table", {})], {"select"}) == [select_name]
}

test_every_effect_by if {
	begin := statement("begin", {"effects": ["session"]})
	lib.every_effect_by([begin, select_name], "session", {"begin"})
	not lib.every_effect_by([begin, statement("listen", {"effects": ["session"]})], "session", {"begin"})
	not lib.every_effect_by([], "session", {"begin"})
}

test_explain_counts_as_what_it_runs if {
	deleting := statement("explain", {"nested": "delete", "effects": ["write"]})
	lib.every_effect_by([deleting], "write", lib.row_verbs)
	making := statement("explain", {"nested": "create_materialized_view", "effects": ["write"]})
	not lib.every_effect_by([making], "write", lib.row_verbs)
}

test_sensitive_columns if {
	lib.sensitive_columns(statement("select", {"columns": [ssn("output"), ssn("predicate")]}), {"predicate"}) == {"ssn"}
	lib.sensitive_columns(statement("select", {"columns": [{"use": "other", "sensitive": true}]}), {"other"}) == {"*"}
	lib.sensitive_columns(select_name, {"output"}) == set()
}

test_written_tables if {
	written := statement("insert", {"tables": [{"schema": "public", "name": "ledger", "access": "write"}]})
	lib.written_tables(written) == {"public.ledger"}
	lib.written_tables(statement("insert", {"tables": [{"name": "ledger", "access": "write"}]})) == {"?.ledger"}
	lib.written_tables(select_name) == set()
}

test_assigned_columns if {
	assigned := [{"name": "password_hash"}, {"name": "given_by_default", "unnamed": true}]
	lib.assigned_columns(statement("update", {"assigned": assigned})) == {"password_hash"}
}

test_in_groups if {
	lib.in_groups(["agents", "x"], ["agents"])
	not lib.in_groups(["x"], ["agents"])
	not lib.in_groups([], ["agents"])
}

test_hook_name if {
	lib.hook_name({"schema": "public", "name": "stamp", "kind": "trigger"}) == "public.stamp"
	lib.hook_name({"name": "watched", "kind": "rule"}) == "rule.watched"
}
