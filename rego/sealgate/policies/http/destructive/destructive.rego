# METADATA
# title: Destructive operations
# description: What cannot be undone, or hits many records at once, is not done by agents.
# schemas:
#   - input: schema.http.request
package sealgate.policies.http.destructive

import data.sealgate.lib.http as lib

# METADATA
# title: Destructive operation
# description: An operation labelled destructive.
# custom:
#   id: http.destructive.operation
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CP-9]
#   failure_msg: the operation destroys what cannot be brought back
#   solution: Ask a person with the right to do it, or ask for an exception.
deny contains {
	"rule": "http.destructive.operation",
	"message": "the operation destroys what cannot be brought back",
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CP-9"],
} if {
	input.phase == "request"
	lib.has_label(input.http.facts, {"destructive"})
}

# METADATA
# title: Change in bulk
# description: An operation labelled bulk that changes something.
# custom:
#   id: http.destructive.bulk
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3]
#   failure_msg: the operation changes many records at once
#   solution: Change single records.
deny contains {
	"rule": "http.destructive.bulk",
	"message": "the operation changes many records at once",
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3"],
} if {
	input.phase == "request"
	lib.has_label(input.http.facts, {"bulk"})
	lib.changes(input.action.effects)
}

# METADATA
# title: Delete a collection
# description: DELETE on an address without the name of one record, where no operation is declared.
# custom:
#   id: http.destructive.collection
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3]
#   failure_msg: DELETE without the name of one record would remove all of them
#   solution: Name the record in the path.
deny contains {
	"rule": "http.destructive.collection",
	"message": "DELETE without the name of one record would remove all of them",
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3"],
} if {
	input.phase == "request"
	input.http.facts.method == "DELETE"
	not input.http.facts.operation
	count(input.http.facts.segments) < 2
}
