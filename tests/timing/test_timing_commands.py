"""`tinyhil timing` on a recorded trace of any firmware."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tinyhil.errors import UsageError
from tinyhil.harness.boards import boards_folder
from tinyhil.harness.timing.commands import timing

TRACE = """tinyhil-trace 1
with edges=1
with icache=4096:2:32:rr
with dcache=4096:4:32:rr
with region=flash:0x8000000:0x8100000
block 0 08000100 3 51f8042b0138fbd1
segment 0 00000000 0
segment 1 08000100 3000
ran 0 1000 0 0 0 1000 100 0 0
edge 0 0 1000
segment 2 08000100 3000
ran 0 1000 0 0 0 1000 0 0 0
edge 0 0 1000
end
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run.trace"
    path.write_text(TRACE)
    return path


def call(*words: object) -> Result:
    return CliRunner().invoke(timing, [str(word) for word in words], catch_exceptions=False)


def test_a_table_shows_each_segment_and_the_total_as_estimated(trace: Path) -> None:
    result = call("--board", "stm32f746", "--blocks", trace)
    assert result.exit_code == 0
    assert "not a measurement" in result.output
    assert result.output.splitlines()[-1].split()[:3] == ["total", "6,000", "5,150"]


def test_json_has_the_interval_the_parts_and_the_kind(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    call(
        "--core",
        "cortex-m7",
        "--board",
        "stm32f746",
        "--blocks",
        trace,
        "--mark",
        "0x08000101",
        "--json",
        out,
    )
    data = json.loads(out.read_text())
    assert [s["instructions"] for s in data["segments"]] == [3000, 3000]
    assert data["total"]["kind"] == "estimated"
    assert data["total"]["cycles_est"]["value"] == 5150
    assert data["total"]["parts"]["flash"] == 1150
    assert data["clock_hz"] == 216_000_000


def test_stdout_can_be_the_json_file(trace: Path) -> None:
    assert json.loads(call("--board", "stm32f746", "--blocks", trace, "--json", "-").output)["model"]


def test_explain_shows_the_hottest_block_and_where_cycles_go(trace: Path) -> None:
    output = call("--board", "stm32f746", "--blocks", trace, "--explain", "--top", 1).output
    assert "block at 0x08000100" in output
    assert "flash waits" in output


def test_a_board_may_be_a_file_of_ones_own(trace: Path, tmp_path: Path) -> None:
    text = (boards_folder() / "stm32f746.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("flash_line = 11.5", "flash_line = 23"))
    output = call("--board", tmp_path / "mine.toml", "--blocks", trace, "--json", "-").output
    assert json.loads(output)["total"]["parts"]["flash"] == 2300


def test_a_board_that_cannot_be_built_for_can_be_estimated(trace: Path) -> None:
    output = call("--board", "nucleo-h7a3zi", "--blocks", trace, "--json", "-").output
    assert json.loads(output)["total"]["parts"]["flash"] == 100 * (2 * 6 - 1)


def test_values_can_be_set_for_one_call(trace: Path) -> None:
    output = call("--board", "stm32f746", "--blocks", trace, "--set", "flash_line=1", "--json", "-").output
    assert json.loads(output)["total"]["parts"]["flash"] == 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--board", "stm32f746", "--core", "cortex-m4"], "has a cortex-m7"),
        (["--board", "stm32f746", "--set", "flash_line=much"], "KEY=NUMBER"),
        (["--board", "stm32f746", "--mark", "0x4"], "no segment"),
        (["--board", "stm32f746", "--image", "nothing.bin@0x0"], "cannot read the image"),
        (["--board", "stm32f746", "--image", "nothing.bin@here"], "no address"),
        (["--board", "stm32f746", "--image", "nothing.elf"], "cannot read the ELF"),
        (["--board", "missing.toml"], "cannot read the board file"),
        (["--board", "native"], "no pipeline model"),
    ],
)
def test_wrong_use_says_what_is_wrong(trace: Path, words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call("--blocks", trace, *words)


def test_a_missing_trace_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the trace"):
        call("--board", "stm32f746", "--blocks", tmp_path / "none")


def test_a_mark_that_is_no_number_says_so(trace: Path) -> None:
    with pytest.raises(UsageError, match="no address"):
        call("--board", "stm32f746", "--blocks", trace, "--mark", "main")
