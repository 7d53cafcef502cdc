"""What a prepared statement's values are is settled at its Parse and its Bind, which may lie far from the Execute that is judged.

Where two actions have one ticket, the approval of either covers both.
"""

import re

import pytest
from sealgate_native.postgres import encode_message, encode_query

from gateway.approval.store import ApprovalStore
from gateway.testing.wire import SYNC, Client, bind, error_of, execute, kinds, parse

FLUSH = encode_message("H", b"")
INTEGER, DOUBLE, UNKNOWN, DATE, NUMERIC = 23, 701, 705, 1082, 1700

MDY, DMY = "set datestyle = 'ISO, MDY'", "set datestyle = 'ISO, DMY'"
MONTH = "update accounts set balance = balance + extract(month from date '01/02/2026')::int where id = 1"
WHICH = "select extract(month from date '01/02/2026')::int"
MONTH_OF = "update accounts set balance = balance + extract(month from $1::date)::int where id = 1"
ESCAPE = "set bytea_output = 'escape'"
LENGTH = r"update accounts set balance = balance + length(cast('\x41'::bytea as text)) where id = 1"

CHECKED = """
create table checked (value text);
create function add_checked(text) returns boolean language plpgsql as
  $$begin insert into public.checked values ($1); return true; end$$;
create domain adding as text check (add_checked(value));
alter table checked owner to sealgate_owner;
"""


@pytest.fixture(scope="module")
def plaintext(make_gateway, tmp_path_factory):
    with make_gateway(tmp_path_factory.mktemp("plaintext"), tls=False) as running:
        yield running


@pytest.fixture
def log_in(plaintext, mint):
    """A session that began with these settings and has sent these texts, each as a query, and batches that end with a Sync."""
    opened = []

    def make(*before, **started):
        client = Client(plaintext.port)
        opened.append(client)
        client.login(mint(), **started)
        client.converse(*(encode_query(part) if isinstance(part, str) else part for part in before))
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def read(plaintext):
    """The canonical action of a ticket, as its reviewers are shown it."""
    return lambda ticket: ApprovalStore(plaintext.config.gateway.state).read(ticket).document["canonical"]


@pytest.fixture
def adding(server):
    """The number of a domain whose check is a function of the database, which writes."""
    server.run(CHECKED, database="shop")
    yield int(server.run("select 'adding'::regtype::oid::bigint", database="shop"))
    server.run("drop domain adding; drop function add_checked; drop table checked", database="shop")


def run(sql, *values, types=(), is_binary=False):
    """Parse, Bind and Execute of the unnamed statement."""
    return parse(sql, types=types) + bind(values=values, is_binary=is_binary) + execute()


def ask(client, action):
    """The ticket under which an action waits for its approval: a text sent as a query, or a batch."""
    error = error_of(client.query(action) if isinstance(action, str) else client.converse(action))
    assert "needs approval" in error["M"]
    return re.search(r"AR-\w+", error["H"]).group()


@pytest.mark.parametrize("times", [3, 40], ids=["learned", "lent"])
def test_a_learned_text_is_judged_anew_for_parameters_of_another_type(adding, make_gateway, mint, tmp_path, server, times):
    with make_gateway(tmp_path, tls=False) as running:
        first, second, third = clients = [Client(running.port, mint()) for _ in range(3)]
        refusal = error_of(first.converse(run("select $1 as x", b"ab", types=(adding,)) + SYNC))
        assert refusal["C"] == "42501"
        for _ in range(times):
            assert kinds(second.converse(run("select $1 as x", b"ab") + SYNC)) == "12DCZ"
        for client in (second, third):
            messages = client.converse(run("select $1 as x", b"ab", types=(adding,)) + SYNC)
            assert "D" not in kinds(messages)
            assert (error_of(messages)["C"], error_of(messages)["M"]) == ("42501", refusal["M"])
        for client in clients:
            client.close()
    assert server.run("select count(*) from checked", database="shop") == "0"


def test_bytes_of_no_known_type_are_not_the_text_they_spell(log_in, read):
    text = "update accounts set balance = balance + $1 where id = 1"
    spelled, binary = (
        ask(log_in(), run(text, b"0001", types=(UNKNOWN,), is_binary=is_binary) + SYNC) for is_binary in (False, True)
    )
    assert spelled != binary
    assert read(spelled)["params"] == ["0001"]
    assert read(binary)["params"] != ["0001"]


@pytest.mark.parametrize("action", ["execute s", bind("s") + execute() + SYNC], ids=["EXECUTE", "Execute"])
def test_the_settings_of_its_parse_are_part_of_what_is_approved(log_in, action):
    prepare = parse(MONTH, "s") + SYNC
    first = ask(log_in(MDY, prepare), action)
    assert ask(log_in(MDY, prepare), action) == first
    assert ask(log_in(DMY, prepare, MDY), action) not in {first, ask(log_in(), MONTH)}


def test_so_are_those_of_its_bind(log_in):
    prepare, bound = parse(MONTH_OF, "s", [DATE]) + SYNC, bind("s", "p", [b"01/02/2026"])
    first = ask(log_in(prepare), bound + execute("p") + SYNC)
    assert ask(log_in(prepare), bound + execute("p") + SYNC) == first
    assert ask(log_in("begin", DMY, prepare, bound + SYNC, MDY), execute("p") + SYNC) != first


def test_so_are_those_of_a_bind_that_nothing_was_run_by(log_in):
    """The server keeps the plan it made then."""
    prepare = parse(LENGTH, "s") + SYNC
    other = ask(log_in(prepare, ESCAPE, bind("s") + SYNC, "reset all"), bind("s") + execute() + SYNC)
    assert other not in {ask(log_in(prepare), bind("s") + execute() + SYNC), ask(log_in(), LENGTH)}


BEHIND = {
    "SET LOCAL": ([], "set local datestyle = 'ISO, DMY'", b""),
    "ROLLBACK TO": (["begin", "savepoint a", DMY, "savepoint b", MDY], "rollback to b", run("rollback to a")),
}


@pytest.mark.parametrize("is_flushed", [True, False], ids=["answered", "at once"])
@pytest.mark.parametrize("case", BEHIND)
def test_what_is_prepared_behind_a_setting_that_its_pipeline_takes_back_is_no_other_sessions(log_in, case, is_flushed):
    """The server reports neither change: when it is ready again, DateStyle is what it was."""
    before, changing, restoring = BEHIND[case]
    action = bind("k") + execute() + SYNC

    def ask_behind():
        client = log_in(*before)
        if is_flushed:
            client.raw.sendall(run(changing) + FLUSH)
            assert [client.next()[0], client.next()[0]] == ["1", "2"]
            while (answer := client.next()) is not None and answer[0] != "C":
                assert answer[0] == "N"  # that SET LOCAL is for transactions
        prepare = parse(MONTH, "k") + parse(WHICH, "month") + restoring + SYNC
        assert "E" not in kinds(client.converse((b"" if is_flushed else run(changing)) + prepare))
        assert any(b"ISO, MDY" in body for _, body in client.query("show datestyle"))
        assert [body[-1:] for kind, body in client.converse(bind("month") + execute() + SYNC) if kind == "D"] == [b"2"]
        return ask(client, action)

    never_changed = {ask(log_in(), MONTH), ask(log_in(parse(MONTH, "k") + SYNC), action)}
    first, second = ask_behind(), ask_behind()
    assert never_changed.isdisjoint({first, second})
    assert first != second


@pytest.mark.parametrize("restoring", ["reset bytea_output", "set bytea_output to default"])
def test_a_setting_goes_back_to_what_its_session_began_with(log_in, restoring):
    escape = ask(log_in(restoring, bytea_output="escape"), LENGTH)
    assert ask(log_in(restoring, bytea_output="escape"), LENGTH) == escape
    assert escape not in {ask(log_in(restoring), LENGTH), ask(log_in(), LENGTH)}


STARTED_DMY = {"datestyle": "ISO, DMY"}
TAKING_BACK = {
    "RESET": ("reset datestyle", STARTED_DMY, [], [MDY]),
    "SET TO DEFAULT": ("set datestyle to default", STARTED_DMY, [], [MDY]),
    "ROLLBACK": ("rollback", {}, [], [DMY, "begin", MDY]),
    "COMMIT": ("commit", {}, [], [DMY, "begin", "set local datestyle = 'ISO, MDY'"]),
    "ROLLBACK TO": ("rollback to a", {}, ["begin", "savepoint a"], [DMY, "begin", "savepoint a", MDY]),
}


@pytest.mark.parametrize("case", TAKING_BACK)
def test_a_text_that_takes_a_setting_back_itself_runs_under_another_one(log_in, case):
    restoring, started, plainly, before = TAKING_BACK[case]
    text = f"{restoring}; {MONTH}"
    plain = ask(log_in(*plainly), text)
    assert ask(log_in(*plainly), text) == plain
    client = log_in(*before, **started)
    assert any(b"ISO, MDY" in body for _, body in client.query("show datestyle"))
    assert ask(client, text) != plain


FAILS = bind(values=[b"a parameter too many"]) + execute() + SYNC
FAILING = {
    "SET, its Bind": ([], parse(ESCAPE) + FAILS),
    "SET, the Parse before": ([], parse("select nothing from accounts", "t") + run(ESCAPE) + SYNC),
    "RESET, its Bind": ([ESCAPE], parse("reset all") + FAILS),
    "RESET, the Bind before": ([ESCAPE], parse("select $1::int", "t") + bind("t", "q", [b"x"]) + run("reset all") + SYNC),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_setting_that_failed_with_its_pipeline_is_not_taken_for_done(log_in, case):
    before, failing = FAILING[case]
    done = ask(log_in() if before else log_in(ESCAPE), LENGTH)
    client = log_in(*before)
    assert "E" in kinds(client.converse(failing))
    assert bool(before) == any(b"escape" in body for _, body in client.query("show bytea_output"))
    assert ask(client, LENGTH) != done


def test_nor_is_one_that_was_cancelled(log_in):
    text = f"set /* {'x' * 1_000_000} */ bytea_output = 'escape'"
    done = ask(log_in(text), LENGTH)
    for _ in range(20):  # until it takes the server longer than it may
        client = log_in("set statement_timeout = 1")
        messages = client.query(text)
        if "E" in kinds(messages):
            break
    assert error_of(messages)["C"] == "57014"
    while "E" in kinds(client.query("set statement_timeout = 0")):
        pass
    assert any(b"hex" in body for _, body in client.query("show bytea_output"))
    assert ask(client, LENGTH) != done


def test_a_comment_does_not_stand_for_declared_types(log_in):
    text = "update accounts set balance = balance + 100 * (1 / $1) where id = 1"
    declared = parse(text, "s", [DOUBLE]) + SYNC
    first = ask(log_in(declared), "execute s (3)")
    assert ask(log_in(declared), "execute s (3)") == first
    assert ask(log_in(parse(f"{text}\n-- parameters: double precision", "s") + SYNC), "execute s (3)") != first
