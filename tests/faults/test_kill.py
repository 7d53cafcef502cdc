"""The invariant under SIGKILL: no effect and no data without a durable record, whatever the moment.

Agents run numbered statements without a pause: INSERTs, whose record must be durable before the target sees them, and SELECTs, whose
record must be durable before the agent sees a row. The gateway is killed again and again and started on the same evidence.
"""

import contextlib
import random
import threading

import psycopg
import pytest

from gateway.testing.waiting import wait_until

ROUNDS = 6
AGENTS = 3
SEED = 20_261
MOST_ANSWERS = 150
"""A round ends after at most this many answers: enough to be anywhere in a checkpoint's and an attestation's course."""

ADMITTED = {
    "log.tail",
    "log.unattested",
    "session.not_closed",
    "wal.torn",
    "gap",
    "bundle.missing",
    "checkpoint.missing",
    "statement.missing",
}
"""What the evidence of a gateway that was just killed may lack. Nothing in it may contradict anything."""


class Agent(threading.Thread):
    """Runs numbered statements until the gateway is gone.

    Attributes:
        written: numbers whose INSERT was acknowledged.
        read: numbers whose SELECT gave its row.
    """

    def __init__(self, gateway, token, numbers):
        super().__init__(daemon=True)
        self.gateway, self.token, self.numbers = gateway, token, numbers
        self.written, self.read = [], []

    def run(self):
        with contextlib.suppress(psycopg.OperationalError), self.gateway.connect(self.token) as connection:
            for number in self.numbers:
                connection.execute(f"insert into steps (n) values ({number})")
                self.written.append(number)
                row = connection.execute(f"select {number}, count(*) from customers").fetchone()
                assert row == (number, 20)
                self.read.append(number)

    @property
    def answers(self):
        return len(self.written) + len(self.read)


def written_number(text):
    """The number of an INSERT, or None."""
    return int(text.split("(")[-1].rstrip(")")) if text.startswith("insert") else None


def read_number(text):
    """The number of a SELECT, or None."""
    return int(text.split()[1].rstrip(",")) if text.startswith("select") else None


def codes(report):
    return {finding.code for finding in report.findings if finding.severity != "note"}


@pytest.mark.timeout(180)
def test_killed_at_random_moments_no_effect_and_no_data_is_without_its_record(
    serve, mint, server, verify, verify_program, tmp_path
):
    chance = random.Random(SEED)
    gateway = serve(tmp_path)
    agents, last_seen, sizes = [], [], []
    for round_number in range(ROUNDS):
        started = [
            Agent(
                gateway, mint(f"agent-{place}"), range(100_000 * round_number + 10_000 * place + 1, 100_000 * (round_number + 1))
            )
            for place in range(AGENTS)
        ]
        for agent in started:
            agent.start()
        wanted = chance.randrange(1, MOST_ANSWERS)
        wait_until(lambda started=started, wanted=wanted: sum(agent.answers for agent in started) >= wanted)
        last_seen.append(gateway.read_log()[0].read_note())
        gateway.kill()
        for agent in started:
            agent.join(20)
            assert not agent.is_alive()
        agents += started
        # What the dead gateway left, before anything repaired it.
        report = verify(gateway, last_seen=last_seen)
        assert report.exit_code == 2
        assert codes(report) <= ADMITTED, report.findings
        sizes.append(gateway.read_log()[0].read_checkpoint().size)
        gateway.start()
    # A statement that was under way may still take effect after its gateway is gone.
    active = "select count(*) from pg_stat_activity where usename = 'sealgate_owner' and state <> 'idle'"
    wait_until(lambda: server.run(active) == "0")
    visible = {int(line) for line in server.run("select n from steps", database="shop").split()}
    assert gateway.stop() == 0

    records, texts = gateway.read_records(), gateway.read_statements()
    decided = {
        record["decision_id"]: record for record in records if record["type"] == "decision" and record["phase"] == "request"
    }
    may_write = {
        written_number(texts[name]) for name, record in decided.items() if record["release"] == "a" and not record["refused"]
    }
    may_read = {
        read_number(texts[name]) for name, record in decided.items() if record["release"] == "b" and not record["refused"]
    }
    acknowledged = {number for agent in agents for number in agent.written}
    assert len(acknowledged) >= ROUNDS
    assert acknowledged <= visible, "an acknowledged INSERT did not happen"
    assert visible <= may_write, "an INSERT happened without a record"
    assert {number for agent in agents for number in agent.read} <= may_read, "rows were delivered without a record"

    # Every start wrote down what it found, and how everything ended that was under way.
    opened = [record for record in records if record["type"] == "log.open"]
    assert len(opened) == ROUNDS + 1
    ended = {record["decision_id"]: record["status"] for record in records if record["type"] == "outcome"}
    assert set(ended) == {name for name, record in decided.items() if not record["refused"]}
    unknown = {name for name, status in ended.items() if status == "unknown"}
    assert len(unknown) == sum(record["recovered"]["outcomes"] for record in opened)
    assert unknown, "no kill came at a moment that mattered"
    assert {status for name, status in ended.items() if name not in unknown} == {"completed"}
    closed = [record["sid"] for record in records if record["type"] == "session.close"]
    assert sorted(closed) == sorted(record["sid"] for record in records if record["type"] == "session.open")
    for size, record in zip(sizes, opened[1:], strict=True):
        assert record["recovered"]["records"] >= size

    code, report = verify_program(gateway)
    assert {finding["code"] for finding in report["findings"] if finding["severity"] != "note"} <= {"gap"}, report["findings"]
    assert code == (2 if any(finding["code"] == "gap" for finding in report["findings"]) else 0)
    assert codes(verify(gateway, last_seen=last_seen)) <= {"gap"}


def segments(path):
    return sorted(path.glob("wal/*.wal"))


def signed(path):
    return (path / "checkpoint").read_bytes()


def attested(path):
    return sorted(path.glob("attest/*"))


@pytest.mark.timeout(120)
def test_killed_in_every_phase_of_a_start_and_while_stopping(serve, mint, verify, tmp_path):
    gateway = serve(tmp_path)
    connection = gateway.connect(mint())
    connection.execute("select 1")
    reader, _ = gateway.read_log()
    wait_until((reader.path / "checkpoint").exists)  # what is durable may be signed a moment later
    gateway.kill()
    connection.close()
    for look in (segments, signed, attested):
        before, size = look(reader.path), reader.read_checkpoint().size
        gateway.launch()
        wait_until(lambda look=look, before=before: look(reader.path) != before or not gateway.is_alive)
        assert gateway.is_alive, gateway.read_errors()
        gateway.kill()
        report = verify(gateway)
        assert report.exit_code in {0, 2}
        assert codes(report) <= ADMITTED, report.findings
        assert reader.read_checkpoint().size >= size
    gateway.start()
    wait_until(lambda: list(reader.path.glob("attest/*.sigstore.json")))
    before = signed(reader.path)
    with gateway.connect(mint()) as connection:  # its records are what a stop has to sign
        gateway.process.terminate()
        wait_until(lambda: signed(reader.path) != before)
        gateway.kill()
        connection.close()
    # An attested note is written before its bundle, so this is what a kill between the two leaves.
    max(reader.path.glob("attest/*.sigstore.json"), key=lambda path: path.stat().st_mtime_ns).unlink()
    assert "bundle.missing" in codes(verify(gateway))
    gateway.start()
    assert gateway.stop() == 0
    assert codes(verify(gateway)) <= {"gap"}
