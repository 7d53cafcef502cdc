import datetime as dt
import struct

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramMechanism
from sealgate_native.postgres import encode_error

from gateway.errors import TargetError
from gateway.protocols.postgres.login import (
    AUTH_CLEARTEXT,
    AUTH_MD5,
    AUTH_OK,
    AUTH_SASL,
    AUTH_SASL_CONTINUE,
    AUTH_SASL_FINAL,
    MAX_LOGIN_MESSAGES,
    LoginRefusedError,
    UpstreamLogin,
    check_startup,
    hash_certificate,
    parse_options,
    read_search_path,
    read_token,
)

# --- the client's half


def test_plain_startup_is_accepted():
    startup = check_startup(3, 0, {"user": "agent", "database": "shop", "application_name": "psql", "client_encoding": "UTF8"})
    assert (startup.user, startup.database, startup.application_name) == ("agent", "shop", "psql")
    assert startup.settings == {}
    assert not startup.must_negotiate


@pytest.mark.parametrize("name", ["utf-8", "'UTF8'", "UNICODE", "SQL_ASCII"])
def test_encodings_that_leave_text_as_it_is_are_accepted_and_not_passed_on(name):
    assert check_startup(3, 0, {"user": "agent", "client_encoding": name}).settings == {}


def test_database_defaults_to_the_user_name():
    assert check_startup(3, 0, {"user": "agent"}).database == "agent"


def test_harmless_settings_pass_in_lower_case():
    startup = check_startup(3, 0, {"user": "a", "TimeZone": "Europe/Rome", "DateStyle": "ISO, MDY", "extra_float_digits": "2"})
    assert startup.settings == {"timezone": "Europe/Rome", "datestyle": "ISO, MDY", "extra_float_digits": "2"}


def test_settings_in_options_are_read():
    startup = check_startup(3, 0, {"user": "a", "options": r"-c timezone=Europe/Rome --datestyle=ISO,\ MDY"})
    assert startup.settings == {"timezone": "Europe/Rome", "datestyle": "ISO, MDY"}


@pytest.mark.parametrize(
    ("params", "sqlstate"),
    [
        ({}, "28000"),
        ({"user": "a", "replication": "database"}, "0A000"),
        ({"user": "a", "replication": "true"}, "0A000"),
        ({"user": "a", "client_encoding": "SJIS"}, "0A000"),
        *(
            ({"user": "a", "search_path": path}, "0A000")
            for path in (
                "pg_temp",
                "public, PG_TEMP",
                "bank,pg_catalog",
                '"pg_catalog",public',
                "$user",
                '"$user",public',
                "a;b",
                "a b",
                "a,",
                "'a'",
                "a, b'",
                '"a""b"',
                "é",
                "a\n,b\0",
                "a" * 64,
                ", ".join("a" * 17),
                "pg_toast_temp_3",
                "",
            )
        ),
        ({"user": "a", "options": "-c search_path=pg_temp"}, "0A000"),
        ({"user": "a", "role": "postgres"}, "0A000"),
        ({"user": "a", "session_replication_role": "replica"}, "0A000"),
        ({"user": "a", "standard_conforming_strings": "off"}, "0A000"),
        ({"user": "a", "TimeZone": "x'; drop table t"}, "0A000"),
        ({"user": "a", "options": "-c role=postgres"}, "0A000"),
        ({"user": "a", "options": "-crole=postgres"}, "0A000"),
        ({"user": "a", "options": "--session-replication-role=replica"}, "0A000"),
        ({"user": "a", "options": "-d 5"}, "0A000"),
        ({"user": "a", "options": "-c timezone=UTC -ddd"}, "0A000"),
    ],
)
def test_what_could_change_meaning_or_rights_is_refused(params, sqlstate):
    with pytest.raises(LoginRefusedError) as caught:
        check_startup(3, 0, params)
    assert caught.value.sqlstate == sqlstate
    assert caught.value.fix


@pytest.mark.parametrize(
    ("path", "names"),
    [("bank", ("bank",)), ("Bank, public", ("bank", "public")), ('"Bank",_x1', ("Bank", "_x1")), ("a  ,  b", ("a", "b"))],
)
def test_a_search_path_of_plain_names_passes_as_it_is(path, names):
    assert check_startup(3, 0, {"user": "a", "search_path": path}).settings == {"search_path": path}
    assert read_search_path(path) == names


def test_replication_switched_off_is_no_replication():
    assert check_startup(3, 0, {"user": "a", "replication": "off"}).settings == {}


@pytest.mark.parametrize(("minor", "spoken", "must"), [(0, 0, False), (1, 0, True), (2, 2, False), (3, 2, True), (9999, 2, True)])
def test_versions_are_negotiated_down(minor, spoken, must):
    startup = check_startup(3, minor, {"user": "a"})
    assert (startup.minor, startup.must_negotiate) == (spoken, must)


def test_unknown_protocol_options_are_named_not_refused():
    startup = check_startup(3, 2, {"user": "a", "_pq_.future": "1"})
    assert startup.unknown == ("_pq_.future",)
    assert startup.must_negotiate


@pytest.mark.parametrize("major", [2, 4, 1234])
def test_other_major_versions_are_refused(major):
    with pytest.raises(LoginRefusedError) as caught:
        check_startup(major, 0, {"user": "a"})
    assert caught.value.sqlstate == "08P01"


@given(st.text(max_size=200))
def test_options_never_raise_anything_else(text):
    try:
        settings = parse_options(text)
    except LoginRefusedError:
        return
    assert all(name.isidentifier() or "." in name for name in settings)


@pytest.mark.parametrize("body", [b"", b"\0", b"token", b"to\0ken\0", "tök\0".encode()])
def test_what_is_no_token_is_refused(body):
    with pytest.raises(LoginRefusedError) as caught:
        read_token(body)
    assert caught.value.sqlstate == "28P01"
    assert "token" in caught.value.fix


def test_token_is_read():
    assert read_token(b"eyJ.x.y\0") == "eyJ.x.y"


# --- the gateway's own login


def authentication(code, rest=b""):
    return struct.pack("!I", code) + rest


def mechanisms(*names):
    return authentication(AUTH_SASL, b"".join(name.encode() + b"\0" for name in names) + b"\0")


class Server:
    """The server's half of SCRAM, by the library's own server."""

    def __init__(self, password, *, binding=None):
        name = "SCRAM-SHA-256" if binding is None else "SCRAM-SHA-256-PLUS"
        mechanism = ScramMechanism(name)
        salt, stored, key, count = mechanism.make_auth_info(password, iteration_count=4096)
        channel = None if binding is None else ("tls-server-end-point", binding)
        self.scram = mechanism.make_server(lambda _: (salt, stored, key, count), channel_binding=channel)

    def first(self, message):
        name, _, rest = message[5:].partition(b"\0")
        self.chosen = name.decode()
        self.scram.set_client_first(rest[4:].decode())
        return authentication(AUTH_SASL_CONTINUE, self.scram.get_server_first().encode())

    def final(self, message):
        self.scram.set_client_final(message[5:].decode())
        return authentication(AUTH_SASL_FINAL, self.scram.get_server_final().encode())


def log_in(login, server, offered):
    answer = login.receive("R", mechanisms(*offered))
    answer = login.receive("R", server.first(answer))
    login.receive("R", server.final(answer))
    login.receive("R", authentication(AUTH_OK))


def make_login(**changes):
    return UpstreamLogin(**{"user": "owner", "password": "s3cret", "nonce": "n" * 24} | changes)


def test_scram_proves_both_sides():
    login, server = make_login(), Server("s3cret")
    log_in(login, server, ["SCRAM-SHA-256"])
    login.receive("S", b"server_version\x0015.1\0")
    login.receive("K", struct.pack("!ii", 4711, 99))
    login.receive("Z", b"I")
    assert server.chosen == login.mechanism == "SCRAM-SHA-256"
    assert login.is_ready
    assert login.parameters == {"server_version": "15.1"}
    assert login.key == (4711, struct.pack("!i", 99))


def test_keys_of_protocol_3_2_are_kept_whole():
    login, server = make_login(), Server("s3cret")
    log_in(login, server, ["SCRAM-SHA-256"])
    login.receive("K", struct.pack("!i", 1) + b"k" * 32)
    assert login.key == (1, b"k" * 32)


def test_channel_binding_is_used_where_offered():
    login, server = make_login(certificate_hash=b"h" * 32), Server("s3cret", binding=b"h" * 32)
    log_in(login, server, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
    assert server.chosen == "SCRAM-SHA-256-PLUS"


def test_another_certificate_breaks_the_bound_login():
    login, server = make_login(certificate_hash=b"h" * 32), Server("s3cret", binding=b"x" * 32)
    with pytest.raises(Exception, match="channel"):
        log_in(login, server, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])


def test_a_hidden_plus_offer_is_noticed_by_the_server():
    """The client says that it could bind; a server that did offer PLUS then refuses (RFC 5802 6)."""
    login = make_login(certificate_hash=b"h" * 32)
    first = login.receive("R", mechanisms("SCRAM-SHA-256"))
    assert b"\0\0\0" in first
    assert first.split(b"\0", 1)[1][8:].startswith(b"y,,") or b"y,," in first


def test_server_that_skips_its_proof_is_refused():
    login, server = make_login(), Server("s3cret")
    answer = login.receive("R", mechanisms("SCRAM-SHA-256"))
    login.receive("R", server.first(answer))
    with pytest.raises(TargetError, match="did not prove"):
        login.receive("R", authentication(AUTH_OK))


def test_server_with_a_false_proof_is_refused():
    login, server = make_login(), Server("s3cret")
    answer = login.receive("R", mechanisms("SCRAM-SHA-256"))
    login.receive("R", server.first(answer))
    with pytest.raises(TargetError, match="did not prove"):
        login.receive("R", authentication(AUTH_SASL_FINAL, b"v=" + b"A" * 43 + b"="))


@pytest.mark.parametrize("code", [AUTH_CLEARTEXT, AUTH_MD5, 2, 6, 7, 9, 99])
def test_weaker_logins_get_no_answer(code):
    login = make_login()
    with pytest.raises(TargetError, match="does not give") as caught:
        login.receive("R", authentication(code, b"salt"))
    assert "s3cret" not in str(caught.value)
    assert "owner" not in str(caught.value)


def test_md5_and_cleartext_only_where_allowed():
    assert make_login(methods=frozenset({"password"})).receive("R", authentication(AUTH_CLEARTEXT))[5:] == b"s3cret\0"
    answer = make_login(methods=frozenset({"md5"})).receive("R", authentication(AUTH_MD5, b"salt"))
    assert answer[5:8] == b"md5"
    assert len(answer) == 5 + 35 + 1


def test_trust_can_be_refused():
    login = make_login(methods=frozenset({"scram-sha-256"}))
    with pytest.raises(TargetError, match="asked for no credential"):
        login.receive("R", authentication(AUTH_OK))


@pytest.mark.parametrize("offered", [[], ["SCRAM-SHA-1"], ["SCRAM-SHA-256-PLUS"], ["OAUTHBEARER"]])
def test_unusable_mechanisms_are_refused(offered):
    with pytest.raises(TargetError, match="no accepted way"):
        make_login().receive("R", mechanisms(*offered))


def test_error_of_the_server_is_for_the_record_only():
    error = encode_error({"S": "FATAL", "C": "28P01", "M": 'password authentication failed for user "owner"'})
    with pytest.raises(TargetError) as caught:
        make_login().receive("E", error[5:])
    assert "owner" not in caught.value.what
    assert "28P01" in caught.value.why


@pytest.mark.parametrize("kind", ["S", "K", "Z", "T", "D"])
def test_nothing_is_accepted_before_authentication(kind):
    with pytest.raises(TargetError, match="unexpected"):
        make_login().receive(kind, b"I" if kind == "Z" else b"x\0y\0")


def test_login_that_does_not_end_is_given_up():
    login = make_login()
    login.receive("R", authentication(AUTH_OK))
    for _ in range(MAX_LOGIN_MESSAGES - 1):
        login.receive("N", b"\0")
    with pytest.raises(TargetError, match="does not end"):
        login.receive("N", b"\0")


@given(st.lists(st.tuples(st.sampled_from("REKNSZTDv1"), st.binary(max_size=60)), max_size=12))
def test_arbitrary_servers_end_in_target_error_or_nothing(messages):
    login = make_login()
    try:
        for kind, body in messages:
            login.receive(kind, body)
    except (TargetError, ValueError):
        return
    assert not login.is_ready or login._authenticated


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [(hashes.SHA256(), hashes.SHA256()), (hashes.SHA384(), hashes.SHA384()), (hashes.SHA512(), hashes.SHA512())],
)
def test_certificate_is_hashed_with_its_own_hash_function(algorithm, expected):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    certificate = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1)).sign(key, algorithm)
    assert hash_certificate(certificate.public_bytes(Encoding.DER)) == certificate.fingerprint(expected)
