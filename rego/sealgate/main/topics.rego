# Which topics under data.sealgate.policies judge an action. Each protocol is written out: a reference such as
# data.sealgate.policies[input.protocol] makes an engine evaluate the topics of every protocol, so that a fault in one
# would block the others. The topics are read as one document, which is evaluated once; a test of a topic therefore
# cannot refer to data.sealgate.main, a test of both lies beside this file.
package sealgate.main

# METADATA
# title: Own topics
# description: The topics that judge actions of the input's protocol, by name; none when the bundle has none.
# custom:
#   id: main.own
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := topics if {
	input.protocol == "postgres"
	topics := data.sealgate.policies.postgres
} else := topics if {
	input.protocol == "ssh"
	topics := data.sealgate.policies.ssh
} else := topics if {
	input.protocol == "git"
	topics := data.sealgate.policies.git
} else := topics if {
	input.protocol == "kubernetes"
	topics := data.sealgate.policies.kubernetes
} else := topics if {
	input.protocol == "registry"
	topics := data.sealgate.policies.registry
} else := topics if {
	input.protocol == "aws"
	topics := data.sealgate.policies.aws
} else := topics if {
	input.protocol == "http"
	topics := data.sealgate.policies.http
}

# METADATA
# title: Collected
# description: |
#   What the topics that judge this action contribute, as pairs of kind and value; the value is a set when well-formed.
#   Empty sets are left out: most topics have nothing to say about most actions. Topics of `any` judge every protocol.
# custom:
#   id: main.collected
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_collected contains [kind, items] if {
	some topic in _own
	some kind, items in topic
	items != set()
	kind in ["allow", "approve", "deny", "masks", "obligations", "warn"]
}

_collected contains [kind, items] if {
	some topic in data.sealgate.policies.any
	some kind, items in topic
	items != set()
	kind in ["allow", "approve", "deny", "masks", "obligations", "warn"]
}
