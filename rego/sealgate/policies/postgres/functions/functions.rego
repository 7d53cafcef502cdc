# METADATA
# title: Functions
# description: "Code the statement does not show: functions outside the allow-list, DO and CALL."
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
#   - data.site.functions: schema.site.functions
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
	"execute" in input.action.effects
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
#   solution: Check the name, or ask for the function to be reviewed and added to data.site.postgres.allowed_functions.
deny contains {
	"rule": "postgres.functions.unknown",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some called in _with_effects
	name := _full_name(called)
	not name in data.site.postgres.allowed_functions
	message := sprintf("function %v is unknown, or not on the allow-list, so what it does cannot be judged", [name])
}

# METADATA
# title: Feed listed functions with sensitive columns
# description: What a function with effects is given shows in its effects, such as a lock other sessions see.
# custom:
#   id: postgres.functions.sensitive_argument
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-4]
#   failure_msg: A function with effects could tell of sensitive columns.
#   solution: Call the function with other values.
deny contains {
	"rule": "postgres.functions.sensitive_argument",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-AC-4"],
} if {
	input.phase == "request"
	count(_with_effects) > 0
	some statement in input.postgres.facts.statements
	some called in statement.functions
	not _is_harmless(called)
	count(lib.sensitive_columns(statement, {"other"})) > 0
	_full_name(called) in data.site.postgres.allowed_functions
	message := sprintf("function %v has effects, and the statement computes with sensitive columns", [called.name])
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
	statement.verb in ["do", "call"]
	message := sprintf("%v runs code that cannot be judged; send the statements themselves", [upper(statement.verb)])
}

# METADATA
# title: Use operators that call code
# description: An operator over a function of the database runs that function, whatever it looks like.
# custom:
#   id: postgres.functions.operator
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The operator calls a function that is not on the allow-list.
#   solution: Use another operator, or ask for this one to be listed in data.site.postgres.allowed_operators.
deny contains {
	"rule": "postgres.functions.operator",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some operator in statement.operators
	name := sprintf("%v.%v", [object.get(operator, "schema", "?"), operator.name])
	not name in data.site.postgres.allowed_operators
	message := sprintf("operator %v calls a function written in %v, so what it does cannot be judged", [
		operator.name,
		operator.language,
	])
}

# METADATA
# title: Cast by code
# description: A cast, or a domain whose check calls a function, runs code of the database.
# custom:
#   id: postgres.functions.cast
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The cast calls a function that is not on the allow-list.
#   solution: Build the value another way, or ask for the type to be listed in data.site.postgres.allowed_casts.
deny contains {
	"rule": "postgres.functions.cast",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some cast in statement.casts
	name := sprintf("%v.%v", [cast.schema, cast.name])
	not name in data.site.postgres.allowed_casts
	message := sprintf("the cast to %v calls function %v, so what it does cannot be judged", [name, cast.function])
}

# METADATA
# title: Set off code of a table
# description: |
#   Triggers, rules, defaults, checks, policies and functions of views run with statements that do not name them.
#   They pass where their body can be read, calls nothing unknown and uses no sensitive column. What else it does with
#   one (a message, a copy, a comparison with rows of others) is for whoever lists it to judge.
# custom:
#   id: postgres.functions.hook
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-5]
#   failure_msg: The table runs code that cannot be judged.
#   solution: Ask for it to be reviewed and added, by the name given here, to data.site.postgres.allowed_functions.
deny contains {
	"rule": "postgres.functions.hook",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-5"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	some table in statement.tables
	some hook in table.hooks
	_is_unsafe_hook(hook)
	name := lib.hook_name(hook)
	not name in data.site.postgres.allowed_functions
	message := sprintf("%v %v of table %v %v", [hook.kind, name, table.name, _hazard(hook)])
}

# METADATA
# title: Deliver large objects as they are
# description: Where the site says so, what loread returns is delivered although no mask reaches into it.
# custom:
#   id: postgres.functions.opaque_result
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-4]
#   failure_msg: The content of large objects is delivered as it is.
#   solution: Nothing is to be done.
obligations contains {"rule": "postgres.functions.opaque_result", "kind": "opaque_result"} if {
	input.phase == "request"
	data.site.postgres.opaque_large_objects == true
	{called.name | some statement in input.postgres.facts.statements; some called in statement.functions} == {"loread"}
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
	count(lib.with_verb(statements, {"do", "call", "execute", "create_extension", "alter_extension"})) == 0
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
_is_listed(called) if _is_harmless(called)

_is_listed(called) if {
	_full_name(called) in data.site.postgres.allowed_functions
}

# METADATA
# title: Define code
# description: Functions, triggers, rules, operators, casts and types run later, in statements that do not show them.
# custom:
#   id: postgres.functions.code
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: Defining code needs approval.
#   solution: Ask a reviewer to approve the ticket, then run the same statement again.
approve contains {
	"rule": "postgres.functions.code",
	"groups": data.site.postgres.reviewers.schema,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.verb in [
		"create_function",
		"create_procedure",
		"create_trigger",
		"create_rule",
		"create_object",
		"create_cast",
		"create_conversion",
		"create_transform",
		"create_operator_class",
		"create_operator_family",
		"alter_operator_family",
		"alter_operator",
		"alter_text_search",
		"alter_base_type",
		"alter_depends",
	]
}

# METADATA
# title: Give code another name
# description: A call finds other code once functions, operators or casts have other names or schemas.
# custom:
#   id: postgres.functions.renamed_code
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: Giving code another name needs approval.
#   solution: Ask a reviewer to approve the ticket, then run the same statement again.
approve contains {
	"rule": "postgres.functions.renamed_code",
	"groups": data.site.postgres.reviewers.schema,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.verb in {"rename", "alter_schema"}
	statement.object in {
		"aggregate",
		"collation",
		"conversion",
		"function",
		"language",
		"operator",
		"operator_class",
		"operator_family",
		"procedure",
		"routine",
		"text_search",
	}
}

# METADATA
# title: Unsafe hook
# description: Whether what a table runs by itself is unreadable, uses sensitive columns, or changes rows on a read.
# custom:
#   id: postgres.functions.is_unsafe_hook
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.hook.
_is_unsafe_hook(hook) if hook.opaque

_is_unsafe_hook(hook) if hook.reads_sensitive

_is_unsafe_hook(hook) if {
	hook.changes
	hook.kind in ["policy", "view"]
}

# METADATA
# title: Hazard of a hook
# description: What keeps code of a table from running unasked, in words.
# custom:
#   id: postgres.functions.hazard
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.hook.
_hazard(hook) := "runs code that cannot be judged" if hook.opaque

_hazard(hook) := "uses sensitive columns" if {
	not hook.opaque
	hook.reads_sensitive
}

_hazard(hook) := "changes something where rows are read" if {
	not hook.opaque
	not hook.reads_sensitive
}

# METADATA
# title: Functions with effects
# description: What any statement calls that is not known as harmless.
# custom:
#   id: postgres.functions.with_effects
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.unknown.
_with_effects contains called if {
	some statement in input.postgres.facts.statements
	some called in statement.functions
	not _is_harmless(called)
}

# METADATA
# title: Harmless function
# description: Whether the gateway knows a function of PostgreSQL as harmless, and the site uses its group.
# custom:
#   id: postgres.functions.is_harmless
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.unknown.
_is_harmless(called) if {
	called.harmless
	data.site.functions[called.name] in data.site.postgres.function_groups
}

_is_harmless(called) if {
	called.harmless
	called.extension
	"extensions" in data.site.postgres.function_groups
}

# METADATA
# title: Full name of a function
# description: As schema.function; one that no schema is known of has its name alone, which no list can have.
# custom:
#   id: postgres.functions.full_name
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.functions.unknown.
_full_name(called) := sprintf("%v.%v", [called.schema, called.name]) if called.schema

_full_name(called) := called.name if not called.schema
