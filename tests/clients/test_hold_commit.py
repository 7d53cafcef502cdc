"""Statements that run before their approval: their effect is shown, COMMIT waits for the verdict, and without one they are undone."""

import contextlib
import re
import shutil
import socket
import threading
from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg import errors

from evidence.approval_statement import ApprovalTerms, sign_statement
from evidence.keyless import KeylessSigner
from evidence.keys import load_log_key
from evidence.note import NoteSigner
from evidence.store import EvidenceStore
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify import verify_directory
from evidence.verify_trust import TrustPolicy
from gateway.approval.client import ApprovalsClient
from gateway.approval.store import ApprovalStore
from gateway.cli.approvals import print_request
from gateway.policy.bundle import write_manifest
from gateway.policy.verdicts import VerdictRecomputer
from gateway.protocols.postgres import hold
from gateway.testing.policy import add_topic
from gateway.testing.postgres import start_postgres
from gateway.testing.sigstore import DEFAULT_ISSUER, DevelopmentSigstore
from gateway.testing.waiting import wait_until

REVIEWER = "bob@bank.example"

HELD = """
# METADATA
# title: Vaults
# description: A change of a vault runs, and its COMMIT waits for a reviewer.
# custom:
#   id: test.vaults
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: It needs approval.
#   solution: Ask a reviewer.
approve contains {"rule": "test.vaults", "groups": ["reviewers"], "count": 1, "ttl_s": 600, "scope": "action"} if {
	input.phase == "request"
	_changes_vault
}

# METADATA
# title: Hold the COMMIT
# description: The change runs before its approval.
# custom:
#   id: test.held
#   severity: high
#   controls: [NIST-AC-5]
#   failure_msg: It is held.
#   solution: Nothing.
obligations contains {"rule": "test.held", "kind": "hold_commit", "lock_timeout_ms": 300} if {
	input.phase == "request"
	_changes_vault
}

# METADATA
# title: Changes a vault
# description: Whether a statement writes it.
# custom:
#   id: test.changes_vault
#   severity: low
#   controls: [NIST-AC-5]
#   failure_msg: Not a rule of its own.
#   solution: Nothing.
_changes_vault if {
	some statement in input.postgres.facts.statements
	some table in statement.tables
	startswith(table.name, "vault")
	table.access in {"write", "define"}
}
"""

VAULT = """
set role sealgate_owner;
drop table if exists vault;
create table vault (id serial primary key, amount int check (amount >= 0), due int unique deferrable initially deferred);
insert into vault (amount, due) select n * 10, n from generate_series(1, 5) n;
"""


@pytest.fixture(scope="module")
def sigstore():
    with DevelopmentSigstore() as running:
        yield running


@pytest.fixture(scope="module")
def held_bundle(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "bundle"
    shutil.copytree(bundle, folder)
    add_topic(folder, "postgres/vaults", HELD)
    write_manifest(folder)
    return folder


@pytest.fixture
def serve(make_gateway, make_connection, sigstore, issuer, held_bundle, tmp_path):
    """Runs a gateway whose reviewers can sign; keyword arguments replace members of its connection."""

    def make(**changes):
        folder = tmp_path / "gateway"
        folder.mkdir()
        trust, token = folder / "trust.json", folder / "gateway.token"
        trust.write_text(sigstore.trust_config)
        token.touch(mode=0o600)
        token.write_text(sigstore.mint_token("gateway@bank.example", lifetime=timedelta(hours=1)))
        shared = {"audience": ["sealgate"], "leeway_s": 0}
        issuers = [
            {"alias": "corp", "issuer": issuer.url, "jwks_url": issuer.jwks_url, **shared},
            {"alias": "bank", "issuer": DEFAULT_ISSUER, "jwks_url": sigstore.jwks_url, "kind_claim": "kind", **shared},
        ]
        signing = {"mode": "development", "trust_config": str(trust), "identity_token": f"file:{token}"}
        return make_gateway(
            folder,
            connections=[make_connection(**{"hold_s": 60} | changes)],
            policy={"bundle": str(held_bundle)},
            identity={"issuers": issuers},
            evidence={"sigstore": signing},
        )

    return make


@pytest.fixture
def vault(server):
    """Reads the table as everybody else sees it."""
    server.run(VAULT, database="shop")
    return lambda: server.run("select string_agg(amount::text, ' ' order by id) from vault", database="shop")


@pytest.fixture
def vote(sigstore):
    """The reviewer's verdict on the one request that waits and shows an effect, through the admin listener."""

    def answer(running, verdict="approve"):
        token = sigstore.mint_token(
            REVIEWER, audience="sealgate", claims={"groups": ["reviewers"], "kind": "human", "email": REVIEWER}
        )
        signer = KeylessSigner(sigstore.trust_config, lambda: sigstore.mint_token(REVIEWER))
        with ApprovalsClient(f"http://127.0.0.1:{running.admin_port}", token) as client:
            wait_until(lambda: any("effect" in client.show(item["ticket"])["preview"] for item in client.list_requests()))
            (ticket,) = [item["ticket"] for item in client.list_requests()]
            shown = client.show(ticket)
            client.vote(ticket, verdict, lambda request, said: sign_statement(signer, terms_of(request, said)))
        return shown

    return answer


def terms_of(request, verdict):
    return ApprovalTerms(
        action_digest=request["digest"],
        ticket=request["ticket"],
        decision=verdict,
        policy_digest=request["policy_digest"],
        nonce=request["nonce"],
        expires=datetime.fromisoformat(request["expires_at"]),
        connection=request["connection"],
    )


@contextlib.contextmanager
def background(work):
    """Runs work in a thread; what it returned or raised is in the list once the block has ended."""
    results = []

    def run():
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - handed to the test
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield results
    thread.join(30)
    assert not thread.is_alive()


def effects_shown(running):
    store = ApprovalStore(running.config.gateway.state)
    return [item.effect for item in store.list_requests(("pending",), 10) if item.effect is not None]


def test_an_approved_statement_is_kept_as_it_was_shown(serve, connect, vault, vote, capsys):
    with serve() as running:
        connection, notices = connect(running=running), []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        with background(
            lambda: connection.execute("update vault set amount = amount + 1 where id > %s returning id", (3,))
        ) as done:
            shown = vote(running)
            assert shown["preview"]["effect"] == {"tag": "UPDATE 2", "rows": 2}
            assert "UPDATE 2" not in vault()
        (cursor,) = done
        assert sorted(cursor.fetchall()) == [(4,), (5,)]
        assert notices == [f"this statement needs approval; waiting up to 60 s for ticket {shown['ticket']}"]
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.execute("select 7").fetchone() == (7,)
    assert vault() == "10 20 30 41 51"
    print_request(shown, as_json=False)
    assert "UPDATE 2" in capsys.readouterr().out


def test_nobody_else_sees_it_before_the_verdict_and_a_denial_undoes_it(serve, connect, vault, vote, server):
    with serve() as running:
        connection = connect(running=running)
        with background(lambda: connection.execute("delete from vault where id < 3")) as done:
            wait_until(lambda: effects_shown(running) == [{"tag": "DELETE 2", "rows": 2}])
            assert vault() == "10 20 30 40 50"
            vote(running, "deny")
        assert isinstance(done[0], errors.InsufficientPrivilege)
        assert "denied" in str(done[0])
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        server.run("set lock_timeout = '1s'; update vault set amount = amount where id = 1", database="shop")  # no lock is left
        assert connection.execute("select count(*) from vault").fetchone() == (5,)
    assert vault() == "10 20 30 40 50"


@pytest.mark.parametrize("is_simple", [True, False])
def test_without_a_verdict_it_is_undone_in_time(serve, connect, vault, server, is_simple):
    with serve(hold_s=0.2) as running:
        connection = connect(running=running)
        cursor = psycopg.ClientCursor(connection) if is_simple else connection.cursor()
        with pytest.raises(errors.InsufficientPrivilege, match="needs approval"):
            cursor.execute("insert into vault (amount, due) values (%s, 99)", (5,))
        assert connection.execute("select count(*) from vault").fetchone() == (5,)
        server.run("set lock_timeout = '1s'; update vault set amount = amount", database="shop")
        assert effects_shown(running) == [{"tag": "INSERT 0 1", "rows": 1}]
    kinds = [(record["type"], record.get("kind")) for record in running.read_records()]
    assert kinds.index(("approval.requested", None)) < kinds.index(("lookup", "postgres.hold"))


def test_a_client_that_leaves_takes_its_statement_with_it(serve, connect, vault, server):
    with serve() as running:
        connection = connect(running=running)
        with background(lambda: connection.execute("update vault set amount = 0")) as done:
            wait_until(lambda: effects_shown(running))
            with socket.socket(fileno=socket.dup(connection.fileno())) as raw:
                raw.shutdown(socket.SHUT_RDWR)
        assert isinstance(done[0], psycopg.Error)
        wait_until(lambda: running.session_count == 0)
        server.run("set lock_timeout = '5s'; update vault set amount = amount", database="shop")
    assert vault() == "10 20 30 40 50"


def test_a_cancel_undoes_it_and_the_session_goes_on(serve, connect, vault):
    with serve() as running:
        connection = connect(running=running)
        with background(lambda: connection.execute("update vault set amount = 0")) as done:
            wait_until(lambda: effects_shown(running))
            connection.cancel_safe(timeout=10)
        assert isinstance(done[0], errors.QueryCanceled)
        assert connection.execute("select sum(amount) from vault").fetchone() == (150,)


def test_a_token_that_ends_during_the_wait_undoes_it(serve, connect, vault, mint):
    with serve() as running:
        connection = connect(running=running, token=mint(ttl_s=3))
        with pytest.raises(psycopg.Error):
            connection.execute("update vault set amount = 0")
        assert effects_shown(running) == [{"tag": "UPDATE 5", "rows": 5}]
    assert vault() == "10 20 30 40 50"


def test_a_lock_somebody_holds_is_waited_for_shortly(serve, connect, vault, server):
    options = {"host": str(server.socket_dir), "port": server.port, "user": "postgres", "dbname": "shop"}
    with serve() as running, psycopg.connect(**options) as holder:
        holder.execute("select * from vault where id = 1 for update")
        connection = connect(running=running)
        with pytest.raises(errors.InsufficientPrivilege, match="undone") as refused:
            connection.execute("update vault set amount = 1 where id = 1")
        assert "55P03" in refused.value.diag.message_detail
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_statement_that_fails_says_no_more_than_its_code(serve, connect, vault):
    with serve() as running:
        connection = connect(running=running)
        for _ in range(2):
            with pytest.raises(errors.InsufficientPrivilege, match="undone") as refused:
                connection.execute("update vault set amount = -amount where id = 1")
            assert "23514" in refused.value.diag.message_detail
            assert not re.search(r"(?<![0-9a-f])-10(?![0-9a-f])", str(refused.value))  # a ticket may hold it by chance
        with pytest.raises(errors.SyntaxError):  # what fails ahead of the statement fails as ever
            connection.execute("update vault set amount = = 1")


def test_a_commit_that_fails_is_told_as_the_servers_error(serve, connect, vault, vote):
    with serve() as running:
        connection = connect(running=running)
        with background(lambda: connection.execute("update vault set due = 1 where id = 2")) as done:
            vote(running)
        assert isinstance(done[0], errors.UniqueViolation)
        assert connection.execute("select due from vault where id = 2").fetchone() == (2,)
    failed = [record for record in running.read_records() if record["type"] == "outcome" and record["status"] == "failed"]
    assert [record["error_code"] for record in failed] == ["23505"]


def test_another_effect_than_the_one_shown_is_never_kept(serve, connect, vault, vote, server):
    statement = "update vault set amount = 0 where amount >= 40"
    with serve(hold_s=0.2) as running:
        connection = connect(running=running)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)
        vote(running)  # two rows were shown
        server.run("update vault set amount = 45 where id = 1", database="shop")
        with pytest.raises(errors.InsufficientPrivilege, match="undone") as refused:
            connection.execute(statement)
        assert "approval.effect_changed" in refused.value.diag.message_detail
        assert vault() == "45 20 30 40 50"
        with pytest.raises(errors.InsufficientPrivilege, match="needs approval"):
            connection.execute(statement)  # a new request
        assert effects_shown(running) == [{"tag": "UPDATE 3", "rows": 3}]


def test_an_approval_after_the_wait_counts_for_the_same_effect(serve, connect, vault, vote):
    with serve(hold_s=0.2) as running:
        connection = connect(running=running)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("update vault set amount = 0 where id = 5")
        vote(running)
        connection.execute("update vault set amount = 0 where id = 5")
    assert vault() == "10 20 30 40 0"


def test_inside_a_transaction_the_commit_waits(serve, connect, vault, vote):
    with serve() as running:
        connection = connect(running=running, autocommit=False)
        assert connection.execute("update vault set amount = amount - 5 where id = 5").rowcount == 1
        assert connection.execute("select amount from vault where id = 5").fetchone() == (45,)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        with background(connection.commit) as done:
            assert effects_shown(running) == [{"tag": "UPDATE 1", "rows": 1}]
            assert vault() == "10 20 30 40 50"
            vote(running)
        assert done == [None]
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert vault() == "10 20 30 40 45"


def test_a_held_change_ends_in_time_whatever_its_client_sends(serve, connect, vault, monkeypatch, server):
    """The server bounds only how long nothing happens; others wait behind the change's locks all the same."""
    monkeypatch.setattr(hold, "IDLE_MARGIN_S", 2.5)
    with serve(hold_s=0.5) as running:
        connection = connect(running=running, autocommit=False)
        connection.execute("update vault set amount = amount - 5 where id = 5")

        def go_on():
            while True:
                connection.execute("select 1")

        with pytest.raises(psycopg.OperationalError, match="held a change"):
            go_on()
        server.run("set lock_timeout = '10s'; update vault set amount = amount", database="shop")
    assert vault() == "10 20 30 40 50"


@pytest.mark.parametrize("hold_s", [0.2, 60])
def test_a_commit_without_a_grant_rolls_back(serve, connect, vault, vote, hold_s, server):
    with serve(hold_s=hold_s) as running:
        connection = connect(running=running, autocommit=False)
        connection.execute("update vault set amount = 0")
        with background(connection.commit) as done:
            if hold_s == 60:
                vote(running, "deny")
        assert isinstance(done[0], errors.InsufficientPrivilege)
        assert "rolled back" in str(done[0])
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        server.run("set lock_timeout = '1s'; update vault set amount = amount", database="shop")
        connection.autocommit = True
        assert connection.execute("select sum(amount) from vault").fetchone() == (150,)
    assert vault() == "10 20 30 40 50"


def test_a_commit_of_the_extended_protocol_that_is_denied_is_an_error(serve, connect, vault, vote):
    """Its Parse and Bind are the server's to answer, although nothing of it may run."""
    with serve() as running:
        connection = connect(running=running)
        connection.execute("begin")
        connection.execute("update vault set amount = 0")
        with background(lambda: connection.pgconn.exec_params(b"commit", [])) as done:
            vote(running, "deny")
        (result,) = done
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"42501"
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.execute("select sum(amount) from vault").fetchone() == (150,)


def test_no_name_of_a_client_is_in_the_way(serve, connect, vault):
    with serve(hold_s=0.2) as running:
        connection = connect(running=running)
        connection.pgconn.prepare(b"sealgate_hold", b"update vault set amount = 0")
        result = connection.pgconn.exec_prepared(b"sealgate_hold", [])
        assert b"needs approval" in result.error_message
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.execute("select sum(amount) from vault").fetchone() == (150,)


@pytest.mark.parametrize(
    "loosening",
    [
        "set local idle_in_transaction_session_timeout = 0",
        "set LOCK_timeout = 0",
        "reset statement_timeout",
        "reset all",
        "select set_config('idle_in_transaction_session_timeout', '0', false)",
    ],
)
def test_the_bounds_of_a_held_change_stay(serve, connect, vault, loosening):
    with serve(hold_s=60) as running:
        connection = connect(running=running, autocommit=False)
        connection.execute("set statement_timeout = '40s'")  # what comes before is bounded again
        connection.execute("update vault set amount = 0 where id = 1")
        with pytest.raises(errors.Error, match="cannot be changed now"):
            connection.execute(loosening)
        connection.rollback()
        connection.execute("set lock_timeout = 0")
        connection.execute(loosening)
        connection.rollback()
    assert vault() == "10 20 30 40 50"


def test_a_transaction_cannot_be_committed_past_the_hold(serve, connect, vault):
    with serve(hold_s=0.2) as running:
        for way in (
            "commit; select 1",
            "prepare transaction 'x'",
            "rollback; begin; commit",
            "commit and chain",
            "end",
            "CoMMiT work",
        ):
            connection = connect(running=running)
            connection.execute("begin")
            connection.execute("update vault set amount = 0")
            with pytest.raises(psycopg.Error):
                connection.execute(way)
            connection.close()
        connection = connect(running=running)
        connection.execute("begin")
        connection.execute("update vault set amount = 0")
        with contextlib.suppress(psycopg.Error), connection.pipeline():  # sent together
            connection.execute("update vault set amount = 1")
            connection.execute("commit")
        connection.close()
        wait_until(lambda: running.session_count == 0)
    assert vault() == "10 20 30 40 50"


@pytest.mark.parametrize("is_one_text", [True, False])
def test_a_failed_transaction_cannot_be_mended_and_committed_in_one_go(serve, connect, vault, is_one_text):
    with serve(hold_s=0.2) as running:
        connection = connect(running=running)
        for statement in ("begin", "update vault set amount = 0", "savepoint s"):
            connection.execute(statement)
        with pytest.raises(errors.DivisionByZero):
            connection.execute("select 1/0")
        if is_one_text:
            with pytest.raises(psycopg.Error):
                connection.execute("rollback to s; commit")
        else:
            # They go out together, so that the second is judged before the first is answered.
            with contextlib.suppress(psycopg.Error), connection.pipeline():
                connection.execute("rollback to s")
                connection.execute("commit")
        connection.close()
        wait_until(lambda: running.session_count == 0)
    assert vault() == "10 20 30 40 50"


def test_settings_that_a_rollback_takes_back_disturb_nothing(serve, connect, vault):
    with serve(hold_s=0.2) as running:
        connection = connect(running=running, autocommit=False)
        connection.execute("set timezone = 'Asia/Tokyo'")
        connection.execute("update vault set amount = 0")
        with pytest.raises(errors.InsufficientPrivilege, match="rolled back"):
            connection.commit()
        assert connection.execute("select count(*) from vault").fetchone() == (5,)
        assert connection.info.timezone.key != "Asia/Tokyo"


def test_a_learned_commit_waits_too(serve, connect, vault):
    with serve(hold_s=0.2) as running:
        connection = connect(running=running)
        for _ in range(3):  # the session learns BEGIN and COMMIT
            connection.execute("begin")
            connection.execute("select 1")
            connection.execute("commit")
        connection.execute("begin")
        connection.execute("update vault set amount = 0")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("commit")
    assert vault() == "10 20 30 40 50"


def test_what_was_rolled_back_by_its_client_holds_nothing(serve, connect, vault):
    with serve(hold_s=0.2) as running:
        connection = connect(running=running)
        connection.execute("begin")
        connection.execute("update vault set amount = 0")
        connection.execute("rollback")
        connection.execute("begin")
        connection.execute("insert into events values (-1, 'held')")
        connection.execute("commit")
        connection.execute("delete from events where id = -1")
        connection.execute("begin")
        with pytest.raises(errors.CheckViolation):
            connection.execute("update vault set amount = -1")
        connection.execute("commit")  # of a failed transaction: the server rolls back
        assert connection.execute("select sum(amount) from vault").fetchone() == (150,)


@pytest.mark.parametrize(
    "statement",
    [
        "update vault set amount = 0; select 1",
        "truncate vault",
        "alter table vault add column x int",
        "update vault set amount = 1 where pg_notify('a', 'b') is null",
        "create index concurrently on vault (amount)",
    ],
)
def test_what_a_rollback_may_not_undo_waits_before_it_runs(serve, connect, vault, statement):
    with serve(hold_s=0.1) as running:
        with pytest.raises(errors.InsufficientPrivilege):
            connect(running=running).execute(statement)
        assert effects_shown(running) == []
    kinds = [record.get("kind") for record in running.read_records() if record["type"] == "lookup"]
    assert "postgres.hold" not in kinds


def test_rows_are_not_given_out_before_the_approval(serve, connect, vault):
    with serve(hold_s=0.1) as running:
        connection = connect(running=running)
        connection.execute("begin")
        with pytest.raises(errors.InsufficientPrivilege, match="needs approval"):
            connection.execute("update vault set amount = 0 returning due")
        connection.execute("rollback")


def test_a_target_that_goes_away_during_the_hold_ends_the_session(serve, connect, authority, tmp_path):
    with start_postgres(tls=authority.issue("target", ["127.0.0.1"])) as own:
        own.run(
            "create role sealgate_owner login password '0wner-s3cret-of-the-target'; create database shop owner sealgate_owner"
        )
        own.run("set role sealgate_owner; create table customers (ssn text)", database="shop")
        own.run(VAULT, database="shop")
        tls = {"mode": "verify-full", "ca_file": str(authority.ca_file)}
        target = {"host": "127.0.0.1", "port": own.port, "database": "shop", "tls": tls}
        with serve(target=target) as running:
            connection = connect(running=running)
            with background(lambda: connection.execute("update vault set amount = 0")) as done:
                wait_until(lambda: effects_shown(running))
                own.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'sealgate %'")
            assert isinstance(done[0], psycopg.OperationalError)
            wait_until(lambda: running.session_count == 0)
        assert own.run("select sum(amount) from vault", database="shop") == "150"


def test_the_evidence_of_held_statements_verifies(serve, connect, vault, vote, sigstore):
    with serve() as running:
        connection = connect(running=running)
        with background(lambda: connection.execute("update vault set amount = 1 where id = 1")):
            vote(running)
        with background(lambda: connection.execute("update vault set amount = 1 where id = 2")):
            vote(running, "deny")
        connection.autocommit = False
        connection.execute("update vault set amount = 1 where id = 3")
        with background(connection.commit):
            vote(running)
        connection.execute("update vault set amount = 1 where id = 4")
        with background(connection.commit):
            vote(running, "deny")
    section = running.config.evidence
    (origin,) = EvidenceStore(section.store).list_origins()
    trust = TrustPolicy(
        sigstore=SigstoreTrust(sigstore.trust_config),
        log_keys=(NoteSigner(origin, load_log_key(section.store.parent / "log-key.pem")).verifier_key,),
        gateway=(IdentityRule("*", DEFAULT_ISSUER),),
        reviewers=(IdentityRule(REVIEWER, DEFAULT_ISSUER),),
        accept_development=True,
    )
    archives = list((section.store / origin / "policy").iterdir())
    with VerdictRecomputer(archives) as recompute:
        ages = [(section.store.parent / "auditor.age").read_text()]
        report = verify_directory(section.store, trust, age_identities=ages, recompute=recompute)
    assert report.exit_code == 0, report.findings
    assert report.counts["approved_actions"] == 2
    records = running.read_records()
    let_through = {
        item["decision_id"]
        for item in records
        if item["type"] == "decision" and not item["refused"] and item["phase"] == "request"
    }
    ended = {item["decision_id"] for item in records if item["type"] == "outcome"}
    assert "unknown" not in {item["status"] for item in records if item["type"] == "outcome"}
    parsed = {item["decision_id"] for item in records if item.get("approval", {}).get("deferred")}
    assert let_through - parsed <= ended


def test_a_change_that_guesses_sensitive_values_does_not_run_before_its_approval(serve, server, vault, connect):
    """Undone it would be, but while it runs other sessions could read what each of its values told, and choose the next."""
    server.run("create index on vault (amount)", database="shop")
    with serve(hold_s=1, sensitive=["public.vault.amount"]) as running, connect(running=running) as session:
        before = server.run("select last_value from vault_id_seq", database="shop")
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("update vault set amount = nextval('vault_id_seq') where id > 0")
        assert server.run("select last_value from vault_id_seq", database="shop") == before
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("update vault set amount = nextval('vault_id_seq') where id = 1")
        assert server.run("select last_value from vault_id_seq", database="shop") == before
    assert vault() == "10 20 30 40 50"
