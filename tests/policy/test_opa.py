"""A real OPA server as engine: the same decisions, and every way it can fail to give one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from gateway.errors import PolicyError
from gateway.policy.bundle import Bundle
from gateway.policy.decide import DecisionPoint
from gateway.policy.engine import PolicyFailure, canonical
from gateway.policy.opa import SERVER_LIMIT, Opa
from gateway.policy.recompute import evaluate_bundle
from gateway.testing.policy import EVERYTHING, OpaServer, make_document, raw_bundle


@asynccontextmanager
async def connected(bundle: Bundle, url: str, **settings) -> AsyncIterator[Opa]:
    engine = Opa(bundle, url, **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


async def put(url: str, **content) -> None:
    async with httpx.AsyncClient() as client:
        (await client.put(url, **content)).raise_for_status()


async def kind_of(engine: Opa, **members) -> str:
    with pytest.raises(PolicyFailure) as caught:
        await engine.evaluate(make_document(**members), subject_key="a")
    return caught.value.kind


async def test_an_uploaded_bundle_decides_as_the_embedded_engine(small_bundle: Bundle, opa_server: OpaServer) -> None:
    async with connected(small_bundle, opa_server.url) as engine:
        assert engine.version[0].isdigit()
        for document in (make_document(), make_document(action={"name": "x", "effects": ["write"]}), {"phase": "request"}):
            assert canonical(await engine.evaluate(document, subject_key="a")) == evaluate_bundle(small_bundle, document)


async def test_uploading_twice_is_fine(small_bundle: Bundle, opa_server: OpaServer) -> None:
    for _ in range(2):
        async with connected(small_bundle, opa_server.url) as engine:
            await engine.evaluate(make_document(), subject_key="a")


async def test_a_server_with_other_modules_is_refused(small_bundle: Bundle, opa_server: OpaServer) -> None:
    await put(f"{opa_server.url}/v1/policies/other.rego", content="package other\n\nx := 1\n")
    with pytest.raises(PolicyError, match=r"other\.rego"):
        await Opa(small_bundle, opa_server.url).start()


async def test_a_module_opa_refuses_is_a_policy_error(opa_server: OpaServer) -> None:
    with pytest.raises(PolicyError, match="main"):
        await Opa(raw_bundle("f(n) := f(n - 1)", "decision := f(1)"), opa_server.url).start()


async def test_another_digest_on_the_server_is_a_failure(small_bundle: Bundle, opa_server: OpaServer) -> None:
    async with connected(small_bundle, opa_server.url) as engine:
        await put(f"{opa_server.url}/v1/data/sealgate_bundle", json={"digest": "sha256:other"})
        assert await kind_of(engine) == "digest"


async def test_undefined_builtin_errors_and_conflicts_are_failures(opa_server: OpaServer) -> None:
    rules = (
        'decision := 1 if input.case in {"one", "conflict"}',
        'decision := 2 if input.case == "conflict"',
        'decision := upper(input.context) if input.case == "error"',
    )
    async with connected(raw_bundle(*rules), opa_server.url) as engine:
        assert await engine.evaluate(make_document(case="one"), subject_key="a") == 1
        assert await kind_of(engine, case="none") == "no_result"
        assert await kind_of(engine, case="conflict") == "error"
        assert await kind_of(engine, case="error") == "error"


async def test_provenance_must_name_our_bundle(small_bundle: Bundle, opa_server: OpaServer) -> None:
    async with connected(small_bundle, opa_server.url):
        pass
    async with connected(small_bundle, opa_server.url, upload=False) as engine:
        assert await kind_of(engine) == "digest"


async def test_a_bundle_the_server_loaded_itself_is_recognised_by_its_revision(
    small_bundle: Bundle, opa_program: str, tmp_path
) -> None:
    for module in small_bundle.modules:
        (tmp_path / module.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module.path).write_text(module.text)
    (tmp_path / "data.json").write_text(json.dumps(small_bundle.data))
    (tmp_path / ".manifest").write_text(
        json.dumps({"revision": small_bundle.digest, "roots": ["sealgate", "site", "sealgate_rules"]})
    )
    server = OpaServer(opa_program, "--bundle", str(tmp_path))
    server.start()
    try:
        async with connected(small_bundle, server.url, upload=False) as engine:
            answer = canonical(await engine.evaluate(make_document(), subject_key="a"))
        assert answer == evaluate_bundle(small_bundle, make_document())
    finally:
        server.stop()


async def test_a_burst_waits_in_line_and_who_waits_too_long_is_told_so(small_bundle: Bundle, opa_server: OpaServer) -> None:
    async with connected(small_bundle, opa_server.url, deadline_s=60, wait_s=0.1) as engine:
        opa_server.pause()
        asked = [asyncio.ensure_future(engine.evaluate(make_document(), subject_key="a")) for _ in range(SERVER_LIMIT)]
        await asyncio.sleep(0)
        assert await kind_of(engine) == "busy"
        opa_server.resume()
        assert len(await asyncio.gather(*asked)) == SERVER_LIMIT
        assert await engine.evaluate(make_document(), subject_key="a")


async def test_a_server_that_goes_away_blocks_with_a_cause(small_bundle: Bundle, opa_server: OpaServer) -> None:
    async with connected(small_bundle, opa_server.url) as engine:
        point = DecisionPoint(engine, small_bundle)
        assert (await point.decide(make_document(), EVERYTHING)).effect == "allow"
        opa_server.stop()
        decision = await point.decide(make_document(), EVERYTHING)
    assert (decision.effect, decision.cause) == ("block", "policy.died")


async def test_no_server_at_start_is_a_policy_error(small_bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(PolicyError, match="cannot be used"):
        await Opa(small_bundle, f"http://127.0.0.1:{port}").start()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8181", "ftp://x", "http://", "http://x/prefix"])
def test_addresses_that_are_none_are_refused(small_bundle: Bundle, url: str) -> None:
    with pytest.raises(PolicyError):
        Opa(small_bundle, url)


DECISION = b'{"decision": {"effect": "allow"}, "digest": "sha256:x"}'


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"{}", "no_result"),
        (200, b'{"warning": {"code": "api_usage_warning"}}', "no_result"),
        (200, b"[]", "shape"),
        (200, b'{"result": []}', "shape"),
        (200, b'{"result": {"decision": {}}}', "shape"),
        (200, b'{"result": ' + DECISION + b"}", "digest"),
        (200, b"not json", "died"),
        (500, b"{}", "error"),
        (404, b'{"result": ' + DECISION + b"}", "error"),
        (204, b"", "shape"),
        (302, b"", "shape"),
    ],
)
async def test_garbage_is_a_failure(small_bundle: Bundle, status: int, body: bytes, kind: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        question = await reader.readexactly(length)
        if b"opa.runtime" in question:
            content, code = b'{"result": [{"version": "9"}]}', 200
        else:
            content, code = body, status
        lines = (
            f"HTTP/1.1 {code} x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(lines.encode() + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    engine = Opa(small_bundle, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", upload=False)
    await engine.start()
    engine._upload = True  # this server takes no uploads; the answers are what is tested
    try:
        assert await kind_of(engine) == kind
    finally:
        await engine.aclose()
        server.close()


async def test_a_silent_server_meets_the_deadline(small_bundle: Bundle) -> None:
    release = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    engine = Opa(small_bundle, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", deadline_s=0.2)
    await engine._client.__aenter__()
    try:
        assert await kind_of(engine) == "deadline"
    finally:
        release.set()
        await engine.aclose()
        server.close()
