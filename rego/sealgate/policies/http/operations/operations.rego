# METADATA
# title: Operations
# description: Where a connection declares its operations, nothing else is done on it.
# schemas:
#   - input: schema.http.request
#   - data.site.http: schema.http.site
package sealgate.policies.http.operations

# METADATA
# title: Undeclared operation
# description: A request that is none of the declared operations of its connection.
# custom:
#   id: http.operations.undeclared
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: this is none of the operations declared for the service
#   solution: Ask the owner of the connection to declare the operation.
deny contains {
	"rule": "http.operations.undeclared",
	"message": "this is none of the operations declared for the service",
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	input.http.facts.declared
	not input.http.facts.operation
}

# METADATA
# title: Plain HTTP
# description: A request over plain HTTP, on which nobody would notice a false service.
# custom:
#   id: http.operations.clear
#   severity: medium
#   controls: [NIST-SC-8]
#   failure_msg: plain http is not used for services behind the gateway
#   solution: Ask for the same address with https.
deny contains {
	"rule": "http.operations.clear",
	"message": "plain http is not used for services behind the gateway",
	"severity": "medium",
	"controls": ["NIST-SC-8"],
} if {
	input.phase == "request"
	input.http.facts.scheme == "http"
	not data.site.http.plain_allowed
}
