package sealgate.policies.postgres.destructive_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.destructive

denied(statement, effects) := names if {
	names := given.rules(destructive.deny) with input as given.request([statement], effects)
}

test_drop_is_denied if {
	denied(given.statement("drop", {}), ["define"]) == {"postgres.destructive.drop"}
	denied(given.statement("drop_table", {}), ["define"]) == {"postgres.destructive.drop"}
}

test_truncate_is_denied if {
	denied(given.statement("truncate", {}), ["write"]) == {"postgres.destructive.truncate"}
}

own := {"name": "mine", "access": "define", "unresolved": true, "own": true, "temporary": true}

test_a_table_of_the_sessions_own_may_go if {
	denied(given.statement("drop", {"object": "table", "tables": [own]}), ["define"]) == set()
	denied(given.statement("truncate", {"tables": [own]}), ["write"]) == set()
}

test_not_together_with_others if {
	others := {"name": "orders", "schema": "public", "access": "define"}
	drop := given.statement("drop", {"object": "table", "tables": [own, others]})
	denied(drop, ["define"]) == {"postgres.destructive.drop"}
	truncate := given.statement("truncate", {"tables": [own, others]})
	denied(truncate, ["write"]) == {"postgres.destructive.truncate"}
}

test_nor_what_is_no_table if {
	view := given.statement("drop", {"object": "view", "tables": [own]})
	denied(view, ["define"]) == {"postgres.destructive.drop"}
}

test_delete_and_update_need_where if {
	every flag in {"unfiltered_write", "where_without_column"} {
		denied(given.statement("delete", {"flags": [flag]}), ["write"]) == {"postgres.destructive.unfiltered_write"}
		denied(given.statement("update", {"flags": [flag]}), ["write"]) == {"postgres.destructive.unfiltered_write"}
	}
	denied(given.statement("delete", {"has_where": true}), ["write"]) == set()
}

test_a_nested_unfiltered_change_is_denied if {
	nested := given.statement("select", {"flags": ["unfiltered_write"], "has_where": true})
	denied(nested, ["read", "write"]) == {"postgres.destructive.unfiltered_write"}
}

test_one_good_statement_does_not_cover_a_bad_one if {
	pair := given.request([given.select_name, given.statement("truncate", {})], ["read", "write"])
	given.rules(destructive.deny) == {"postgres.destructive.truncate"} with input as pair
}

test_files_programs_and_network_are_denied if {
	every effect in {"file", "program", "network"} {
		denied(given.statement("copy", {}), [effect]) == {"postgres.destructive.server_file"}
	}
}

test_only_copy_is_told_of_its_other_form if {
	some copied in destructive.deny with input as given.request([given.statement("copy", {})], ["file"])
	endswith(copied.message, "use COPY TO STDOUT or FROM STDIN")
	some other in destructive.deny with input as given.request([given.statement("create_object", {})], ["file"])
	other.message == "the statement reaches a file of the server"
	some server in destructive.deny with input as given.request([given.statement("create_object", {})], ["network"])
	startswith(server.message, "the statement makes the server connect")
}

test_select_is_not_destructive if {
	denied(given.select_name, ["read"]) == set()
}

test_dropping_a_part_is_denied if {
	doc := given.request([given.statement("alter_table", {"flags": ["drops_part"]})], ["define"])
	given.rules(destructive.deny) == {"postgres.destructive.drop_part"} with input as doc
}

test_changing_the_server_is_denied if {
	every verb in {"create_extension", "create_publication", "create_database"} {
		doc := given.request([given.statement(verb, {})], ["define"])
		given.rules(destructive.deny) == {"postgres.destructive.server"} with input as doc
	}
}
