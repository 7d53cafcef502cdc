# METADATA
# title: Writes
# description: Who may write, and what needs a second person.
package sealgate.policies.postgres.writes

# METADATA
# title: Writing is allowed
# description: Writers may write and read.
# custom:
#   id: small.writes
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Writing is not allowed.
#   solution: Join the writers.
allow contains {"rule": "small.writes", "effects": {"read", "write"}} if "writers" in input.subject.groups

# METADATA
# title: Writing in production needs approval
# description: A second person looks at it.
# custom:
#   id: small.second
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: Needs approval.
#   solution: Ask the DBAs.
approve contains {"rule": "small.second", "groups": ["dba"], "count": 1, "ttl_s": 600, "scope": "action"} if {
	input.phase == "request"
	"write" in input.action.effects
	input.resource.environment == "production"
}

# METADATA
# title: Unfiltered deletes
# description: A delete without a condition.
# custom:
#   id: small.unfiltered
#   severity: critical
#   controls: [NIST-SI-10]
#   overridable: false
#   failure_msg: Deletes every row.
#   solution: Add a condition.
deny contains {
	"rule": "small.unfiltered",
	"message": sprintf("%v without a condition", [statement.verb]),
	"severity": "critical",
	"controls": ["NIST-SI-10"],
} if {
	some statement in input.postgres.facts.statements
	statement.verb == "delete"
	not statement.has_where
}

# METADATA
# title: Large sessions
# description: A hint.
# custom:
#   id: small.night
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: None.
#   solution: None.
deny contains {"rule": "small.night", "message": "not on this database", "severity": "low", "controls": set()} if {
	input.postgres.facts.database == "night"
}
