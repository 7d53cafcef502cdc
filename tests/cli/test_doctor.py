"""`sealgate doctor` against a real PostgreSQL server: it goes as far as a session does, and says at which step it stopped."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.testing.certificates import make_authority
from gateway.testing.gateway import write_config
from gateway.testing.oidc import DevelopmentIssuer
from gateway.testing.policy import list_functions
from gateway.testing.postgres import find_free_port, start_postgres

ROOT = Path(__file__).parents[2]

PASSWORD = "first-of-many"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority):
    with start_postgres(tls=authority.issue("target", ["127.0.0.1"])) as running:
        running.run(f"create role owner login password '{PASSWORD}'; create database shop owner owner")
        running.run("set role owner; create table people (name text, ssn text)", database="shop")
        yield running


def connect_by_socket(server, password):
    """A connection that needs no certificate, and no password that is right."""
    return {
        "name": "shop",
        "type": "postgres",
        "target": {"socket_dir": str(server.socket_dir), "port": server.port},
        "credential": {"user": "owner", "password": password},
        "environment": "staging",
        "allow_groups": ["agents"],
    }


@pytest.fixture(scope="module")
def issuer():
    with DevelopmentIssuer() as running:
        yield running


@pytest.fixture
def examine(server, authority, issuer, tmp_path, monkeypatch):
    """What doctor finds of one connection, by step; arguments replace its settings."""
    monkeypatch.setenv("TARGET_PASSWORD", PASSWORD)

    def run(tls=None, target=None, **changes):
        connection = {
            "name": "shop",
            "type": "postgres",
            "target": {
                "host": "127.0.0.1",
                "port": server.port,
                "tls": {"ca_file": str(authority.ca_file), **(tls or {})},
                **(target or {}),
            },
            "credential": {"user": "owner", "password": "env:TARGET_PASSWORD"},
            "environment": "staging",
            "allow_groups": ["agents"],
            "sensitive": ["public.people.ssn"],
        }
        path = write_config(tmp_path, issuer=issuer, bundle=tmp_path / "rego", connections=[connection | changes])
        answer = CliRunner().invoke(main, ["doctor", "-c", str(path), "--json"])
        assert PASSWORD not in answer.output
        findings = json.loads(answer.stdout)["findings"]
        return {
            item["check"].removeprefix("target shop").strip(): item
            for item in findings
            if item["check"].startswith("target shop")
        }

    return run


def test_a_target_is_tried_as_a_session_begins(examine, server):
    before = server.run("select count(*) from pg_class; select sum(n_tup_ins) from pg_stat_user_tables", database="shop")
    found = examine(read_only=True)
    assert {name: item["status"] for name, item in found.items()} == dict.fromkeys(
        ("", "tls", "login", "catalogue", "settings"), "ok"
    )
    assert found["login"]["detail"] == "owner is let into shop with SCRAM-SHA-256-PLUS"
    after = server.run("select count(*) from pg_class; select sum(n_tup_ins) from pg_stat_user_tables", database="shop")
    assert before == after


@pytest.mark.parametrize(
    ("step", "changes", "says", "fix"),
    [
        ("files", {"tls": {"ca_file": "/nowhere/ca.pem"}}, "/nowhere/ca.pem", "PEM"),
        ("files", {"tls": {"cert_file": "/nowhere/a.crt", "key_file": "/nowhere/a.key"}}, "/nowhere/a.crt", "PEM"),
        ("", {"target": {"port": find_free_port()}}, "cannot be reached", "address"),
        ("tls", {"tls": {"ca_file": "other"}}, "certificate is not accepted", "ca_file"),
        ("tls", {"target": {"host": "localhost"}}, "certificate is not accepted", "ca_file"),
        ("login", {"credential": {"user": "owner", "password": "env:PATH"}}, "28P01", "password"),
        ("login", {"credential": {"user": "owner", "password_command": ["false"]}}, "credential", "password"),
        ("login", {"target": {"database": "nowhere"}}, "3D000", "pg_hba.conf"),
        ("catalogue", {"sensitive": ["public.people.ssn", "public.people.sn", "public.persons.ssn"]}, "public.people.sn, public.persons.ssn", "sensitive"),
    ],
)  # fmt: skip
def test_the_first_step_that_fails_is_the_last(examine, tmp_path, step, changes, says, fix):
    if changes.get("tls", {}).get("ca_file") == "other":
        (tmp_path / "other").mkdir()
        changes = {"tls": {"ca_file": str(make_authority(tmp_path / "other").ca_file)}}
    found = examine(**changes)
    assert list(found)[-1] == step
    assert [name for name, item in found.items() if item["status"] == "fail"] == [step]
    assert says in found[step]["detail"]
    assert fix in found[step]["fix"]


CODE = """
set role owner;
create table "Odd ""names" ("a b" int, code text); create table plain (id int); create table copies (id int);
create function stamped() returns trigger language plpgsql as $$ begin new.id := 1; return new; end $$;
create function audited() returns trigger language plpgsql as $$ begin raise notice '%', old; return null; end $$;
create function run_text() returns trigger language plpgsql as $$ begin execute 'select 1'; return new; end $$;
create trigger stamped before insert or update on plain for each row execute function stamped();
create trigger audited after delete on people for each row execute function audited();
create trigger run_text before update on "Odd ""names" for each row execute function run_text();
create trigger run_text before update on plain for each row execute function run_text();
create rule copied as on update to people do also insert into copies select 1 where old.ssn > '';
"""


def test_code_that_the_site_has_to_list_is_named(server, issuer, tmp_path, monkeypatch):
    monkeypatch.setenv("TARGET_PASSWORD", PASSWORD)
    server.run("create database coded owner owner")
    server.run("set role owner; create table people (name text, ssn text)", database="coded")
    server.run(CODE, database="coded")

    def examine(listed):
        bundle = list_functions(ROOT / "rego", tmp_path / f"policy{len(listed)}", listed)
        connection = connect_by_socket(server, "env:TARGET_PASSWORD")
        connection["target"]["database"] = "coded"
        path = write_config(
            tmp_path / bundle.name, issuer=issuer, bundle=bundle, connections=[connection | {"sensitive": ["public.people.ssn"]}]
        )
        answer = CliRunner().invoke(main, ["doctor", "-c", str(path), "--json"])
        found = json.loads(answer.stdout)["findings"]
        return [(item["status"], item["detail"]) for item in found if item["check"] == "target shop code"]

    assert examine([]) == [
        ("warn", "public.audited uses sensitive columns: statements on public.people are refused"),
        ("warn", 'public.run_text cannot be judged: statements on public.Odd "names, public.plain are refused'),
        ("warn", "rule.copied uses sensitive columns: statements on public.people are refused"),
    ]
    assert examine(["public.audited", "public.run_text", "rule.copied"]) == []


def test_every_database_of_a_connection_is_tried(examine):
    found = examine(match={"databases": ["shop", "nowhere"]})
    assert "nowhere" in found["login"]["detail"]
    assert found["login"]["status"] == "fail"


def test_a_server_without_tls_is_found(examine):
    with start_postgres() as plain:
        found = examine(target={"port": plain.port})
    assert "does not offer TLS" in found["tls"]["detail"]
    assert "switch TLS on" in found["tls"]["fix"]


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("masking.key", "it has 5 bytes and needs at least 32"),
        ("evidence.log_key", "it is not an unencrypted PEM private key"),
    ],
)
def test_a_secret_of_another_kind_is_found(server, issuer, tmp_path, monkeypatch, secret, says):
    monkeypatch.setenv("WRONG", "short")
    section, name = secret.split(".")
    connection = connect_by_socket(server, "env:WRONG")
    path = write_config(
        tmp_path, issuer=issuer, bundle=tmp_path / "rego", connections=[connection], **{section: {name: "env:WRONG"}}
    )
    findings = json.loads(CliRunner().invoke(main, ["doctor", "-c", str(path), "--json"]).stdout)["findings"]
    (found,) = (item for item in findings if item["check"] == f"secret {secret}")
    assert found["status"] == "fail"
    assert says in found["detail"]


def test_a_listener_whose_key_is_not_that_of_its_certificate_is_found(server, authority, issuer, tmp_path):
    tls = (authority.issue("one")[0], authority.issue("two")[1])
    connection = connect_by_socket(server, "env:PATH")
    path = write_config(tmp_path, issuer=issuer, bundle=tmp_path / "rego", connections=[connection], tls=tls)
    findings = json.loads(CliRunner().invoke(main, ["doctor", "-c", str(path), "--json"]).stdout)["findings"]
    found = {item["check"]: item for item in findings}
    assert found["listener postgres certificate"]["status"] == "fail"
    assert [found[f"target shop{step}"]["status"] for step in ("", " login")] == ["ok", "ok"]  # trusted on its socket
    assert "target shop tls" not in found
    answer = CliRunner().invoke(main, ["validate", "-c", str(path)])
    assert answer.exit_code == 2
    assert "listeners.postgres.tls: cannot be used" in answer.stderr
