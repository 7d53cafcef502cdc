"""The evidence a gateway leaves after serving stock clients verifies offline, with sealed inputs opened and verdicts recomputed."""

import psycopg
import pytest
from psycopg import errors

from gateway.testing.wire import SYNC, Client, bind, execute, parse


@pytest.fixture
def served(make_gateway, authority, mint, tmp_path):
    """A stopped gateway that has served reads, masks, denials, errors, parameters and refused logins."""
    with make_gateway(tmp_path) as running:
        options = {
            "host": "localhost",
            "port": running.port,
            "dbname": "shop",
            "user": "agent",
            "password": mint(),
            "sslmode": "verify-full",
            "sslrootcert": str(authority.ca_file),
            "autocommit": True,
        }
        with psycopg.connect(**options) as connection:
            connection.execute("select name, ssn from customers").fetchall()
            connection.execute("select 'card 4111111111111111'").fetchall()
            connection.execute("update orders set amount = amount where id = %s", (3,))
            for statement, error in (
                ("delete from orders", errors.InsufficientPrivilege),
                ("update accounts set balance = 0", errors.InsufficientPrivilege),
                ("select 1/0", errors.DivisionByZero),
                ("set search_path to nowhere", psycopg.Error),
            ):
                with pytest.raises(error):
                    connection.execute(statement)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**{**options, "password": "no token"})
    return running


def test_it_verifies_and_every_verdict_is_recomputed(served):
    report = served.verify_evidence()
    assert report.exit_code == 0, report.findings
    assert report.counts.get("recomputed_same", 0) >= 8
    assert "recomputed_different" not in report.counts


def test_a_pipeline_that_fails_shows_in_the_outcome_of_what_failed(make_gateway, mint, server, tmp_path):
    """The server undoes the whole of it; each action's outcome says how that action ended."""
    with make_gateway(tmp_path, tls=False) as running:
        client = Client(running.port, mint())
        insert, fail = "insert into events values (-11, 'undone')", "select 1 / (id - 1) from customers where id = 1"
        client.converse(parse(insert) + bind() + execute() + parse(fail) + bind() + execute() + SYNC)
        client.close()
    outcomes = [record for record in running.read_records() if record["type"] == "outcome"]
    assert ("completed", "INSERT 0 1") in [(record["status"], record.get("tag")) for record in outcomes]
    assert [record["status"] for record in outcomes if record.get("error_code") == "22012"] == ["failed"]
    assert server.run("select count(*) from events where id = -11", database="shop").strip() == "0"
