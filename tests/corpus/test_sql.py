"""Every case of the SQL corpus, by a real client, through a real gateway with the default policy, to a real server.

What is checked is what reached the client and what happened in the database, not only the verdict: no sensitive value in any
form in any byte, the same bytes whatever the sensitive values are, and a database that is as it was.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.testing.sql_corpus import find_planted, number_forms, read_case, spell

PLANTS = ("plum", "kiwi")
FILES = sorted((Path(__file__).parent / "sql").rglob("*.txt"))


@pytest.fixture(scope="module")
def planted(world):
    """Per database the forms in which one of its sensitive values would show."""
    found = {}
    for database in PLANTS:
        ((word, number),) = world.ask(database, "select left(ssn, strpos(ssn, '-') - 1), (home).zip from customers where id = 1")
        forms = spell(word) | spell(number + "x") | spell(f"{word}-ssn-1")
        rows = world.ask(database, "select born, salary, income, score, seen, token, ip, employed from customers")
        for born, salary, income, score, seen, token, ip, employed in rows:
            forms |= {str(born).encode(), str(token).encode(), token.bytes, str(ip).encode(), str(employed.lower).encode()}
            forms |= {str(seen)[:13].encode()} | number_forms([income, float(salary)]) | {str(score).encode()[:9]}
        found[database] = sorted(form for form in forms if len(form) > 3)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_case(path, world, planted):
    case = read_case(path)
    replies, changed = play(case, world)
    for database, reply in replies.items():
        told = f"{reply.refusals} {reply.failures} {reply.cells[:3]}"
        assert not find_planted(reply, planted[database]), f"a sensitive value was delivered: {told}"
        assert changed[database] == case.changes, f"the database changed, or did not: {told}"
        if case.verdict in {"block", "approve"}:
            assert case.rule in reply.refusals, f"expected a refusal by {case.rule}: {told}"
            held = any("needs approval" in fields["M"] for fields in reply.errors)
            assert held == (case.verdict == "approve"), told
        else:
            assert not reply.refusals, f"refused: {[fields.get('D') for fields in reply.errors]}"
        if case.verdict == "allow":
            assert not reply.failures, told
        cells = b"\n".join(cell or b"" for row in reply.cells for cell in row)
        missing = [text for text in case.shows if text.encode() not in cells]
        assert not missing, f"missing {missing}: {told}"
    if not case.differs and not case.changes:
        assert_alike(replies)


@pytest.mark.parametrize(
    "path", [path for path in FILES if read_case(path).site == "open"], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_what_an_open_site_lets_through_is_stopped_as_shipped(path, world, planted):
    case = replace(read_case(path), site="shipped")
    replies, _ = play(case, world)
    for database, reply in replies.items():
        told = f"{reply.refusals} {reply.failures} {reply.cells[:3]}"
        assert not find_planted(reply, planted[database]), f"a sensitive value was delivered: {told}"
        assert {"postgres.schema_changes.not_plain", "postgres.regulated.computed"} & set(reply.refusals), told
    if not case.differs:
        assert_alike(replies)


def play(case, world):
    """What the clients of both databases received, and whether each database is another one afterwards; it is as before then."""
    for database in PLANTS if case.owner else ():
        world.set_up(case, database)
    replies = {database: world.run(case, database) for database in PLANTS}
    changed = {database: world.take_change(database) for database in PLANTS}
    for database, has_changed in changed.items():
        if has_changed != case.changes or case.owner:
            world.restore(database)
    return replies, changed


def assert_alike(replies):
    """The same bytes, whatever the sensitive values are."""
    plum, kiwi = (replies[database].comparable().replace(database.encode(), b"db") for database in PLANTS)
    assert plum == kiwi, f"the reply depends on sensitive values: {replies['plum'].cells[:4]} {replies['kiwi'].cells[:4]}"


def test_the_corpus_is_as_large_as_promised():
    folders = Counter(path.parent.name for path in FILES)
    assert folders["ordinary"] >= 150
    assert folders.total() - folders["ordinary"] >= 200
    assert {path.parent.name for path in FILES} == {"channels", "code", "commands", "lineage", "ordinary"}
