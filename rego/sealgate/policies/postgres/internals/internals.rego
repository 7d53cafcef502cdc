# METADATA
# title: Internals
# description: "The server's own tables: written by nobody, and without the ones that hold secrets."
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.internals

# METADATA
# title: Write the catalogue
# description: Rows of the system catalogue are changed by commands, never by hand.
# custom:
#   id: postgres.internals.catalog
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The system catalogue may not be written.
#   solution: Use the command made for the change.
deny contains {
	"rule": "postgres.internals.catalog",
	"message": message,
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.tables
	table.access in ["write", "define"]
	table.schema in ["pg_catalog", "information_schema"]
	message := sprintf("relation %v is the server's own; it changes by CREATE, ALTER and GRANT only", [table.name])
}

# METADATA
# title: Read the server's secrets
# description: Password digests, credentials for other servers and the server's access rules.
# custom:
#   id: postgres.internals.credentials
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The relation holds secrets of the server.
#   solution: Use pg_roles, or another view without secrets.
deny contains {
	"rule": "postgres.internals.credentials",
	"message": message,
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.tables
	table.schema in ["pg_catalog", "information_schema"]
	table.name in data.site.postgres.secret_relations
	not _leaves_secrets_out(statement, table)
	message := sprintf("relation %v holds credentials or access rules of the server", [table.name])
}

# METADATA
# title: Read TOAST tables
# description: TOAST tables hold long values of every column of their table.
# custom:
#   id: postgres.internals.storage
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: TOAST tables may not be read.
#   solution: Select the columns of the table itself.
deny contains {
	"rule": "postgres.internals.storage",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.tables
	startswith(table.schema, "pg_toast")
	message := sprintf("relation %v stores values of any column, under no name a mask knows", [table.name])
}

# Some relations keep their secrets in columns of their own: pg_dump and psql read the others.
_leaves_secrets_out(statement, table) if {
	secrets := data.site.postgres.secret_columns[table.name]
	every column in statement.columns {
		not column.name in secrets
		column.name != "*"
	}
}
