"""Requests and votes in a database: SQLite by default, PostgreSQL in production, the same code for both.

Every change is one transaction with a condition on the state it leaves, so two workers can never both use up one approval.
The store holds the action as the reviewer must see it, text included: it is the gateway's own state, not evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
import sqlalchemy as sa

State = Literal["pending", "approved", "denied", "expired", "used"]

_metadata: Final = sa.MetaData()

_requests: Final = sa.Table(
    "approval_request",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("created_ns", sa.BigInteger, nullable=False),
    sa.Column("expires_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject", sa.String(512), nullable=False),
    sa.Column("connection", sa.String(128), nullable=False),
    sa.Column("action_digest", sa.String(64), nullable=False, index=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
)

_votes: Final = sa.Table(
    "approval_vote",
    _metadata,
    sa.Column("request_id", sa.String(32), sa.ForeignKey("approval_request.id"), primary_key=True),
    sa.Column("reviewer", sa.String(512), primary_key=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request for review.

    Attributes:
        digest: the action digest keyed with the ticket's salt, in hex: what reviewers sign and evidence holds.
        document: everything else: who asks, for whom, the canonical action, requirements, nonce, salt, policy digest, session.
    """

    id: str
    state: State
    created_ns: int
    expires_ns: int
    subject: str
    connection: str
    action_digest: str
    digest: str
    document: Mapping[str, Any]

    @property
    def note(self) -> str | None:
        """What the reviewer who denied the request said."""
        return self.document.get("verdict_note")

    @property
    def has_preview(self) -> bool:
        """Whether reviewers are shown what the action would do."""
        return "preview" in self.document

    @property
    def effect(self) -> Mapping[str, object] | None:
        """What the action did when it ran and was held for its verdict."""
        effect: Mapping[str, object] | None = self.document.get("preview", {}).get("effect")
        return effect


@dataclass(frozen=True, slots=True)
class Vote:
    """One reviewer's verdict on one request; `document` holds {decision, groups, note, statement, signed_on}."""

    request_id: str
    reviewer: str
    at_ns: int
    document: Mapping[str, Any]


class ApprovalStore:
    """The requests and votes behind one database URL. Blocking: call from a thread.

    Args:
        url: an SQLAlchemy URL, such as "sqlite:///state.db" or "postgresql+pg8000://…".
    """

    def __init__(self, url: str) -> None:
        arguments = {"check_same_thread": False, "timeout": 10} if url.startswith("sqlite") else {}
        self._engine = sa.create_engine(url, connect_args=arguments)
        _metadata.create_all(self._engine)

    def close(self) -> None:
        """Give back the database connections."""
        self._engine.dispose()

    def find_open(self, subject: str, connection: str, action_digest: str, now_ns: int) -> Request | None:
        """The newest request for exactly this action that still stands: waiting, approved and unused, or denied, and unexpired."""
        query = (
            sa.select(_requests)
            .where(
                _requests.c.subject == subject,
                _requests.c.connection == connection,
                _requests.c.action_digest == action_digest,
                _requests.c.state.in_(("pending", "approved", "denied")),
                _requests.c.expires_ns > now_ns,
            )
            .order_by(_requests.c.created_ns.desc())
            .limit(1)
        )
        with self._engine.connect() as database:
            row = database.execute(query).first()
        return None if row is None else _read_request(row)

    def insert(self, request: Request) -> None:
        """Add a new request."""
        with self._engine.begin() as database:
            database.execute(
                sa.insert(_requests).values(
                    id=request.id,
                    state=request.state,
                    created_ns=request.created_ns,
                    expires_ns=request.expires_ns,
                    subject=request.subject,
                    connection=request.connection,
                    action_digest=request.action_digest,
                    digest=request.digest,
                    document=orjson.dumps(request.document),
                )
            )

    def read(self, request_id: str) -> Request | None:
        """One request, or None."""
        with self._engine.connect() as database:
            row = database.execute(sa.select(_requests).where(_requests.c.id == request_id)).first()
        return None if row is None else _read_request(row)

    def list_requests(self, states: Sequence[State], limit: int) -> list[Request]:
        """Requests in any of these states, newest first."""
        query = sa.select(_requests).where(_requests.c.state.in_(states)).order_by(_requests.c.created_ns.desc()).limit(limit)
        with self._engine.connect() as database:
            return [_read_request(row) for row in database.execute(query)]

    def list_due(self, now_ns: int) -> list[Request]:
        """Requests past their expiry that still count as waiting or approved."""
        query = sa.select(_requests).where(_requests.c.state.in_(("pending", "approved")), _requests.c.expires_ns <= now_ns)
        with self._engine.connect() as database:
            return [_read_request(row) for row in database.execute(query)]

    def move(self, request_id: str, before: Sequence[State], after: State, document: Mapping[str, Any] | None = None) -> bool:
        """Change a request's state if it is in one of `before`; True for exactly one caller."""
        values: dict[str, Any] = {"state": after}
        if document is not None:
            values["document"] = orjson.dumps(document)
        with self._engine.begin() as database:
            result = database.execute(
                sa.update(_requests).where(_requests.c.id == request_id, _requests.c.state.in_(before)).values(**values)
            )
        return result.rowcount == 1

    def add_vote(self, vote: Vote) -> bool:
        """Add a reviewer's vote; False when that reviewer has voted on it before."""
        try:
            with self._engine.begin() as database:
                database.execute(
                    sa.insert(_votes).values(
                        request_id=vote.request_id, reviewer=vote.reviewer, at_ns=vote.at_ns, document=orjson.dumps(vote.document)
                    )
                )
        except sa.exc.IntegrityError:
            return False
        return True

    def list_votes(self, request_id: str) -> list[Vote]:
        """The votes on one request, oldest first."""
        query = sa.select(_votes).where(_votes.c.request_id == request_id).order_by(_votes.c.at_ns)
        with self._engine.connect() as database:
            return [Vote(row.request_id, row.reviewer, row.at_ns, orjson.loads(row.document)) for row in database.execute(query)]


def _read_request(row: sa.Row[Any]) -> Request:
    document = orjson.loads(row.document)
    return Request(
        row.id, row.state, row.created_ns, row.expires_ns, row.subject, row.connection, row.action_digest, row.digest, document
    )
