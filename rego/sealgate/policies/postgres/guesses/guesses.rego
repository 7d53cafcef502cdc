# METADATA
# title: Guesses
# description: Values that an index compares with sensitive ones are counted, so they have to be countable.
# schemas:
#   - input: schema.postgres.request
package sealgate.policies.postgres.guesses

# METADATA
# title: Load guesses
# description: >-
#   What an index compares with sensitive values is counted row by row, once the server says how many there were; the
#   rows of a COPY go on for as long as its sender likes, who may look at the index meanwhile.
# custom:
#   id: postgres.guesses.loaded
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: COPY FROM may not fill sensitive columns of an index.
#   solution: Use INSERT, or have the data loaded past the gateway.
deny contains {
	"rule": "postgres.guesses.loaded",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.verb == "copy"
	"write" in statement.effects
	some column in statement.assigned
	column.compared
	message := sprintf("column %v is sensitive and in an index, and may not be filled by COPY", [column.name])
}

# METADATA
# title: Steer guesses
# description: >-
#   A statement that writes several values which an index compares with sensitive ones may not look at what becomes of
#   them meanwhile: it would choose the next by what the last one told, and be counted only at its end.
# custom:
#   id: postgres.guesses.steered
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Values for sensitive columns may not be written by a statement that looks at the server's state.
#   solution: Leave the functions and relations of the server out.
deny contains {
	"rule": "postgres.guesses.steered",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some column in statement.assigned
	column.compared
	some name in _observed(statement)
	message := sprintf("%v tells what becomes of values for sensitive columns while they are written", [name])
}

# METADATA
# title: Observed
# description: What a statement asks of the server's state, by names that begin with pg_ or by the schema.
# custom:
#   id: postgres.guesses.observed
#   severity: high
#   controls: [NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.guesses.steered.
_observed(statement) := {function.name |
	some function in statement.functions
	startswith(function.name, "pg_")
} | {table.name |
	some table in statement.tables
	object.get(table, "schema", "") in {"pg_catalog", "information_schema"}
}
