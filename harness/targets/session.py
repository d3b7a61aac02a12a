"""One job over one conversation: hello, inputs, runs, outputs, memory. The same for every target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tinyhil.errors import Incorrect, UsageError, WrongBoard
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.targets.target import Hello, Job, LayerCount, RawRun
from tinyhil.harness.wire import Conversation, HelloAnswer, Memory, Result

#: Brings one input tensor to the device: conversation, index in Job.inputs, port, bytes.
Sender: TypeAlias = Callable[[Conversation, int, int, bytes], None]


@dataclass(frozen=True)
class Session:
    """What the firmware itself said. `cycles` and `marks` (cycles from the start of the run to each
    layer) have one entry per inference; `cycles` are 0 where there is no counter."""

    hello: HelloAnswer
    outputs: tuple[tuple[bytes, ...], ...]
    cycles: tuple[int, ...]
    marks: tuple[tuple[int, ...], ...]
    memory: Memory

    def raw_run(self, mode: str) -> RawRun:
        """A RawRun with what every target knows; cycles and layer cycles if there is a counter."""
        hello = self.hello
        measured = any(self.cycles)
        return RawRun(
            mode=mode,
            hello=Hello(
                hello.schema,
                hello.build_id,
                hello.clock_hz,
                hello.cpuid,
                hello.caches,
                hello.wait_states,
                hello.counters,
            ),
            outputs=self.outputs,
            instructions=None,
            cycles=self.cycles if measured else None,
            layers=tuple(map(layer_cycles, self.marks, self.cycles))
            if measured and hello.layer_marks
            else (),
            arena_touched=self.memory.arena_touched,
            stack_touched=self.memory.stack,
            overruns=self.memory.overruns.names,
            provenance={"layer_mark_cycles": str(hello.mark_cycles)} if hello.layer_marks else {},
        )


def layer_cycles(marks: tuple[int, ...], total: int) -> tuple[LayerCount, ...]:
    """Cycles of each layer, from its mark to the next one's, or to the end of the run."""
    return tuple(
        LayerCount(cycles=end - start) for start, end in zip(marks, (*marks[1:], total), strict=True)
    )


def send_over_wire(talk: Conversation, case: int, port: int, data: bytes) -> None:
    """The Sender for targets that have nothing faster than the wire itself."""
    talk.send_input(port, data)


def greet(talk: Conversation, firmware: Firmware) -> HelloAnswer:
    """Hello, checked: WrongBoard unless it is this very build that answers."""
    hello = talk.hello(firmware.sources.place)
    if hello.build_id != firmware.id:
        raise WrongBoard(
            f"asked for build {firmware.id}, but build {hello.build_id} answers: another firmware is "
            f"running there (flash not written, or another board). Expected {firmware.elf.name}"
        )
    if hello.init_status != 0:
        raise Incorrect(
            f"{firmware.sources.network}: the network's init() returned {hello.init_status} on the device"
            + (f"; it printed: {talk.log.strip()[-500:]!r}" if talk.log.strip() else "")
        )
    return hello


def hold(talk: Conversation, firmware: Firmware, job: Job, send: Sender = send_over_wire) -> Session:
    """Does the whole job, except for the exit.

    Memory is painted before the first inference of every input. A job of a single inference is
    followed by one more, uncounted: only a second pattern shows a byte that equals the first.
    """
    hello = greet(talk, firmware)
    for case, tensors in enumerate(job.inputs):
        sizes = tuple(map(len, tensors))
        if sizes != hello.input_sizes:
            raise UsageError(
                f"input {case} has tensors of {sizes} bytes; "
                f"{firmware.sources.network} takes {hello.input_sizes}"
            )
    outputs, cycles, marks = [], [], []
    for case in range(len(job.inputs)):
        for repeat in range(job.repeats):
            result = _infer(talk, firmware, job, case, send, paint=repeat == 0)
            cycles.append(result.cycles)
            marks.append(talk.layers(result.marks) if result.marks else ())
            outputs.append(
                tuple(talk.read_output(port, size) for port, size in enumerate(hello.output_sizes))
            )
    if len(job.inputs) == 1:
        _infer(talk, firmware, job, 0, send, paint=True)
    return Session(hello, tuple(outputs), tuple(cycles), tuple(marks), talk.memory())


def _infer(
    talk: Conversation, firmware: Firmware, job: Job, case: int, send: Sender, *, paint: bool
) -> Result:
    if paint:
        talk.paint()
    for port, data in enumerate(job.inputs[case]):
        send(talk, case, port, data)
    result = talk.run(paint_stack=paint)
    if result.status != 0:
        raise Incorrect(f"{firmware.sources.network}: run() returned {result.status} with input {case}")
    return result
