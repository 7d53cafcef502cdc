"""Each family of clients through the gateway: a masked read, a blocked change, and what is special about it."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess

import aiohttp
import httpx
import pytest
import requests
import websockets
from websockets.asyncio.client import connect as connect_websocket

from gateway.client.contributions import Place
from gateway.client.environment import make_environment
from gateway.client.forwarder import Forwarder
from gateway.client.gateway_info import ask_gateway
from gateway.client.tokens import TokenSource

URL = "https://ledger.bank.test"


@pytest.fixture(scope="session")
def environment(gateway, mint, tmp_path_factory):
    """What `sealgate env` prints, as a dictionary."""
    token = mint()
    info = ask_gateway(f"http://127.0.0.1:{gateway.admin_port}", token, host="127.0.0.1")
    made = make_environment(info, Place(info.host, token, tmp_path_factory.mktemp("client")))
    return dict(made.variables)


def check(status, body, refused_status, refused):
    assert status == 200
    assert "Ann Archer" in body
    assert "45-6789" not in body
    assert refused_status == 403
    assert json.loads(refused)["rule"] == "http.destructive.operation"


@pytest.mark.parametrize("http2", [False, True])
def test_httpx(proxy_url, ca_file, http2):
    context = ssl.create_default_context(cafile=str(ca_file))
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])  # httpx leaves a given context as it is
    with httpx.Client(proxy=httpx.Proxy(proxy_url), verify=context, http1=True, http2=http2) as client:
        read, refused = client.get(f"{URL}/accounts"), client.delete(f"{URL}/accounts/1")
    check(read.status_code, read.text, refused.status_code, refused.text)
    assert read.http_version == ("HTTP/2" if http2 else "HTTP/1.1")


def test_requests_with_the_environment_only(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    read, refused = requests.get(f"{URL}/accounts", timeout=20), requests.delete(f"{URL}/accounts/1", timeout=20)
    check(read.status_code, read.text, refused.status_code, refused.text)


async def test_aiohttp(environment, ca_file, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    context = ssl.create_default_context(cafile=str(ca_file))
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(f"{URL}/accounts", ssl=context) as response:
            read = response.status, await response.text()
        async with session.delete(f"{URL}/accounts/1", ssl=context) as response:
            refused = response.status, await response.text()
    check(*read, *refused)


GO = """
package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	for _, method := range []string{"GET", "DELETE"} {
		path := "/accounts"
		if method == "DELETE" { path = "/accounts/1" }
		request, _ := http.NewRequest(method, "https://ledger.bank.test"+path, nil)
		response, err := http.DefaultClient.Do(request)
		if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
		body, _ := io.ReadAll(response.Body)
		fmt.Printf("%d %s %s\\n", response.StatusCode, response.Proto, body)
	}
}
"""


def test_go(environment, tmp_path):
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    (tmp_path / "main.go").write_text(GO)
    (tmp_path / "go.mod").write_text("module client\n\ngo 1.21\n")
    built = subprocess.run(
        [go, "build", "-o", "client", "."], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [tmp_path / "client"], env=os.environ | environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    read, refused = (line.split(" ", 2) for line in done.stdout.split("\n", 1))
    check(int(read[0]), read[2], int(refused[0]), refused[2])
    assert read[1] == "HTTP/2.0"


NODE = """
const http = require("http"), tls = require("tls"), fs = require("fs");
const proxy = new URL(process.env.HTTPS_PROXY);
function ask(method, path, done) {
  const connect = http.request({host: proxy.hostname, port: proxy.port, method: "CONNECT", path: "ledger.bank.test:443"});
  connect.on("connect", (answer, socket) => {
    const secure = tls.connect({socket, servername: "ledger.bank.test", ca: fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS)});
    let text = "";
    secure.on("secureConnect", () => secure.write(`${method} ${path} HTTP/1.1\\r\\nHost: ledger.bank.test\\r\\nConnection: close\\r\\n\\r\\n`));
    secure.on("data", (data) => text += data);
    secure.on("end", () => done(text));
  });
  connect.end();
}
ask("GET", "/accounts", (read) => ask("DELETE", "/accounts/1", (refused) => console.log(JSON.stringify({read, refused}))));
"""


async def test_node_through_the_forwarder(gateway, mint, environment, tmp_path):
    """Node sends a proxy no credentials of its own accord; the forwarder adds them, the current ones."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    token_file = tmp_path / "token"
    token_file.write_text("not yet a token")
    forwarder = Forwarder("127.0.0.1", gateway.http_port, TokenSource(token_file).read)
    await forwarder.start()
    token_file.write_text(mint())
    try:
        variables = environment | {"HTTPS_PROXY": f"http://{forwarder.address}"}
        process = await asyncio.create_subprocess_exec(
            node, "-e", NODE, env=os.environ | variables, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        await forwarder.stop()
    said = json.loads(output)
    read, refused = (said[name].partition("\r\n\r\n") for name in ("read", "refused"))
    check(int(read[0].split(" ")[1]), read[2], int(refused[0].split(" ")[1]), refused[2])


async def test_websockets(proxy_url, ca_file, service):
    context = ssl.create_default_context(cafile=str(ca_file))
    async with connect_websocket("wss://ledger.bank.test/socket", proxy=proxy_url, ssl=context) as socket:
        assert "permessage-deflate" not in str(socket.response.headers)
        await socket.send("hello")
        answer = json.loads(await socket.recv())
        assert answer["you"] == "hello"
        assert answer["ssn"] == "[masked:ssn]"
        await socket.send(json.dumps({"jsonrpc": "2.0", "method": "x", "id": 1}))
        await socket.recv()
        await socket.ping()
    assert service.record.messages[-2:] == ["hello", '{"jsonrpc": "2.0", "method": "x", "id": 1}']


async def test_a_websocket_message_nobody_can_read_ends_the_conversation(proxy_url, ca_file, service):
    context = ssl.create_default_context(cafile=str(ca_file))
    before = len(service.record.messages)
    async with connect_websocket("wss://ledger.bank.test/socket", proxy=proxy_url, ssl=context) as socket:
        await socket.send('{"a": 1, "a": 2}')
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            await socket.recv()
        assert caught.value.rcvd.code == 1008
        assert "the request cannot be read" in caught.value.rcvd.reason
    assert len(service.record.messages) == before
