# METADATA
# title: Ledger
# description: "Tables whose rows move money: every change is seen by a second person."
# schemas:
#   - input: schema.postgres.request
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.ledger

import data.sealgate.lib.postgres as lib

# METADATA
# title: Change the ledger
# description: INSERT, UPDATE, DELETE and MERGE on ledger tables need a reviewer.
# custom:
#   id: postgres.ledger.change
#   severity: high
#   controls: [FFIEC-AIO-VI.B, NIST-AC-3, NIST-AC-5]
#   failure_msg: A change to the ledger needs approval.
#   solution: Ask a reviewer to approve the ticket, then run the same statement again.
approve contains {
	"rule": "postgres.ledger.change",
	"groups": data.site.postgres.reviewers.ledger,
	"count": 1,
	"ttl_s": data.site.postgres.approval_ttl_s,
	"scope": "action",
} if {
	input.phase == "request"
	_changes_ledger
}

# METADATA
# title: Count the rows of a ledger change
# description: The reviewer is shown how many rows the change would touch, from a run that is rolled back.
# custom:
#   id: postgres.ledger.preview
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-5]
#   failure_msg: The rows of the change are counted for its reviewer.
#   solution: Nothing is to be done.
obligations contains {"rule": "postgres.ledger.preview", "kind": "preview", "rows": true} if {
	input.phase == "request"
	_changes_ledger
}

# METADATA
# title: Hold the COMMIT of a ledger change
# description: |
#   A change of a table in data.site.postgres.held_tables runs, its reviewer is shown what it did, and its COMMIT
#   waits for the approval; without one it is rolled back. What a rollback may not undo waits before it runs.
# custom:
#   id: postgres.ledger.hold
#   severity: low
#   controls: [FFIEC-AIO-VI.B, NIST-AC-5]
#   failure_msg: The change is held until its reviewer has seen what it did.
#   solution: Ask a reviewer to approve the ticket; the statement or the COMMIT waits for it.
obligations contains {"rule": "postgres.ledger.hold", "kind": "hold_commit"} if {
	input.phase == "request"
	_changes_ledger
	some statement in input.postgres.facts.statements
	some table in lib.written_tables(statement)
	table in data.site.postgres.ledger_tables
	table in data.site.postgres.held_tables
}

# METADATA
# title: Changes the ledger
# description: Whether a statement writes a ledger table, defines it anew, or puts or renames a view or rule over it.
# custom:
#   id: postgres.ledger.changes_ledger
#   severity: low
#   controls: [NIST-AC-5]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.ledger.change.
_changes_ledger if {
	some statement in input.postgres.facts.statements
	some table in statement.tables
	table.access in ["write", "define"]
	_is_ledger(table)
}

_changes_ledger if {
	some statement in input.postgres.facts.statements
	statement.verb in ["create_view", "create_rule", "rename"]
	some table in statement.tables
	_is_ledger(table)
}

# METADATA
# title: Ledger table
# description: Whether the site names a table as part of the ledger.
# custom:
#   id: postgres.ledger.is_ledger
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.ledger.change.
_is_ledger(table) if {
	sprintf("%v.%v", [object.get(table, "schema", "?"), table.name]) in data.site.postgres.ledger_tables
}
