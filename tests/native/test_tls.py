"""TLS without sockets, against Python's own TLS as the other side."""

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import subprocess
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from sealgate_native.tls import ClientContext, ServerContext, TlsError

from gateway.testing.certificates import make_authority

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Peer:
    """The other side: Python's own TLS, without a socket either."""

    def __init__(self, context, **options):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)
        self.is_open = False

    def receive(self, data):
        """Plain bytes of what arrived; what is to be sent is in `take`."""
        self.incoming.write(data)
        plain = b""
        try:
            if not self.is_open:
                self.tls.do_handshake()
                self.is_open = True
            while part := self.tls.read():
                plain += part
        except ssl.SSLWantReadError:
            pass
        return plain

    def take(self):
        return self.outgoing.read()


def meet(channel, peer, *, begin=b""):
    """Both handshakes; what the two sides then have for each other is passed on."""
    to_peer, to_channel = begin, peer.take()
    while to_peer or to_channel:
        plain = peer.receive(to_peer) if to_peer else b""
        assert not plain
        to_channel += peer.take()
        to_peer = b""
        if to_channel:
            assert channel.receive(to_channel) == b""
            to_peer, to_channel = channel.take_outgoing(), b""
    assert channel.is_open
    assert peer.is_open


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority):
    """PEM chain and key of a server."""
    return tuple(path.read_bytes() for path in authority.issue("server"))


def client_peer(authority, version="TLSv1.3", alpn=None):
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if alpn:
        context.set_alpn_protocols(alpn)
    peer = Peer(context, server_side=False, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    return peer


def server_peer(cert_file, key_file, *, ask=None, version="TLSv1.3"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = VERSIONS[version]
    context.load_cert_chain(cert_file, key_file)
    if ask is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ask)
    return Peer(context, server_side=True)


def connect(channel, peer):
    meet(channel, peer, begin=channel.begin())


class Issuer:
    """Certificates as servers have them, good ones and others, all signed by one authority."""

    def __init__(self, folder):
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.sign("root", [], self.key, ca=True, signer=None)
        self.ca_file = folder / "root.crt"

    def sign(self, name, names, key=None, *, ca=False, signer="root", days=7, common_name="server"):
        """A certificate; leaves its PEM files in the folder."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name if ca else common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if signer is None else self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=30))
            .not_valid_after(now + dt.timedelta(days=days))
        )
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(key if signer is None else self.key, hashes.SHA256())
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{name}.key").write_bytes(private)
        return certificate

    def find(self, name):
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer"))


def split(data, cuts):
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(at)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_speaks_with_a_stock_client(authority, own, version):
    channel, peer = ServerContext(*own).accept(), client_peer(authority, version)
    assert not channel.is_open
    meet(channel, peer)
    assert channel.version == peer.tls.version() == version
    assert channel.peer_certificate is None
    assert channel.alpn is None
    peer.tls.write(b"question")
    assert channel.receive(peer.take()) == b"question"
    assert channel.take_outgoing() == b""
    assert peer.receive(channel.send(b"answer")) == b"answer"
    assert channel.send(b"") == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_speaks_with_a_stock_server(authority, version):
    files = authority.issue("target", ["db.example"])
    channel = ClientContext("verify-full", authority.ca_file.read_bytes()).connect("db.example")
    connect(channel, server_peer(*files, version=version))
    assert channel.version == version
    (shown,) = x509.load_pem_x509_certificates(files[0].read_bytes())
    assert channel.peer_certificate == shown.public_bytes(Encoding.DER)


@settings(max_examples=60, deadline=None)
@given(
    version=st.sampled_from(sorted(VERSIONS)),
    messages=st.lists(st.binary(max_size=40_000), max_size=4),
    cuts=st.lists(st.integers(min_value=0), max_size=30),
)
def test_any_chunking_gives_the_same_bytes(authority, own, version, messages, cuts):
    channel, peer = ServerContext(*own).accept(), client_peer(authority, version)
    meet(channel, peer)
    for message in messages:
        peer.tls.write(message)
    assert b"".join(channel.receive(part) for part in split(peer.take(), cuts)) == b"".join(messages)
    sealed = b"".join(channel.send(message) for message in messages)
    assert b"".join(peer.receive(part) for part in split(sealed, cuts)) == b"".join(messages)
    assert channel.is_open
    assert not channel.is_over


@settings(max_examples=20, deadline=None)
@given(version=st.sampled_from(sorted(VERSIONS)), cuts=st.lists(st.integers(min_value=0), max_size=30))
def test_a_handshake_may_come_in_any_pieces(authority, own, version, cuts):
    channel, peer = ServerContext(*own).accept(), client_peer(authority, version)
    while not (channel.is_open and peer.is_open):
        for part in split(peer.take(), cuts):
            assert channel.receive(part) == b""
        for part in split(channel.take_outgoing(), cuts):
            peer.receive(part)
    peer.tls.write(b"x")
    assert channel.receive(peer.take()) == b"x"


@settings(max_examples=40, deadline=None)
@given(version=st.sampled_from(sorted(VERSIONS)), at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_what_was_tampered_with_gives_nothing_and_stays_so(authority, own, version, at, bit):
    channel, peer = ServerContext(*own).accept(), client_peer(authority, version)
    meet(channel, peer)
    peer.tls.write(b"transfer 100")
    sealed = bytearray(peer.take())
    sealed[at % len(sealed)] ^= 1 << bit
    peer.tls.write(b"and more, so that a longer record is whole" + bytes(20_000))
    failures = []
    for data in (bytes(sealed) + peer.take(), b"", b"more", b""):
        try:
            assert channel.receive(data) == b""
        except TlsError as error:
            failures.append(str(error))
    assert failures
    assert len(set(failures)) == 1
    assert channel.is_over
    assert not channel.is_open
    with pytest.raises(TlsError):
        channel.send(b"x")
    if version == "TLSv1.3":
        with pytest.raises(ssl.SSLError):
            peer.receive(channel.take_outgoing())  # the alert


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x48\x01" + bytes(0x4801),  # longer than a record may be (RFC 8446 5.1)
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # a ClientHello of 16 MB
        bytes(5),
    ],
)
def test_what_is_no_handshake_is_refused(own, first):
    channel = ServerContext(*own).accept()
    with pytest.raises(TlsError):
        channel.receive(first)
    with pytest.raises(TlsError):
        channel.receive(b"more")
    assert channel.is_over


def test_nothing_is_written_before_the_handshake(own):
    with pytest.raises(TlsError, match="handshake is not over"):
        ServerContext(*own).accept().send(b"secret")


def test_an_old_version_is_refused(authority, own):
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    peer = Peer(context, server_side=False, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    with pytest.raises(TlsError, match="unsupported protocol"):
        ServerContext(*own).accept().receive(peer.take())


def test_the_protocols_name_is_agreed_on_or_refused(authority, own):
    context = ServerContext(*own, "postgresql")
    for asked, agreed in ((["postgresql"], "postgresql"), (["h2", "postgresql"], "postgresql"), (None, None)):
        channel = context.accept()
        meet(channel, client_peer(authority, alpn=asked))
        assert channel.alpn == agreed
    with pytest.raises(TlsError):
        context.accept().receive(client_peer(authority, alpn=["http/1.1", "h2"]).take())
    channel = ServerContext(*own).accept()
    meet(channel, client_peer(authority, alpn=["h2"]))
    assert channel.alpn is None


@pytest.mark.parametrize("version", VERSIONS)
def test_no_session_is_kept_for_later(authority, own, version):
    channel, peer = ServerContext(*own).accept(), client_peer(authority, version)
    meet(channel, peer)
    peer.receive(channel.send(b"x"))
    assert not peer.tls.session.has_ticket


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_is_told_and_understood(authority, own, version):
    channel, peer = ServerContext(*own).accept(), client_peer(authority, version)
    meet(channel, peer)
    peer.tls.write(b"last words")
    with pytest.raises(ssl.SSLError):
        peer.tls.unwrap()  # it waits for ours
    assert channel.receive(peer.take()) == b"last words"
    assert channel.is_over
    assert channel.receive(b"and more") == b""
    peer.incoming.write(channel.send(b"ours") + channel.end())
    if version == "TLSv1.3":
        assert peer.tls.read() == b"ours"
        with pytest.raises(ssl.SSLZeroReturnError):
            peer.tls.read()


def test_a_client_notices_the_servers_end(authority):
    channel, peer = (
        ClientContext("verify-full", authority.ca_file.read_bytes()).connect("localhost"),
        server_peer(*authority.issue("ending")),
    )
    connect(channel, peer)
    assert not channel.is_over
    with pytest.raises(ssl.SSLError):
        peer.tls.unwrap()
    assert channel.receive(peer.take()) == b""
    assert channel.is_over
    assert channel.is_open  # it failed nowhere


HOSTS = {
    "named": [x509.DNSName("db.example")],
    "wildcard": [x509.DNSName("*.db.example")],
    "partial": [x509.DNSName("d*.example")],
    "address": [x509.IPAddress(ipaddress.ip_address("10.1.2.3")), x509.IPAddress(ipaddress.ip_address("fd00::1"))],
    "unnamed": [],
}


@pytest.mark.parametrize(
    ("server", "host", "passes"),
    [
        ("named", "db.example", True),
        ("named", "DB.example", True),
        ("named", "other.example", False),
        ("named", "db.example.other", False),
        ("named", "10.1.2.3", False),
        ("wildcard", "a.db.example", True),
        ("wildcard", "db.example", False),
        ("wildcard", "a.b.db.example", False),
        ("partial", "db.example", False),
        ("address", "10.1.2.3", True),
        ("address", "fd00::1", True),
        ("address", "10.1.2.4", False),
        ("address", "db.example", False),
        ("unnamed", "server", True),  # the common name counts where no other name is there (RFC 6125 6.4.4)
        ("unnamed", "other", False),
    ],
)
def test_the_name_of_a_server_is_checked(issuer, server, host, passes):
    issuer.sign(server, HOSTS[server])
    trusted = issuer.ca_file.read_bytes()
    channel = ClientContext("verify-full", trusted).connect(host)
    if passes:
        connect(channel, server_peer(*issuer.find(server)))
    else:
        with pytest.raises(TlsError, match=r"certificate verify failed: .* mismatch"):
            connect(channel, server_peer(*issuer.find(server)))
        with pytest.raises(TlsError, match="certificate verify failed"):
            channel.receive(b"")
    connect(ClientContext("verify-ca", trusted).connect(host), server_peer(*issuer.find(server)))


def test_the_authority_of_a_server_is_checked(issuer, authority):
    issuer.sign("server", [x509.DNSName("localhost")])
    issuer.sign("expired", [x509.DNSName("localhost")], days=-1)
    for checks in ("verify-ca", "verify-full"):
        for trusted, server, why in (
            (authority.ca_file.read_bytes(), "server", "issuer certificate|self-signed"),
            (None, "server", "issuer certificate|self-signed"),
            (issuer.ca_file.read_bytes(), "expired", "expired"),
        ):
            with pytest.raises(TlsError, match=f"certificate verify failed: .*({why})"):
                connect(ClientContext(checks, trusted).connect("localhost"), server_peer(*issuer.find(server)))
    connect(ClientContext("require").connect("localhost"), server_peer(*issuer.find("expired")))


def test_a_server_may_be_its_own_authority(issuer):
    """As PostgreSQL's manual makes one with a single command (19.9.5)."""
    issuer.sign("alone", [], ca=True, signer=None)
    trusted = issuer.find("alone")[0].read_bytes()
    connect(ClientContext("verify-full", trusted).connect("alone"), server_peer(*issuer.find("alone")))


def test_a_certificate_of_the_first_version_passes(issuer):
    """As the same manual's second way makes them: `openssl x509 -req` without extensions, before OpenSSL 3.4."""
    issuer.sign("old", [])
    request, made = issuer.folder / "old.csr", issuer.folder / "old.crt"
    _, key = issuer.find("old")
    subprocess.run(["openssl", "req", "-new", "-key", key, "-subj", "/CN=old", "-out", request], check=True)
    sign = ["openssl", "x509", "-req", "-in", request, "-CA", issuer.ca_file, "-CAkey", issuer.folder / "root.key"]
    subprocess.run([*sign, "-set_serial", "7", "-out", made], check=True, capture_output=True)
    connect(ClientContext("verify-full", issuer.ca_file.read_bytes()).connect("old"), server_peer(*issuer.find("old")))


@pytest.mark.parametrize("host", [".example", "b\u00fccher.example", "", "a" * 300])
def test_what_is_no_name_of_a_host_is_refused(authority, host):
    with pytest.raises(TlsError):
        ClientContext("verify-full", authority.ca_file.read_bytes()).connect(host)


@contextlib.contextmanager
def stock_server(*arguments):
    """The port of an openssl that answers each line backwards."""
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            line = b""
            while not line.startswith(b"ACCEPT"):
                line = process.stdout.readline()
                assert line
            yield int(line.rsplit(b":", 1)[1])
        finally:
            process.terminate()


def test_what_is_written_in_the_middle_of_the_protocols_own_message_waits_for_its_end(issuer):
    """A server may split its tickets over two records; between them the library writes nothing."""
    issuer.sign("server", [x509.DNSName("localhost")])
    issuer.sign("gateway", [])
    cert_file, key_file = issuer.find("server")
    own = tuple(path.read_bytes() for path in issuer.find("gateway"))
    split_tickets = ["-max_send_frag", "512", "-Verify", "2", "-CAfile", issuer.ca_file]
    with stock_server("-cert", cert_file, "-key", key_file, *split_tickets) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            stream = raw.makefile("rb")
            channel = ClientContext("verify-full", issuer.ca_file.read_bytes(), own).connect("localhost")
            raw.sendall(channel.begin())

            def receive_record():
                header = stream.read(5)
                plain = channel.receive(header + stream.read(int.from_bytes(header[3:])))
                if answer := channel.take_outgoing():
                    raw.sendall(answer)
                return plain

            while not channel.is_open:
                receive_record()
            assert receive_record() == b""  # the first part of a ticket
            assert channel.send(b"first\n") == b""
            assert channel.is_holding
            assert channel.send(b"second\n") == b""
            answers = b""
            while answers.count(b"\n") < 2:
                answers += receive_record()
            assert answers == b"tsrif\ndnoces\n"
            assert not channel.is_holding
            raw.sendall(channel.send(b"third\n"))
            while not (answers := receive_record()):
                pass
            assert answers == b"driht\n"


def test_a_clients_certificate_is_shown_to_a_server_that_asks(issuer):
    issuer.sign("server", [x509.DNSName("localhost")])
    issuer.sign("gateway", [])
    trusted = issuer.ca_file.read_bytes()
    own = tuple(path.read_bytes() for path in issuer.find("gateway"))
    peer = server_peer(*issuer.find("server"), ask=issuer.ca_file)
    connect(ClientContext("verify-full", trusted, own).connect("localhost"), peer)
    (shown,) = x509.load_pem_x509_certificates(own[0])
    assert peer.tls.getpeercert(binary_form=True) == shown.public_bytes(Encoding.DER)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        connect(
            ClientContext("verify-full", trusted).connect("localhost"), server_peer(*issuer.find("server"), ask=issuer.ca_file)
        )


def test_an_intermediate_authority_goes_along(issuer, authority):
    """What follows the certificate in its file is sent with it."""
    issuer.sign("server", [x509.DNSName("localhost")])
    chain = issuer.find("server")[0].read_bytes() + authority.ca_file.read_bytes()
    channel = ServerContext(chain, issuer.find("server")[1].read_bytes()).accept()
    context = ssl.create_default_context(cafile=str(issuer.ca_file))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    peer = Peer(context, server_side=False, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    meet(channel, peer)
    assert len(peer.tls.get_unverified_chain()) == 2


def test_files_that_cannot_be_used_are_refused(issuer, own):
    certificate, key = own
    issuer.sign("other", [])
    other_key = issuer.find("other")[1].read_bytes()
    private = ec.generate_private_key(ec.SECP256R1())
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    for chain, its_key, why in (
        (b"", key, "no certificate|no start line"),
        (b"half a certific", key, "no certificate|no start line"),
        (certificate[:-60], key, "."),
        (certificate, b"", "."),
        (certificate, other_key, "mismatch"),
        (certificate, locked, "the key is encrypted"),
    ):
        with pytest.raises(TlsError, match=why):
            ServerContext(chain, its_key)
        with pytest.raises(TlsError, match=why):
            ClientContext("require", None, (chain, its_key))
    with pytest.raises(TlsError, match=r"no certificate|no start line"):
        ClientContext("verify-ca", key)
    with pytest.raises(ValueError, match="no such checks"):
        ClientContext("prefer")
