//! SET, RESET and the modes of transactions: which settings a statement changes.

use pg_query::protobuf as pb;
use pg_query::NodeEnum as N;

use super::Walker;
use crate::effects::Effect as E;

/// Settings that decide who a statement runs as.
const ROLE_SETTINGS: [&str; 2] = ["role", "session_authorization"];

/// What says how far a transaction is kept from others, and the levels at which the server keeps nothing of what was read.
const ISOLATION_SETTINGS: [&str; 2] = ["transaction_isolation", "default_transaction_isolation"];
const READING_LEVELS: [&str; 3] = ["read uncommitted", "read committed", "repeatable read"];

impl Walker {
    pub(super) fn set(&mut self, set: &pb::VariableSetStmt) {
        use pb::VariableSetKind as K;
        let kind = K::try_from(set.kind).unwrap_or(K::Undefined);
        let is_role = ROLE_SETTINGS.contains(&set.name.to_lowercase().as_str());
        // Back to the role the session began with, whatever word says it.
        let restores_role = is_role && matches!(kind, K::VarReset | K::VarSetDefault);
        let verb = if restores_role || matches!(kind, K::VarReset | K::VarResetAll) {
            "reset"
        } else {
            "set"
        };
        self.does(verb, &[E::Session]);
        self.setting(set, kind);
        if set.is_local {
            self.flag("set_local");
        }
        if is_role && !restores_role {
            self.effect(E::Privilege);
            self.flag("set_role");
        }
        if kind == K::Undefined {
            self.unknown();
        }
    }

    pub(super) fn setting(&mut self, set: &pb::VariableSetStmt, kind: pb::VariableSetKind) {
        if kind == pb::VariableSetKind::VarResetAll {
            self.set_var("all");
        } else if kind == pb::VariableSetKind::VarSetMulti {
            // SET TRANSACTION, SET SESSION CHARACTERISTICS AS TRANSACTION: one setting per mode.
            self.transaction_modes(&set.args);
        } else {
            self.set_var(&set.name);
            self.isolation(&set.name, &set.args);
        }
    }

    /// Notes that a transaction may be SERIALIZABLE: at any level that is not certainly another one.
    pub(super) fn isolation(&mut self, name: &str, level: &[pb::Node]) {
        let is_reading = |node: &pb::Node| match &node.node {
            Some(N::AConst(pb::AConst {
                val: Some(pb::a_const::Val::Sval(text)),
                ..
            })) => READING_LEVELS
                .iter()
                .any(|level| level.eq_ignore_ascii_case(&text.sval)),
            _ => false,
        };
        let is_isolation = ISOLATION_SETTINGS
            .iter()
            .any(|each| each.eq_ignore_ascii_case(name));
        if is_isolation && !level.iter().all(is_reading) {
            self.flag("serializable");
        }
    }

    /// A setting stored for a role, a database or the server.
    pub(super) fn stored_setting(&mut self, set: Option<&pb::VariableSetStmt>) {
        match set {
            Some(set) => self.setting(
                set,
                pb::VariableSetKind::try_from(set.kind).unwrap_or(pb::VariableSetKind::Undefined),
            ),
            None => self.unknown(),
        }
    }

    pub(super) fn transaction_modes(&mut self, modes: &[pb::Node]) {
        for node in modes {
            match &node.node {
                Some(N::DefElem(mode)) => {
                    self.set_var(&mode.defname);
                    self.isolation(
                        &mode.defname,
                        mode.arg.as_deref().map_or(&[], std::slice::from_ref),
                    );
                }
                // SET TRANSACTION SNAPSHOT
                Some(N::AConst(_)) => self.set_var("transaction_snapshot"),
                _ => self.unknown(),
            }
        }
    }

    pub(super) fn transaction(&mut self, transaction: &pb::TransactionStmt) {
        use pb::TransactionStmtKind as K;
        let (verb, effects): (_, &[E]) = match K::try_from(transaction.kind) {
            Ok(K::TransStmtBegin | K::TransStmtStart) => ("begin", &[E::Session]),
            Ok(K::TransStmtCommit) => ("commit", &[E::Session]),
            Ok(K::TransStmtRollback) => ("rollback", &[E::Session]),
            Ok(K::TransStmtSavepoint) => ("savepoint", &[E::Session]),
            Ok(K::TransStmtRelease) => ("release", &[E::Session]),
            Ok(K::TransStmtRollbackTo) => ("rollback_to", &[E::Session]),
            // A prepared transaction outlives the session and holds its locks.
            Ok(K::TransStmtPrepare) => ("prepare_transaction", &[E::Session, E::Lock]),
            Ok(K::TransStmtCommitPrepared) => ("commit_prepared", &[E::Session, E::Write]),
            Ok(K::TransStmtRollbackPrepared) => ("rollback_prepared", &[E::Session, E::Write]),
            Ok(K::Undefined) | Err(_) => ("transaction", &[E::Unknown]),
        };
        self.does(verb, effects);
        self.transaction_modes(&transaction.options);
    }
}
