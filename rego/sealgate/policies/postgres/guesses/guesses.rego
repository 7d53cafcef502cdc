# METADATA
# title: Guesses
# description: Values that an index compares with sensitive ones are counted, so they have to be countable.
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.guesses

import data.sealgate.lib.postgres as lib

# METADATA
# title: Load guesses
# description: >-
#   What an index compares with sensitive values is counted row by row, as the text of a statement says how many there
#   are; the rows of a COPY go on for as long as its sender likes, who may look at the index meanwhile.
# custom:
#   id: postgres.guesses.loaded
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: COPY FROM may not fill sensitive columns of an index.
#   solution: Use INSERT, or ask the people who administer the database to load the data.
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
# title: Change rows again
# description: >-
#   Where a sensitive column refers to plain rows of another table, the server looks for the row it refers to once a
#   transaction changes a row for the second time, and locks it: other sessions see which one that is. So no agent
#   changes such a row twice in a transaction. Rows that are named by other values of a whole number or uuid are not
#   the same (`where id = 1`, `where id = 2`).
# custom:
#   id: postgres.guesses.rewritten
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: A row with a sensitive column that refers to plain rows may not be changed twice in a transaction.
#   solution: COMMIT first, name each row by a number or uuid, or change all in one statement (UPDATE FROM VALUES).
deny contains {
	"rule": "postgres.guesses.rewritten",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.referring
	table.again
	message := sprintf("the transaction may have changed the same rows of %v before, so this looks them up", [table.name])
}

# METADATA
# title: Have rows looked up
# description: >-
#   The server looks for the row that a sensitive column refers to where another column of the key changes, where a row
#   moves to another partition, and where foreign keys that follow from a change come to a row twice: those that meet in
#   a table, or one that runs for several rows.
# custom:
#   id: postgres.guesses.looked_up
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: A change may not have rows looked up by a sensitive column that it does not name.
#   solution: Change one row at a time, named by its key; have a part of a foreign key changed past the gateway.
deny contains {
	"rule": "postgres.guesses.looked_up",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.referring
	table.looked_up
	message := sprintf("the change would look up what a sensitive column of %v refers to", [table.name])
}

# METADATA
# title: Write any number of guesses
# description: >-
#   The text has to say how many values it gives a column that an index compares with sensitive ones: by rows of VALUES,
#   a LIMIT, or keys in its WHERE. A statement that may write any number can be steered by another session while it
#   runs, each value chosen by what the last one told, so a reviewer sees it first.
# custom:
#   id: postgres.guesses.open_ended
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: A change of any number of rows may not write sensitive columns of an index without a reviewer.
#   solution: Name the rows by their key, write them as VALUES, or add a LIMIT; or ask a reviewer to approve the ticket.
approve contains {
	"rule": "postgres.guesses.open_ended",
	"groups": data.site.postgres.reviewers.export,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	"write" in statement.effects
	not statement.most_guesses
	some column in statement.assigned
	column.compared
}

# METADATA
# title: Write guesses unseen
# description: >-
#   A trigger or rule of the table gives values to columns that the server compares with sensitive ones: how many, and
#   which, is not in the text of the statement, so a reviewer sees it first, unless the site lists the function.
# custom:
#   id: postgres.guesses.unseen
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Code of the table may not write what is compared with sensitive columns without a reviewer.
#   solution: Ask a reviewer to approve the ticket, or for the function to be listed in allowed_functions.
approve contains {
	"rule": "postgres.guesses.unseen",
	"groups": data.site.postgres.reviewers.export,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	"write" in statement.effects
	some table in statement.tables
	some hook in table.hooks
	hook.compared
	not lib.hook_name(hook) in data.site.postgres.allowed_functions
}
