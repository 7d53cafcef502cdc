"""Who may review: the reviewer groups of the configuration, resolved for one subject. Pure."""

from __future__ import annotations

from dataclasses import replace

from gateway.action import Subject, sort_unique
from gateway.config import ApprovalSection
from gateway.errors import IdentityError


def require_reviewer(subject: Subject) -> None:
    """Refuse a subject that cannot review at all: only a human acting for themselves reviews. Raises IdentityError."""
    if subject.kind != "human":
        raise IdentityError(
            f"{subject.id} cannot review",
            why=f"its token proves a subject of kind {subject.kind}",
            fix="sign in as a person; identity.issuers[].kind_claim or default_kind says who is human",
        )
    if subject.on_behalf_of is not None:
        raise IdentityError(
            f"{subject.id} cannot review",
            why=f"it acts on behalf of {subject.on_behalf_of}",
            fix="the person must review with their own token",
        )


def with_reviewer_groups(subject: Subject, approval: ApprovalSection) -> Subject:
    """The subject with exactly the reviewer groups it belongs to.

    A group listed under approval.reviewers has only the members listed there: a token's group of the same name does not count. Groups not
    listed stay as the token has them.
    """
    own = {group for group in subject.groups if group not in approval.reviewers}
    for name, members in approval.reviewers.items():
        if subject.id in members.people or not set(subject.groups).isdisjoint(members.groups):
            own.add(name)
    return replace(subject, groups=sort_unique(tuple(own)))
