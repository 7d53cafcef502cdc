# METADATA
# title: Regulated data in output
# description: Output and files of production hosts pass the site's detectors, whatever command made them.
# schemas:
#   - input: schema.ssh.request
#   - data.site.ssh: schema.ssh.site
package sealgate.policies.ssh.regulated

# METADATA
# title: Redact findings
# description: Findings of the listed detectors are replaced, in what is delivered and in the record.
# custom:
#   id: ssh.regulated.findings
#   severity: high
#   controls: [GLBA, PCI-DSS-3.4]
#   failure_msg: Findings are replaced.
#   solution: Nothing to do; ask the owner of the data for the values you need.
masks contains {
	"rule": "ssh.regulated.findings",
	"selector": {"detector": detector},
	"strategy": "redact",
	"apply": "both",
} if {
	input.resource.environment in data.site.ssh.production_environments
	not _is_git
	some detector in data.site.ssh.detectors
}

# METADATA
# title: Git
# description: Whether a git program is the other half of the command.
# custom:
#   id: ssh.regulated.is_git
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See the rule that uses this helper.
_is_git if input.ssh.facts.transfer.program == "git"
