# METADATA
# title: Policies about the policy library
# description: |
#   Run over `opa inspect --annotations --format json rego`: what every rule must say about itself, so that each refusal an agent
#   sees can be traced to a documented, tested rule.
package library

severities := {"low", "medium", "high", "critical"}

texts := {"id", "severity", "failure_msg", "solution"}

# The annotations of rules, those of tests left out.
rules contains entry if {
	some entry in input.annotations
	entry.annotations.scope == "rule"
	not endswith(entry.location.file, "_test.rego")
}

location(entry) := sprintf("%v:%v", [entry.location.file, entry.location.row])

deny contains sprintf("%v: the rule has no %v", [location(entry), member]) if {
	some entry in rules
	some member in {"title", "description"}
	not present(entry.annotations, member)
}

deny contains sprintf("%v: the rule has no custom.%v", [location(entry), member]) if {
	some entry in rules
	some member in texts
	not present(object.get(entry.annotations, "custom", {}), member)
}

deny contains sprintf("%v: custom.controls must name at least one control", [location(entry)]) if {
	some entry in rules
	count(object.get(entry.annotations, ["custom", "controls"], [])) == 0
}

deny contains sprintf("%v: severity %v is not one of low, medium, high, critical", [location(entry), severity]) if {
	some entry in rules
	severity := entry.annotations.custom.severity
	not severity in severities
}

deny contains sprintf("%v: the id %v is used by another rule too", [location(entry), entry.annotations.custom.id]) if {
	some entry in rules
	some other in rules
	entry.annotations.custom.id == other.annotations.custom.id
	location(entry) != location(other)
}

deny contains sprintf("%v has no tests: add %v_test", [namespace, namespace]) if {
	some namespace, _ in input.namespaces
	startswith(namespace, "data.sealgate.")
	not endswith(namespace, "_test")
	not input.namespaces[sprintf("%v_test", [namespace])]
}

deny contains sprintf("%v is not a topic: use sealgate.policies.<protocol>.<topic>", [namespace]) if {
	some namespace, _ in input.namespaces
	startswith(namespace, "data.sealgate.policies.")
	count(split(namespace, ".")) != 5
}

deny contains "the library has no rules: was the right folder inspected?" if count(rules) == 0

present(object_, member) if {
	is_string(object_[member])
	object_[member] != ""
}
