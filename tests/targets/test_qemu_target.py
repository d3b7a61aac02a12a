"""The emulator twin: real QEMU, real firmware, real faults, each within its deadline."""

from __future__ import annotations

import re
import shutil
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from small_network import INPUT, OUTPUT, BuildNetwork, assert_ends_at_its_deadline

from tinyhil.errors import HardFault, Incorrect, MissingTool, NoAnswer, TargetReset, UsageError, WrongBoard
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.recorder import parse
from tinyhil.harness.targets.target import Job

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="needs QEMU and the cross compiler: apt install qemu-system-arm "
    "gcc-arm-none-eabi libnewlib-arm-none-eabi",
)

JOB = Job(((INPUT,),))
CRASH = "*(volatile uint32_t *)0xF0000000;"  # no memory there


@pytest.fixture
def qemu(firmware_cache: Path) -> QemuTarget:
    return QemuTarget(firmware_cache)


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.mark.parametrize("kind", ["stm32f746", "stm32f412"])
def test_it_returns_the_output_the_counts_and_the_memory(
    qemu: QemuTarget, build_network: BuildNetwork, kind: str
) -> None:
    firmware = build_network(board=kind)
    run = qemu.run(firmware, JOB, soon())
    assert run.outputs == ((OUTPUT,),)
    assert (run.hello.build_id, run.hello.schema) == (firmware.id, 2)
    assert (run.hello.clock_hz, run.hello.caches, run.hello.wait_states, run.hello.counters) == (None,) * 4
    assert run.hello.conditions()["wait_states"] == "not readable"
    assert (run.hello.cpuid >> 4) & 0xFFF == (0xC27 if kind == "stm32f746" else 0xC24)
    assert run.arena_touched == 64
    assert 0 < run.stack_touched < 200
    assert run.overruns == ()
    assert run.cycles is None
    assert run.instructions is not None
    (layers,) = run.layers
    named = [layer.instructions for layer in layers]
    assert all(count is not None and count > 16 for count in named)
    # What is left is the way into run(), and out of it.
    assert 0 <= run.instructions[0] - sum(count or 0 for count in named) < 20
    assert run.provenance["emulator"].startswith("QEMU ")


def test_every_run_counts_the_same(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    firmware = build_network()
    job = Job(((INPUT,), (OUTPUT,)), repeats=2)
    first, second = qemu.run(firmware, job, soon()), qemu.run(firmware, job, soon())
    assert first == second
    assert len(first.outputs) == 4
    assert first.instructions is not None
    assert len(set(first.instructions)) == 1, "painting must not change what is counted"
    assert first.outputs[0] == first.outputs[1] == (OUTPUT,)


def test_a_traced_job_keeps_the_blocks_that_ran(
    qemu: QemuTarget, build_network: BuildNetwork, tmp_path: Path
) -> None:
    run = qemu.run(build_network(), Job(((INPUT,),), trace=tmp_path / "trace"), soon())
    plain = qemu.run(build_network(), JOB, soon())
    assert run.trace is not None
    assert run.instructions == plain.instructions
    trace = parse(run.trace)
    assert trace.has_edges
    assert set(trace.regions) == {"flash", "sram"}, "the DTCM has no cache to miss"


def test_inputs_of_100_kb_take_no_longer_than_the_loader(
    qemu: QemuTarget, build_network: BuildNetwork
) -> None:
    text = "static uint8_t big[102400]; static uint32_t sum;"
    firmware = build_network(prelude="", board="stm32f746")
    sources = replace(
        firmware.sources,
        files={
            "network.c": f"""
#include "tinyhil_network.h"
{text}
static int run(void) {{ sum = 0; for (uint32_t i = 0; i < sizeof big; i++) sum += big[i]; return 0; }}
static const struct th_port inputs[] = {{{{big, sizeof big}}}};
static const struct th_port outputs[] = {{{{&sum, 4}}}};
const struct th_network th_network = {{.inputs = inputs, .outputs = outputs, .input_count = 1,
    .output_count = 1, .run = run}};
"""
        },
        layers=(),
    )
    data = bytes(i % 251 for i in range(102400))
    run = qemu.run(build_network(sources=sources), Job(((data,),)), soon())
    assert int.from_bytes(run.outputs[0][0], "little") == sum(data)
    assert run.layers == ((),)
    assert run.arena_touched == 0


def test_a_crash_names_function_line_layer_and_cause(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    with pytest.raises(HardFault) as caught:
        qemu.run(build_network(CRASH), JOB, soon())
    message = str(caught.value)
    assert "layer_reverse (network.c:" in message
    assert "0xf0000000" in message
    assert "in layer 1 (reverse)" in message
    assert "without memory" in message
    line = int(re.findall(r"network\.c:(\d+)", message)[0])
    text = build_network(CRASH).sources.files["network.c"].splitlines()
    assert "0xF0000000" in text[line - 1]


def test_an_undefined_instruction_is_called_one(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    with pytest.raises(HardFault, match=r"undefined instruction"):
        qemu.run(build_network('__asm volatile("udf #0");'), JOB, soon())


def test_a_jump_into_nowhere_is_a_hard_fault(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    with pytest.raises(HardFault, match="small crashed"):
        qemu.run(build_network("((void (*)(void))0xE1000000)();"), JOB, soon())


def test_a_crash_in_init_is_told_too(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    with pytest.raises(HardFault, match=r"init|memory_call"):
        qemu.run(build_network(init=CRASH), JOB, soon())


def test_running_out_of_stack_is_called_so(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    prelude = """
static int dive(volatile int depth) { volatile char room[256]; room[0] = (char)depth;
    return depth ? dive(depth - 1) + room[0] : 0; }
"""
    with pytest.raises(HardFault, match="stack"):
        qemu.run(build_network("dive(1000);", prelude=prelude), JOB, soon())


def test_a_stack_used_to_its_last_bytes_is_an_overrun(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    touch = "extern uint8_t _stack_start[]; _stack_start[8] = 1;"
    run = qemu.run(build_network(touch), JOB, soon())
    assert run.overruns == ("the end of the stack",)


@pytest.mark.parametrize(("offset", "name"), [(-1, "the start of the arena"), (64, "the end of the arena")])
def test_a_write_beside_the_arena_is_an_overrun(
    qemu: QemuTarget, build_network: BuildNetwork, offset: int, name: str
) -> None:
    beside = f'volatile uint8_t *beside = arena; __asm volatile("" : "+r"(beside)); beside[{offset}] = 1;'
    assert qemu.run(build_network(beside), JOB, soon()).overruns == (name,)


def test_a_byte_that_equals_the_paint_is_still_seen(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    """Writes one edge byte back as it is found, which hides it from the first pattern only."""
    untouched = (
        "volatile uint8_t *edge = &wide[%d]; static uint8_t kept; if (!kept) kept = *edge; *edge = kept;"
    )
    prelude = """
#include <stdint.h>
static uint8_t wide[256] __attribute__((section(".arena")));
"""
    firmware = build_network(untouched % 200, prelude=prelude)
    text = firmware.sources.files["network.c"].replace(
        ".arena = arena, .arena_size = sizeof arena", ".arena = wide, .arena_size = 256"
    )
    run = qemu.run(build_network(sources=replace(firmware.sources, files={"network.c": text})), JOB, soon())
    assert run.arena_touched == 1


def test_a_firmware_that_hangs_ends_at_the_deadline(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    firmware = build_network("for (;;) {}")
    words = r"no answer to Run .* in layer 1 \(reverse\)"
    assert_ends_at_its_deadline(lambda deadline: qemu.run(firmware, JOB, deadline), words)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_an_emulator_does_not_outlive_its_killed_harness(
    qemu: QemuTarget, build_network: BuildNetwork
) -> None:
    firmware = build_network("for (;;) {}")
    harness = get_context("spawn").Process(target=qemu.run, args=(firmware, JOB, Deadline.after(300)))
    harness.start()
    limit = Deadline.after(120)
    while not (spinning := _spinning(psutil.Process(harness.pid).children())):
        assert harness.is_alive()
        assert not limit.expired
        time.sleep(0.05)
    harness.kill()
    harness.join()
    while any(_runs(emulator) for emulator in spinning):
        assert not limit.expired
        time.sleep(0.05)


def _spinning(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Emulators that have had half a second of the processor: they have started, and the firmware runs."""
    return [p for p in processes if p.name().startswith("qemu") and p.cpu_times().user > 0.5]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_firmware_that_never_says_hello_ends_at_the_deadline(
    qemu: QemuTarget, build_network: BuildNetwork
) -> None:
    firmware = build_network(init="for (;;) {}")
    with pytest.raises(NoAnswer, match="no answer to HelloRequest"):
        qemu.run(firmware, JOB, Deadline.after(2))


def test_a_reset_in_the_middle_is_noticed(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    reset = "*(volatile uint32_t *)0xE000ED0C = 0x05FA0004; for (;;) {}"  # AIRCR: SYSRESETREQ
    with pytest.raises(TargetReset, match="hello again"):
        qemu.run(build_network(reset), JOB, soon())


def test_a_core_that_locks_up_is_a_hard_fault(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    no_vectors = '*(volatile uint32_t *)0xE000ED08 = 0xF0000000; __asm volatile("udf #0");'
    with pytest.raises(HardFault, match=r"locked up in layer_reverse \(network\.c:\d+\)"):
        qemu.run(build_network(no_vectors), JOB, soon())


def test_a_firmware_that_ends_by_itself_has_not_answered(
    qemu: QemuTarget, build_network: BuildNetwork
) -> None:
    prelude = "void hal_exit(int status) __attribute__((noreturn));\n"
    with pytest.raises(NoAnswer, match="ended by itself"):
        qemu.run(build_network("hal_exit(3);", prelude=prelude), JOB, soon())


def test_another_build_than_the_one_asked_for_is_refused(
    qemu: QemuTarget, build_network: BuildNetwork
) -> None:
    firmware = build_network()
    with pytest.raises(WrongBoard, match=f"asked for build 0123.*{firmware.id}"):
        qemu.run(replace(firmware, id="0123"), JOB, soon())


def test_a_network_that_fails_says_so(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    with pytest.raises(Incorrect, match=r"run\(\) returned 5"):
        qemu.run(build_network(run_status=5), JOB, soon())
    with pytest.raises(Incorrect, match=r"init\(\) returned 7"):
        qemu.run(build_network(init="return 7;"), JOB, soon())


def test_an_input_of_another_size_is_refused(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    with pytest.raises(UsageError, match="3,"):
        qemu.run(build_network(), Job(((b"abc",),)), soon())


def test_firmware_of_the_chip_itself_is_refused(qemu: QemuTarget, build_network: BuildNetwork) -> None:
    with pytest.raises(UsageError, match="not for its emulator twin"):
        qemu.run(replace(build_network(), emulated=False), JOB, soon())


def test_a_machine_without_qemu_is_told_how_to_get_it(
    qemu: QemuTarget, build_network: BuildNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    firmware = build_network()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="apt install qemu-system-arm"):
        qemu.run(firmware, JOB, soon())
