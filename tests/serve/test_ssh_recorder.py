"""What the agent sees and what the record holds of one stream: the same findings masked, whatever the chunks and the pauses."""

import json

from hypothesis import given
from hypothesis import strategies as st
from sealgate_native.mask import Detectors

from gateway.protocols.ssh.events import Pty
from gateway.serve.ssh.recorder import MaskedStream, Recording

DETECTORS = Detectors(["payment_card", "ssn", "jwt"])
CARD = b"4111 1111 1111 1111"
PARTS = st.lists(st.sampled_from([CARD, b"457-55-5462", b"plain ", b"\x1b[2J", b"\r\n", b"\xff"]), max_size=30)


class Writer:
    """A transcript that keeps its lines."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data

    def close(self):
        return {"bytes": len(self.data)}

    def read(self, code):
        events = [json.loads(line) for line in self.data.splitlines()]
        return "".join(event[2] for event in events if isinstance(event, list) and event[1] == code)


def cut(data, sizes):
    index = 0
    while data:
        yield data[: sizes[index % len(sizes)]]
        data = data[sizes[index % len(sizes)] :]
        index += 1


@given(PARTS, st.lists(st.integers(1, 20), min_size=1))
async def test_the_record_is_masked_whole_however_it_was_cut(parts, sizes):
    content, writer = b" ".join(parts), Writer()
    recording = Recording(writer, DETECTORS, pty=None, kind="exec", clock_ns=lambda: 0)
    for chunk in cut(content, sizes):
        recording.output(chunk, is_error=False)
    recording.close("0", bytes.hex)
    assert writer.read("o") == DETECTORS.mask(content)[0].decode("utf-8", "replace")


@given(PARTS, st.lists(st.integers(1, 20), min_size=1))
async def test_delivery_without_pauses_is_masked_whole(parts, sizes):
    content, delivered = b" ".join(parts), bytearray()
    stream = MaskedStream(DETECTORS, delivered.extend, flush_s=60)
    for chunk in cut(content, sizes):
        stream.feed(chunk)
    stream.finish()
    assert bytes(delivered) == DETECTORS.mask(content)[0]


async def test_a_pause_lets_go_of_what_is_held_for_the_agent_and_not_for_the_record():
    delivered, writer = bytearray(), Writer()
    stream = MaskedStream(DETECTORS, delivered.extend, flush_s=60)
    recording = Recording(writer, DETECTORS, pty=Pty("xterm", 80, 24), kind="shell", clock_ns=lambda: 0)
    for half in (CARD[:10], CARD[10:]):
        stream.feed(half)
        recording.output(half, is_error=False)
        stream.finish()  # what the timer does
    recording.close("0", bytes.hex)
    assert bytes(delivered) == CARD
    assert writer.read("o") == "[masked:payment_card]"


async def test_standard_error_and_input_are_told_apart():
    writer = Writer()
    recording = Recording(writer, DETECTORS, pty=Pty("xterm", 80, 24), kind="shell", clock_ns=lambda: 0)
    recording.input(b"ls\r")
    recording.output(b"ls\r\nout\r\n", is_error=False)
    recording.output(b"err", is_error=True)
    recording.input(b"hunter2\r")
    summary = recording.close("0", bytes.hex)
    assert (writer.read("i"), writer.read("e"), writer.read("x")) == ("ls\r[masked:keys]\r", "err", "0")
    assert (summary["bytes_in"], summary["bytes_out"]) == (11, 12)
