"""The host as a board: the same wire, and sanitizers whose reports become errors."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from small_network import INPUT, OUTPUT, BuildNetwork, assert_ends_at_its_deadline

from tinyhil.errors import HardFault, Incorrect, NoAnswer, TinyhilError, UsageError, WrongBoard
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets.native import NativeTarget
from tinyhil.harness.targets.target import Job

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt install gcc")

JOB = Job(((INPUT,), (OUTPUT,)))


def test_it_returns_outputs_and_touched_arena_but_no_figures(build_network: BuildNetwork) -> None:
    run = NativeTarget().run(build_network(board="native"), JOB, Deadline.after(30))
    assert run.outputs[0] == (OUTPUT,)
    assert run.arena_touched == 64
    assert (run.mode, run.instructions, run.cycles, run.layers) == ("native", None, None, ())


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (
            "volatile int i = 64; arena[i] = 1;",
            Incorrect,
            r"layer_reverse \(network\.c:\d+\).*(overflow|bounds)",
        ),
        ("volatile int big = 0x7FFFFFFF; big = big + 1;", Incorrect, r"signed integer overflow"),
        ("*(volatile char *)8 = 1;", (HardFault, Incorrect), r"layer_reverse|null pointer|invalid"),
        ("__builtin_trap();", (HardFault, Incorrect), r"ILL|signal|unreachable"),
    ],
)
def test_what_a_sanitizer_finds_is_a_clear_error(
    build_network: BuildNetwork, fault: str, error: type[TinyhilError], words: str
) -> None:
    with pytest.raises(error, match=words):
        NativeTarget().run(build_network(fault, board="native"), JOB, Deadline.after(30))


def test_a_program_that_ends_by_itself_is_no_answer(build_network: BuildNetwork) -> None:
    prelude = "#include <stdlib.h>\n"
    with pytest.raises(NoAnswer, match="ended with status 3"):
        NativeTarget().run(
            build_network("exit(3);", prelude=prelude, board="native"), JOB, Deadline.after(30)
        )


def test_a_program_that_hangs_ends_at_the_deadline(build_network: BuildNetwork) -> None:
    firmware = build_network("for (volatile int i = 0;;) { i = 0; }", board="native")
    assert_ends_at_its_deadline(
        lambda deadline: NativeTarget().run(firmware, JOB, deadline), "no answer to Run"
    )


def test_another_build_is_refused(build_network: BuildNetwork) -> None:
    firmware = replace(build_network(board="native"), id="0123")
    with pytest.raises(WrongBoard, match="0123"):
        NativeTarget().run(firmware, JOB, Deadline.after(30))


def test_firmware_of_a_board_does_not_run_here(build_network: BuildNetwork) -> None:
    firmware = build_network(board="native")
    with pytest.raises(UsageError, match="not for this computer"):
        NativeTarget().run(
            replace(firmware, board=replace(firmware.board, core="cortex-m7")), JOB, Deadline.after(5)
        )
