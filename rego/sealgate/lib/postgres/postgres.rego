# METADATA
# title: PostgreSQL helpers
# description: What topics for PostgreSQL ask of statements; pure functions of their arguments.
package sealgate.lib.postgres

# METADATA
# title: Statements with a verb
# description: The statements whose verb is one of these.
# custom:
#   id: lib.postgres.with_verb
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
with_verb(statements, verbs) := [statement |
	some statement in statements
	statement.verb in verbs
]

# METADATA
# title: Effect by verbs only
# description: Each statement with this effect has one of these verbs; a harmless one never covers another.
# custom:
#   id: lib.postgres.every_effect_by
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
every_effect_by(statements, effect, verbs) if {
	count(statements) > 0
	every statement in statements {
		_is_effect_by(statement, effect, verbs)
	}
}

# METADATA
# title: One statement's effect
# description: A statement does not have the effect, or has it by one of these verbs; EXPLAIN by that of what it runs.
# custom:
#   id: lib.postgres.is_effect_by
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
_is_effect_by(statement, effect, _) if not effect in statement.effects

_is_effect_by(statement, _, verbs) if {
	statement.verb in verbs
	statement.verb != "explain"
}

_is_effect_by(statement, _, verbs) if {
	statement.verb == "explain"
	object.get(statement, "nested", "explain") in verbs
}

# METADATA
# title: Sensitive columns by use
# description: Names of sensitive columns that a statement uses in one of these ways.
# custom:
#   id: lib.postgres.sensitive_columns
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
sensitive_columns(statement, uses) := {name |
	some column in statement.columns
	column.sensitive == true
	column.use in uses
	name := object.get(column, "name", "*")
}

# METADATA
# title: Written tables
# description: Tables a statement writes, as schema.name.
# custom:
#   id: lib.postgres.written_tables
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
written_tables(statement) := {name |
	some table in statement.tables
	table.access == "write"
	name := sprintf("%v.%v", [object.get(table, "schema", "?"), table.name])
}

# METADATA
# title: Assigned columns
# description: Names of the columns a statement assigns.
# custom:
#   id: lib.postgres.assigned_columns
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
assigned_columns(statement) := {column.name | some column in statement.assigned; not column.unnamed}

# METADATA
# title: Member of a group
# description: Whether the subject is in one of the groups a list of the site names.
# custom:
#   id: lib.postgres.in_groups
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
in_groups(groups, wanted) if {
	some group in groups
	group in wanted
}

# METADATA
# title: Row verbs
# description: Statements that change or lock rows; VACUUM, REINDEX and other maintenance are not among them.
# custom:
#   id: lib.postgres.row_verbs
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.access.write.
row_verbs := {"insert", "update", "delete", "merge", "select", "copy", "explain", "create_table_as"}

# METADATA
# title: Own temporary tables only
# description: Every relation of the statement is a temporary table this session made; nothing of others depends on it.
# custom:
#   id: lib.postgres.only_own
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
only_own(statement) if {
	count(statement.tables) > 0
	every table in statement.tables {
		table.own == true
		table.temporary == true
	}
}

# METADATA
# title: Changes rows only
# description: Each statement that writes changes rows; what keeps house does so in temporary tables of the session.
# custom:
#   id: lib.postgres.changes_rows
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.access.write.
changes_rows(statements) if {
	count(statements) > 0
	every statement in statements {
		_changes_rows(statement)
	}
}

# METADATA
# title: One statement changes rows only
# description: A statement does not write, changes rows, or keeps house in temporary tables of the session.
# custom:
#   id: lib.postgres.changes_rows_one
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.access.write.
_changes_rows(statement) if _is_effect_by(statement, "write", row_verbs | name_verbs)

_changes_rows(statement) if {
	statement.verb in {"truncate", "analyze"}
	only_own(statement)
}

# METADATA
# title: Transaction verbs
# description: Statements that only mark the borders of a transaction or of a prepared statement.
# custom:
#   id: lib.postgres.transaction_verbs
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.access.transaction.
transaction_verbs := {
	"begin",
	"commit",
	"rollback",
	"savepoint",
	"release",
	"rollback_to",
	"deallocate",
	"close",
	"set",
	"reset",
	"discard",
	"unlisten",
	"set_constraints",
}

# METADATA
# title: Verbs that give or use a name
# description: Cursors and prepared statements, judged as what their names stand for.
# custom:
#   id: lib.postgres.name_verbs
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.sessions.untracked.
name_verbs := {"declare_cursor", "fetch", "move", "prepare"}

# METADATA
# title: Name of code that runs with a table
# description: As a site lists it, schema.function; a rule is listed as rule.name.
# custom:
#   id: lib.postgres.hook_name
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.hook.
hook_name(hook) := sprintf("%v.%v", [object.get(hook, "schema", hook.kind), hook.name])

# METADATA
# title: Unknown relations
# description: The relations of a statement that are in no catalogue, and that the session did not make.
# custom:
#   id: lib.postgres.unknown_relations
#   severity: low
#   controls: [NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.predicate.
unknown_relations(statement) := {table.name |
	some table in statement.tables
	table.unresolved
	not table.own
}
