"""The C side of the wire, as a program of this computer under sanitizers: no bytes may upset it."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_network import INPUT, OUTPUT, BuildNetwork

from tinyhil.errors import TargetReset, WireError
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.line import SocketLine
from tinyhil.harness.wire import MAX_PAYLOAD, Conversation, Decoder, Frame, encode

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt install gcc")


@dataclass
class Device:
    """The running firmware and its line."""

    line: SocketLine

    def greet(self) -> Conversation:
        talk = Conversation(self.line, Deadline.after(20))
        talk.hello()
        return talk

    def ask(self, frame: Frame) -> Frame:
        """The answer under the frame's own number, past what else was under way."""
        self.line.write(encode(frame))
        decoder, deadline = Decoder(), Deadline.after(20)
        while not deadline.expired:
            for event in decoder.feed(self.line.read(deadline)):
                if isinstance(event, Frame) and event.seq == frame.seq:
                    return event
        raise AssertionError("no answer")


@pytest.fixture(scope="module")
def device(build_network: BuildNetwork) -> Iterator[Device]:
    ours, theirs = socket.socketpair()
    elf = build_network(board="native").elf
    with ours, theirs, subprocess.Popen([str(elf)], stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
        theirs.close()
        yield Device(SocketLine(ours))
        ours.shutdown(socket.SHUT_RDWR)  # the end of its input ends the program
        assert process.wait(20) == 0, "a sanitizer found something"


def test_it_refuses_everything_until_it_is_greeted(device: Device) -> None:
    talk = Conversation(device.line, Deadline.after(20))
    with pytest.raises(WireError):
        talk.memory()
    talk = device.greet()
    assert talk.memory().arena_touched == 0


@given(st.binary(max_size=3000))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_on_the_line_leaves_it_working(device: Device, garbage: bytes) -> None:
    device.line.write(garbage)
    assert device.greet().memory().arena_touched in (0, 64)


@given(st.integers(0, 255).filter(lambda kind: kind not in (4, 9)), st.binary(max_size=40))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_good_frame_is_answered_whatever_it_asks(device: Device, kind: int, payload: bytes) -> None:
    """Without LOAD, which trusts its address, and EXIT."""
    device.greet()
    answer = device.ask(Frame(kind, 777, payload))
    assert answer.type in (kind | 0x80, 0xF1)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [(3, (1, 0)), (3, (0, 17)), (3, (0, 2**32 - 1)), (4, (1, 0, 0)), (6, (1, 0, 1)), (6, (0, 16, 1)),
     (6, (0, 2**32 - 1, 2)), (6, (0, 0, MAX_PAYLOAD + 1)), (7, (0, 1)), (7, (2**32 - 1, 1))],
)  # fmt: skip
def test_a_range_beyond_the_tensor_is_refused(device: Device, kind: int, numbers: tuple[int, ...]) -> None:
    device.greet()
    payload = struct.pack(f"<{len(numbers)}I", *numbers)
    assert device.ask(Frame(kind, 999, payload)).payload == struct.pack("<II", 3, kind)


def test_a_run_that_is_asked_for_twice_happens_once(device: Device) -> None:
    talk = device.greet()
    talk.send_input(0, INPUT)
    assert device.ask(Frame(5, 500, bytes(4))).type == 0x85
    talk.send_input(0, bytes(16))  # a second run would double this input
    assert device.ask(Frame(5, 500, bytes(4))).type == 0x85
    assert talk.read_output(0, 16) == OUTPUT


def test_it_is_the_host_who_notices_a_reset(build_network: BuildNetwork) -> None:
    """A program that is started again in the middle has forgotten its greeting."""
    elf = build_network(board="native").elf

    class Restarting(SocketLine):
        def __init__(self) -> None:
            self.start()

        def start(self) -> None:
            ours, theirs = socket.socketpair()
            self.ours = ours
            with theirs:
                self.process = subprocess.Popen([str(elf)], stdin=theirs.fileno(), stdout=theirs.fileno())
            super().__init__(ours)

        def stop(self) -> None:
            self.ours.close()
            self.process.wait(20)

    line = Restarting()
    talk = Conversation(line, Deadline.after(20))
    talk.hello()
    line.stop()
    line.start()
    with pytest.raises(TargetReset):
        talk.run()
    line.stop()
