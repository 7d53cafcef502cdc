"""What is too much for one record of the log is recorded in outline: a refused attempt always, and results of any width."""

from pathlib import Path

import psycopg
import pytest

from gateway.testing.gateway import start_gateway, write_config

ROOT = Path(__file__).parents[2]

MOST_COLUMNS = 1_664
"""PostgreSQL's own bound on the columns of a result."""


@pytest.fixture
def serve(issuer, make_connection, tmp_path):
    """A gateway with the shipped policy library."""
    connections = [make_connection(environment="development")]
    return lambda: start_gateway(write_config(tmp_path, issuer=issuer, bundle=ROOT / "rego", connections=connections))


@pytest.fixture
def connect(mint):
    options = {"host": "127.0.0.1", "dbname": "shop", "user": "agent", "sslmode": "disable", "autocommit": True}
    return lambda running: psycopg.connect(port=running.port, password=mint(), **options)


def find_decisions(running):
    return [record for record in running.read_records() if record["type"] == "decision"]


def count_verdicts(running):
    """Verifies the evidence of a stopped gateway, and says how many verdicts were recomputed as they are on record."""
    report = running.verify_evidence()
    assert report.exit_code == 0, report.findings
    assert "recomputed_different" not in report.counts
    return report.counts["recomputed_same"]


def test_an_attempt_refused_for_thousands_of_reasons_is_on_record(serve, connect):
    calls = ", ".join(f"f{number}(1)" for number in range(3_000))
    with serve() as running, connect(running) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"select {calls}, pg_read_file('/etc/passwd')")
    (record,) = find_decisions(running)
    assert (record["decision"]["effect"], record["refused"]) == ("block", True)
    assert record["decision"]["reasons"]
    assert record["decision"]["omitted"]["reasons"] > 0
    assert count_verdicts(running) == 1


@pytest.mark.parametrize(("column", "value"), [("id", 1), ("ssn", "[redacted]"), ("upper(ssn)", "[redacted]")])
def test_a_result_may_have_as_many_columns_as_the_server_allows(serve, connect, column, value):
    columns = ", ".join(f"{column} as {'c' * 50}{number}" for number in range(MOST_COLUMNS))
    with serve() as running, connect(running) as connection:
        for _ in range(3):  # learned in between
            (row,) = connection.execute(f"select {columns} from customers where id = 1").fetchall()
            assert set(row) == {value}
    assert count_verdicts(running) == len(find_decisions(running)) == 6


def test_so_may_what_a_change_returns(serve, connect):
    columns = ", ".join(f"ssn as c{number}" for number in range(1_000))
    with serve() as running, connect(running) as connection:
        (row,) = connection.execute(f"update customers set email = email where id = 1 returning {columns}").fetchall()
        assert set(row) == {"[redacted]"}
    response = next(record for record in find_decisions(running) if record["phase"] == "response")
    assert response["response"]["omitted_bytes"] > 57_344
    assert response["decision"]["masks"]
    assert response["decision"]["omitted"]["masks"] >= 999
    assert count_verdicts(running) == 2
