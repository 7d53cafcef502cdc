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
default _own := {}

# METADATA
# title: Topics of postgres
# description: The topics that judge postgres actions.
# custom:
#   id: main.own.postgres
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := data.sealgate.policies.postgres if input.protocol == "postgres"

# METADATA
# title: Topics of ssh
# description: The topics that judge ssh actions.
# custom:
#   id: main.own.ssh
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := data.sealgate.policies.ssh if input.protocol == "ssh"

# METADATA
# title: Topics of git
# description: The topics that judge git actions.
# custom:
#   id: main.own.git
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := data.sealgate.policies.git if input.protocol == "git"

# METADATA
# title: Topics of kubernetes
# description: The topics that judge kubernetes actions.
# custom:
#   id: main.own.kubernetes
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := data.sealgate.policies.kubernetes if input.protocol == "kubernetes"

# METADATA
# title: Topics of registry
# description: The topics that judge registry actions.
# custom:
#   id: main.own.registry
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := data.sealgate.policies.registry if input.protocol == "registry"

# METADATA
# title: Topics of aws
# description: The topics that judge aws actions.
# custom:
#   id: main.own.aws
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := data.sealgate.policies.aws if input.protocol == "aws"

# METADATA
# title: Topics of http
# description: The topics that judge http actions.
# custom:
#   id: main.own.http
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_own := data.sealgate.policies.http if input.protocol == "http"

# METADATA
# title: Shared topics
# description: The topics that judge actions of every protocol; none when the bundle has none.
# custom:
#   id: main.shared
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
default _shared := {}

_shared := data.sealgate.policies.any

# METADATA
# title: Kinds
# description: What a topic may contribute; whatever else it defines is its own affair.
# custom:
#   id: main.kinds
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_kinds := {"allow", "approve", "deny", "masks", "obligations", "warn"}

# METADATA
# title: Collected
# description: |
#   What the topics that judge this action contribute, as pairs of kind and value; the value is a set when well-formed.
#   Empty sets are left out: most topics have nothing to say about most actions.
# custom:
#   id: main.collected
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: No topic of this protocol contributes.
#   solution: Load a bundle with topics for the protocol.
_collected contains [kind, items] if {
	some topics in [_own, _shared]
	some topic in topics
	some kind, items in topic
	items != set()
	kind in _kinds
}
