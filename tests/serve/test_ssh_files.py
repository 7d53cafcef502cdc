"""Files on their way: masked in place whatever the reads, withheld where policy says so, digested while they come in order."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.mask import Detectors

from gateway.decision import Decision, Obligation
from gateway.pipeline import Ruling
from gateway.protocols.ssh.sftp import READ_AHEAD_BYTES
from gateway.serve.ssh.files import FindingsError, OpenFile, read_file_limit

CARD = b"4111111111111111"
DETECTORS = Detectors(["payment_card", "ssn"])


class Recorder:
    """Only what an outcome asks of a session's evidence: the keyed digest."""

    class recorder:  # noqa: N801 - the attribute's name
        @staticmethod
        def commit(digest):
            return f"keyed-{digest.hex()[:8]}"


def open_file(*obligations, detectors=DETECTORS):
    decision = Decision("allow", obligations=tuple(obligations))
    return OpenFile(Ruling("id", 1, None, decision, "a"), "/srv/x", max_bytes=1_000, detectors=detectors)


def read_through(file, content, size, ahead=READ_AHEAD_BYTES):
    return b"".join(
        file.mask(at, content[at : at + size + ahead], min(size, len(content) - at)) for at in range(0, len(content), size)
    )


@given(st.lists(st.sampled_from([CARD, b"457-55-5462", b" ", b"\n", b"text ", b"x" * 50]), max_size=60), st.integers(1, 400))
def test_reads_of_any_size_give_the_same(parts, size):
    content = b" ".join(parts)
    whole = open_file().mask(0, content, len(content))
    assert read_through(open_file(), content, size) == whole
    assert len(whole) == len(content)
    assert CARD not in whole
    assert b"457-55-5462" not in whole


def test_a_finding_is_named_where_its_name_fits():
    assert open_file().mask(0, b"card 4111 1111 1111 1111.", 25) == b"card *******************."
    assert open_file().mask(0, b"ssn 457-55-5462", 15) == b"ssn ***********"


def test_binary_files_pass_unchanged():
    content = b"\0" + CARD
    assert open_file().mask(0, content, len(content)) == content


def test_without_detectors_nothing_changes():
    assert open_file(detectors=None).mask(0, CARD, 16) == CARD


def test_a_rule_can_withhold_files_with_findings():
    file = open_file(Obligation("r", "withhold_findings"))
    assert file.mask(0, b"harmless", 8) == b"harmless"
    with pytest.raises(FindingsError, match="payment_card"):
        file.mask(8, b" " + CARD + b" ", 18)
    assert file.end("completed", Recorder()).status == "withheld"


def test_limits_only_tighten_and_a_broken_one_lets_nothing_through():
    limit = Obligation("r", "file_limit", {"bytes": 10})
    assert read_file_limit(Decision("allow", obligations=(limit,)), 1_000) == 10
    assert read_file_limit(Decision("allow", obligations=(limit,)), 5) == 5
    for wrong in ("many", True, None):
        assert read_file_limit(Decision("allow", obligations=(Obligation("r", "file_limit", {"bytes": wrong}),)), 1_000) == 0


def test_the_digest_is_of_what_came_in_order():
    file = open_file()
    file.note("write", 0, b"abc")
    file.note("write", 3, b"def")
    outcome = file.end("completed", Recorder())
    assert outcome.stream == {"write_bytes": 6, "write_digest": f"keyed-{hashlib.sha256(b'abcdef').hexdigest()[:8]}"}
    assert hashlib.sha256(b"abcdef").hexdigest().encode() in outcome.transcript
    file = open_file()
    file.note("write", 3, b"def")
    file.note("write", 0, b"abc")
    assert "write_digest" not in file.end("completed", Recorder()).stream
