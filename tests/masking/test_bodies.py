"""Bodies are masked whatever they look like and however they are cut: every split gives the same bytes, and no value comes through."""

import base64
import gzip
import itertools
import json
import zlib
from collections import Counter
from urllib.parse import quote

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decision import Mask
from gateway.errors import LimitExceededError, ProtocolError
from gateway.masking import MaskedBody, build_detectors, compile_body_plan
from gateway.masking.body_plan import check_plan_fits
from gateway.masking.codings import decode_body, make_decoder, read_coding
from gateway.masking.plan import UnenforceableMaskError
from gateway.masking.scrub import Scrubber, spell_secret
from gateway.masking.values import CellMasker

SSN, CARD, SECRET = "123-45-6789", "4111111111111111", b"s3cr3t+value/with=odd&chars"
NAMES = ("ssn", "payment_card", "email")
DETECTORS = build_detectors(NAMES)
CELLS = CellMasker(b"k" * 32)


def mask(selector, strategy="redact", **more):
    return Mask(f"test.{strategy}", selector, strategy, **more)


def open_body(kind, *masks, secrets=(SECRET,), detectors=DETECTORS):
    plan = compile_body_plan(list(masks), "delivered", known_detectors=NAMES, always=())
    return MaskedBody(kind, plan, detectors, CELLS, secrets)


def run(body, data, cuts=()):
    """The output for an input cut at these places."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    out = b"".join(body.feed(data[start:end]) for start, end in itertools.pairwise(places) if end > start)
    return out + body.finish()


DOCUMENT = json.dumps(
    {
        "owner": {"name": "Ann", "ssn": "000-11-2222", "secret": {"pin": [1, 2, {"x": "deep"}]}},
        "rows": [{"card": CARD, "n": 1.10}, {"card": "none", "n": -2e-3}],
        "note": f"call {SSN}, card {CARD}; mail a@example.com",
        "quoted": 'a "b" \\ /',
        "unicode": "Zoë ✓",
        "flags": [True, False, None],
    },
    indent=1,
).replace("a@example", "a\\u0040example")

SAMPLES = {
    "json": DOCUMENT.encode(),
    "events": f'id: 1\ndata: {{"ssn": "{SSN}",\ndata: "a": "{CARD}"}}\n\n: {SSN}\r\n\r\ndata: text {SSN}\r\rdata: last'.encode(),
    "ndjson": f'{{"a": "{SSN}"}}\n{{"b": ["{CARD}"]}}\n\nplain {SSN}\n{{"c": 1}}'.encode(),
    "text": f"line {SSN}\n{'x' * 300} {CARD}\n{quote(SSN, safe='').replace('-', '%2D')} {base64.b64encode(SSN.encode()).decode()}\n".encode(),
    "grpc": b"".join(
        b"\0" + len(part).to_bytes(4, "big") + part for part in (f"ssn {SSN}".encode(), b"", CARD.encode() + b"\x08\x01")
    ),
    "binary": b"\x89PNG" + bytes(range(256)) + SECRET + b"tail",
}


@pytest.mark.parametrize("kind", SAMPLES)
@given(cuts=st.lists(st.integers(1, 700), max_size=12))
@settings(max_examples=60, deadline=None)
def test_every_split_gives_the_same(kind, cuts):
    masks = [mask({"field": "SSN"}), mask({"json_path": "$.rows[*].card"}), mask({"field": "secret"}, "null")]
    whole = run(open_body(kind, *masks), SAMPLES[kind])
    assert run(open_body(kind, *masks), SAMPLES[kind], cuts) == whole
    if kind != "binary":
        for value in (SSN, CARD, "000-11-2222", "deep"):
            assert value.encode() not in whole


@pytest.mark.parametrize("kind", SAMPLES)
def test_byte_by_byte_gives_the_same(kind):
    data = SAMPLES[kind]
    assert run(open_body(kind), data, range(len(data))) == run(open_body(kind), data)


def test_what_is_not_masked_stays_byte_for_byte():
    shown = run(open_body("json", mask({"field": "ssn"}), mask({"field": "secret"})), SAMPLES["json"]).decode()
    assert '"n": 1.1' in shown
    assert "-0.002" in shown
    assert '"quoted": "a \\"b\\" \\\\ /"' in shown
    assert '"flags": [\n  true,\n  false,\n  null\n ]' in shown
    parsed = json.loads(shown)
    assert parsed["owner"]["ssn"] == "[redacted]"
    assert parsed["owner"]["name"] == "Ann"
    assert parsed["owner"]["secret"] == {"pin": ["[redacted]", "[redacted]", {"x": "[redacted]"}]}
    assert "example.com" not in parsed["note"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.a", {"a": {"b": ["[redacted]", "[redacted]"]}, "c": 3}),
        ("$.a.b[0]", {"a": {"b": ["[redacted]", 2]}, "c": 3}),
        ("$.a.b[*]", {"a": {"b": ["[redacted]", "[redacted]"]}, "c": 3}),
        ("$.*", None),
        ("$[*]", {"a": {"b": ["[redacted]", "[redacted]"]}, "c": "[redacted]"}),
        ("$['c']", {"a": {"b": [1, 2]}, "c": "[redacted]"}),
        ("$.b", {"a": {"b": [1, 2]}, "c": 3}),
        ("$", {"a": {"b": ["[redacted]", "[redacted]"]}, "c": "[redacted]"}),
    ],
)
def test_paths(path, expected):
    data = json.dumps({"a": {"b": [1, 2]}, "c": 3}).encode()
    if expected is None:
        with pytest.raises(UnenforceableMaskError):
            open_body("json", mask({"json_path": path}))
        return
    assert json.loads(run(open_body("json", mask({"json_path": path})), data)) == expected


def test_strategies_are_those_of_the_kernel():
    data = b'{"card": "4111111111111111", "n": 42, "t": true, "z": null}'
    for strategy, expected in (("null", None), ("drop", None), ("redact", "[redacted]")):
        assert json.loads(run(open_body("json", mask({"field": "card"}, strategy)), data))["card"] == expected
    hashed = [json.loads(run(open_body("json", mask({"field": "card"}, "tokenize")), data))["card"] for _ in range(2)]
    assert hashed[0] == hashed[1]
    assert CARD not in hashed[0]
    partial = mask({"field": "card"}, "partial", params={"keep_last": 4})
    assert json.loads(run(open_body("json", partial), data))["card"].endswith("1111")
    assert json.loads(run(open_body("json", mask({"field": "z"})), data))["z"] is None


FORMS = {
    "plain": SSN,
    "json escapes": "".join(f"\\u{ord(char):04x}" for char in SSN),
    "percent": "".join(f"%{ord(char):02X}" for char in SSN),
    "some percent": SSN.replace("-", "%2d"),
    "base64": base64.b64encode(f"ssn {SSN} x".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"ssn {SSN} >>?".encode()).decode(),
    "base64 without its end": base64.b64encode(f"ssn is {SSN}".encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["json", "text", "events", "ndjson"])
def test_other_spellings_of_a_value_are_found(form, kind):
    text = FORMS[form]
    data = {
        "json": f'{{"a": ["x {text} y"]}}',
        "text": f"before {text} after\n",
        "events": f"data: before {text} after\n\n",
        "ndjson": f'{{"a": "{text}"}}\n',
    }[kind].encode()
    shown = run(open_body(kind), data).decode()
    assert text not in shown
    assert "[masked:" in shown


def test_names_of_members_are_read_too():
    assert SSN.encode() not in run(open_body("json"), f'{{"{SSN}": 1}}'.encode())


@pytest.mark.parametrize(
    "data", ["}}]] {", '"open', "{'ssn': '" + SSN + "'}", f')]}}\',\n{{"a": "{SSN}"}}', f"{SSN}", "[" * 400 + "]" * 400, "{,:}"]
)
def test_what_is_no_json_is_masked_all_the_same(data):
    shown = run(open_body("json"), data.encode())
    assert SSN.encode() not in shown
    assert run(open_body("json"), data.encode(), range(len(data))) == shown


def test_a_value_that_breaks_off_is_not_given():
    assert run(open_body("json"), f'{{"a": "b", "ssn": "{SSN[:8]}'.encode()) == b'{"a": "b", "ssn": '


@given(text=st.text(max_size=60), before=st.text(max_size=20))
@settings(max_examples=80, deadline=None)
def test_any_json_stays_json(text, before):
    document = {before: [text, {"k": text}], "n": [1, 2.5, None, True]}
    assert json.loads(run(open_body("json", detectors=None, secrets=()), json.dumps(document).encode())) == document


@pytest.mark.parametrize("kind", ["json", "events", "ndjson"])
def test_a_value_without_end_is_refused(kind):
    start = {"json": b'{"a": "', "events": b"data: ", "ndjson": b'{"a": "'}[kind]
    body = open_body(kind)
    with pytest.raises(LimitExceededError):
        run(body, start + b"x" * (1 << 21))


def test_nesting_without_end_is_refused():
    with pytest.raises(LimitExceededError):
        run(open_body("json"), b"[" * 1000)


def test_compressed_grpc_messages_are_refused():
    with pytest.raises(ProtocolError, match="compressed"):
        run(open_body("grpc"), b"\x01\0\0\0\x01x")


def test_masks_by_member_are_not_said_of_bodies_without_members():
    plan = compile_body_plan([mask({"field": "ssn"})], "delivered", known_detectors=NAMES)
    for kind in ("text", "binary", "grpc", "multipart", "form"):
        with pytest.raises(UnenforceableMaskError):
            check_plan_fits(plan, kind)
    for kind in ("json", "ndjson", "events", "none"):
        check_plan_fits(plan, kind)


@pytest.mark.parametrize(
    "selector",
    [{"index": 1}, {"field": "a", "header": "b"}, {"json_path": "a.b"}, {"json_path": "$..a"}, {"detector": "made-up"}],
)
def test_selectors_that_cannot_be_carried_out_are_refused(selector):
    with pytest.raises(UnenforceableMaskError):
        compile_body_plan([mask(selector)], "delivered", known_detectors=NAMES)


def test_masks_for_the_record_only_leave_the_delivered_body_alone():
    masks = [mask({"field": "a"}, apply="record")]
    assert not compile_body_plan(masks, "delivered", known_detectors=NAMES).members.names
    assert compile_body_plan(masks, "record", known_detectors=NAMES).members.names


# --- secrets


@pytest.mark.parametrize("form", sorted(spell_secret(SECRET)), ids=lambda form: form[:20].decode("latin-1"))
@pytest.mark.parametrize("kind", ["json", "text", "events", "ndjson"])
def test_no_spelling_of_a_secret_comes_through(form, kind):
    text = form.decode()
    data = {"json": f'{{"a": "{text}"}}', "text": f"x{text}y", "events": f"data: {text}\n\n", "ndjson": f'{{"a": "{text}"}}\n'}[
        kind
    ].encode()
    for cuts in ((), range(len(data))):
        assert form not in run(open_body(kind), data, cuts)


@given(st.binary(max_size=80), st.lists(st.integers(1, 200), max_size=8))
@settings(max_examples=80, deadline=None)
def test_a_scrubbed_stream_does_not_depend_on_its_cuts(noise, cuts):
    data = noise + SECRET + noise + SECRET[:9] + SECRET
    scrubber = Scrubber([SECRET])
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    out = b"".join(scrubber.feed(data[a:b]) for a, b in itertools.pairwise(places)) + scrubber.finish()
    assert out == Scrubber([SECRET]).scrub(data)
    assert SECRET not in out


def test_short_secrets_are_left_alone():
    assert Scrubber([b"abc"]).scrub(b"abc abc") == b"abc abc"


# --- content codings


def compress(coding, data):
    return {
        "gzip": lambda: gzip.compress(data),
        "deflate": lambda: zlib.compress(data),
        "br": lambda: brotli.compress(data),
        "zstd": lambda: zstandard.compress(data),
    }[coding]()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@given(data=st.binary(max_size=3000), cuts=st.lists(st.integers(1, 400), max_size=6))
@settings(max_examples=25, deadline=None)
def test_codings_are_undone_however_they_are_cut(coding, data, cuts):
    packed = compress(coding, data)
    decoder = make_decoder(coding)
    places = [0, *sorted({cut for cut in cuts if cut < len(packed)}), len(packed)]
    out = b"".join(piece for a, b in itertools.pairwise(places) for piece in decoder.feed(packed[a:b]))
    decoder.finish()
    assert out == data


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_bombs_and_broken_data_are_refused(coding):
    with pytest.raises(LimitExceededError):
        decode_body(compress(coding, b"\0" * 50_000_000), coding, max_bytes=1 << 30)
    with pytest.raises(LimitExceededError):
        decode_body(compress(coding, bytes(range(256)) * 400), coding, max_bytes=1000)
    with pytest.raises(ProtocolError):
        decode_body(compress(coding, bytes(range(256)) * 20)[:-6], coding, max_bytes=1 << 20)
    with pytest.raises(ProtocolError):
        decode_body(b"\xff\xfe not this coding" * 3, coding, max_bytes=1 << 20)


def test_members_of_gzip_and_raw_deflate_are_read():
    assert decode_body(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", max_bytes=10) == b"ab"
    raw = zlib.compressobj(wbits=-15)
    assert decode_body(raw.compress(b"abc") + raw.flush(), "deflate", max_bytes=10) == b"abc"


def test_names_of_codings():
    assert read_coding(None) is None
    assert read_coding("identity") is None
    assert read_coding(" GZip ") == "gzip"
    for name in ("gzip, br", "compress", "x"):
        with pytest.raises(ProtocolError):
            read_coding(name)


def test_counts_name_rules_and_detectors():
    body = open_body("json", mask({"field": "ssn"}))
    run(body, SAMPLES["json"])
    assert body.masked == Counter({"test.redact": 1})
    assert body.detected["payment_card"] == 2
