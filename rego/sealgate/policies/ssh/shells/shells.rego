# METADATA
# title: Shells
# description: Interactive shells and terminals are not for agents; what is typed cannot be judged first.
# schemas:
#   - input: schema.ssh.request
#   - data.site.ssh: schema.ssh.site
package sealgate.policies.ssh.shells

import data.sealgate.lib.ssh as lib

# METADATA
# title: Interactive shells
# description: A shell is open only to the groups the site names.
# custom:
#   id: ssh.shells.shell
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: An interactive shell is not allowed.
#   solution: Give a command - ssh HOST COMMAND.
deny contains {
	"rule": "ssh.shells.shell",
	"message": "an interactive shell runs what nobody has judged; give a command",
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	input.ssh.facts.kind == "shell"
	not lib.in_groups(input.subject.groups, data.site.ssh.groups.shells)
}

# METADATA
# title: Terminals for commands
# description: A command with a terminal can ask for more than its command line says.
# custom:
#   id: ssh.shells.terminal
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: A terminal is not allowed.
#   solution: Leave -t out.
deny contains {
	"rule": "ssh.shells.terminal",
	"message": "a command with a terminal can be told more than its command line says; leave -t out",
	"severity": "medium",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	input.ssh.facts.kind == "exec"
	input.ssh.facts.tty == true
	not lib.in_groups(input.subject.groups, data.site.ssh.groups.shells)
}

# METADATA
# title: Shells for named groups
# description: The groups the site names may open a shell; everything in it is recorded.
# custom:
#   id: ssh.shells.named
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: An interactive shell is not allowed.
#   solution: Give a command.
allow contains {"rule": "ssh.shells.named", "effects": ["execute", "unknown"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.kind == "shell"
	lib.in_groups(input.subject.groups, data.site.ssh.groups.shells)
}
