# METADATA
# title: SSH helpers
# description: What topics for SSH ask of commands and paths; pure functions of their arguments.
package sealgate.lib.ssh

# METADATA
# title: Member of a group
# description: Whether the subject is in one of the groups a list of the site names.
# custom:
#   id: lib.ssh.in_groups
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
in_groups(groups, wanted) if {
	some group in groups
	group in wanted
}

# METADATA
# title: Plain
# description: Whether a line is plain commands, at most joined by pipes, so that every shell runs exactly them.
# custom:
#   id: lib.ssh.is_plain
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
is_plain(facts) if {
	count(object.get(facts, "commands", [])) > 0
	every feature in object.get(facts, "shell_features", []) {
		feature == "pipe"
	}
}

# METADATA
# title: Listed command
# description: |
#   Whether a command is one of a list - program, and where the list says so its subcommand, without the
#   options the list refuses and with no more words than it allows.
# custom:
#   id: lib.ssh.is_listed
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
is_listed(command, listed) if {
	entry := listed[command.program]
	_has_listed_subcommand(command, entry)
	every option in command.options {
		not is_option(option, object.get(entry, "refused_options", []))
	}
	command.arg_count <= object.get(entry, "max_args", 10000)
}

# METADATA
# title: Option of a list
# description: Whether an option is one of these, or a long one cut short, which GNU programs accept.
# scope: document
# custom:
#   id: lib.ssh.is_option
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
is_option(option, names) if option in names

is_option(option, names) if {
	startswith(option, "--")
	count(option) > 2
	some name in names
	startswith(name, option)
}

# METADATA
# title: Listed subcommand
# description: Whether the list names no subcommands for the program, or the one that is used.
# custom:
#   id: lib.ssh.has_listed_subcommand
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
_has_listed_subcommand(_, entry) if not entry.subcommands

_has_listed_subcommand(command, entry) if command.subcommand in entry.subcommands

# METADATA
# title: Every command is listed
# description: A harmless command never covers another one of the same line.
# custom:
#   id: lib.ssh.every_listed
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
every_listed(commands, listed) if {
	count(commands) > 0
	every command in commands {
		is_listed(command, listed)
	}
}

# METADATA
# title: Wrapped by nothing else
# description: Whether a command is run as it is, or through one of these programs only.
# custom:
#   id: lib.ssh.wrapped_by
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
wrapped_by(command, wrappers) if {
	every wrapper in object.get(command, "wrappers", []) {
		wrapper in wrappers
	}
}

# METADATA
# title: Paths
# description: Every path an action names - of commands, files and transfers.
# custom:
#   id: lib.ssh.paths
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
paths(facts) := union({
	{path | some command in object.get(facts, "commands", []); some path in command.paths},
	{path | some path in object.get(object.get(facts, "transfer", {}), "paths", [])},
	{path | some name in ["path", "other_path"]; path := facts.sftp[name]},
})

# METADATA
# title: Below a folder
# description: |
#   Whether a path is one of these folders or lies below one; a path that climbs with `..` is below
#   none.
# custom:
#   id: lib.ssh.is_below
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
is_below(path, folders) if {
	not ".." in split(path, "/")
	some folder in folders
	_is_inside(path, folder)
}

# METADATA
# title: Inside
# description: Whether a path is a folder or lies in it. A folder that begins with a star holds everything.
# custom:
#   id: lib.ssh.is_inside
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
_is_inside(_, folder) if startswith(folder, "*")

_is_inside(path, folder) if path == folder

_is_inside(path, folder) if startswith(path, sprintf("%v/", [trim_suffix(folder, "/")]))

# METADATA
# title: Credential
# description: Whether a path names a file or folder that usually holds keys, passwords or tokens.
# scope: document
# custom:
#   id: lib.ssh.is_credential
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own; topics that use it say why they deny.
#   solution: See the rule that uses this helper.
is_credential(path, listed) if {
	some part in split(path, "/")
	lower(part) in listed.names
}

is_credential(path, listed) if {
	some suffix in listed.suffixes
	endswith(lower(path), suffix)
}
