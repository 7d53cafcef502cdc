"""The least-privilege role of docs/: what it cannot do even without a gateway before it."""

import subprocess
from pathlib import Path

import psycopg
import pytest

SCRIPT = Path(__file__).parents[2] / "docs/database-role.sql"

DENIED = [
    "copy orders to program 'id'",
    "copy orders to '/tmp/x'",
    "select pg_read_file('PG_VERSION')",
    "select peek_definer(1)",
    "select run_text('delete from notes')",
    "call wipe()",
    "create table x (id int)",
    "create function f() returns int language sql as 'select 1'",
    "create temp table x (id int)",
    "create extension lo",
    "create role x",
    "set session_replication_role = replica",
    "alter table orders disable trigger all",
    "truncate orders",
    "select rolpassword from pg_authid",
    "select line from server_file",
    "select pg_reload_conf()",
    "select lo_import('/etc/passwd')",
    "insert into ruled values (1)",
    "drop table orders",
    "alter table orders rename to elsewhere",
    "create schema shadow",
]


@pytest.fixture(scope="module")
def role(server):
    """The role as the script makes it, in a copy of the world; running it twice is as good as once."""
    server.run("create database narrow template plum_kept owner gateway")
    command = [str(server.bin_dir / "psql"), "-X", "-q", "-h", str(server.socket_dir), "-p", str(server.port), "-U", "postgres"]
    for _ in range(2):
        options = ["-d", "narrow", "-v", "role=narrow_agent", "-v", "schema=public", "-f", str(SCRIPT)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    server.run("revoke select on ruled from narrow_agent; revoke insert on ruled from narrow_agent", database="narrow")
    return psycopg.connect(host=str(server.socket_dir), port=server.port, user="narrow_agent", dbname="narrow", autocommit=True)


@pytest.mark.parametrize("sql", DENIED)
def test_the_server_refuses(role, sql):
    with pytest.raises(psycopg.errors.Error) as caught:
        role.execute(sql)
    assert isinstance(caught.value, psycopg.errors.InsufficientPrivilege), caught.value


def test_ordinary_work_goes_on(role):
    assert role.execute("select count(*) from orders").fetchone() == (30,)
    role.execute("insert into notes (author, body) values ('a', 'b')")
    role.execute("update orders set note = 'x' where id = 1")
    role.execute("delete from notes where author = 'a'")


def test_row_security_holds(role):
    assert role.execute("select city from branches").fetchall() == [("Lyon",)]
