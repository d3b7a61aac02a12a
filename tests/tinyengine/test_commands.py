"""The commands that show what an idea, or a bit less per weight, is worth; on the emulator, exact."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from engine_networks import Builder

from tinyhil.harness.commands.bits import bits
from tinyhil.harness.commands.plan import ABLATION, ablate
from tinyhil.harness.model.tflite_reader import read_tflite
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.tinyengine.fields import bits_of

pytestmark = [
    pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm; `make setup`"),
    pytest.mark.skipif(
        shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc; `make setup`"
    ),
]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small network as a file, in a folder of its own that the command runs in."""
    b = Builder((1, 11, 9, 4), seed=5)
    b.conv(8, (3, 3), (2, 2), (1, 1, 1, 1), dead=0.3)
    b.depthwise()
    b.conv(12)
    b.mean()
    b.dense(4)
    path = tmp_path / "small.tflite"
    path.write_bytes(write_tflite(b.graph()))
    monkeypatch.chdir(tmp_path)
    return str(path)


def test_narrower_weights_are_told_with_what_they_save_and_cost(model: str, tmp_path: Path) -> None:
    out = tmp_path / "narrow.tflite"
    specs = [word for spec in ("*:8", "auto:60%", "conv0:8,dw*:4,*:2") for word in ("--weights-bits", spec)]
    arguments = [model, "--board", "stm32f746", *specs, "--out", str(out)]
    shown = CliRunner().invoke(bits, arguments, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    rows = [line.split() for line in shown.output.splitlines() if line.endswith("exact")]
    assert [row[0] for row in rows] == ["*:8", "auto:60%", "conv0:8,dw*:4,*:2"]
    assert "0.0%" in rows[0]
    assert len({row[1] for row in rows}) == 3  # bytes of weights
    written = read_tflite(out.read_bytes(), "narrow")
    widths = [bits_of(t.data) for t in written.tensors if t.data is not None and len(t.shape) > 1]
    assert sorted(widths) == [2, 2, 4, 8]


def test_a_layer_that_is_not_there_is_named(model: str) -> None:
    shown = CliRunner().invoke(bits, [model, "--board", "stm32f746", "--weights-bits", "conv9:4"])
    assert "no layer is called 'conv9'" in str(shown.exception)


def test_every_idea_is_turned_off_in_turn_and_on_one_by_one(model: str) -> None:
    shown = CliRunner().invoke(ablate, [model, "--board", "nucleo-l4r5zi"], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    one_off, cumulative = (part.splitlines()[1:] for part in shown.output.strip().split("\n\n"))
    assert [line.split("  ")[0] for line in one_off] == ["everything", *(f"without {n}" for n in ABLATION)]
    assert [line.split("  ")[0] for line in cumulative] == ["nothing", *(f"+ {n}" for n in ABLATION)]
    figures = [int(line[30:44].replace(",", "")) for line in cumulative]
    assert figures[0] > 3 * figures[-1]
    assert int(one_off[0][30:44].replace(",", "")) == figures[-1]
