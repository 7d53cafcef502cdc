# METADATA
# title: Changes
# description: Service restarts, package changes and scripts are run after a review.
# schemas:
#   - input: schema.ssh.request
#   - data.site.ssh: schema.ssh.site
package sealgate.policies.ssh.changes

import data.sealgate.lib.ssh as lib

# METADATA
# title: Listed changes
# description: Operators may ask for listed changes, with sudo where needed; each needs a reviewer.
# custom:
#   id: ssh.changes.command
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The command is not one of the listed changes.
#   solution: Use a command of data.site.ssh.changes, or ask for it to be listed.
allow contains {"rule": "ssh.changes.command", "effects": ["execute", "privilege"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	_is_change
	lib.in_groups(input.subject.groups, data.site.ssh.groups.operators)
}

# METADATA
# title: Scripts on standard input
# description: Operators may send a script to a plain interpreter; the reviewer reads every byte of it.
# custom:
#   id: ssh.changes.script
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: Code on standard input is not allowed.
#   solution: Send plain commands.
allow contains {"rule": "ssh.changes.script", "effects": ["execute"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	_is_script
	lib.in_groups(input.subject.groups, data.site.ssh.groups.operators)
}

# METADATA
# title: Changes need a review
# description: A change of services or packages is reviewed, command by command.
# custom:
#   id: ssh.changes.review
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-5, NIST-CM-3]
#   failure_msg: The change needs a reviewer.
#   solution: Wait for the reviewer, or ask one with the ticket.
approve contains {
	"rule": "ssh.changes.review",
	"groups": data.site.ssh.reviewers.changes,
	"count": 1,
	"ttl_s": data.site.ssh.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	_is_change
}

# METADATA
# title: Scripts need a review
# description: What an interpreter reads from standard input is reviewed as a whole.
# custom:
#   id: ssh.changes.script_review
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-5, NIST-CM-3]
#   failure_msg: The script needs a reviewer.
#   solution: Wait for the reviewer, or ask one with the ticket.
approve contains {
	"rule": "ssh.changes.script_review",
	"groups": data.site.ssh.reviewers.scripts,
	"count": 1,
	"ttl_s": data.site.ssh.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	_is_script
}

# METADATA
# title: Change
# description: Whether every command of a plain line is a listed change, run as it is or with sudo.
# custom:
#   id: ssh.changes.is_change
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See the rule that uses this helper.
_is_change if {
	input.ssh.facts.kind == "exec"
	not input.ssh.facts.script
	lib.is_plain(input.ssh.facts)
	lib.every_listed(input.ssh.facts.commands, data.site.ssh.changes)
	every command in input.ssh.facts.commands {
		lib.wrapped_by(command, ["sudo"])
	}
}

# METADATA
# title: Script
# description: Whether one plain interpreter reads a script from standard input.
# custom:
#   id: ssh.changes.is_script
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See the rule that uses this helper.
_is_script if {
	input.ssh.facts.kind == "exec"
	input.ssh.facts.script.bytes > 0
	lib.is_plain(input.ssh.facts)
	count(input.ssh.facts.commands) == 1
	some command in input.ssh.facts.commands
	command.program in data.site.ssh.script_interpreters
	lib.wrapped_by(command, [])
}
