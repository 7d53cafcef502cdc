"""Who may review."""

import pytest

from gateway.action import Subject
from gateway.config import ApprovalSection
from gateway.errors import IdentityError
from gateway.identity import require_reviewer, with_reviewer_groups

APPROVAL = ApprovalSection.model_validate({"reviewers": {"dba": {"groups": ["db-admins"], "people": ["bank/carol"]}}})


def subject(name, *groups, **members):
    return Subject(
        **{"id": f"bank/{name}", "kind": "human", "issuer": "https://id.example.com", "sub": name, "groups": groups} | members
    )


@pytest.mark.parametrize(
    ("person", "groups"),
    [
        (subject("alice", "db-admins"), ("db-admins", "dba")),
        (subject("bob", "staff"), ("staff",)),
        (subject("carol"), ("dba",)),
        (subject("mallory", "dba"), ()),
        (subject("carol", id="other/carol"), ()),
    ],
    ids=["by group", "not a member", "by name", "token claims the name itself", "same name of another issuer"],
)
def test_membership(person, groups):
    assert with_reviewer_groups(person, APPROVAL).groups == groups


def test_only_a_human_acting_for_themselves_reviews():
    require_reviewer(subject("alice"))
    for refused in (subject("alice", kind="agent"), subject("alice", kind="service"), subject("alice", on_behalf_of="bank/bob")):
        with pytest.raises(IdentityError, match="cannot review"):
            require_reviewer(refused)
