# METADATA
# title: Access
# description: What members of the site's groups may do at all. Everything not allowed here is denied by default.
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.access

import data.sealgate.lib.postgres as lib

# METADATA
# title: Read data
# description: Readers may read ordinary data.
# custom:
#   id: postgres.access.read
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not read data.
#   solution: Ask for membership in a group that data.site.postgres.groups names for it.
allow contains {"rule": "postgres.access.read", "effects": ["read"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.readers)
}

# METADATA
# title: Export data
# description: Readers may export; bulk export asks for approval in its own topic.
# custom:
#   id: postgres.access.export
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not export data.
#   solution: Ask for membership in a group that data.site.postgres.groups names for it.
allow contains {"rule": "postgres.access.export", "effects": ["export", "read"]} if {
	"export" in input.action.effects
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.readers)
}

# METADATA
# title: Change rows
# description: Writers may change rows, lock them to change them, and empty or analyze their temporary tables.
# custom:
#   id: postgres.access.write
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not change rows.
#   solution: Ask for membership in a group that data.site.postgres.groups names for it.
allow contains {"rule": "postgres.access.write", "effects": ["write", "lock"]} if {
	count({"lock", "write"} & {effect | some effect in input.action.effects}) > 0
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.writers)
	lib.changes_rows(input.postgres.facts.statements)
	lib.every_effect_by(input.postgres.facts.statements, "lock", lib.row_verbs | lib.name_verbs)
}

# METADATA
# title: Change the schema
# description: Schema owners may create and alter objects.
# custom:
#   id: postgres.access.define
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not change the schema.
#   solution: Ask for membership in a group that data.site.postgres.groups names for it.
allow contains {"rule": "postgres.access.define", "effects": ["define"]} if {
	"define" in input.action.effects
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.schema_owners)
}

# METADATA
# title: Schema owners may rewrite tables
# description: ALTER TABLE that changes a type rewrites rows as part of the definition; dropping a column is not meant.
# custom:
#   id: postgres.access.rewrite
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3]
#   failure_msg: The subject may not change definitions on this connection.
#   solution: Ask for membership in one of data.site.postgres.groups.schema_owners.
allow contains {"rule": "postgres.access.rewrite", "effects": ["write"]} if {
	"write" in input.action.effects
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.schema_owners)
	lib.every_effect_by(input.postgres.facts.statements, "write", {"alter_table", "alter_sequence"})
	every statement in input.postgres.facts.statements {
		not "drops_column" in statement.flags
	}
}

# METADATA
# title: Control transactions
# description: Readers and writers may open and close transactions and prepare statements.
# custom:
#   id: postgres.access.transaction
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not control transactions.
#   solution: Ask for membership in a group that data.site.postgres.groups names for it.
allow contains {"rule": "postgres.access.transaction", "effects": ["session", "read"]} if {
	"session" in input.action.effects
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.readers)
	verbs := (lib.transaction_verbs | lib.name_verbs) | lib.row_verbs
	lib.every_effect_by(input.postgres.facts.statements, "session", verbs)
}

# METADATA
# title: Readers may reset their session
# description: DISCARD ALL, which pools send between two uses of a connection, only undoes what the session did itself.
# custom:
#   id: postgres.access.reset
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3]
#   failure_msg: The subject may not reset this session.
#   solution: Ask for membership in one of data.site.postgres.groups.readers.
allow contains {"rule": "postgres.access.reset", "effects": ["privilege"]} if {
	"privilege" in input.action.effects
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.readers)
	count(lib.with_verb(input.postgres.facts.statements, {"discard"})) > 0
	lib.every_effect_by(input.postgres.facts.statements, "privilege", {"discard"})
}

# METADATA
# title: Write to what is not known
# description: A name the catalogue does not hold may stand for a view of anything; a table the session made is known.
# custom:
#   id: postgres.access.unknown_target
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: What is written to is not known.
#   solution: Name a table of the database; one that was made past the gateway is known a minute later.
deny contains {
	"rule": "postgres.access.unknown_target",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-AC-6"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.tables
	table.access == "write"
	table.unresolved == true
	not table.own
	message := sprintf("relation %v is not in the catalogue, so what a write to it changes is not known", [table.name])
}
