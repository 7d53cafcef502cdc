"""A full disk under the evidence: nothing happens any more, and the gateway says so; with space again it goes on where it was."""

import json
import subprocess

import pytest

from evidence.wal import SEGMENT_BYTES
from gateway.testing.waiting import wait_until
from gateway.testing.wire import Client, error_of, kinds

DISK_MB = SEGMENT_BYTES * 5 // 2 >> 20
"""Room for two write-ahead segments, since every start begins one of its own, and for what is published."""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own at the place of the evidence."""
    path = tmp_path / "evidence"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this account may not mount a file system")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path):
    """Take all the space there is; returns the file that has it."""
    filler = path / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def run_until_refused(client, statements):
    """Run statements until one is refused; returns (those that were acknowledged, the one that was refused, the error's fields).

    Spoken by hand, because a stock client may miss the last words of a session that ends between two of its statements.
    """
    done = []
    for statement in statements:
        messages = client.query(statement)
        if "C" in kinds(messages):
            done.append(statement)
        if "E" in kinds(messages):
            return done, statement, error_of(messages)
    raise AssertionError("the disk never ran full")


def read_spent(server):
    """The statements whose effect is in the database."""
    return {f"insert into spent values ({line})" for line in server.run("select n from spent", database="shop").split()}


@pytest.mark.timeout(120)
def test_nothing_happens_on_a_full_disk_and_everything_goes_on_with_space(
    serve, mint, server, verify, verify_program, small_disk, tmp_path
):
    gateway = serve(tmp_path, evidence={"ballast_mb": 1})
    writes, reads = Client(gateway.port), Client(gateway.port)
    writes.login(mint())
    reads.login(mint("agent-8"))
    assert kinds(writes.query("insert into spent values (0)")) == "CZ"
    assert kinds(reads.query("select id, ssn from customers where id = 1")) == "TDCZ"
    filler = fill(small_disk)

    values = (f"insert into spent values ({number})" for number in range(1, 20_000))
    accepted, last, fields = run_until_refused(writes, values)
    accepted.append("insert into spent values (0)")
    assert fields["C"] == "58030"
    held = read_spent(server)
    if fields["S"] == "ERROR":
        assert held == set(accepted)
    else:  # its decision was durable and its outcome is not: it may have happened, and the agent is told so
        assert "not known" in fields["H"]
        assert held - {last} == set(accepted)
    # From here on nothing: no write, no read, no login; and the process lives and says why.
    for client in (writes, reads):
        messages = client.query("select id, name from customers")
        assert "D" not in kinds(messages)
        assert not messages or error_of(messages)["C"] == "58030"
    newcomer = Client(gateway.port)
    fields = error_of(newcomer.login(mint()))
    assert (fields["S"], fields["C"]) == ("FATAL", "58030")
    assert "no record can be made durable" in fields["M"]
    assert gateway.is_alive
    status, problems = gateway.ask_health()
    assert status == 503
    assert "No space left" in problems["evidence"]
    assert read_spent(server) == held
    for client in (writes, reads, newcomer):
        client.close()

    # It cannot be started again on a disk that is still full, and says that too.
    gateway.stop()
    fill(small_disk)
    code, text = gateway.make_twin().fail_to_start()
    assert code == 6
    assert "Traceback" not in text, text
    assert "No space left" in json.loads(text.splitlines()[-1])["error"]["why"]

    filler.unlink()
    gateway.start()
    assert gateway.ask_health() == (200, {})
    with gateway.connect(mint()) as connection:
        connection.execute("insert into spent values (5000)")
    assert gateway.stop() == 0
    texts = set(gateway.read_statements().values())
    assert read_spent(server) | set(accepted) <= texts
    kinds_found = [record["type"] for record in gateway.read_records()]
    assert "evidence.degraded" in kinds_found
    assert {finding.code for finding in verify(gateway).findings if finding.severity != "note"} <= {"gap", "evidence.degraded"}
    assert verify_program(gateway)[0] == 2


@pytest.mark.timeout(60)
def test_a_disk_that_fills_while_rows_are_delivered(serve, mint, small_disk, tmp_path):
    gateway = serve(tmp_path, evidence={"ballast_mb": 1})
    client = Client(gateway.port)
    client.login(mint())
    assert kinds(client.query("select 1")) == "TDCZ"
    fill(small_disk)
    _, _, fields = run_until_refused(client, ["select id, note from big limit 200"] * 500)
    assert fields["C"] == "58030"
    client.close()
    wait_until(lambda: gateway.count_sessions() == 0)
    assert gateway.ask_health()[0] == 503
    assert gateway.stop() == 0
