package sealgate.policies.postgres.ledger_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.ledger

test_changes_to_the_ledger_need_approval if {
	every verb in {"insert", "update", "delete", "merge"} {
		change := given.statement(verb, {"tables": [{"schema": "public", "name": "ledger", "access": "write"}]})
		some requirement in ledger.approve with input as given.request([change], ["write"])
		requirement.rule == "postgres.ledger.change"
		requirement.groups == ["payments-approvers"]
		requirement.count == 1
	}
}

test_reading_the_ledger_needs_none if {
	read := given.statement("select", {"tables": [{"schema": "public", "name": "ledger", "access": "read"}]})
	count(ledger.approve) == 0 with input as given.request([read], ["read"])
}

test_other_tables_need_none if {
	change := given.statement("insert", {"tables": [{"schema": "public", "name": "notes", "access": "write"}]})
	count(ledger.approve) == 0 with input as given.request([change], ["write"])
}

over(verb, access) := given.request(
	[given.statement(verb, {"tables": [{"schema": "public", "name": "ledger", "access": access}]})],
	["define"],
)

test_the_ledger_under_another_name_needs_approval if {
	given.rules(ledger.approve) == {"postgres.ledger.change"} with input as over("rename", "define")
	given.rules(ledger.approve) == {"postgres.ledger.change"} with input as over("create_view", "read")
	count(ledger.approve) == 0 with input as over("select", "read")
}

test_rows_of_a_change_are_counted if {
	change := given.statement("update", {"tables": [{"schema": "public", "name": "ledger", "access": "write"}]})
	some obligation in ledger.obligations with input as given.request([change], ["write"])
	obligation.kind == "preview"
	obligation.rows == true
}

test_the_commit_of_a_change_is_held_where_the_site_says_so if {
	change := given.statement("update", {"tables": [{"schema": "public", "name": "ledger", "access": "write"}]})
	asked := given.request([change], ["write"])
	not "postgres.ledger.hold" in given.rules(ledger.obligations) with input as asked
	"postgres.ledger.hold" in given.rules(ledger.obligations) with input as asked
		with data.site.postgres.held_tables as ["public.ledger"]
}
