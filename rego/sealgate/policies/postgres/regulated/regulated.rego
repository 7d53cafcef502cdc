# METADATA
# title: Regulated data
# description: Sensitive columns are delivered masked and are used for nothing else.
# schemas:
#   - data.site.postgres: schema.postgres.site
package sealgate.policies.postgres.regulated

import data.sealgate.lib.postgres as lib

# METADATA
# title: Search by regulated data
# description: A sensitive column in WHERE, JOIN, ORDER BY or GROUP BY tells its value without showing it.
# custom:
#   id: postgres.regulated.predicate
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Sensitive columns may not be searched, sorted or grouped by.
#   solution: Check the names, or use another column, such as the key of the row, also in ON CONFLICT.
deny contains {
	"rule": "postgres.regulated.predicate",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	"predicate" in _sensitive_uses
	some statement in input.postgres.facts.statements
	some name in lib.sensitive_columns(statement, {"predicate"})
	said := _sensitive(statement, name)
	message := sprintf("%v may not be used to search, sort or group, or say how many rows come", [said])
}

# METADATA
# title: Copy regulated data
# description: A statement that writes what it reads would put sensitive values where no mask knows them.
# custom:
#   id: postgres.regulated.copied
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Sensitive columns may not be copied into other tables.
#   solution: Leave the sensitive columns out.
deny contains {
	"rule": "postgres.regulated.copied",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some effect in ["write", "define"]
	effect in input.action.effects
	some statement in input.postgres.facts.statements
	some name in lib.sensitive_columns(statement, {"output", "other"})
	not _only_returns(statement)
	message := sprintf("%v is sensitive and would be copied where no mask knows it", [_named(name)])
}

# METADATA
# title: Lock rows by regulated data
# description: Which rows a statement locks can be read afterwards, and can depend on what it computes.
# custom:
#   id: postgres.regulated.locked
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Sensitive columns may not be computed with in a statement that locks rows.
#   solution: Leave the sensitive columns out of expressions, or lock the rows by another statement.
deny contains {
	"rule": "postgres.regulated.locked",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	"lock" in input.action.effects
	some statement in input.postgres.facts.statements
	"lock" in statement.effects
	some name in lib.sensitive_columns(statement, {"other"})
	message := sprintf("%v is sensitive, and which rows are locked could tell of it", [_named(name)])
}

# METADATA
# title: Time queries over regulated data
# description: EXPLAIN ANALYZE counts rows, which tells values of sensitive columns one guess at a time.
# custom:
#   id: postgres.regulated.analyzed
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: EXPLAIN ANALYZE over sensitive columns is not allowed.
#   solution: Use EXPLAIN without ANALYZE; where the statement uses no sensitive column, leave out WAL.
deny contains {
	"rule": "postgres.regulated.analyzed",
	"message": "EXPLAIN ANALYZE over sensitive columns tells their values by counting",
	"severity": "medium",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.is_explain_analyze
	count(lib.sensitive_columns(statement, {"output", "predicate", "other"})) > 0
}

# METADATA
# title: Measure changes of regulated data
# description: How much a change writes ahead tells how far a new row equals the old one, whatever is assigned.
# custom:
#   id: postgres.regulated.measured
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: EXPLAIN ANALYZE of a change to a table with sensitive columns is not allowed.
#   solution: Use EXPLAIN without ANALYZE.
deny contains {
	"rule": "postgres.regulated.measured",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	statement.is_explain_analyze
	some table in statement.tables
	_changes_regulated(statement, table)
	message := sprintf("table %v holds sensitive columns, and what a change costs tells what they hold", [table.name])
}

# METADATA
# title: Derive from regulated data
# description: Where data.site.postgres.derived is refuse, expressions over sensitive columns are refused.
# custom:
#   id: postgres.regulated.derived
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Sensitive columns may not be used in expressions.
#   solution: Select the column itself; it is delivered masked.
deny contains {
	"rule": "postgres.regulated.derived",
	"message": message,
	"severity": "medium",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	"other" in _sensitive_uses
	data.site.postgres.derived == "refuse"
	some statement in input.postgres.facts.statements
	some name in lib.sensitive_columns(statement, {"other"})
	message := sprintf("%v is sensitive and may not be used in an expression", [_named(name)])
}

# METADATA
# title: Compute with regulated data
# description: >-
#   What the server does to compute an expression can be seen elsewhere, whatever mask the result gets: which branch
#   ran, which rows were read, how much memory it took. Unless data.site.postgres.derived is mask, only expressions pass
#   whose work does not depend on values: casts to text, concatenation, parts of text, JSON, arrays and count.
# custom:
#   id: postgres.regulated.computed
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Sensitive columns may not decide what the server computes.
#   solution: Select the column itself, or cast it to text; it is delivered masked.
deny contains {
	"rule": "postgres.regulated.computed",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	"computed" in _sensitive_uses
	data.site.postgres.derived != "mask"
	some statement in input.postgres.facts.statements
	some name in lib.sensitive_columns(statement, {"computed"})
	message := sprintf("%v is sensitive and may not be computed with; select it alone, it is masked", [_named(name)])
}

# METADATA
# title: Rename or move regulated columns
# description: A sensitive column is known by its name; renaming or moving its table would take it out of sight.
# custom:
#   id: postgres.regulated.altered
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Tables with sensitive columns may not be renamed, moved or reshaped.
#   solution: Ask the owners of the schema, who tell the operators of the gateway.
deny contains {
	"rule": "postgres.regulated.altered",
	"message": message,
	"severity": "high",
	"controls": ["FFIEC-AIO-VI.B", "GLBA-501b", "NIST-AC-4"],
} if {
	input.phase == "request"
	some statement in input.postgres.facts.statements
	"reshapes" in statement.flags
	some name in _reshaped(statement)
	message := sprintf("table %v holds sensitive columns; renamed, moved or reshaped they could be out of sight", [name])
}

# METADATA
# title: Mask regulated columns
# description: A column that is, or may derive from, a sensitive one is delivered and recorded masked.
# custom:
#   id: postgres.regulated.column
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: The column is delivered masked.
#   solution: Nothing to do; ask for an exception where the values themselves are needed.
masks contains {
	"rule": "postgres.regulated.column",
	"selector": {"index": column.index},
	"strategy": _strategy(column).strategy,
	"params": _strategy(column).params,
	"apply": "both",
} if {
	input.phase == "response"
	some column in input.postgres.response.columns
	column.sensitive
	count(_paths(column)) == 0
}

# METADATA
# title: Mask regulated parts of a column
# description: Where data.site.postgres.paths lists parts of a sensitive column, only these are masked.
# custom:
#   id: postgres.regulated.path
#   severity: high
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Parts of the column are delivered masked.
#   solution: Nothing to do; ask for an exception where the values themselves are needed.
masks contains {
	"rule": "postgres.regulated.path",
	"selector": {"index": column.index, "path": path},
	"strategy": _part(chosen).strategy,
	"params": _part(chosen).params,
	"apply": "both",
} if {
	input.phase == "response"
	some column in input.postgres.response.columns
	column.sensitive
	some path, chosen in _paths(column)
}

# METADATA
# title: Mask what detectors find
# description: Values that look regulated are masked wherever they stand, as a net under the masks by column.
# custom:
#   id: postgres.regulated.detected
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: The value is delivered masked.
#   solution: Nothing to do; report values that are masked by mistake.
masks contains {
	"rule": "postgres.regulated.detected",
	"selector": {"detector": detector},
	"strategy": "redact",
	"apply": "both",
} if {
	input.phase == "response"
	some detector in data.site.postgres.detectors
}

# METADATA
# title: Count computations
# description: >-
#   Each statement that computes with a sensitive column, or writes over its values, may tell a bit of it, and so may
#   each row with a guess that an index compares with them; so a run has a number of all of these.
# custom:
#   id: postgres.regulated.budget
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: The run has used its statements that compute with sensitive columns or write over them.
#   solution: >-
#     Leave the sensitive columns out of expressions; ask the people who administer the database to load many values.
obligations contains {
	"rule": "postgres.regulated.budget",
	"kind": "inference_budget",
	"statements": data.site.postgres.inference_statements,
	"per": "run",
} if {
	input.phase == "request"
	_tells
}

# METADATA
# title: Tells
# description: Whether a statement computes with sensitive columns, or writes over their values.
# custom:
#   id: postgres.regulated.tells
#   severity: medium
#   controls: [NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.budget.
_tells if "other" in _sensitive_uses

_tells if {
	some statement in input.postgres.facts.statements
	not statement.verb in {"insert", "copy"}
	_assigns_regulated(statement)
}

_tells if {
	some statement in input.postgres.facts.statements
	some column in statement.assigned
	column.compared
}

_tells if {
	some statement in input.postgres.facts.statements
	some table in statement.tables
	some hook in table.hooks
	hook.compared
}

_tells if {
	some statement in input.postgres.facts.statements
	"on_conflict_update" in statement.flags
	_assigns_regulated(statement)
}

# METADATA
# title: Assigns regulated data
# description: Whether a statement assigns sensitive columns.
# custom:
#   id: postgres.regulated.assigns_regulated
#   severity: medium
#   controls: [NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.budget.
_assigns_regulated(statement) if {
	some column in statement.assigned
	column.sensitive
}

# METADATA
# title: Uses of regulated data
# description: How the statements use sensitive columns; asked first, because most use none.
# custom:
#   id: postgres.regulated.sensitive_uses
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.predicate.
_sensitive_uses contains column.use if {
	some statement in input.postgres.facts.statements
	some column in statement.columns
	column.sensitive == true
}

# METADATA
# title: Name of a regulated column
# description: What a message calls it; a whole row and NATURAL JOIN name none.
# custom:
#   id: postgres.regulated.named
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.predicate.
_named(name) := sprintf("column %v", [name]) if name != "*"

_named("*") := "a column that * or NATURAL stands for, or that the catalogue does not have,"

# METADATA
# title: Why it is sensitive
# description: A column and that it is sensitive, in a refusal; a relation that is not known may have any.
# custom:
#   id: postgres.regulated.sensitive
#   severity: low
#   controls: [NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.predicate.
_sensitive(statement, name) := sprintf("%v is sensitive and", [_named(name)]) if {
	count(lib.unknown_relations(statement)) == 0
}

_sensitive(statement, name) := said if {
	count(lib.unknown_relations(statement)) > 0
	unknown := min(lib.unknown_relations(statement))
	said := sprintf("relation %v is not known here, so %v counts as sensitive and", [unknown, _named(name)])
}

# METADATA
# title: Changes regulated data
# description: Whether a statement changes rows of a table with sensitive columns, itself or by what runs with it.
# custom:
#   id: postgres.regulated.changes_regulated
#   severity: high
#   controls: [NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.measured.
_changes_regulated(_, table) if {
	table.access == "write"
	object.get(table, "sensitive", true) == true
}

_changes_regulated(statement, table) if {
	table.access == "write"
	statement.meets_sensitive
}

# METADATA
# title: Only returns
# description: Whether a change only hands back its own rows by RETURNING, which the response phase masks.
# custom:
#   id: postgres.regulated.only_returns
#   severity: medium
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.copied.
_only_returns(statement) if {
	statement.verb in ["insert", "update", "delete"]
	every table in statement.tables {
		table.access != "read"
	}
	every column in statement.columns {
		not _is_copied(column)
	}
}

# METADATA
# title: Copied column
# description: Whether a sensitive column feeds an expression rather than a plain output.
# custom:
#   id: postgres.regulated.is_copied
#   severity: medium
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.copied.
_is_copied(column) if {
	column.sensitive == true
	column.use == "other"
}

# METADATA
# title: Strategy
# description: "How a sensitive column is masked: as the site says for a column of known origin, else redacted whole."
# custom:
#   id: postgres.regulated.strategy
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.column.
_strategy(column) := chosen if {
	column.lineage == "known"
	origin_name := sprintf("%v.%v.%v", [column.origin.schema, column.origin.table, column.origin.column])
	listed := data.site.postgres.strategies[origin_name]
	chosen := {"strategy": listed.strategy, "params": object.get(listed, "params", {})}
} else := {"strategy": "redact", "params": {}}

# METADATA
# title: Paths
# description: "The parts of a sensitive column of known origin that the site lists; none where all of it is masked."
# custom:
#   id: postgres.regulated.paths
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.path.
_paths(column) := listed if {
	column.lineage == "known"
	origin_name := sprintf("%v.%v.%v", [column.origin.schema, column.origin.table, column.origin.column])
	listed := data.site.postgres.paths[origin_name]
	is_object(listed)
} else := {}

# METADATA
# title: Part
# description: "How a part of a column is masked: as the site says, else redacted."
# custom:
#   id: postgres.regulated.part
#   severity: medium
#   controls: [FFIEC-AIO-VI.B, GLBA-501b, NIST-AC-4]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.path.
_part(chosen) := {"strategy": chosen.strategy, "params": object.get(chosen, "params", {})} if {
	chosen.strategy
} else := {"strategy": "redact", "params": {}}

# METADATA
# title: Reshaped relations
# description: "Relations with sensitive columns that a statement defines anew, and schemas, which may hold any."
# custom:
#   id: postgres.regulated.reshaped
#   severity: low
#   controls: [NIST-AC-3]
#   failure_msg: Not a rule of its own.
#   solution: See postgres.regulated.altered.
_reshaped(statement) := {table.name |
	some table in statement.tables
	table.access == "define"
	table.sensitive == true
} | {statement.object |
	statement.object in ["schema", "database"]
}
