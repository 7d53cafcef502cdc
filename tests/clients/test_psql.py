"""psql, the stock program, through the gateway."""

import os
import signal
import subprocess

import pytest

from gateway.testing.waiting import wait_until


@pytest.fixture
def psql(gateway, server, authority, mint):
    """Runs psql with these arguments and standard input; returns the finished process."""

    def run(*arguments, stdin="", token=None, database="shop", **environment):
        return subprocess.run(
            [str(server.bin_dir / "psql"), "-X", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=psql_environment(gateway, authority, token or mint(), database) | environment,
            check=False,
        )

    return run


def psql_environment(gateway, authority, token, database="shop"):
    return {
        "PATH": os.environ["PATH"],
        "PGHOST": "localhost",
        "PGPORT": str(gateway.port),
        "PGUSER": "agent",
        "PGDATABASE": database,
        "PGPASSWORD": token,
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(authority.ca_file),
    }


def test_a_read(psql):
    done = psql("-Atc", "select count(*) from orders")
    assert (done.returncode, done.stdout, done.stderr) == (0, "50\n", "")


def test_masked_and_plain_columns(psql):
    done = psql("-Atc", "select id, name, ssn from customers where id = 3")
    assert done.stdout.startswith("3|Customer 3|")
    assert "003-12-0003" not in done.stdout


def test_a_statement_that_cannot_be_parsed_says_so(psql):
    done = psql("-Atc", "select count(*) frm orders")
    assert "ERROR:  the request cannot be read: syntax error at character 21\nLINE 1: select count(*) frm orders\n" in done.stderr
    assert f"\n{' ' * 28}^\n" in done.stderr  # under the word
    assert "DETAIL:  Rule default.deny.unknown" in done.stderr
    assert "HINT:  Correct the request" in done.stderr


def test_a_statement_of_unknown_effect_says_what_to_write(psql):
    done = psql("-Atc", "select item from coalesce((select name from customers where id = 3), '') order by 1")
    assert "DETAIL:  Rule default.deny.unknown" in done.stderr
    assert "HINT:  Give each item in FROM that is neither a table nor a call by name an alias" in done.stderr
    done = psql("-Atc", "select item from coalesce((select name from customers where id = 3), '') as item order by 1")
    assert done.stdout == "Customer 3\n"


def test_a_sensitive_column_that_is_not_there_stops_the_connection(
    make_gateway, make_connection, authority, server, mint, tmp_path
):
    misspelt = make_connection(sensitive=["public.customers.snn", "public.customers.ssn"])
    with make_gateway(tmp_path, connections=[misspelt]) as running:
        done = subprocess.run(
            [str(server.bin_dir / "psql"), "-X", "-Atc", "select name from customers"],
            capture_output=True,
            text=True,
            timeout=60,
            env=psql_environment(running, authority, mint()),
            check=False,
        )
        assert done.stdout == ""
        assert "sensitive columns of this connection cannot be found" in done.stderr
        assert "Rule config.invalid: Not in the database: public.customers.snn." in done.stderr
    (refused,) = [record for record in running.read_records() if record["type"] == "refusal"]
    assert refused["code"] == "config.invalid"
    assert "public.customers.snn" in refused["why"]


def test_a_hidden_error_says_where_to_look(psql):
    done = psql("-Atc", "select ssn::int from customers")
    assert "text withheld by the gateway" in done.stderr
    assert "HINT:  SQLSTATE 22P02 says what went wrong" in done.stderr


def test_a_denial_shows_message_detail_and_hint_and_the_script_goes_on(psql):
    done = psql("-At", stdin="delete from orders;\nselect 'still here';\n")
    assert done.stdout == "still here\n"
    assert "ERROR:  DELETE blocked by policy" in done.stderr
    assert "DETAIL:  Rule test.unbounded" in done.stderr
    assert "HINT:  " in done.stderr


def test_several_statements_in_one_string_are_judged_together(psql):
    done = psql("-Atc", "select 1; delete from orders; select 2")
    assert done.stdout == ""
    assert "blocked by policy" in done.stderr


def test_transaction_prompt_status_is_the_servers(psql):
    script = "begin;\ndelete from orders;\n\\echo :ERROR :SQLSTATE\nselect 'inside';\nrollback;\nselect count(*) from orders;\n"
    done = psql("-At", stdin=script)
    assert done.stdout.splitlines() == ["BEGIN", "true 42501", "inside", "ROLLBACK", "50"]


def test_describe_commands_work(psql):
    for command in (r"\d", r"\d customers", r"\dt+", r"\dv", r"\l", r"\conninfo"):
        done = psql("-c", command)
        assert done.returncode == 0, (command, done.stderr)


def test_copy_to_standard_output(psql):
    done = psql("-c", r"\copy (select id, ssn from customers order by id limit 2) to stdout")
    assert "001-12-0001" not in done.stdout
    assert len(done.stdout.splitlines()) == 2


def test_gexec_and_prepared_statements(psql):
    script = "prepare p as select name from customers where id = $1;\nexecute p(4);\n"
    done = psql("-At", stdin=script)
    assert "Customer 4" in done.stdout or "blocked by policy" in done.stderr
    assert "select 1" not in done.stderr


def test_interrupt_cancels_the_statement(gateway, server, authority, mint):
    process = subprocess.Popen(
        [str(server.bin_dir / "psql"), "-X", "-Atc", "select pg_sleep(61)"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=psql_environment(gateway, authority, mint()),
    )
    active = "select count(*) from pg_stat_activity where query like 'select pg_sleep(61)%' and state = 'active'"
    wait_until(lambda: server.run(active) == "1")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert "canceling statement due to user request" in stderr
    assert server.run(active) == "0"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"PGOPTIONS": "-c role=postgres"}, "start-up setting 'role' is not accepted"),
        ({"PGOPTIONS": "-c session_replication_role=replica"}, "is not accepted"),
        ({"PGCLIENTENCODING": "SJIS"}, "client encoding is not accepted"),
        ({"PGSSLMODE": "disable"}, "speaks TLS only"),
        ({"PGPASSWORD": "not-a-token"}, "token was refused"),
        ({"PGDATABASE": "elsewhere"}, 'no connection "elsewhere" is open to you'),
        ({"PGDATABASE": "elsewhere"}, "Use one of: shop"),
    ],
)
def test_logins_that_are_refused_say_why(psql, environment, said):
    done = psql("-c", "select 1", **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Decision " in done.stderr


def test_a_terminal_without_a_locale_is_served_in_utf8(psql):
    """psql asks for the encoding of its locale when it talks to a terminal, which is SQL_ASCII in most containers."""
    done = psql("-Atc", "select 'é'", "-c", "show client_encoding", PGCLIENTENCODING="SQL_ASCII")
    assert done.stdout == "é\nUTF8\n"


def test_time_zone_and_date_style_of_the_environment_are_passed(psql):
    done = psql("-Atc", "show timezone", PGTZ="Europe/Rome", PGDATESTYLE="ISO, DMY")
    assert done.stdout == "Europe/Rome\n"


def test_channel_binding_cannot_be_required(psql):
    done = psql("-c", "select 1", PGCHANNELBINDING="require")
    assert done.returncode == 2
    assert "channel binding" in done.stderr


def test_the_password_can_be_required_to_go_in_tls_only(psql):
    assert psql("-Atc", "select 1", PGREQUIREAUTH="password", PGGSSENCMODE="disable").stdout == "1\n"
