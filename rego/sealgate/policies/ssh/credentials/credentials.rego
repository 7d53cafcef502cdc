# METADATA
# title: Credentials
# description: Files that hold keys, passwords or tokens are neither read nor written through the gateway.
# schemas:
#   - input: schema.ssh.request
#   - data.site.ssh: schema.ssh.site
package sealgate.policies.ssh.credentials

import data.sealgate.lib.ssh as lib

# METADATA
# title: Credential files
# description: No command, file operation or transfer names a file or folder that usually holds credentials.
# custom:
#   id: ssh.credentials.path
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The path holds credentials.
#   solution: Ask the owner of the credential; agents never need it in the clear.
deny contains {
	"rule": "ssh.credentials.path",
	"message": "the path usually holds keys, passwords or tokens, which agents never need in the clear",
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	some path in lib.paths(input.ssh.facts)
	lib.is_credential(path, data.site.ssh.credential_paths)
}

# METADATA
# title: Environment of other programs
# description: Listing the environment shows what programs were given as secrets.
# custom:
#   id: ssh.credentials.environment
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The command shows the environment of programs.
#   solution: Name the one variable you need in another way.
deny contains {
	"rule": "ssh.credentials.environment",
	"message": "the environment of a program often holds secrets",
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	some command in input.ssh.facts.commands
	_shows_environment(command)
}

# METADATA
# title: Environment shown
# description: Whether a command lists variables - printenv, or env that runs nothing.
# custom:
#   id: ssh.credentials.shows_environment
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See the rule that uses this helper.
_shows_environment(command) if command.program in ["printenv", "export"]

_shows_environment(command) if {
	command.argv0 == "env"
	not command.program
}
