# METADATA
# title: Commands
# description: Which command lines may run at all. What is not listed is denied by default.
# schemas:
#   - input: schema.ssh.request
#   - data.site.ssh: schema.ssh.site
package sealgate.policies.ssh.commands

import data.sealgate.lib.ssh as lib

# METADATA
# title: Read-only commands
# description: Readers may run listed commands that only look, alone or joined by pipes.
# custom:
#   id: ssh.commands.read
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The command is not one of those that only look.
#   solution: Use a command of data.site.ssh.read_only, or ask for it to be listed.
allow contains {"rule": "ssh.commands.read", "effects": ["execute"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.kind == "exec"
	not input.ssh.facts.script
	lib.in_groups(input.subject.groups, data.site.ssh.groups.readers)
	lib.is_plain(input.ssh.facts)
	lib.every_listed(input.ssh.facts.commands, data.site.ssh.read_only)
	every command in input.ssh.facts.commands {
		lib.wrapped_by(command, [])
	}
}

# METADATA
# title: Shell syntax
# description: Variables, substitutions, redirections and joined commands hide what will run.
# custom:
#   id: ssh.commands.shell_syntax
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The command line holds shell syntax.
#   solution: Send one plain command, or plain commands joined by pipes; move files with sftp.
deny contains {
	"rule": "ssh.commands.shell_syntax",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	input.ssh.facts.kind == "exec"
	some feature in input.ssh.facts.shell_features
	feature != "pipe"
	message := sprintf("the command line holds shell syntax (%v); send plain commands, at most joined by pipes", [feature])
}
