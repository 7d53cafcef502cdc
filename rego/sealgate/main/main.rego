# METADATA
# title: The decision
# description: |
#   Combines what the topics under data.sealgate.policies contribute into one decision (sealgate.decision/1).
#   Any deny blocks; every effect of the action must be covered by an allow; an approval requirement that is not met
#   holds the action; any mask masks; else the action is allowed. The order in which topics and contributions come never
#   matters.
package sealgate.main

# METADATA
# title: Decision
# description: |
#   The one entry point. Always defined: what the rules below cannot make sense of is blocked as policy.input.
# entrypoint: true
# custom:
#   id: main.decision
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-25]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision; each names the rule that spoke.
default decision := {
	"schema": "sealgate.decision/1",
	"effect": "block",
	"reasons": [{
		"rule": "policy.input",
		"effect": "deny",
		"severity": "critical",
		"message": "the input document cannot be judged",
		"controls": ["NIST-AC-3"],
	}],
	"masks": [],
	"obligations": [],
}

decision := object.union(_approval_part, {
	"schema": "sealgate.decision/1",
	"effect": _effect,
	"reasons": (((_denials | _allow_reasons) | _approve_reasons) | _notes),
	"masks": _spoken.masks,
	"obligations": _spoken.obligations,
})

# METADATA
# title: Effect
# description: |
#   The outcome by the fixed order: block, require_approval, mask, allow.
# custom:
#   id: main.effect
#   severity: critical
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
default _effect := "allow"

_effect := "block" if {
	count(_denials) > 0
} else := "require_approval" if {
	count(_unmet) > 0
} else := "mask" if {
	count(_spoken.masks) > 0
}

# METADATA
# title: Denials
# description: |
#   Reasons to block: what topics deny, and what this package denies itself.
# custom:
#   id: main.denials
#   severity: critical
#   controls: [NIST-AC-3]
#   failure_msg: The action is denied.
#   solution: Change the action, or ask the owner of the named rule.
_denials contains {
	"rule": item.rule,
	"effect": "deny",
	"severity": item.severity,
	"message": item.message,
	"controls": sort(item.controls),
} if {
	some item in _spoken.deny
}

# METADATA
# title: Input that cannot be judged
# description: A member that every judgement needs is missing or unknown. Absence is a problem, never a pass.
# custom:
#   id: policy.input
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: The input document cannot be judged.
#   solution: Report this to the operator of the gateway with the decision id.
_denials contains _denial("policy.input", message) if {
	not _is_judgeable
	message := "schema, phase, protocol, effects, connection or time of the input is missing or unknown"
}

# METADATA
# title: Malformed contribution
# description: A topic contributes something that is not a set of objects with exactly their keys.
# custom:
#   id: policy.malformed
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: A policy topic is broken.
#   solution: Correct the named kind of contribution; `sealgate policy check` says where.
_denials contains _denial("policy.malformed", message) if {
	some kind in _malformed
	message := sprintf("a contribution under %v is not well-formed", [kind])
}

# METADATA
# title: Approval outside a request
# description: An approval is asked for in a phase in which the action cannot be held any more.
# custom:
#   id: policy.phase
#   severity: critical
#   controls: [NIST-AC-5]
#   failure_msg: An approval was asked for too late.
#   solution: Ask for approval in the request phase.
_denials contains _denial("policy.phase", message) if {
	input.phase != "request"
	some item in _spoken.approve
	message := sprintf("rule %v asks for approval in the %v phase", [item.rule, input.phase])
}

# METADATA
# title: Nobody allows it
# description: An effect of the action that no rule allows. The response phase inherits what allowed the request.
# custom:
#   id: default.deny
#   severity: critical
#   controls: [NIST-AC-3, NIST-AC-6]
#   failure_msg: No rule allows this effect.
#   solution: Ask the owner of the connection for a rule that allows it.
_denials contains _denial(rule_id, message) if {
	input.phase != "response"
	some wanted in input.action.effects
	not wanted in _covered
	rule_id := sprintf("default.deny.%v", [wanted])
	message := sprintf("no rule allows the effect %v of this action, which is to %v", [wanted, _doing[wanted]])
}

_denials contains _denial("default.deny", "the action has no effects, so no rule can allow it") if {
	input.phase != "response"
	count(input.action.effects) == 0
}

# METADATA
# title: Effects in words
# description: What an action with an effect does, as a refusal says it.
# custom:
#   id: main.doing
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_doing := {
	"read": "read",
	"write": "change data",
	"define": "change definitions",
	"execute": "run code",
	"file": "use files",
	"program": "run programs",
	"export": "deliver data in bulk",
	"session": "change the session",
	"lock": "lock what others use",
	"privilege": "change rights",
	"network": "connect elsewhere",
	"unknown": "do what cannot be told beforehand",
}

# METADATA
# title: Built-in denial
# description: The reason this package gives when it denies on its own account.
# custom:
#   id: main.denial
#   severity: critical
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_denial(rule_id, message) := {
	"rule": rule_id,
	"effect": "deny",
	"severity": "critical",
	"message": message,
	"controls": ["NIST-AC-3"],
}

# METADATA
# title: Judgeable
# description: Whether every member that every judgement needs is there and known.
# custom:
#   id: main.is_judgeable
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_is_judgeable if {
	input.schema == "sealgate.input/1"
	input.phase in ["session", "request", "response"]
	input.protocol in ["postgres", "ssh", "git", "kubernetes", "registry", "aws", "http"]
	is_string(input.resource.connection)
	is_number(input.context.now_ns)
	is_array(input.action.effects)
	every wanted in input.action.effects {
		wanted in _effects
	}
}

# METADATA
# title: Effects
# description: The closed set of effects.
# custom:
#   id: main.effects
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_effects := {
	"read",
	"write",
	"define",
	"execute",
	"file",
	"program",
	"export",
	"session",
	"lock",
	"privilege",
	"network",
	"unknown",
}

# METADATA
# title: Covered effects
# description: The effects some rule allows.
# custom:
#   id: main.covered
#   severity: critical
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_covered contains granted if {
	some item in _spoken.allow
	some granted in item.effects
}

# METADATA
# title: Allow reasons
# description: The allow rules that covered an effect of this action.
# custom:
#   id: main.allow_reasons
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_allow_reasons contains {
	"rule": item.rule,
	"effect": "allow",
	"severity": "low",
	"message": sprintf("allows %v", [concat(", ", granted)]),
	"controls": [],
} if {
	input.phase != "response"
	some item in _spoken.allow
	granted := sort({name | some name in item.effects; name in input.action.effects})
	granted != []
}

# METADATA
# title: Notes
# description: |
#   What is said without any effect: warnings, and exceptions that kept a rule silent.
# custom:
#   id: main.notes
#   severity: low
#   controls: [NIST-AU-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_notes contains {
	"rule": item.rule,
	"effect": "warn",
	"severity": "low",
	"message": item.message,
	"controls": [],
} if {
	some item in _spoken.warn
}

_notes contains {
	"rule": exception.rule,
	"effect": "warn",
	"severity": "medium",
	"message": sprintf("switched off on %v under %v (%v): %v", [
		exception.connection,
		exception.ticket,
		exception.owner,
		exception.reason,
	]),
	"controls": [],
} if {
	some exception in _exceptions
	some items in _well_formed
	some item in items
	item.rule == exception.rule
}
