# METADATA
# title: Protected refs
# description: Shared branches change by review in the forge, tags never move.
# schemas:
#   - input: schema.git.request
#   - data.site.git: schema.git.site
package sealgate.policies.git.refs

import data.sealgate.lib.git as lib

# METADATA
# title: Protected branches
# description: Protected branches are not pushed to directly.
# custom:
#   id: git.refs.protected
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The branch is protected.
#   solution: Push a topic branch and open a merge request.
deny contains {
	"rule": "git.refs.protected",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	some update in input.git.facts.updates
	lib.matches(update.ref, data.site.git.protected_refs)
	message := sprintf("%v is protected; push a topic branch and open a merge request", [update.ref])
}

# METADATA
# title: Tags stay
# description: A tag that exists is neither moved nor deleted.
# custom:
#   id: git.refs.tags
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The tag exists.
#   solution: Make a new tag.
deny contains {
	"rule": "git.refs.tags",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	some update in input.git.facts.updates
	startswith(update.ref, "refs/tags/")
	not update.create
	message := sprintf("%v exists and stays as it is; make a new tag", [update.ref])
}

# METADATA
# title: Refs outside branches and tags
# description: Other refs steer hooks and tools of the host.
# custom:
#   id: git.refs.hidden
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The ref is neither a branch nor a tag.
#   solution: Push to refs/heads/ or refs/tags/.
deny contains {
	"rule": "git.refs.hidden",
	"message": message,
	"severity": "medium",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	some update in input.git.facts.updates
	not lib.matches(update.ref, ["refs/heads/*", "refs/tags/*"])
	message := sprintf("%v is neither a branch nor a tag", [update.ref])
}
