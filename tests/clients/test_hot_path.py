"""The hot path against the slow one: the same conversations leave the same records, inputs, transcripts and digests.

A gateway without a decision cache learns nothing, so it takes the slow path each time; another differs from it in that setting alone.
Two more lend their sessions to the relay as well, as soon as two arrivals needed no decision: with one nothing is encrypted, with the
other both connections are.
"""

import hashlib
import hmac
import json
from itertools import permutations

import psycopg
import pytest
from psycopg import sql

from evidence.keys import load_log_key
from evidence.note import NoteSigner
from evidence.sessions import replay
from evidence.store import EvidenceStore
from evidence.trust import IdentityRule, SigstoreTrust
from evidence.verify import verify_directory
from evidence.verify_trust import TrustPolicy
from gateway.policy.verdicts import VerdictRecomputer
from gateway.serve.postgres import traffic
from gateway.testing.sigstore import DEFAULT_ISSUER

PLACE = {
    *("seq", "sseq", "sprev", "ts", "mono_us", "sid", "duration_ns", "cached", "digest", "approval", "ticket"),
    *("dek_commit", "dek_sha256", "openings_sha256", "recipients", "openings_recipients"),
}
"""Members that differ between two runs whatever path they take."""

ORDERS = "truncate orders restart identity; insert into orders (customer, amount) select n, n * 10 from generate_series(1, 50) n"


def converse(connection):
    """Every kind of statement often enough to be learned, each time with other constants, and what ends a lesson's use."""
    answers = []

    def run(text, params=None, **options):
        try:
            with connection.cursor(binary=options.get("binary", False)) as cursor:
                cursor.execute(text, params, prepare=options.get("prepare"))
                answers.append(cursor.fetchall() if cursor.description else cursor.statusmessage)
        except psycopg.Error as error:
            answers.append((error.sqlstate, error.diag.message_primary))

    for number in range(1, 5):
        run(f"select id, name, ssn from customers where id = {number}")
        run(f"select name from customers where email = 'c{number}@nowhere'")
        run(f"select count(*) from orders where customer in ({number}, {number + 1}) and amount > {number}")
        run("select note from events limit 3")
        run(f"update orders set amount = amount + {number} where id = {number}")
        run(f"insert into orders (customer, amount) values ({number}, -{number})")
        run(f"delete from orders where id = {1000 + number}")
        run("delete from orders")
        run(f"select 1 / (id - {number}) from customers where id = {number}")
        run(f"select '4111111111111111' where 1 = {number}")
        run(f"select name from customers where name = '4111 1111 1111 1111' and id = {number}")
        run("select name, ssn from customers where id = %s", (number,), prepare=True)
        run(
            "select id from customers where id = %s and name <> %s",
            (number, 'a "quoted" \n name \u00e4'),
            prepare=True,
            binary=True,
        )
        run("select amount from orders where id = %s", (number,), prepare=False)
        run("select name from customers where name = %s", ("4111111111111111",), prepare=True)
        run("update accounts set balance = %s where id = 1", (number,))
        run("begin")
        run(f"update orders set amount = {number} where id = {number}")
        run("select name from nowhere")
        run("rollback")
        with connection.cursor() as cursor, cursor.copy("copy (select id from customers where id < 3) to stdout") as copied:
            answers.append([bytes(data) for data in copied])
        run(f"select id from customers where id = {number}; select {number}")
        if number == 2:  # the catalogue changes: everything is decided anew
            run("create table made (id int)")
            run("drop table made")
    for number in range(1, 25):  # in a row, so that the relay has all of it where it may; then what it may not decide
        run(f"select name, ssn from customers where id = {number % 4 + 1}")
        run("select id from customers where id = %s and name <> %s", (number, "x"), prepare=True, binary=True)
        run(f"update orders set amount = {number} where id = {number}")
        if number % 8 == 0:
            run("delete from orders")
            run(f"select 1 / (id - {number % 4 + 1}) from customers where id = {number % 4 + 1}")
    with connection.pipeline():
        cursors = [connection.execute("select id from customers where id = %s", (number,)) for number in range(1, 7)]
    answers.append([cursor.fetchall() for cursor in cursors])
    run(sql.SQL("select name from customers where id = {}").format(9))
    return answers


@pytest.fixture(scope="module")
def served(make_gateway, make_connection, authority, mint, server, tmp_path_factory):
    """The gateways, stopped, what they answered, and how often a session was lent: learning, lending in two ways, and neither."""
    done, token = {}, mint()
    for name, policy, lend_after, is_tls in (
        ("hot", {}, 1 << 30, True),
        ("lent", {}, 2, False),
        ("lent over TLS", {}, 2, True),
        ("slow", {"cache_entries": 0}, 2, True),
    ):
        server.run(ORDERS, database="shop")
        connection = make_connection()
        trust = {"sslmode": "verify-full", "sslrootcert": str(authority.ca_file)}
        if not is_tls:
            connection["target"]["tls"] = {"mode": "disable"}
            trust = {"sslmode": "disable"}
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        with (
            pytest.MonkeyPatch.context() as patch,
            make_gateway(folder, policy=policy, tls=is_tls, connections=[connection]) as running,
        ):
            patch.setattr(traffic, "LEND_AFTER", lend_after)
            options = {"host": "localhost", "port": running.port, "dbname": "shop", "user": "agent", "password": token}
            with psycopg.connect(**options, **trust, autocommit=True, prepare_threshold=3) as opened:
                answers = converse(opened)
            loans = running.gateway.count()["postgres_loans_total"]
        done[name] = running, answers, loans
    server.run(ORDERS, database="shop")
    return done


def read_session(running):
    """The records of the one session as (record, opened chunk), and its salt."""
    section = running.config.evidence
    store = EvidenceStore(section.store)
    (origin,) = store.list_origins()
    log = store.open_log(origin)
    age = [(section.store.parent / "auditor.age").read_text()]
    records = [record for record in running.read_records() if record["sid"] != "log"]
    (sid,) = {record["sid"] for record in records}
    key = log.unwrap_data_key(sid, age)

    def open_chunk(record):
        reference = record.get("input") or record.get("transcript")
        if not isinstance(reference, dict):
            return None
        plain = log.open_chunk(origin, sid, reference["n"], key, reference.get("base"))
        assert len(plain) == reference["bytes"]
        assert hashlib.sha256(log.read_chunk(sid, reference["n"])).hexdigest() == reference["sha256"]
        return plain

    return [(record, open_chunk(record)) for record in records], log.unwrap_salt(sid, age)


def rename(record, ids):
    """The record with ids and catalogue digests by the order in which they came, and without what differs between two runs."""
    renamed = {name: value for name, value in record.items() if name not in PLACE}
    for name in ("decision_id", "request_decision_id"):
        if name in renamed:
            renamed[name] = ids.setdefault(renamed[name], f"d{len(ids)}")
    for name in ("input", "transcript", "answer"):
        if isinstance(renamed.get(name), dict):
            # An answer is a plan, which changes as soon as the server has looked at its tables.
            renamed[name] = renamed[name]["bytes"] if name == "transcript" else "sealed"
    if "facts" in renamed:
        renamed["facts"] = rename_catalog(renamed["facts"], ids)
    return renamed


def rename_catalog(facts, ids):
    """A table made anew has another number, so the catalogue has another digest in each run."""
    digest = facts.get("catalog_digest", "")
    return {**facts, "catalog_digest": ids.setdefault(digest, f"d{len(ids)}")}


def open_input(chunk, ids):
    """An input document without times and the session's id."""
    document = json.loads(chunk)
    for name in ("now", "now_ns"):
        document["context"].pop(name)
    for name in ("id", "started_at"):
        document["context"]["session"].pop(name)
    document["postgres"]["facts"] = rename_catalog(document["postgres"]["facts"], ids)
    return document


def normalize(session):
    """Records and chunks without what differs between two runs.

    The two directions of a session leave some freedom in the order of records of different actions, so they are grouped by the
    decision they belong to; the order within one stays.
    """
    ids, grouped = {}, {}
    for record, chunk in session:
        group = record.get("request_decision_id") or record.get("decision_id") or record["type"]
        opened = {"decision": lambda chunk=chunk: open_input(chunk, ids), "outcome": lambda chunk=chunk: chunk}
        read = opened.get(record["type"], lambda: None)
        grouped.setdefault(group, []).append((rename(record, ids), read()))
    # The end of a Parse and the description that comes with it are recorded in the order in which they were read, which packets decide.
    return [sorted(group, key=lambda pair: (pair[0]["type"], pair[0].get("phase", ""))) for group in grouped.values()]


@pytest.mark.parametrize("name", ["hot", "lent", "lent over TLS"])
def test_clients_see_the_same(served, name):
    ours, slow = served[name][1], served["slow"][1]
    assert [one for one, other in zip(ours, slow, strict=True) if one != other] == []


@pytest.mark.parametrize("name", ["hot", "lent", "lent over TLS"])
def test_the_same_is_recorded(served, name):
    ours, slow = (normalize(read_session(served[which][0])[0]) for which in (name, "slow"))
    for one, other in zip(ours, slow, strict=True):
        assert one == other


def test_only_what_was_learned_is_lent(served):
    loans = {name: found[2] for name, found in served.items()}
    assert min(loans["lent"], loans["lent over TLS"]) >= 8
    assert loans["hot"] == loans["slow"] == 0


@pytest.mark.parametrize("name", ["hot", "lent"])
def test_what_was_packed_against_an_earlier_input_can_be_read_again(served, name):
    section = served[name][0].config.evidence
    (sid,) = {record["sid"] for record in served[name][0].read_records() if record["sid"] != "log"}
    packed = {record["seq"] for record in served[name][0].read_records() if "base" in (record.get("input") or {})}
    assert len(packed) >= 40
    steps = list(replay(section.store, sid, [(section.store.parent / "auditor.age").read_text()], whole=True))
    asked = [step.content for step in steps if step.kind == "decision"]
    assert len(asked) > len(packed)
    assert not [content for content in asked if not content or "does not open" in content or content.startswith("[")]


def test_the_hot_path_was_taken_by_every_kind_of_statement(served):
    for name, least in (("hot", 40), ("lent", 40), ("lent over TLS", 40), ("slow", 0)):
        session, _ = read_session(served[name][0])
        taken = [
            (record, json.loads(chunk)) for record, chunk in session if record["type"] == "decision" and not record["duration_ns"]
        ]
        assert len(taken) >= least
        assert (len(taken) == 0) == (least == 0)
        if least:
            texts = " ".join(chunk["postgres"]["payload"]["text"] for _, chunk in taken)
            assert {record["phase"] for record, _ in taken} == {"request", "response"}
            assert {record["release"] for record, _ in taken} == {"a", "b"}
            assert {chunk["postgres"]["facts"]["mode"] for _, chunk in taken} == {"simple", "extended"}
            assert "411111" not in texts
            for word in ("select", "insert", "update", "begin", "$1"):
                assert word in texts


@pytest.mark.parametrize("name", ["hot", "lent", "lent over TLS"])
def test_what_is_learned_is_masked_and_released_as_before(served, name):
    answers = served[name][1]
    rows = [row for answer in answers if isinstance(answer, list) for row in answer if len(row) > 1]
    assert not [row for row in rows if any(isinstance(cell, str) and "-12-00" in cell for cell in row)]
    session, _ = read_session(served[name][0])
    writes = [record for record, _ in session if record["type"] == "decision" and "write" in record["action"]["effects"]]
    assert writes
    assert {record["release"] for record in writes} == {"a"}


@pytest.mark.parametrize("name", ["hot", "lent", "lent over TLS"])
def test_digests_cover_the_action(served, name):
    session, salt = read_session(served[name][0])
    paths = [list(path) for count in range(1, 4) for path in permutations(["pg_catalog", "public", "sealgate_owner"], count)]
    checked = 0
    for record, chunk in session:
        if record["type"] != "decision" or record["replay"] != "exact":
            continue
        document = json.loads(chunk)
        payload = document["postgres"]["payload"]

        def commit(path, record=record, document=document, payload=payload):
            canonical = {**payload, "database": document["postgres"]["facts"]["database"], "search_path": path}
            material = {
                "schema": "sealgate.action-digest/1",
                "subject": document["subject"]["id"],
                "connection": document["resource"]["connection"],
                "protocol": "postgres",
                "action": record["action"]["name"],
                "canonical": canonical,
            }
            written = json.dumps(material, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
            return hmac.new(salt, hashlib.sha256(written).digest(), hashlib.sha256).hexdigest()

        assert record["digest"] in [commit(path) for path in paths], payload
        checked += 1
    assert checked > 50


@pytest.mark.parametrize("name", ["hot", "lent", "lent over TLS"])
def test_it_verifies_and_every_verdict_is_recomputed(served, name):
    section = served[name][0].config.evidence
    folder = section.store.parent
    (origin,) = EvidenceStore(section.store).list_origins()
    key = load_log_key(folder / "log-key.pem")
    trust = TrustPolicy(
        sigstore=SigstoreTrust((section.store / "development-sigstore/trust_config.json").read_text()),
        log_keys=(NoteSigner(origin, key).verifier_key,),
        gateway=(IdentityRule("*", DEFAULT_ISSUER),),
        accept_development=True,
    )
    archives = list((section.store / origin / "policy").iterdir())
    with VerdictRecomputer(archives) as recompute:
        report = verify_directory(
            section.store, trust, age_identities=[(folder / "auditor.age").read_text()], recompute=recompute
        )
    assert report.exit_code == 0, report.findings
    assert "recomputed_different" not in report.counts


def test_a_learned_text_under_a_name_is_known_to_sql(make_gateway, authority, mint, server, tmp_path_factory):
    """A Parse message that names a statement is never taken by the kernel: EXECUTE may name it later, and means what it says then."""
    server.run(ORDERS, database="shop")
    with make_gateway(tmp_path_factory.mktemp("names")) as running:
        options = {"host": "localhost", "port": running.port, "dbname": "shop", "user": "agent", "password": mint()}
        trust = {"sslmode": "verify-full", "sslrootcert": str(authority.ca_file), "autocommit": True}
        with psycopg.connect(**options, **trust) as connection:
            harmless, guarded = "select id from customers where id = 1", "update accounts set balance = 9 where id = 1"
            for _ in range(3):  # both texts pass without a name first
                connection.execute(harmless, prepare=False)
            raw = connection.pgconn
            raw.prepare(b"s", harmless.encode())
            raw.prepare(b"t", guarded.encode())
            assert connection.execute("execute s").fetchall() == [(1,)]
            raw.exec_(b"deallocate s")
            raw.prepare(b"s", guarded.encode())
            with pytest.raises(psycopg.Error, match="needs approval"):
                connection.execute("execute s")
    assert server.run("select balance from accounts where id = 1", database="shop") != "9"
