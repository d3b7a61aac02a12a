"""Several networks in one program: called by name, one arena for all, equal code once."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from engine_checks import MODELS, WARNINGS, random_inputs
from engine_networks import Builder

from tinyhil.harness.boards import get_board
from tinyhil.harness.commands.plan import export_c as export_command
from tinyhil.harness.commands.together import joint_lines, measure_together
from tinyhil.harness.engine import Options
from tinyhil.harness.measure import Network
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.tflite_reader import read_tflite
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import load_settings, override
from tinyhil.harness.tinyengine import TinyEngine
from tinyhil.harness.tinyengine.emit import c_names
from tinyhil.harness.tinyengine.export import export_c

NATIVE = get_board("native")


def word(seed: int = 1, side: int = 9) -> Graph:
    b = Builder((1, side, 7, 3), seed)
    b.conv(8, (3, 3), (2, 2), (1, 1, 1, 1))
    b.depthwise()
    b.conv(6)
    b.mean()
    b.dense(4)
    b.softmax()
    return b.graph()


def image() -> Graph:
    b = Builder((1, 14, 12, 4), 2)
    start = b.conv(12)
    b.depthwise((5, 5), pads=(2, 2, 2, 2))
    b.conv(12)
    b.add(start)
    b.mean()
    b.dense(4)
    b.softmax()
    return b.graph()


DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "networks.h"

int main(int argc, char **argv)
{
    uint8_t *arena = malloc(NETWORKS_ARENA_SIZE); /* exactly: the sanitizer sees one byte more */
    memset(arena, 0xA5, NETWORKS_ARENA_SIZE);
    for (int i = 1; i + 2 < argc; i += 3) { /* name, bytes of input, bytes of output */
        const struct networks_entry *const n = networks_find(argv[i]);
        const size_t in = (size_t)atoi(argv[i + 1]), out = (size_t)atoi(argv[i + 2]);
        if (n == NULL || fread(n->input(arena, 0), 1, in, stdin) != in || n->run(arena) != 0) {
            return 1;
        }
        fwrite(n->output(arena, 0), 1, out, stdout);
    }
    free(arena);
    return networks_find("nobody") != NULL;
}
"""


def test_they_run_in_turn_in_one_arena_and_leave_each_other_alone(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no host C compiler; install gcc")
    graphs = {"Key word!": word(), "image": image(), "word 2": word(7, 6)}
    parts = TinyEngine().generate_together(graphs, NATIVE, Options())
    for name, text in parts[0].files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "driver.c").write_text(DRIVER)
    files = [n for n in parts[0].files if n.endswith(".c") and n != "th_network.c"]
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *WARNINGS]
    built = subprocess.run(
        [compiler, *flags, "-o", "net", "driver.c", *files],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:4000]
    turns = [("key_word", 0), ("image", 1), ("word_2", 2), ("image", 1), ("key_word", 0)]
    arguments, data, wanted = [], b"", b""
    for seed, (name, place) in enumerate(turns):
        graph, part = list(graphs.values())[place], parts[place]
        inputs = random_inputs(graph, seed)
        arguments += [name, str(part.inputs[0].nbytes), str(part.outputs[0].nbytes)]
        data += inputs[0].tobytes()
        wanted += reference.run(graph, inputs)[0].tobytes()
    ran = subprocess.run([tmp_path / "net", *arguments], input=data, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()[:4000]
    assert ran.stdout == wanted


def test_the_arena_is_the_largest_and_each_place_is_told() -> None:
    graphs = {"word": word(), "image": image()}
    parts = TinyEngine().generate_together(graphs, NATIVE, Options())
    alone = [TinyEngine().generate(graph, NATIVE, Options()) for graph in graphs.values()]
    assert [p.arena for p in parts] == [a.arena for a in alone]
    assert f"#define NETWORKS_ARENA_SIZE {max(a.arena or 0 for a in alone)}\n" in parts[0].files["networks.h"]
    assert [p.place for p in parts] == [0, 1]
    assert parts[0].files == parts[1].files


def test_equal_functions_exist_once_and_serve_both() -> None:
    first, twin = TinyEngine().generate_together({"word": word(), "twin": replace(word())}, NATIVE, Options())
    assert [layer.symbol for layer in first.layers] == [layer.symbol for layer in twin.layers]
    assert "stream[" not in first.files["layers_twin.c"]
    other = TinyEngine().generate_together({"word": word(), "other": word(2)}, NATIVE, Options())
    shared = {layer.symbol for layer in other[0].layers} & {layer.symbol for layer in other[1].layers}
    assert any("softmax" in symbol for symbol in shared)
    assert not any("conv" in symbol for symbol in shared)


def test_names_become_c_names_of_their_own() -> None:
    assert c_names(["KWS-v1.0", "kws v1 0", "../x", "*/"]) == ["kws_v1_0", "kws_v1_0_2", "x", "unnamed"]


def test_an_exported_project_of_two_compiles_alone_without_a_warning(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no host C compiler; install gcc")
    models = []
    for name, graph in (("word", word()), ("image", image())):
        models.append(tmp_path / f"{name}.tflite")
        models[-1].write_bytes(write_tflite(graph))
    out = tmp_path / "project"
    arguments = [*map(str, models), "--board", "native", "--out", str(out)]
    assert CliRunner().invoke(export_command, arguments, catch_exceptions=False).exit_code == 0
    files = export_c({m.stem: read_tflite(m.read_bytes(), m.stem) for m in models}, NATIVE, Options())
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == set(files)
    assert {"src/network_word.h", "src/network_image.h", "src/networks.h", "README.md"} <= set(files)
    built = subprocess.run(
        [compiler, *WARNINGS, "-O1", "-o", "net", *sorted(p.name for p in (out / "src").glob("*.c"))],
        cwd=out / "src", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:2000]
    assert subprocess.run([out / "src" / "net"], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm; `make setup`")
@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc; `make setup`")
@pytest.mark.parametrize("names", [(), ("mlperf_kws", "mlperf_vww")])
def test_each_is_exact_in_the_common_firmware(names: tuple[str, ...], tmp_path: Path) -> None:
    if names and not MODELS.is_dir():
        pytest.skip("needs the benchmark networks in ../shared/models")
    networks = [Network.load(MODELS / f"{name}.tflite") for name in names]
    for name, graph in (("word", word()), ("image", image())) if not names else ():
        data = write_tflite(graph)
        networks.append(Network(name, data, read_tflite(data, name)))
    runner = Runner(override(load_settings(tmp_path), engine=("tinyengine",)), emulate=True)
    joint = measure_together(runner, networks, get_board("stm32f746"), Options())
    assert not joint.failed
    for alone, both in zip(joint.alone, joint.together, strict=True):
        assert both.correct
        assert both.correct.bit_exact
        assert both.instructions
        assert alone.instructions
        assert abs(both.instructions - alone.instructions) <= 4 * len(both.layers)
        assert alone.peak_ram
        assert alone.peak_ram.total <= joint.peak_ram
    separate = [record.peak_ram.total for record in joint.alone if record.peak_ram]
    assert joint.peak_ram < max(separate) + 256
    assert (joint.together[0].flash or 0) < sum(record.flash or 0 for record in joint.alone)
    assert f"{joint.peak_ram:,} B" in joint_lines(joint)[-1]
