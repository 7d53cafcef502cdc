package sealgate.policies.postgres.guesses_test

import data.sealgate.lib.postgres_test as given
import data.sealgate.policies.postgres.guesses

denied(statement, effects) := names if {
	names := given.rules(guesses.deny) with input as given.request([statement], effects)
}

test_guesses_are_not_loaded if {
	column := {"schema": "public", "table": "customers", "name": "ssn", "sensitive": true, "compared": true}
	copied := given.statement("copy", {"effects": ["write"], "assigned": [column]})
	denied(copied, ["write"]) == {"postgres.guesses.loaded"}
	denied(object.union(copied, {"assigned": [object.remove(column, ["compared"])]}), ["write"]) == set()
	denied(object.union(copied, {"verb": "insert"}), ["write"]) == set()
}

test_guesses_are_not_steered if {
	column := {"schema": "public", "table": "customers", "name": "ssn", "sensitive": true, "compared": true}
	plain := given.statement("insert", {"effects": ["write"], "assigned": [column]})
	denied(plain, ["write"]) == set()
	by_function := object.union(plain, {"functions": [{"name": "pg_relation_size"}]})
	denied(by_function, ["write"]) == {"postgres.guesses.steered"}
	table := {"schema": "pg_catalog", "name": "pg_class", "access": "read", "sensitive": false}
	denied(object.union(plain, {"tables": [table]}), ["write"]) == {"postgres.guesses.steered"}
	denied(object.union(by_function, {"assigned": []}), ["write"]) == set()
}
