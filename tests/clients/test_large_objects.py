"""Large objects through psql and libpq: refused by the shipped policy in words, usable where the site says so."""

import os
import subprocess
from pathlib import Path

import pytest
from psycopg import errors

from gateway.protocols.postgres.large_objects import CALLS
from gateway.testing.policy import copy_library

ROOT = Path(__file__).resolve().parents[2]

LISTED = sorted(f"pg_catalog.{name}" for name in CALLS.values())


@pytest.fixture(scope="module")
def serve(make_gateway, make_connection, tmp_path_factory):
    """Runs a gateway with the shipped policy and these facts of the site."""

    def make(*, sensitive=(), allowed_functions=(), **facts):
        folder = tmp_path_factory.mktemp("objects")

        def change(site):
            site["postgres"] |= facts
            site["postgres"]["allowed_functions"] += allowed_functions

        bundle = copy_library(ROOT / "rego", folder / "policy", change)
        connection = make_connection(environment="development", sensitive=list(sensitive))
        return make_gateway(folder / "gateway", connections=[connection], policy={"bundle": str(bundle)})

    return make


@pytest.fixture
def psql(authority, mint):
    def run(running, *commands, stdin=None):
        environment = {
            "PATH": os.environ["PATH"],
            "PGHOST": "localhost",
            "PGPORT": str(running.port),
            "PGUSER": "agent",
            "PGPASSWORD": mint(),
            "PGDATABASE": "shop",
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(authority.ca_file),
        }
        arguments = [word for command in commands for word in ("-c", command)]
        return subprocess.run(
            ["psql", "-XAt", "-v", "ON_ERROR_STOP=1", *arguments],
            check=False,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
        )

    return run


def test_their_numbers_are_those_of_the_server(server):
    found = server.run("select oid, proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^lo'")
    known = dict(line.split("|") for line in found.splitlines())
    assert {known[str(oid)] for oid in CALLS} == set(CALLS.values())
    assert all(known[str(oid)] == name for oid, name in CALLS.items())


def test_they_come_and_go_where_the_site_lists_their_functions(serve, psql, tmp_path, server):
    content = os.urandom(50_000)
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(content)
    with serve(allowed_functions=LISTED) as running:
        done = psql(running, rf"\lo_import {source}", r"\lo_list")
        assert done.returncode == 0, done.stderr
        number = done.stdout.split()[1]
        assert number in done.stdout.split("\n", 1)[1]
        assert psql(running, rf"\lo_export {number} {copy}").returncode == 0
        assert copy.read_bytes() == content
        assert psql(running, rf"\lo_unlink {number}").returncode == 0
        gone = psql(running, rf"\lo_export {number} {copy}")
        assert "does not exist" in gone.stderr
    records = running.read_records()
    read = [record for record in records if record["type"] == "outcome" and record.get("bytes", 0) > 0]
    assert sum(record["bytes"] for record in read) >= len(content)
    assert server.run("select count(*) from pg_largeobject_metadata", database="shop") == "0"
    assert all("hex" not in str(record.get("facts")) for record in records)


def test_what_is_read_could_be_sensitive_and_stays_unless_the_site_says_otherwise(serve, psql, tmp_path):
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(b"001-12-0001")
    sensitive = ["public.customers.ssn"]
    with serve(sensitive=sensitive, allowed_functions=LISTED) as running:
        number = psql(running, rf"\lo_import {source}").stdout.split()[-1]
        refused = psql(running, rf"\lo_export {number} {copy}")
        assert "no mask reaches into it" in refused.stderr
        assert not copy.exists() or copy.read_bytes() == b""
        outcomes = psql(running, "select 1")
        assert outcomes.stdout == "1\n"
    with serve(sensitive=sensitive, allowed_functions=LISTED, opaque_large_objects=True) as running:
        assert psql(running, rf"\lo_export {number} {copy}").returncode == 0
        assert copy.read_bytes() == b"001-12-0001"
        assert psql(running, rf"\lo_unlink {number}").returncode == 0


def test_nothing_sensitive_can_be_put_into_them(serve, connect):
    with serve(sensitive=["public.customers.ssn"], allowed_functions=[*LISTED, "pg_catalog.lo_from_bytea"]) as running:
        connection = connect(running=running)
        for statement in (
            "select lo_from_bytea(0, ssn::bytea) from customers limit 1",
            "select lowrite(lo_open(lo_create(0), 131072), ssn::bytea) from customers limit 1",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)


def test_files_of_the_servers_machine_stay_out_of_reach(serve, connect):
    with serve(allowed_functions=LISTED) as running:
        connection = connect(running=running)
        for statement in ("select lo_import('/etc/passwd')", "select lo_export(1, '/tmp/x')"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)
