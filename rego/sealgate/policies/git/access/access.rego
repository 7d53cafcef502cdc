# METADATA
# title: Access
# description: Who may fetch and push. Everything not allowed here is denied by default.
# schemas:
#   - input: schema.git.request
#   - data.site.git: schema.git.site
package sealgate.policies.git.access

import data.sealgate.lib.git as lib

# METADATA
# title: Fetch
# description: Readers may fetch.
# custom:
#   id: git.access.fetch
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not fetch.
#   solution: Ask for membership in a group that data.site.git.groups names for it.
allow contains {"rule": "git.access.fetch", "effects": ["read"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.git.groups.readers)
	lib.matches(input.git.facts.repository, data.site.git.repositories)
}

# METADATA
# title: Push
# description: Writers may push to refs that are not protected.
# custom:
#   id: git.access.push
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not push.
#   solution: Ask for membership in a group that data.site.git.groups names for it.
allow contains {"rule": "git.access.push", "effects": ["write"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.git.groups.writers)
	lib.matches(input.git.facts.repository, data.site.git.repositories)
}
