# What topics contribute: which contributions count, which an exception switches off, which are not well-formed.
package sealgate.main

# METADATA
# title: Spoken contributions
# description: |
#   By kind, the well-formed contributions of the topics that judge this action, without those switched off.
# custom:
#   id: main.spoken
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_spoken := _well_formed if {
	count(_switched_off) == 0
} else := {kind: remaining |
	some kind, items in _well_formed
	remaining := {item | some item in items; not item.rule in _switched_off}
}

# METADATA
# title: Well-formed contributions
# description: By kind, the contributions that are objects with exactly their keys, each of its type.
# custom:
#   id: main.well_formed
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_well_formed := {
	"allow": {item | some ["allow", items] in _collected; is_set(items); some item in items; _is_allow(item)},
	"approve": {item | some ["approve", items] in _collected; is_set(items); some item in items; _is_approve(item)},
	"deny": {item | some ["deny", items] in _collected; is_set(items); some item in items; _is_deny(item)},
	"masks": {item | some ["masks", items] in _collected; is_set(items); some item in items; _is_mask(item)},
	"obligations": {item |
		some ["obligations", items] in _collected
		is_set(items)
		some item in items
		_is_obligation(item)
	},
	"warn": {item | some ["warn", items] in _collected; is_set(items); some item in items; _is_warn(item)},
}

# METADATA
# title: Malformed kinds
# description: The kinds under which some topic contributes anything that is not well-formed.
# custom:
#   id: main.malformed
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_malformed contains kind if {
	some [kind, items] in _collected
	not is_set(items)
}

_malformed contains kind if {
	some [kind, items] in _collected
	is_set(items)
	count(items - _well_formed[kind]) > 0
}

# METADATA
# title: Allow contribution
# description: A rule id and effects of the closed set.
# custom:
#   id: main.is_allow
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: A policy topic is broken.
#   solution: Correct the contribution.
_is_allow(item) if {
	is_object(item)
	object.keys(item) == {"rule", "effects"}
	is_string(item.rule)
	item.rule != ""
	_is_collection(item.effects)
	every granted in item.effects {
		granted in _effects
	}
}

# METADATA
# title: Approve contribution
# description: A rule id, groups, how many of their members, for how long, for what.
# custom:
#   id: main.is_approve
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: A policy topic is broken.
#   solution: Correct the contribution.
_is_approve(item) if {
	is_object(item)
	object.keys(item) == {"rule", "groups", "count", "ttl_s", "scope"}
	is_string(item.rule)
	item.rule != ""
	_is_names(item.groups)
	count(item.groups) > 0
	_is_positive(item.count)
	_is_positive(item.ttl_s)
	is_string(item.scope)
	item.scope != ""
}

# METADATA
# title: Deny contribution
# description: A rule id, a message, a severity and the controls the rule serves.
# custom:
#   id: main.is_deny
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: A policy topic is broken.
#   solution: Correct the contribution.
_is_deny(item) if {
	is_object(item)
	object.keys(item) == {"rule", "message", "severity", "controls"}
	is_string(item.rule)
	item.rule != ""
	is_string(item.message)
	item.severity in ["low", "medium", "high", "critical"]
	_is_names(item.controls)
}

# METADATA
# title: Mask contribution
# description: A rule id, a selector, a strategy and where it applies; parameters of the strategy if it has any.
# custom:
#   id: main.is_mask
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: A policy topic is broken.
#   solution: Correct the contribution.
_is_mask(item) if {
	is_object(item)
	object.keys(item) - {"params"} == {"rule", "selector", "strategy", "apply"}
	is_string(item.rule)
	item.rule != ""
	is_object(item.selector)
	count(item.selector) > 0
	item.strategy in ["drop", "null", "redact", "tokenize", "hash", "partial"]
	item.apply in ["delivered", "record", "both"]
	is_object(object.get(item, "params", {}))
}

# METADATA
# title: Obligation
# description: A rule id, a kind, and whatever the kind needs.
# custom:
#   id: main.is_obligation
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: A policy topic is broken.
#   solution: Correct the contribution.
_is_obligation(item) if {
	is_object(item)
	is_string(item.rule)
	item.rule != ""
	is_string(item.kind)
	item.kind != ""
}

# METADATA
# title: Warn contribution
# description: A rule id and a message.
# custom:
#   id: main.is_warn
#   severity: critical
#   controls: [NIST-SI-10]
#   failure_msg: A policy topic is broken.
#   solution: Correct the contribution.
_is_warn(item) if {
	is_object(item)
	object.keys(item) == {"rule", "message"}
	is_string(item.rule)
	item.rule != ""
	is_string(item.message)
}

# METADATA
# title: Name
# description: A text that is not empty.
# custom:
#   id: main.is_name
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_is_name(value) if {
	is_string(value)
	value != ""
}

# METADATA
# title: Names
# description: A set or an array of names.
# custom:
#   id: main.is_names
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_is_names(values) if {
	_is_collection(values)
	every value in values {
		_is_name(value)
	}
}

# METADATA
# title: Collection
# description: A set or an array.
# custom:
#   id: main.is_collection
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_is_collection(values) if type_name(values) in ["array", "set"]

# METADATA
# title: Positive
# description: An integer of at least one.
# custom:
#   id: main.is_positive
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_is_positive(value) if {
	is_number(value)
	value >= 1
	floor(value) == value
}

# METADATA
# title: Exceptions in force
# description: |
#   Exceptions of data.site that name this connection and have not ended, for rules that may be switched off. A rule
#   that data.sealgate_rules does not list as overridable keeps speaking.
# custom:
#   id: main.exceptions
#   severity: high
#   controls: [NIST-AC-3]
#   failure_msg: A rule is switched off.
#   solution: Review the exception before it ends.
_exceptions contains exception if {
	some exception in data.site.exceptions
	exception.connection == input.resource.connection
	is_number(exception.expires_ns)
	exception.expires_ns > input.context.now_ns
	data.sealgate_rules[exception.rule].overridable == true
	every member in ["rule", "owner", "reason", "ticket"] {
		is_string(exception[member])
	}
}

# METADATA
# title: Switched-off rules
# description: The ids of rules an exception keeps silent here.
# custom:
#   id: main.switched_off
#   severity: high
#   controls: [NIST-AC-3]
#   failure_msg: The action is not allowed.
#   solution: Read the reasons of the decision.
_switched_off contains exception.rule if some exception in _exceptions
