# METADATA
# title: Sessions
# description: The role and the settings of a session stay as the gateway set them.
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.sessions

import data.sealgate.lib.postgres as lib

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
	"message": concat(" ", [
		"roles, grants, owners, labels, event triggers, row security, other sessions, triggers that are switched off",
		"and the server's own settings are changed by database administrators, not by agents",
	]),
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5", "NIST-AC-6"],
} if {
	input.phase == "request"
	"privilege" in input.action.effects
	not _only_resets(input.postgres.facts.statements)
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
	not _restores(statement, name)
	message := _say_setting(statement, name)
}

# METADATA
# title: Other session statements
# description: LISTEN and NOTIFY carry data between sessions past every mask by column; LOAD runs code.
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

	# An EXECUTE is judged as what it names, but not inside another statement.
	some place, verb_name in [statement.verb, object.get(statement, "nested", "")]
	verb_name in ["listen", "notify", "load", "execute"]
	[place, verb_name] != [0, "execute"]
	message := sprintf("%v leaves or uses something in the session that cannot be judged", [upper(verb_name)])
}

# METADATA
# title: A name that could mean anything
# description: FETCH and EXECUTE are judged as the statement they name; here it is not certain which one that is.
# custom:
#   id: postgres.sessions.untracked
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: What this name stands for is not certain.
#   solution: Close or deallocate the name and make it again in this session, or send the statement itself.
deny contains {
	"rule": "postgres.sessions.untracked",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	"untracked" in statement.flags
	message := sprintf("%v uses a name and it is not certain what that stands for", [upper(statement.verb)])
}

# METADATA
# title: Only resets
# description: DISCARD ALL goes back to the role the session began with, which is the one it has.
# custom:
#   id: postgres.sessions.only_resets
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.sessions.role.
_only_resets(statements) if {
	count(lib.with_verb(statements, {"discard"})) > 0
	lib.every_effect_by(statements, "privilege", {"discard"})
}

# METADATA
# title: Restores every setting
# description: RESET ALL and DISCARD ALL restore what the gateway set when the session began.
# custom:
#   id: postgres.sessions.restores_all
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.sessions.setting.
_restores(statement, "all") if statement.verb in ["reset", "discard"]

# METADATA
# title: Goes back to its role
# description: RESET ROLE goes back to the role the session began with, which is the one it has.
# custom:
#   id: postgres.sessions.restores_role
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.sessions.setting.
_restores(statement, name) if {
	statement.verb == "reset"
	lower(name) in ["role", "session_authorization"]
}

# METADATA
# title: Which setting
# description: set_config with a name that is computed could change any setting, which the facts name "all".
# custom:
#   id: postgres.sessions.say_setting
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.sessions.setting.
_say_setting(statement, name) := message if {
	_is_computed(statement, name)
	message := "the name of the setting is computed, so it could be any; write it into set_config as a string"
}

_say_setting(statement, name) := sprintf("setting %v may not be changed in this session", [name]) if {
	not _is_computed(statement, name)
}

# METADATA
# title: Computed names
# description: Facts name a setting "all" that only the server will know.
# custom:
#   id: postgres.sessions.is_computed
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.sessions.setting.
_is_computed(statement, "all") if "set_config" in statement.flags
