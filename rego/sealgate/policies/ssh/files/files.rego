# METADATA
# title: Files
# description: Which files may be read and written over sftp, scp, rsync and git.
# schemas:
#   - input: schema.ssh.request
#   - data.site.ssh: schema.ssh.site
package sealgate.policies.ssh.files

import data.sealgate.lib.ssh as lib

# METADATA
# title: Open a file session
# description: Readers may open sftp; every operation in it is judged on its own.
# custom:
#   id: ssh.files.session
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: File transfer is not allowed.
#   solution: Ask for membership in a group that data.site.ssh.groups names for it.
allow contains {"rule": "ssh.files.session", "effects": ["read"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.kind == "subsystem"
	input.ssh.facts.subsystem == "sftp"
	lib.in_groups(input.subject.groups, data.site.ssh.groups.readers)
}

# METADATA
# title: Read files
# description: Readers may list and read below the listed folders.
# custom:
#   id: ssh.files.read
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The path is not open for reading.
#   solution: Read below data.site.ssh.folders.read, or ask for the folder to be listed.
allow contains {"rule": "ssh.files.read", "effects": ["read"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.kind in ["sftp", "scp"]
	lib.in_groups(input.subject.groups, data.site.ssh.groups.readers)
	_all_below(data.site.ssh.folders.read)
}

# METADATA
# title: Find the way
# description: Readers may resolve names and read attributes anywhere; no content leaves with them.
# custom:
#   id: ssh.files.look
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: File transfer is not allowed.
#   solution: Ask for membership in a group that data.site.ssh.groups names for it.
allow contains {"rule": "ssh.files.look", "effects": ["read"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.kind in ["sftp", "scp"]
	input.ssh.facts.sftp.op in ["stat", "realpath", "statvfs"]
	lib.in_groups(input.subject.groups, data.site.ssh.groups.readers)
}

# METADATA
# title: Write files
# description: Writers may create, change and remove below the listed folders; owners do not change.
# custom:
#   id: ssh.files.write
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The path is not open for writing.
#   solution: Write below data.site.ssh.folders.write, or ask for the folder to be listed.
allow contains {"rule": "ssh.files.write", "effects": ["write"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.kind in ["sftp", "scp"]
	lib.in_groups(input.subject.groups, data.site.ssh.groups.writers)
	_all_below(data.site.ssh.folders.write)
}

# METADATA
# title: Begin a transfer
# description: scp and git begin with a command; each file and each ref is then judged on its own.
# custom:
#   id: ssh.files.transfer
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: The transfer is not allowed.
#   solution: Use sftp below the listed folders.
allow contains {"rule": "ssh.files.transfer", "effects": ["read", "write"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.transfer.program in ["scp", "git"]
	lib.in_groups(input.subject.groups, data.site.ssh.groups.readers)
}

# METADATA
# title: Synchronise folders
# description: |
#   rsync is judged by its folders alone, because its stream shows no file; for the named groups below
#   the listed folders.
# custom:
#   id: ssh.files.rsync
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-6]
#   failure_msg: rsync is not allowed here.
#   solution: Use sftp or scp, or ask for membership in data.site.ssh.groups.rsync.
allow contains {"rule": "ssh.files.rsync", "effects": ["read", "write"]} if {
	input.phase == "request"
	input.context.parse.status == "ok"
	input.ssh.facts.transfer.program == "rsync"
	lib.in_groups(input.subject.groups, data.site.ssh.groups.rsync)
	every path in input.ssh.facts.transfer.paths {
		lib.is_below(path, data.site.ssh.folders[input.ssh.facts.transfer.direction])
	}
}

# METADATA
# title: Set-user-id bits
# description: Files that run with the rights of their owner are not made through the gateway.
# custom:
#   id: ssh.files.setuid
#   severity: critical
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-CM-7]
#   failure_msg: The mode gives a program its owner's rights.
#   solution: Leave the set-user-id and set-group-id bits out.
deny contains {
	"rule": "ssh.files.setuid",
	"message": "the mode would let a program run with its owner's or group's rights",
	"severity": "critical",
	"controls": ["FFIEC-AIO-VI.B", "NIST-AC-3", "NIST-CM-7"],
} if {
	input.phase == "request"
	bits.and(input.ssh.facts.sftp.mode, 3072) != 0
}

# METADATA
# title: Every path is below
# description: Whether the action names paths and each lies below one of these folders.
# custom:
#   id: ssh.files.all_below
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See the rule that uses this helper.
_all_below(folders) if {
	paths := lib.paths(input.ssh.facts)
	count(paths) > 0
	every path in paths {
		lib.is_below(path, folders)
	}
}
