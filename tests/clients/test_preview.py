"""What a reviewer is shown before an action runs: its plan, and the rows it would change where policy asks for a count."""

import json

import psycopg
import pytest
from psycopg import errors

from gateway.approval.store import ApprovalStore


def read_request(running, error):
    """The request an agent was sent away with."""
    ticket = next(word for word in error.value.diag.message_hint.replace("`", " ").split() if word.startswith("AR-"))
    store = ApprovalStore(running.config.gateway.state)
    return store.read(ticket)


@pytest.fixture
def ask(connect, gateway):
    """Runs what needs approval; returns the request it made."""

    def run(statement, *params, connection=None):
        with pytest.raises(errors.InsufficientPrivilege, match="needs approval") as refused:
            (connection or connect()).execute(statement, params or None)
        return read_request(gateway, refused)

    return run


def test_a_reviewer_sees_the_plan_and_the_number_of_rows(ask, server):
    preview = ask("update accounts set balance = balance + 1 where balance > 60").document["preview"]
    assert "Update on accounts" in preview["plan"]
    assert preview["rows"] == 1
    assert "notes" not in preview
    assert server.run("select balance from accounts order by id", database="shop").split() == ["100", "50"]


def test_parameters_count_as_they_were_bound(ask):
    for number, rows in ((2, 1), (99, 0)):
        preview = ask("update accounts set balance = 7 where id = %s", number).document["preview"]
        assert preview.get("rows") == rows, preview


def test_a_statement_that_would_fail_says_so(ask):
    preview = ask("update accounts set balance = -1 where id = 1").document["preview"]
    assert "Update on accounts" in preview["plan"]
    assert preview["notes"] == ["rows not counted: the statement would fail with SQLSTATE 23514"]


def test_what_a_rollback_could_not_undo_is_not_counted(ask):
    preview = ask(
        "update accounts set balance = nextval('orders_id_seq'::regclass)::int where id = 1 and pg_notify('c', 'p') is null"
    )
    assert "rows" not in preview.document["preview"]
    assert any("could not undo" in note for note in preview.document["preview"]["notes"])


def test_what_tells_of_sensitive_values_is_not_run_for_its_count(ask):
    """Rolled back it would be, but counters of `accounts` would show how far it came, for as many values as an agent likes."""
    for value in ("ssn = '1'", "name = 'x'"):
        changed = f"with g as (update customers set {value} where id = 1 returning id) update accounts set balance = balance from g where accounts.id = 1"
        preview = ask(changed).document["preview"]
        assert ("rows" in preview) == value.startswith("name"), preview


def test_several_statements_have_no_plan(ask):
    preview = ask("update accounts set balance = 1 where id = 1; update accounts set balance = 2 where id = 2").document[
        "preview"
    ]
    assert preview["notes"][0].startswith("no plan")


def test_a_lock_somebody_holds_is_not_waited_for(ask, server):
    options = {"host": str(server.socket_dir), "port": server.port, "user": "postgres", "dbname": "shop"}
    with psycopg.connect(**options) as holder:
        holder.execute("select * from accounts where id = 1 for update")
        preview = ask("update accounts set balance = 3 where id = 1").document["preview"]
        assert preview["notes"] == ["rows not counted: the statement would fail with SQLSTATE 55P03"]


@pytest.mark.parametrize("from_start", [True, False])
def test_what_it_would_change_is_told_by_the_settings_of_the_session(ask, connect, from_start):
    connection = connect(options="-c DateStyle=ISO,DMY" if from_start else "")
    if not from_start:
        connection.execute("set datestyle = 'ISO, DMY'")
    statement = "update accounts set balance = balance + 1 where '2026-02-01' = date '01/02/2026' and id > 0"
    preview = ask(statement, connection=connection).document["preview"]
    assert preview["rows"] == 2
    assert "One-Time Filter: false" not in preview["plan"]


def test_where_a_setting_went_back_to_another_start_nothing_is_counted(ask, connect):
    """`reset` in the session that counts would go back to what that one began with."""
    connection = connect(options="-c bytea_output=escape")
    statement = r"update accounts set balance = balance + 1 where cast('\x41'::bytea as text) <> 'A' and id > 0"
    assert ask(statement, connection=connection).document["preview"]["rows"] == 0
    connection.execute("reset bytea_output")
    assert connection.execute("show bytea_output").fetchone() == ("escape",)
    preview = ask(statement, connection=connection).document["preview"]
    assert set(preview) == {"notes"}
    assert preview["notes"][-1].startswith("no preview: the settings")


def test_values_a_detector_knows_are_masked_in_the_plan(ask):
    preview = ask("update accounts set owner = 'x' where owner = '4111111111111111'").document["preview"]
    assert "4111111111111111" not in json.dumps(preview)


def test_the_question_is_recorded_as_the_gateways_own(make_gateway, connect, tmp_path):
    with make_gateway(tmp_path) as running:
        with pytest.raises(errors.InsufficientPrivilege) as refused:
            connect(running=running).execute("update accounts set balance = 5 where id = 1")
        request = read_request(running, refused)
    asked, answered = [item for item in running.read_records() if item["type"] == "lookup" and item["kind"] == "postgres.preview"]
    assert asked["ticket"] == answered["ticket"] == request.id
    assert "answer" in answered
    types = [item["type"] for item in running.read_records()]
    assert types.index("approval.requested") < types.index("lookup", types.index("approval.requested"))
