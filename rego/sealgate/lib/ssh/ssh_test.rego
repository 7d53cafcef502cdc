# METADATA
# title: Tests of the SSH helpers
# description: Also home of the input documents that the tests of all SSH topics start from.
package sealgate.lib.ssh_test

import data.sealgate.lib.ssh as lib

# A request by a reader on a production host with these facts and effects.
request(facts, effects) := {
	"schema": "sealgate.input/1",
	"phase": "request",
	"protocol": "ssh",
	"subject": {"id": "corp/agent-7", "kind": "agent", "groups": ["agents"]},
	"resource": {"connection": "web-1", "type": "ssh", "environment": "production", "risk": "high"},
	"action": {"name": "ssh.exec", "effects": effects},
	"context": {
		"now": "2026-11-21T04:00:00.000000Z",
		"now_ns": 1795233600000000000,
		"session": {"id": "s1", "started_at": "2026-11-21T03:59:00.000000Z"},
		"client": {"ip": "127.0.0.1"},
		"parse": {"status": "ok"},
	},
	"ssh": {"facts": object.union({"target": "web-1", "user": "deploy"}, facts)},
}

# An exec of these commands, plain unless the members say otherwise.
exec(commands, members) := object.union(
	{"kind": "exec", "tty": false, "argv0": "x", "shell_features": [], "commands": commands},
	members,
)

# One command of a line, run as it is.
command(program, members) := object.union(
	{"argv0": program, "program": program, "options": [], "paths": [], "arg_count": 0, "privileged": false},
	members,
)

# One operation on a file.
file(op, path, members) := {"kind": "sftp", "sftp": object.union({"op": op, "path": path}, members)}

# By someone in these groups.
by(groups, document) := object.union(document, {"subject": {"groups": groups}})

# The rules that speak in a set of contributions.
rules(contributions) := {item.rule | some item in contributions}

test_groups if {
	lib.in_groups(["a", "b"], ["b"])
	not lib.in_groups(["a"], ["b"])
	not lib.in_groups([], ["b"])
}

test_plain_lines if {
	lib.is_plain(exec([command("ls", {})], {}))
	lib.is_plain(exec([command("ls", {}), command("wc", {})], {"shell_features": ["pipe"]}))
	not lib.is_plain(exec([command("ls", {})], {"shell_features": ["pipe", "variable"]}))
	not lib.is_plain(exec([], {}))
}

test_listed_commands if {
	listed := {"ls": {}, "find": {"refused_options": ["-delete"]}, "systemctl": {"subcommands": ["status"]}}
	lib.every_listed([command("ls", {}), command("systemctl", {"subcommand": "status"})], listed)
	not lib.every_listed([command("ls", {}), command("rm", {})], listed)
	not lib.every_listed([], listed)
	not lib.is_listed(command("systemctl", {"subcommand": "stop"}), listed)
	not lib.is_listed(command("systemctl", {}), listed)
	lib.is_listed(command("find", {"options": ["-name"]}), listed)
	not lib.is_listed(command("find", {"options": ["-delete"]}), listed)
	not lib.is_listed(command("sort", {"options": ["--outp"]}), {"sort": {"refused_options": ["--output"]}})
	not lib.is_listed(command("uniq", {"arg_count": 2}), {"uniq": {"max_args": 1}})
	not lib.is_listed({"argv0": "sudo", "options": [], "paths": [], "arg_count": 1, "privileged": true}, listed)
}

test_wrappers if {
	lib.wrapped_by(command("ls", {}), [])
	lib.wrapped_by(command("ls", {"wrappers": ["sudo"]}), ["sudo"])
	not lib.wrapped_by(command("ls", {"wrappers": ["sudo", "env"]}), ["sudo"])
}

test_paths_of_everything if {
	lib.paths(exec([command("cat", {"paths": ["/a"]})], {"transfer": {"paths": ["/b"]}})) == {"/a", "/b"}
	lib.paths(file("rename", "/a", {"other_path": "/b"})) == {"/a", "/b"}
}

test_folders if {
	lib.is_below("/srv/data/x", ["/srv/data"])
	lib.is_below("/srv/data", ["/srv/data"])
	lib.is_below("x", ["*"])
	not lib.is_below("/srv/database", ["/srv/data"])
	not lib.is_below("/srv/data/../../etc", ["/srv/data"])
	not lib.is_below("../x", ["*"])
}

test_credentials if {
	listed := {"names": ["shadow", ".ssh"], "suffixes": [".pem"]}
	lib.is_credential("/etc/shadow", listed)
	lib.is_credential("~/.SSH/config", listed)
	lib.is_credential("/srv/Key.PEM", listed)
	not lib.is_credential("/srv/shadowed", listed)
}
