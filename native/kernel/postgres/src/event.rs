//! What a session tells its host, and what it asks it to judge.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decode::{Field, Parameter};
use crate::encode::Fields;

/// A parameter with the type the server or the client gave it; 0 where neither did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundParameter {
    /// Format and bytes.
    pub parameter: Parameter,
    /// OID of its type, or 0.
    pub type_oid: u32,
}

/// From the client's direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// To be judged: a simple query.
    Query {
        /// Number to resolve it by.
        id: u64,
        /// Its text.
        sql: String,
    },
    /// To be judged: a statement is prepared.
    Parse {
        /// Number to resolve it by.
        id: u64,
        /// Its name, empty for the unnamed statement.
        statement: String,
        /// Its text.
        sql: String,
        /// Parameter types the client gives, 0 for unspecified.
        param_oids: Vec<u32>,
    },
    /// To be judged: a portal is run.
    Execute {
        /// Number to resolve it by.
        id: u64,
        /// Name of the portal, empty for the unnamed one.
        portal: String,
        /// Name of its statement.
        statement: String,
        /// Text of its statement.
        sql: String,
        /// Values bound.
        params: Vec<BoundParameter>,
        /// Largest number of rows to be returned now; 0 for all.
        max_rows: i32,
        /// Whether the session asks the server for a description of its own before it runs the portal.
        needs_describe: bool,
        /// What `Session::begin_epoch` said when its statement was prepared.
        epoch: u64,
    },
    /// To be judged: a function call by number.
    FunctionCall {
        /// Number to resolve it by.
        id: u64,
        /// Number of the function in the server's catalogue.
        oid: u32,
        /// Its arguments.
        params: Vec<BoundParameter>,
    },
    /// To be judged, and always to be refused: the text of a Query or Parse is not UTF-8, so what it says cannot be known.
    Undecodable {
        /// Number to resolve it by.
        id: u64,
    },
    /// The client ended the data of COPY FROM STDIN.
    CopyInEnd {
        /// Label of the action that began it.
        action: Option<u64>,
        /// False when the client itself failed the copy.
        ok: bool,
        /// Bytes of data.
        bytes: u64,
        /// Line ends in the data in text format; none in binary format.
        rows: Option<u64>,
        /// Digest of the data.
        sha256: [u8; 32],
    },
    /// The client said goodbye.
    Terminate,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionStatus {
    /// The server did all of it.
    Completed,
    /// The server answered with an error.
    Failed,
    /// The server returned as many rows as were asked for; the portal can be run on.
    Suspended,
    /// The server dropped it after an earlier error, or it was not sent because of one.
    Skipped,
}

impl ActionStatus {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            ActionStatus::Completed => "completed",
            ActionStatus::Failed => "failed",
            ActionStatus::Suspended => "suspended",
            ActionStatus::Skipped => "skipped",
        }
    }
}

/// Why rows that the server sent were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The host said so.
    Policy,
    /// There were more than allowed, and the client was told an error.
    RowLimit,
    /// There were more than allowed, and the result was ended after those that were.
    Cut,
}

impl Withheld {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Withheld::Policy => "policy",
            Withheld::RowLimit => "row_limit",
            Withheld::Cut => "cut",
        }
    }
}

/// What asked for a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescribedBy {
    /// A statement of a simple query has rows.
    Query,
    /// A Describe of a statement.
    Statement,
    /// A Describe of a portal.
    Portal,
    /// The description the session asked for before an Execute.
    Execute,
}

impl DescribedBy {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            DescribedBy::Query => "query",
            DescribedBy::Statement => "statement",
            DescribedBy::Portal => "portal",
            DescribedBy::Execute => "execute",
        }
    }
}

/// What became of one result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultEnd {
    /// Label of the action.
    pub action: Option<u64>,
    /// Number of the statement within a simple query.
    pub index: u32,
    /// Rows delivered; messages of COPY data for a COPY.
    pub rows: u64,
    /// Bytes of the messages delivered, headers included.
    pub bytes: u64,
    /// Rows the server sent that were not delivered.
    pub rows_withheld: u64,
    /// Why, where some were not.
    pub withheld: Option<Withheld>,
    /// The rule that had the result cut.
    pub cut_by: Option<Arc<str>>,
    /// Cells masked, by rule.
    pub masked: BTreeMap<String, u64>,
    /// Findings, by detector.
    pub detected: BTreeMap<String, u64>,
    /// Head of the masked rows as JSON lines.
    pub record: Vec<u8>,
    /// Whether rows beyond the head are not in it.
    pub is_record_truncated: bool,
    /// SHA-256 of the row messages as delivered.
    pub sha256: [u8; 32],
}

/// From the server's direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerEvent {
    /// To be judged: rows with these fields will come.
    RowDescription {
        /// Number to resolve it by.
        id: u64,
        /// Label of the action.
        action: Option<u64>,
        /// Name of the prepared statement; none in a simple query.
        statement: Option<String>,
        /// Number of the statement within a simple query.
        index: u32,
        /// What asked for the description.
        described_by: DescribedBy,
        /// The columns.
        fields: Vec<Field>,
        /// Format of each column.
        formats: Vec<u16>,
    },
    /// To be judged: COPY data will come.
    CopyOut {
        /// Number to resolve it by.
        id: u64,
        /// Label of the action.
        action: Option<u64>,
        /// Number of the statement within a simple query.
        index: u32,
        /// 0 for text, 1 for binary.
        format: u16,
        /// Format of each column.
        columns: Vec<u16>,
    },
    /// The server wants COPY data.
    CopyIn {
        /// Label of the action.
        action: Option<u64>,
        /// Number of the statement within a simple query.
        index: u32,
        /// 0 for text, 1 for binary.
        format: u16,
        /// Format of each column.
        columns: Vec<u16>,
    },
    /// A statement ran to its end, or to the row count of its Execute (tag empty).
    CommandComplete {
        /// Label of the action.
        action: Option<u64>,
        /// Number of the statement within a simple query.
        index: u32,
        /// The server's tag; empty for an empty query and for a suspended portal.
        tag: String,
        /// Whether the portal can be run on.
        is_suspended: bool,
        /// Whether the client was told an error instead.
        is_withheld: bool,
    },
    /// The server failed something.
    Error {
        /// Label of the action; none when the error belongs to none.
        action: Option<u64>,
        /// Fields, masked.
        fields: Fields,
        /// Findings of the detectors in them.
        detected: BTreeMap<String, u64>,
    },
    /// A warning or notice.
    Notice {
        /// Fields, masked.
        fields: Fields,
        /// Findings of the detectors in them.
        detected: BTreeMap<String, u64>,
    },
    /// A setting of the server that clients are told.
    ParameterStatus {
        /// Its name.
        name: String,
        /// Its value, masked.
        value: String,
    },
    /// A NOTIFY of some session.
    Notification {
        /// Process number of that session.
        pid: i32,
        /// Its channel.
        channel: String,
        /// Its payload, masked.
        payload: String,
        /// Findings of the detectors in it.
        detected: BTreeMap<String, u64>,
    },
    /// No reply of this action can come any more; said once for each action that was forwarded, after everything else of it.
    ActionEnd {
        /// Its label.
        action: u64,
        /// How it ended.
        status: ActionStatus,
    },
    /// One result has ended.
    ResultEnd(Box<ResultEnd>),
    /// The server waits for the next question.
    Ready {
        /// `I`, `T` or `E`.
        status: u8,
    },
}
