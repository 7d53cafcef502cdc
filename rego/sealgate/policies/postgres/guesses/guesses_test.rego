package sealgate.policies.postgres.guesses_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.guesses

denied(statement, effects) := names if {
	names := given.rules(guesses.deny) with input as given.request([statement], effects)
}

asked(statement, effects) := names if {
	names := given.rules(guesses.approve) with input as given.request([statement], effects)
}

test_guesses_are_not_loaded if {
	column := {"schema": "public", "table": "customers", "name": "ssn", "sensitive": true, "compared": true}
	copied := given.statement("copy", {"effects": ["write"], "assigned": [column]})
	denied(copied, ["write"]) == {"postgres.guesses.loaded"}
	denied(object.union(copied, {"assigned": [object.remove(column, ["compared"])]}), ["write"]) == set()
	denied(object.union(copied, {"verb": "insert"}), ["write"]) == set()
}

test_guesses_are_counted_by_the_text_or_seen if {
	column := {"schema": "public", "table": "customers", "name": "ssn", "sensitive": true, "compared": true}
	counted := given.statement("insert", {"effects": ["write"], "assigned": [column], "most_guesses": 3})
	asked(counted, ["write"]) == set()
	open_ended := object.remove(counted, ["most_guesses"])
	asked(open_ended, ["write"]) == {"postgres.guesses.open_ended"}
	asked(object.union(open_ended, {"effects": ["read"]}), ["read"]) == set()
	asked(object.union(open_ended, {"assigned": [object.remove(column, ["compared"])]}), ["write"]) == set()
}

test_guesses_of_triggers_are_seen if {
	hook := {
		"kind": "trigger",
		"name": "fill",
		"language": "plpgsql",
		"security_definer": false,
		"opaque": false,
		"changes": true,
		"compared": true,
	}
	table := {"name": "customers", "access": "write", "sensitive": true, "hooks": [hook]}
	filling := given.statement("insert", {"effects": ["write"], "tables": [table]})
	asked(filling, ["write"]) == {"postgres.guesses.unseen"}
	asked(filling, ["write"]) == set() with data.site.postgres.allowed_functions as ["trigger.fill"]
	quiet := object.union(table, {"hooks": [object.remove(hook, ["compared"])]})
	asked(object.union(filling, {"tables": [quiet]}), ["write"]) == set()
}

test_rows_are_not_changed_again if {
	table := {"schema": "public", "name": "customers"}
	changing := given.statement("update", {"effects": ["write"], "referring": [object.union(table, {"again": true})]})
	denied(changing, ["write"]) == {"postgres.guesses.rewritten"}
	denied(object.union(changing, {"referring": [table]}), ["write"]) == set()
	looking := object.union(changing, {"referring": [object.union(table, {"looked_up": true})]})
	denied(looking, ["write"]) == {"postgres.guesses.looked_up"}
}
