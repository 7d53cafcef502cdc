//! What the server may say next.
//!
//! PostgreSQL answers in the order it was asked, so what it may say depends only on the oldest question without its complete
//! answer: the head of the pending-reply queue. The rules:
//!
//!   1. Every message forwarded to the server that has a reply puts one entry at the end of the queue. A refusal of the
//!      gateway is an entry too (`Local`): it is said when it becomes the head, so it takes its true place among the replies.
//!   2. A message of the server is looked up in the table below under what the head expects. What is not in the table is a
//!      violation: a reply that belongs to nothing cannot be masked by any plan.
//!   3. NoticeResponse, ParameterStatus and NotificationResponse may come at any time and belong to no entry.
//!   4. An error ends a simple query up to its ReadyForQuery. In the extended protocol the server drops everything up to the
//!      next Sync, so every entry up to that Sync goes, refusals in between included; when that Sync has not been sent yet,
//!      the client's messages are dropped here until it comes.
//!   5. ReadyForQuery is always the server's own: it ends a `Query` or a `Sync`, and its status is shown unchanged.
//!   6. In COPY FROM STDIN the server ignores Sync. Syncs sent before the client knew of the COPY leave the queue when it
//!      begins; one is answered after all if the COPY fails before the server has read it, so that many ReadyForQuery may
//!      come with nothing pending.
//!
//! A `FunctionCall` becomes `FunctionCalled`, or `QueryFailed`. Entries move within the table: a `Query` goes through `QueryRows`, `CopyIn` → `CopyInDone`, `CopyOut` → `CopyOutDone` for
//! each statement and ends in `Query` or `QueryFailed`; an `Execute` likewise; a Describe of a statement goes from
//! `StatementParams` to `StatementRows`.

/// What an entry of the pending-reply queue waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A simple query, between the results of its statements.
    Query,
    /// A simple query, within a described result.
    QueryRows,
    /// A simple query after its error.
    QueryFailed,
    /// A function call by number, whose one value is the whole answer.
    FunctionCall,
    /// The same, once the value has come.
    FunctionCalled,
    Parse,
    Bind,
    Close,
    /// A Describe of a statement, first its parameters,
    StatementParams,
    /// then its rows.
    StatementRows,
    /// A Describe of a portal.
    PortalRows,
    Execute,
    /// The client sends COPY data.
    CopyIn,
    /// The client has sent all of it.
    CopyInDone,
    /// The server sends COPY data.
    CopyOut,
    /// The server has sent all of it.
    CopyOutDone,
    Sync,
    /// A message sent by the gateway only to make the server fail a pipeline in which something was refused.
    Abort,
    /// A refusal by the gateway.
    Local,
    /// Nothing is pending.
    Nothing,
}

/// What a message of the server means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// ParseComplete, BindComplete, CloseComplete.
    Done,
    /// FunctionCallResponse.
    Value,
    Params,
    Describe,
    NoData,
    Row,
    Suspended,
    Complete,
    EmptyQuery,
    CopyInBegins,
    CopyOutBegins,
    CopyData,
    CopyEnds,
    /// An error that ends what the entry stands for.
    Fail,
    /// An error beside what the entry stands for: a failed commit at Sync, the end of the server process.
    ErrorBeside,
    Ready,
}

use Step::{
    Complete, CopyData, CopyEnds, CopyInBegins, CopyOutBegins, Describe, Done, EmptyQuery,
    ErrorBeside, Fail, NoData, Params, Ready, Row, Suspended, Value,
};

/// Rule 2: the table.
const REPLIES: &[(Expect, &[(u8, Step)])] = &[
    (
        Expect::Query,
        &[
            (b'T', Describe),
            (b'C', Complete),
            (b'I', EmptyQuery),
            (b'G', CopyInBegins),
            (b'H', CopyOutBegins),
            (b'E', Fail),
            (b'Z', Ready),
        ],
    ),
    (
        Expect::QueryRows,
        &[(b'D', Row), (b'C', Complete), (b'E', Fail)],
    ),
    (Expect::QueryFailed, &[(b'Z', Ready), (b'E', ErrorBeside)]),
    (Expect::FunctionCall, &[(b'V', Value), (b'E', Fail)]),
    (
        Expect::FunctionCalled,
        &[(b'Z', Ready), (b'E', ErrorBeside)],
    ),
    (Expect::Parse, &[(b'1', Done), (b'E', Fail)]),
    (Expect::Bind, &[(b'2', Done), (b'E', Fail)]),
    (Expect::Close, &[(b'3', Done), (b'E', Fail)]),
    (Expect::StatementParams, &[(b't', Params), (b'E', Fail)]),
    (
        Expect::StatementRows,
        &[(b'T', Describe), (b'n', NoData), (b'E', Fail)],
    ),
    (
        Expect::PortalRows,
        &[(b'T', Describe), (b'n', NoData), (b'E', Fail)],
    ),
    (
        Expect::Execute,
        &[
            (b'D', Row),
            (b'C', Complete),
            (b's', Suspended),
            (b'I', EmptyQuery),
            (b'G', CopyInBegins),
            (b'H', CopyOutBegins),
            (b'E', Fail),
        ],
    ),
    (Expect::CopyIn, &[(b'E', Fail)]),
    (Expect::CopyInDone, &[(b'C', Complete), (b'E', Fail)]),
    (
        Expect::CopyOut,
        &[(b'd', CopyData), (b'c', CopyEnds), (b'E', Fail)],
    ),
    (Expect::CopyOutDone, &[(b'C', Complete), (b'E', Fail)]),
    (Expect::Sync, &[(b'Z', Ready), (b'E', ErrorBeside)]),
    (Expect::Abort, &[(b'E', Fail)]),
    (Expect::Local, &[]),
    (Expect::Nothing, &[(b'E', ErrorBeside), (b'Z', Ready)]),
];

/// The meaning of a message of type `kind` for a head that expects `expect`; none where it has no place.
pub(crate) fn step(expect: Expect, kind: u8) -> Option<Step> {
    let (_, replies) = REPLIES.iter().find(|(known, _)| *known == expect)?;
    replies
        .iter()
        .find(|(known, _)| *known == kind)
        .map(|(_, step)| *step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expectation_has_one_row_and_every_failure_is_foreseen() {
        for (index, (expect, replies)) in REPLIES.iter().enumerate() {
            assert!(
                REPLIES[index + 1..]
                    .iter()
                    .all(|(other, _)| other != expect),
                "{expect:?} has two rows"
            );
            assert!(
                *expect == Expect::Local || replies.iter().any(|(kind, _)| *kind == b'E'),
                "{expect:?} cannot fail"
            );
        }
        assert_eq!(step(Expect::Bind, b'1'), None);
    }
}
