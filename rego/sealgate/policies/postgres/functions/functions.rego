# METADATA
# title: Functions
# description: "Code the statement does not show: functions outside the allow-list, DO and CALL."
# schemas:
#   - input: schema.postgres.request
package sealgate.policies.postgres.functions

import data.sealgate.lib.postgres as lib

# METADATA
# title: Call listed functions
# description: Functions the site has reviewed may run.
# custom:
#   id: postgres.functions.listed
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The function is not on the allow-list.
#   solution: Ask for the function to be reviewed and added to data.site.postgres.allowed_functions.
allow contains {"rule": "postgres.functions.listed", "effects": ["execute"]} if {
	input.phase == "request"
	lib.in_groups(input.subject.groups, data.site.postgres.groups.readers)
	_calls_listed_only(input.postgres.facts.statements)
}

# METADATA
# title: Call functions outside the allow-list
# description: Only functions known to be harmless, or listed by the site, may run.
# custom:
#   id: postgres.functions.unknown
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The function is not on the allow-list.
#   solution: Ask for the function to be reviewed and added to data.site.postgres.allowed_functions.
deny contains {
	"rule": "postgres.functions.unknown",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some called in statement.functions
	not called.harmless
	name := sprintf("%v.%v", [object.get(called, "schema", "?"), called.name])
	not name in data.site.postgres.allowed_functions
	message := sprintf("function %v is not on the allow-list, so what it does cannot be judged", [name])
}

# METADATA
# title: Run opaque code
# description: DO blocks, CALL and EXECUTE of text run code the gateway cannot see.
# custom:
#   id: postgres.functions.opaque_code
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: DO and CALL are not allowed.
#   solution: Send the statements themselves.
deny contains {
	"rule": "postgres.functions.opaque_code",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.verb in {"do", "call"}
	message := sprintf("%v runs code that cannot be judged; send the statements themselves", [upper(statement.verb)])
}

# METADATA
# title: Only listed functions
# description: Whether every function is harmless or listed by the site, and no opaque code runs.
# custom:
#   id: postgres.functions.calls_listed_only
#   severity: medium
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.listed.
_calls_listed_only(statements) if {
	count(lib.with_verb(statements, {"do", "call"})) == 0
	every statement in statements {
		every called in statement.functions {
			_is_listed(called)
		}
	}
}

# METADATA
# title: Listed function
# description: Whether a function is harmless or listed by the site.
# custom:
#   id: postgres.functions.is_listed
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.listed.
_is_listed(called) if called.harmless

_is_listed(called) if {
	sprintf("%v.%v", [object.get(called, "schema", "?"), called.name]) in data.site.postgres.allowed_functions
}
