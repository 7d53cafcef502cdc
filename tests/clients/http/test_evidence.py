"""The evidence of HTTP exchanges verifies, its transcripts show masked bodies, and nothing large stays in memory."""

import json
import resource
import threading

from click.testing import CliRunner

from gateway.cli import main


def test_it_verifies_is_recomputed_and_replays(make_gateway, mint, curl, tmp_path):
    with make_gateway(tmp_path) as running:
        token = mint()

        def ask(*arguments, **options):
            return curl(*arguments, running=running, token=token, **options)

        assert ask("/accounts").status == 200
        assert ask("/text").status == 200
        assert ask("/events").status == 200
        assert ask("/accounts/1", "-X", "DELETE").status == 403
        assert (
            ask("/transfers", "-X", "POST", "-H", "content-type: application/json", "-d", '{"ssn": "123-45-6789"}').status == 403
        )
        assert ask("/echo", "-X", "POST", "-d", "card=4111111111111111").status == 200
        assert ask("/a;b").status == 400
    store = running.config.evidence.store
    report = running.verify_evidence()
    assert report.exit_code == 0, report.findings
    assert report.counts.get("recomputed_same", 0) >= 8
    assert "recomputed_different" not in report.counts
    records = running.read_records()
    sessions = [record for record in records if record["type"] == "session.open"]
    assert len(sessions) == 1, "one subject, one connection, one session"
    assert sessions[0]["protocol"] == "http"
    raw = "".join(path.read_bytes().decode("latin-1") for path in store.rglob("*") if path.is_file())
    assert "123-45-6789" not in raw
    runner = CliRunner()
    shown = runner.invoke(
        main,
        ["sessions", "replay", str(store), sessions[0]["sid"], "--age-identity", str(tmp_path / "auditor.age"), "--json"],
    )
    assert shown.exit_code == 0, shown.output
    assert "Ann Archer" in shown.output
    assert "elapsed_ms" in shown.output
    assert "sha256" in shown.output
    assert "123-45-6789" not in shown.output
    assert "4111111111111111" not in shown.output


def test_a_large_stream_passes_through_a_few_megabytes(make_gateway, mint, curl, tmp_path):
    """The whole process, gateway and service in one, grows by less than 64 MB."""
    size = 150_000_000
    with make_gateway(tmp_path) as running:
        curl("/export?bytes=10000000", "-o", "/dev/null", running=running, token=mint())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        options = ("-o", "/dev/null", "-w", "%{http_code} %{size_download}", "--http1.1")
        answer = curl(f"/export?bytes={size}", *options, running=running, token=mint(), timeout=110)
        assert answer.all.split()[-2:] == ["200", str(size)], answer.all + answer.error
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 * 1024
    outcome = next(record for record in running.read_records() if record["type"] == "outcome" and record.get("bytes") == size)
    assert outcome["transcript_truncated"] is True


def test_a_large_answer_is_withheld_where_policy_does_not_stream_it(make_gateway, make_connection, mint, curl, tmp_path):
    with make_gateway(tmp_path, connections=[make_connection(max_response_bytes=1024, operations=[])]) as running:
        answer = curl("/export?bytes=100000", running=running, token=mint())
        assert answer.status == 403
        assert answer.json["rule"] == "http.response_size"
    statuses = [record["status"] for record in running.read_records() if record["type"] == "outcome"]
    assert statuses == ["withheld"]


def test_no_byte_of_an_answer_leaves_before_the_record_is_durable(make_gateway, mint, curl, service, tmp_path, monkeypatch):
    """Release point (b): the read may be under way, its answer waits for the disk."""
    from gateway.pipeline import PipelineSession  # noqa: PLC0415 - only here

    gate, waits = threading.Event(), threading.Event()
    release = PipelineSession.release_replies

    async def hold(self):
        import asyncio  # noqa: PLC0415 - only here

        waits.set()
        await asyncio.to_thread(gate.wait, 30)
        await release(self)

    monkeypatch.setattr(PipelineSession, "release_replies", hold)
    answers = []
    with make_gateway(tmp_path) as running:
        before = len(service.find("/accounts"))
        token = mint()
        asking = threading.Thread(target=lambda: answers.append(curl("/accounts", running=running, token=token, timeout=60)))
        asking.start()
        assert waits.wait(20)
        assert len(service.find("/accounts")) == before + 1
        assert not answers
        gate.set()
        asking.join(30)
        assert answers[0].status == 200


def test_the_bytes_of_a_session_are_counted(make_gateway, mint, curl, bundle, tmp_path, issuer, make_connection):
    import shutil  # noqa: PLC0415 - only here

    from gateway.policy.bundle import write_manifest  # noqa: PLC0415 - only here

    own = tmp_path / "bundle"
    shutil.copytree(bundle, own)
    data = json.loads((own / "site/data.json").read_text())
    data["http"]["session_bytes"] = 300
    (own / "site/data.json").write_text(json.dumps(data))
    write_manifest(own)
    with make_gateway(tmp_path / "gateway", policy={"bundle": str(own)}) as running:
        token = mint()
        assert curl("/accounts", running=running, token=token).status == 200
        second = curl("/accounts", running=running, token=token)
        assert second.status in {403, 413}, second.all
        third = curl("/text", running=running, token=token)
        assert third.status == 200 or third.json["rule"] == "http.limit"
        assert curl("/text", running=running, token=mint("agent-8")).status == 200, "another subject, another session"
