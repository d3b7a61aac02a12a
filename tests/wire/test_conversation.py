"""The host's side against a firmware of a few lines, over a line that loses, doubles and damages."""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import BadFrame, NoAnswer, TargetReset, WireError
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.wire import (
    CHUNK,
    Conversation,
    Crashed,
    Decoder,
    Fault,
    Frame,
    HelloAnswer,
    Overrun,
    encode,
)

Trouble = Callable[[bytes], bytes]
OUTPUT = bytes(i % 256 for i in range(2 * CHUNK + 7))
HELLO = struct.pack("<7IiIIQIIHH", 2, 216_000_000, 0x411FC271, 3, 7, 99, 98, 0, 1, 5, 0x20000000, 64, 3, 2, 1)
HELLO += struct.pack("<3I", 10, 20, len(OUTPUT)) + b"b-1"


class Firmware:
    """Answers as the real one does; a line of its own, whose time passes only while nobody speaks."""

    def __init__(self, trouble: Trouble = lambda data: data) -> None:
        self.now = 0.0
        self.trouble = trouble
        self.decoder = Decoder()
        self.line: deque[bytes] = deque()
        self.greeted = False
        self.inputs: dict[tuple[int, int], bytes] = {}
        self.runs = 0
        self.last_run = 0

    def deadline(self, seconds: float = 60.0) -> Deadline:
        return Deadline(seconds, lambda: self.now)

    def write(self, data: bytes) -> None:
        for event in self.decoder.feed(self.trouble(data)):
            if isinstance(event, Frame):
                self.line.append(self.trouble(encode(self.answer(event))))

    def read(self, deadline: Deadline) -> bytes:
        while self.line:
            data = self.line.popleft()
            if data:
                return data
        self.now = deadline.at
        return b""

    def boot(self) -> None:
        self.greeted = False
        self.line.append(encode(Frame(0x81, 0, HELLO)))

    def answer(self, request: Frame) -> Frame:
        body, done = request.payload, Frame(request.type | 0x80, request.seq)
        if request.type == 0x01:
            self.greeted = True
            return Frame(done.type, done.seq, HELLO)
        if not self.greeted:
            return Frame(0xF1, request.seq, struct.pack("<II", 2, request.type))
        if request.type == 0x03:
            port, offset = struct.unpack_from("<II", body)
            self.inputs[port, offset] = body[8:]
        if request.type == 0x05:
            if request.seq != self.last_run:
                self.runs, self.last_run = self.runs + 1, request.seq
            return Frame(done.type, done.seq, struct.pack("<iII", 0, 1234, 3))
        if request.type == 0x06:
            _, offset, size = struct.unpack("<III", body)
            return Frame(done.type, done.seq, OUTPUT[offset : offset + size])
        if request.type == 0x07:
            first, count = struct.unpack("<II", body)
            return Frame(done.type, done.seq, struct.pack(f"<{count}I", *range(first, first + count)))
        if request.type == 0x08:
            return Frame(done.type, done.seq, struct.pack("<5I", 4, 60, 100, 8192, 5))
        return done


def unreliable(seed: int) -> Trouble:
    """Loses, doubles, cuts or changes about every third write."""
    chance = random.Random(seed)

    def hurt(data: bytes) -> bytes:
        match chance.randrange(12):
            case 0:
                return b""
            case 1:
                return data + data
            case 2:
                return data[: chance.randrange(len(data))] + b"\0"
            case 3:
                place = chance.randrange(len(data))
                return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
        return data

    return hurt


def test_a_whole_conversation() -> None:
    firmware = Firmware()
    firmware.boot()
    talk = Conversation(firmware, firmware.deadline())
    hello = talk.hello()
    assert hello == HelloAnswer(
        2, "b-1", 216_000_000, 0x411FC271, 3, 7, (99, 98), 0, True, 5, 0x20000000, 64, 3,
        (10, 20), (len(OUTPUT),),
    )  # fmt: skip
    talk.paint()
    talk.send_input(1, OUTPUT)
    assert b"".join(firmware.inputs[1, offset] for offset in range(0, len(OUTPUT), CHUNK)) == OUTPUT
    result = talk.run()
    assert (result.status, result.cycles, result.marks) == (0, 1234, 3)
    assert talk.layers(result.marks) == (0, 1, 2)
    assert talk.read_output(0, len(OUTPUT)) == OUTPUT
    memory = talk.memory()
    assert memory.arena_touched == 56
    assert memory.overruns == Overrun.BELOW_ARENA | Overrun.STACK
    assert memory.overruns.names == ("the start of the arena", "the end of the stack")
    talk.exit()


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_bad_line_costs_time_but_changes_nothing(seed: int) -> None:
    firmware = Firmware(unreliable(seed))
    talk = Conversation(firmware, firmware.deadline(1e6))
    talk.hello()
    for run in range(1, 4):
        talk.send_input(0, OUTPUT)
        talk.run()
        assert firmware.runs == run, "a run that is asked for twice must happen once"
        assert talk.read_output(0, len(OUTPUT)) == OUTPUT


def test_silence_ends_at_the_deadline_and_tells_what_was_printed() -> None:
    firmware = Firmware(lambda data: b"")
    firmware.line.append(b"booting...\n\0")
    deadline = firmware.deadline(7)
    with pytest.raises(NoAnswer, match=r"HelloRequest.*booting"):
        Conversation(firmware, deadline).hello()
    assert deadline.expired


def test_a_wrong_baud_rate_is_told_from_silence() -> None:
    firmware = Firmware()
    firmware.write = lambda data: firmware.line.append(b"\xf8\x1e\x80\0")  # type: ignore[method-assign]
    slow = firmware.read

    def read(deadline: Deadline) -> bytes:
        firmware.now += 0.5
        return slow(deadline)

    firmware.read = read  # type: ignore[method-assign]
    with pytest.raises(BadFrame, match="baud rate"):
        Conversation(firmware, firmware.deadline(7)).hello()


@pytest.mark.parametrize("hello_is_lost", [False, True])
def test_a_reset_is_noticed_even_if_its_hello_is_lost(hello_is_lost: bool) -> None:
    firmware = Firmware()
    talk = Conversation(firmware, firmware.deadline())
    talk.hello()
    firmware.boot()
    if hello_is_lost:
        firmware.line.clear()
    with pytest.raises(TargetReset, match="hello again"):
        talk.run()


def test_a_fault_report_ends_the_conversation() -> None:
    firmware = Firmware()
    talk = Conversation(firmware, firmware.deadline())
    talk.hello()
    firmware.line.append(encode(Frame(0xF0, 0, struct.pack("<10I", *range(1, 10), 0xFFFFFFFF))))
    with pytest.raises(Crashed) as caught:
        talk.run()
    assert caught.value.fault == Fault(1, 2, 3, 4, 5, 6, 7, 8, 9, None)


def test_another_schema_is_refused() -> None:
    with pytest.raises(BadFrame, match="wire schema 9"):
        HelloAnswer.decode(struct.pack("<I", 9) + HELLO[4:])


def test_a_refusal_is_explained() -> None:
    firmware = Firmware()
    firmware.answer = lambda request: Frame(0xF1, request.seq, struct.pack("<II", 3, 6))  # type: ignore[method-assign]
    with pytest.raises(WireError, match="no such tensor or range"):
        Conversation(firmware, firmware.deadline()).hello()


@given(st.sampled_from([HelloAnswer, Fault]), st.binary(max_size=120))
def test_no_payload_makes_a_message_raise_anything_but_bad_frame(
    message: type[HelloAnswer] | type[Fault], payload: bytes
) -> None:
    for data in (payload, HELLO[:48] + payload):
        try:
            message.decode(data)
        except BadFrame:
            continue
