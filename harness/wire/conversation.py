"""The host's side of the conversation: asks, waits, asks again, and knows a reset from a loss.

Every request carries a number and is answered under it. A lost or damaged frame is asked for again;
the firmware does a run that is asked for twice only once. No I/O here: bytes go through `Transport`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from tinyhil.errors import BadFrame, NoAnswer, TargetReset, WireError
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.wire import messages
from tinyhil.harness.wire.frames import Damaged, Decoder, Frame, Text, encode
from tinyhil.harness.wire.messages import ANSWER, CHUNK, Fault, HelloAnswer, Memory, Refusal, Refused, Result

_LOG_LINES = 1000


class Transport(Protocol):
    """A two-way stream of bytes: a pipe, a socket, a serial port."""

    def write(self, data: bytes) -> None:
        """Sends all of `data`; EOFError if the other end is gone."""
        ...

    def read(self, deadline: Deadline) -> bytes:
        """The bytes that have come, waiting for at least one; b"" once `deadline` has passed.
        EOFError if the other end is gone and nothing is left."""
        ...


class Crashed(Exception):
    """The firmware reported a fault. Targets turn it into HardFault, with function and line."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"fault at {fault.pc:#010x}")
        self.fault = fault


class Conversation:
    """One conversation with one firmware, from hello to exit, all within one deadline.

    `retry` is how many seconds a request waits before it is sent again. Every method raises NoAnswer,
    BadFrame, TargetReset or another WireError, Crashed, and lets the transport's EOFError through.
    """

    def __init__(self, transport: Transport, deadline: Deadline, *, retry: float = 1.0) -> None:
        self._transport = transport
        self._deadline = deadline
        self._retry = retry
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._text: deque[str] = deque(maxlen=_LOG_LINES)
        self._damaged: list[str] = []
        self._seq = 0
        self._greeted = False

    @property
    def log(self) -> str:
        """The text that came between frames, newest last."""
        return "".join(self._text)

    def hello(self, network: int = 0) -> HelloAnswer:
        """Greets the firmware, whether it is just booting or has waited for hours, and picks a network."""
        answer = HelloAnswer.decode(self._ask(messages.HelloRequest(network)))
        self._greeted = True
        return answer

    def paint(self) -> None:
        """Paints what is untouched of the arena; before an inference's inputs are sent."""
        self._ask(messages.Paint())

    def send_input(self, port: int, data: bytes) -> None:
        """Sends a whole input tensor in pieces."""
        for offset in range(0, len(data), CHUNK):
            self._ask(messages.Input(port, offset, data[offset : offset + CHUNK]))

    def load_input(self, port: int, address: int) -> None:
        """Lets the firmware take a whole input tensor from memory that an emulator preloaded."""
        self._ask(messages.Load(port, address))

    def run(self, *, paint_stack: bool = False) -> Result:
        """One inference."""
        return Result.decode(self._ask(messages.Run(paint_stack)))

    def read_output(self, port: int, size: int) -> bytes:
        """A whole output tensor of `size` bytes."""
        data = b""
        while len(data) < size:
            wanted = min(CHUNK, size - len(data))
            piece = self._ask(messages.Read(port, len(data), wanted))
            if len(piece) != wanted:
                raise BadFrame(f"output {port}: {wanted} bytes asked for, {len(piece)} came")
            data += piece
        return data

    def layers(self, count: int) -> tuple[int, ...]:
        """Cycles from the start of the last run to each of its first `count` layer marks."""
        marks: tuple[int, ...] = ()
        while len(marks) < count:
            wanted = min(CHUNK // 4, count - len(marks))
            piece = messages.layer_marks(self._ask(messages.LayersRequest(len(marks), wanted)))
            if len(piece) != wanted:
                raise BadFrame(f"{wanted} layer marks asked for, {len(piece)} came")
            marks += piece
        return marks

    def memory(self) -> Memory:
        """What was touched since the reset."""
        return Memory.decode(self._ask(messages.MemoryRequest()))

    def exit(self) -> None:
        """Asks the firmware to end, if it can."""
        self._ask(messages.Exit())

    def _ask(self, request: messages.Request) -> bytes:
        """Sends `request` until it is answered; the answer's payload."""
        self._seq = self._seq % 0xFFFF + 1  # never 0: that is the firmware's own number
        data = encode(Frame(request.type, self._seq, request.encode()))
        while not self._deadline.expired:
            self._transport.write(data)
            frame = self._answer(request.type, self._deadline.within(self._retry))
            if frame is not None:
                return frame.payload
        raise self._silence(type(request).__name__)

    def _answer(self, asked: int, patience: Deadline) -> Frame | None:
        """The frame that answers the running request; None if it must be sent again."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if self._is_answer(frame, asked):
                    return frame
            data = self._transport.read(patience)
            hurt = len(self._damaged)
            for event in self._decoder.feed(data):
                match event:
                    case Frame():
                        self._frames.append(event)
                    case Text():
                        self._text.append(event.text)
                    case Damaged():
                        self._damaged.append(event.reason)
            if not self._frames and (len(self._damaged) > hurt or patience.expired):
                return None

    def _is_answer(self, frame: Frame, asked: int) -> bool:
        """True for the answer, False for what may be ignored; raises for what ends everything."""
        if frame.type == messages.FAULT:
            raise Crashed(Fault.decode(frame.payload))
        if frame.seq == 0 and frame.type == messages.HelloRequest.type | ANSWER and self._greeted:
            raise TargetReset(_RESET)
        if frame.seq != self._seq:
            return False  # the second answer to a request that was asked twice
        if frame.type == messages.REFUSED:
            raise self._refused(Refused.decode(frame.payload))
        return frame.type == asked | ANSWER

    def _refused(self, refusal: Refused) -> WireError:
        if refusal.why == Refusal.NO_HELLO and self._greeted:
            return TargetReset(_RESET)
        if refusal.why == Refusal.NOT_READY:
            return WireError("the network's init() failed on the device; its log may say why")
        words = {Refusal.UNKNOWN: "does not know", Refusal.RANGE: "has no such tensor or range for"}
        why = next((text for known, text in words.items() if known == refusal.why), "refuses")
        return WireError(
            f"the firmware {why} message {refusal.type:#04x}; was it built by this version of tinyhil?"
        )

    def _silence(self, what: str) -> WireError:
        if self._damaged:
            return BadFrame(
                f"no good answer to {what} before the deadline: {len(self._damaged)} damaged frames, the "
                f"last one: {self._damaged[-1]}. Likely a wrong baud rate, a bad cable or another program "
                "on the same port"
            )
        heard = (
            f"; it printed: {self.log[-500:].strip()!r}" if self.log.strip() else " and it printed nothing"
        )
        return NoAnswer(
            f"no answer to {what} before the deadline{heard}. Likely the firmware hangs, runs much "
            "slower than the time allows (raise the timeout), or is not running at all"
        )


_RESET = (
    "the firmware said hello again in the middle of a measurement: the board was reset (watchdog, "
    "brown-out, reset button, or a debugger on the same board); measure again"
)
