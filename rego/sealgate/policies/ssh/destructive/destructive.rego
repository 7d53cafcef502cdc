# METADATA
# title: Destructive commands
# description: Programs that destroy data, change accounts or stop the machine are out of reach, whoever asks.
# schemas:
#   - input: schema.ssh.request
#   - data.site.ssh: schema.ssh.site
package sealgate.policies.ssh.destructive

import data.sealgate.lib.ssh as lib

# METADATA
# title: Destructive programs
# description: Programs of data.site.ssh.destructive never run through the gateway, also inside a longer line.
# custom:
#   id: ssh.destructive.program
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The program destroys, or takes the machine out of service.
#   solution: Ask the people who run the machine.
deny contains {
	"rule": "ssh.destructive.program",
	"message": message,
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	some command in input.ssh.facts.commands
	some program in _programs(command)
	program in data.site.ssh.destructive
	message := sprintf("%v destroys data or takes the machine out of service", [program])
}

# METADATA
# title: Destructive options
# description: Options that turn a harmless program into a destructive one.
# custom:
#   id: ssh.destructive.option
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The option destroys, or runs another program.
#   solution: Leave the option out.
deny contains {
	"rule": "ssh.destructive.option",
	"message": message,
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	some command in input.ssh.facts.commands
	some option in command.options
	lib.is_option(option, data.site.ssh.destructive_options[command.program])
	message := sprintf("%v %v destroys data or runs another program", [command.program, option])
}

# METADATA
# title: Programs of a command
# description: What runs - the program, what it was called by, and the programs around it.
# custom:
#   id: ssh.destructive.programs
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See the rule that uses this helper.
_programs(command) := union({
	{command.argv0},
	{name | name := command.program},
	{name | some name in object.get(command, "wrappers", [])},
})
