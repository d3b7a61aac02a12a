"""The micro-benchmark on both twins: estimates as derived by hand, counts the same in QEMU and Unicorn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tinyhil.errors import MissingTool, UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.build import Firmware, Program, build
from tinyhil.harness.commands.latency import calibrate, explain
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.targets import unicorn
from tinyhil.harness.targets.qemu import QemuTarget
from tinyhil.harness.targets.recorder import parse
from tinyhil.harness.targets.target import Job
from tinyhil.harness.targets.unicorn import UnicornTarget
from tinyhil.harness.targets.unicorn_chip import Chip
from tinyhil.harness.timing.microbench import loops, microbench_sources
from tinyhil.harness.timing.runs import estimate_runs

needs_gcc = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc"), reason="needs arm-none-eabi-gcc (make bench)"
)
needs_qemu = pytest.mark.skipif(
    not shutil.which("qemu-system-arm"), reason="needs qemu-system-arm (make bench)"
)
needs_unicorn = pytest.mark.skipif(
    not unicorn.available(), reason="needs Unicorn: pip install tinyhil[unicorn]"
)

JOB = Job(((bytes(4),),))
MARK = 18  # instructions of one layer mark, which only firmware for real boards has


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def firmware(cache: Path) -> Callable[[str, bool], Firmware]:
    def make(board: str, emulated: bool) -> Firmware:
        program = Program(microbench_sources(), get_board(board), emulated)
        (made,) = build([program], Deadline.after(240), cache_dir=cache, jobs=1)
        if isinstance(made, Exception):
            raise made
        return made

    return make


@needs_gcc
@needs_qemu
@pytest.mark.parametrize("board", ["stm32f746", "nucleo-l4r5zi"])
def test_each_loop_is_estimated_as_derived_by_hand_from_a_recorded_run(
    cache: Path, firmware: Callable[[str, bool], Firmware], board: str, tmp_path: Path
) -> None:
    job = Job(JOB.inputs, trace=tmp_path / "trace")
    QemuTarget(cache).run(firmware(board, True), job, Deadline.after(60))
    found = estimate_runs(parse(tmp_path / "trace"), firmware(board, True), [0])[0]
    for loop, layer in zip(loops(), found.layers, strict=True):
        if loop.expected:
            assert layer is not None
            cycles, _ = loop.expected[get_board(board).core]
            # Entry, return and cold cache lines come once; 200 cycles in 4000 rounds.
            assert layer.value / loop.iterations == pytest.approx(cycles, abs=200 / loop.iterations)


@needs_gcc
@needs_qemu
@needs_unicorn
@pytest.mark.parametrize("board", ["stm32f746", "nucleo-l4r5zi", "stm32f407", "stm32h743"])
def test_the_flashed_elf_boots_to_full_clock_and_counts_what_qemu_counts(
    cache: Path, firmware: Callable[[str, bool], Firmware], board: str
) -> None:
    run = UnicornTarget(cache).run(firmware(board, False), JOB, Deadline.after(60))
    reference = QemuTarget(cache).run(firmware(board, True), JOB, Deadline.after(60))
    assert run.hello.clock_hz == get_board(board).clock_hz
    assert run.mode == "unicorn"
    assert run.cycles is None, "an emulator measures no cycles"
    pairs = zip(run.layers[0], reference.layers[0], strict=True)
    differences = [a.instructions - b.instructions for a, b in pairs if a.instructions and b.instructions]
    assert differences[:-1] == [MARK] * (len(loops()) - 1)  # each layer ends with the mark of the next
    assert run.stack_touched == reference.stack_touched


@needs_gcc
@needs_unicorn
def test_two_runs_in_unicorn_count_the_same(cache: Path, firmware: Callable[[str, bool], Firmware]) -> None:
    first, second = (
        UnicornTarget(cache).run(firmware("stm32f746", False), JOB, Deadline.after(60)) for _ in "12"
    )
    assert first == second


@needs_gcc
@needs_unicorn
def test_firmware_for_the_qemu_twin_is_refused(
    cache: Path, firmware: Callable[[str, bool], Firmware]
) -> None:
    with pytest.raises(UsageError, match="for the QEMU twin"):
        UnicornTarget(cache).run(firmware("stm32f746", True), JOB, Deadline.after(10))


def test_without_unicorn_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "unicorn", None)
    with pytest.raises(MissingTool, match=r"pip install 'tinyhil\[unicorn\]'"):
        unicorn._unicorn()
    assert not unicorn.available()


def test_status_bits_follow_their_enable_bits() -> None:
    chip = Chip("stm32f7", "cortex-m7")
    chip.write(0x40023800, 4, 1 << 16)
    assert chip.read(0x40023800, 4) >> 16 & 3 == 3  # HSEON, HSERDY
    chip.write(0x40023808, 1, 2)
    assert chip.read(0x40023808, 4) == 0b1010  # SW and SWS


def test_the_uart_is_two_queues_and_idle_only_when_polled_in_vain() -> None:
    chip = Chip("stm32f7", "cortex-m7")
    chip.to_read.extend(b"a")
    assert chip.read(0x4001101C, 4) & 0x20
    assert chip.read(0x40011024, 4) == ord("a")
    chip.write(0x40011028, 4, ord("b"))
    assert bytes(chip.sent) == b"b"
    chip.read(0x4001101C, 4)
    assert not chip.idle
    for _ in range(3):
        chip.read(0x4001101C, 4)
    assert chip.idle


def test_an_emulated_cycle_counter_stands_still() -> None:
    chip = Chip("stm32f7", "cortex-m7")
    chip.write(0xE0001004, 4, 5)
    assert chip.read(0xE0001004, 4) == 0


@needs_gcc
@needs_qemu
def test_calibrate_without_the_board_checks_the_models_arithmetic(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYHIL_CACHE", str(cache))
    result = CliRunner().invoke(calibrate, ["--board", "stm32f746"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "nothing is fitted" in result.output
    assert "DIFFERS" not in result.output


MODELS = Path(__file__).parents[3] / "shared" / "models"


@needs_gcc
@needs_qemu
@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the shared models beside the checkout")
def test_explain_splits_a_network_into_layers_and_work(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYHIL_CACHE", str(cache))
    model = str(MODELS / "mlperf_ad.tflite")
    words = [model, "--board", "stm32f746", "--top", "1"]
    output = CliRunner().invoke(explain, words, catch_exceptions=False).output
    assert "not a measurement" in output
    assert output.count("FullyConnected") >= 10
    for expected in ("whole", "macs", "flash waits", "1. block at 0x"):
        assert expected in output
    with pytest.raises(UsageError, match="no layer is called"):
        CliRunner().invoke(explain, [*words, "--layer", "missing"], catch_exceptions=False)


def test_explain_refuses_this_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no timing model"):
        CliRunner().invoke(explain, ["model.tflite", "--board", "native"], catch_exceptions=False)
