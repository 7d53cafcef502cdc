# METADATA
# title: Sessions
# description: The role and the settings of a session stay as the gateway set them.
# schemas:
#   - input: schema.postgres.request
package sealgate.policies.postgres.sessions

# METADATA
# title: Change roles or privileges
# description: Roles, grants, ownership and row security are not an agent's to change.
# custom:
#   id: postgres.sessions.role
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5, NIST-AC-6]
#   failure_msg: Roles and privileges cannot be changed here.
#   solution: Ask the people who administer the database.
deny contains {
	"rule": "postgres.sessions.role",
	"message": "roles, grants and owners are changed by database administrators, not by agents",
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5", "NIST-AC-6"],
} if {
	input.phase == "request"
	"privilege" in input.action.effects
}

# METADATA
# title: Change settings
# description: Only listed settings may change; search_path, role and others decide what a statement means.
# custom:
#   id: postgres.sessions.setting
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The setting may not be changed.
#   solution: Leave the setting as it is, or ask for it to be listed in data.site.postgres.session_settings.
deny contains {
	"rule": "postgres.sessions.setting",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some name in statement.set_vars
	not lower(name) in data.site.postgres.session_settings
	message := sprintf("setting %v may not be changed in this session", [name])
}

# METADATA
# title: Other session statements
# description: LISTEN, NOTIFY, LOAD, DISCARD and the like change state nobody asked to change.
# custom:
#   id: postgres.sessions.other
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The statement changes the session's state.
#   solution: Leave it out.
deny contains {
	"rule": "postgres.sessions.other",
	"message": message,
	"severity": "medium",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some verb_name in {statement.verb, object.get(statement, "nested", "")}
	verb_name in {"listen", "unlisten", "notify", "load", "discard", "declare_cursor", "prepare", "execute"}
	verb := replace(upper(verb_name), "_", " ")
	message := sprintf("%v leaves or uses something in the session that cannot be judged", [verb])
}
