# METADATA
# title: Destructive statements
# description: Statements that destroy data at once, or that reach out of the database.
# schemas:
#   - input: schema.postgres.request
package sealgate.policies.postgres.destructive

import data.sealgate.lib.postgres as lib

# METADATA
# title: Drop objects
# description: DROP of anything but the session's own temporary tables is left to the people who own the schema.
# custom:
#   id: postgres.destructive.drop
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: DROP is not allowed.
#   solution: Ask the owners of the schema to drop it.
deny contains {
	"rule": "postgres.destructive.drop",
	"message": "DROP destroys an object and everything in it; agents may not drop objects",
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	startswith(statement.verb, "drop")
	not _drops_own(statement)
}

# METADATA
# title: Truncate tables
# description: TRUNCATE removes every row without a WHERE; of a temporary table of the session, it may.
# custom:
#   id: postgres.destructive.truncate
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: TRUNCATE is not allowed.
#   solution: Delete the rows meant, with a WHERE clause.
deny contains {
	"rule": "postgres.destructive.truncate",
	"message": "TRUNCATE removes every row; delete the rows you mean with a WHERE clause",
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.verb == "truncate"
	not lib.only_own(statement)
}

# METADATA
# title: Change rows without a WHERE
# description: DELETE and UPDATE must say which rows, except of the session's own temporary tables.
# custom:
#   id: postgres.destructive.unfiltered_write
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: DELETE and UPDATE need a WHERE clause.
#   solution: Add a WHERE clause that names the rows meant.
deny contains {
	"rule": "postgres.destructive.unfiltered_write",
	"message": message,
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some flag in ["unfiltered_write", "where_without_column"]
	flag in statement.flags
	not lib.only_own(statement)
	message := _unfiltered[statement.has_where]
}

# METADATA
# title: Touch files or programs of the server
# description: COPY to or from a file or PROGRAM, and functions that reach files, programs or the network.
# custom:
#   id: postgres.destructive.server_file
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: Files and programs of the server are out of reach.
#   solution: >-
#     Use COPY ... TO STDOUT or FROM STDIN for data; ask the people who administer the database for servers,
#     subscriptions and the like.
deny contains {
	"rule": "postgres.destructive.server_file",
	"message": message,
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some effect in ["file", "program", "network"]
	effect in input.action.effects
	message := _reaching(effect)
}

# METADATA
# title: Drop columns and constraints
# description: ALTER TABLE ... DROP COLUMN destroys values, DROP CONSTRAINT what kept them right.
# custom:
#   id: postgres.destructive.drop_part
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: Columns and constraints may not be dropped.
#   solution: Ask the owners of the schema to drop it.
deny contains {
	"rule": "postgres.destructive.drop_part",
	"message": "ALTER ... DROP destroys a column with its values, or a constraint that protects them",
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	"drops_part" in statement.flags
}

# METADATA
# title: Change the server
# description: "Extensions, databases, access methods and publications change the server, or what leaves it."
# custom:
#   id: postgres.destructive.server
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The server may not be changed.
#   solution: Ask the people who administer the database.
deny contains {
	"rule": "postgres.destructive.server",
	"message": message,
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.verb in [
		"create_extension",
		"alter_extension",
		"create_database",
		"alter_database",
		"create_access_method",
		"create_publication",
		"alter_publication",
		"alter_tablespace",
		"checkpoint",
	]
	verb := replace(upper(statement.verb), "_", " ")
	message := sprintf("%v changes the server or what leaves it; database administrators do that", [verb])
}

# METADATA
# title: Drops tables of its own
# description: Each table that is dropped is a temporary one of this session.
# custom:
#   id: postgres.destructive.drops_own
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.destructive.drop.
_drops_own(statement) if {
	statement.verb == "drop"
	statement.object == "table"
	lib.only_own(statement)
}

# METADATA
# title: Reaching the server's surroundings
# description: What a message says of it; COPY has a form that reaches nothing but the client.
# custom:
#   id: postgres.destructive.reaching
#   severity: critical
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.destructive.server_file.
_reaching("network") := "the statement makes the server connect to another one; its administrators set that up"

_reaching(effect) := message if {
	effect != "network"
	message := sprintf("the statement reaches a %v of the server%v", [effect, _copy_advice])
}

default _copy_advice := ""

_copy_advice := "; use COPY TO STDOUT or FROM STDIN" if {
	some statement in input.postgres.facts.statements
	statement.verb == "copy"
}

# METADATA
# title: Which rows are not said
# description: What to say of a change that may meet every row, by whether there is a WHERE.
# custom:
#   id: postgres.destructive.unfiltered
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.destructive.unfiltered_write.
_unfiltered := {
	false: "a DELETE or UPDATE without WHERE changes every row; name the rows you mean",
	true: "a DELETE or UPDATE has no WHERE of its own, or one that holds for every row; name the rows you mean",
}
