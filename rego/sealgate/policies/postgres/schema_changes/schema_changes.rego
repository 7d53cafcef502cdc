# METADATA
# title: Schema changes
# description: Which changes to a schema a second person sees; in production all, elsewhere those that are not plain.
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.schema_changes

import data.sealgate.lib.postgres as lib

# METADATA
# title: Change the schema in production
# description: CREATE and ALTER in an environment the site calls production need a reviewer.
# custom:
#   id: postgres.schema_changes.production
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: A schema change in production needs approval.
#   solution: Ask a reviewer to approve the ticket, then run the same statement again.
approve contains {
	"rule": "postgres.schema_changes.production",
	"groups": data.site.postgres.reviewers.schema,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	"define" in input.action.effects
	input.resource.environment in data.site.postgres.production_environments
}

# METADATA
# title: Change what names and statements mean
# description: >-
#   Outside production, what is new and takes nobody's name passes: tables, sequences, enums, comments, and indexes and
#   constraints of tables the session made. What is done to a table of others may keep their rows out or change what
#   their statements do, as a view, a trigger or a rename may, so a reviewer sees it first, except in sandboxes.
# custom:
#   id: postgres.schema_changes.not_plain
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: This schema change may alter what names stand for or what others' statements do; it needs approval.
#   solution: Ask a reviewer to approve the ticket, then run the same statement again; or work in a sandbox environment.
approve contains {
	"rule": "postgres.schema_changes.not_plain",
	"groups": data.site.postgres.reviewers.schema,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	not input.resource.environment in data.site.postgres.production_environments
	not input.resource.environment in data.site.postgres.sandbox_environments
	some statement in input.postgres.facts.statements
	"define" in statement.effects
	not _is_plain(statement)
}

# METADATA
# title: Plain definition
# description: A definition of something new, or one of nothing but temporary tables of the session.
# custom:
#   id: postgres.schema_changes.is_plain
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.schema_changes.not_plain.
_is_plain(statement) if "plain_definition" in statement.flags

_is_plain(statement) if {
	statement.verb in {"alter_table", "drop"}
	lib.only_own(statement)
	not "takes_name" in statement.flags
}
