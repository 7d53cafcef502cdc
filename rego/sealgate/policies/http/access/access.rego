# METADATA
# title: Access
# description: What members of the site's groups may do at all. Everything not allowed here is denied by default.
# schemas:
#   - input: schema.http.request
#   - data.site.http: schema.http.site
package sealgate.policies.http.access

import data.sealgate.lib.http as lib

# METADATA
# title: Read
# description: Readers may use methods that change nothing.
# custom:
#   id: http.access.read
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not do this.
#   solution: Ask for membership in a group that data.site.http.groups names for it.
allow contains {"rule": "http.access.read", "effects": ["read", "export"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.http.groups.readers)
}

# METADATA
# title: Change
# description: Writers may use methods that change something.
# custom:
#   id: http.access.write
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not do this.
#   solution: Ask for membership in a group that data.site.http.groups names for it.
allow contains {"rule": "http.access.write", "effects": ["write"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.http.groups.writers)
}

# METADATA
# title: Operate
# description: Operators may use operations that run something or define it.
# custom:
#   id: http.access.operate
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The subject may not do this.
#   solution: Ask for membership in a group that data.site.http.groups names for it.
allow contains {"rule": "http.access.operate", "effects": ["define", "execute"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	lib.in_groups(input.subject.groups, data.site.http.groups.operators)
}
