"""The generated C: bit-exact under sanitizers, within its arena, clean, readable, the same every time."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_checks import MODELS, WARNINGS, RunC, random_inputs
from engine_networks import Builder, networks
from hypothesis import HealthCheck, Phase, given, settings

from tinyhil.errors import DoesNotFit, UnsupportedOperator
from tinyhil.harness.boards import get_board
from tinyhil.harness.engine import Options
from tinyhil.harness.model import reference
from tinyhil.harness.model.graph import (
    Activation,
    Concatenation,
    DType,
    Graph,
    HardSwish,
    LeakyRelu,
    Logistic,
    Maximum,
    Minimum,
    Mul,
    Op,
    Prelu,
    Quantization,
    Quantize,
    ResizeBilinear,
    ResizeNearestNeighbor,
    StridedSlice,
    Sub,
    Tanh,
    Tensor,
    Transpose,
)
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.peers.reference import ReferenceEngine
from tinyhil.harness.tinyengine import TinyEngine
from tinyhil.harness.tinyengine.passes import strip_float_io

NATIVE = get_board("native")
F746 = get_board("stm32f746")
GOLDEN = Path(__file__).parent / "golden"
NAMES = [
    "mlperf_ad",
    "mlperf_ic",
    "mlperf_kws",
    "mlperf_vww",
    "te_vww",
    "tflm_micro_speech",
    "tflm_person_detect",
]


def assert_exact(graph: Graph, run_c: RunC, options: Options | None = None, samples: int = 2) -> None:
    sources = TinyEngine().generate(graph, NATIVE, options or Options())
    plain = strip_float_io(graph)
    inputs = [random_inputs(plain, seed) for seed in range(samples)]
    for sample, answer in zip(inputs, run_c(sources, inputs), strict=True):
        for got, want in zip(answer, reference.run(plain, sample), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the benchmark networks in ../shared/models")
@pytest.mark.parametrize("prefer", ["speed", "ram"])
@pytest.mark.parametrize("name", NAMES)
def test_benchmark_networks_are_bit_exact(name: str, prefer: str, run_c: RunC) -> None:
    assert_exact(load_tflite(MODELS / f"{name}.tflite"), run_c, Options(prefer=prefer))


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try compiles: no shrinking
)
@given(networks())
def test_random_networks_are_bit_exact(run_c: RunC, graph: Graph) -> None:
    assert_exact(graph, run_c)


def every_operator() -> Graph:
    """One small network in which the less common operators occur."""
    b = Builder((1, 6, 5, 4), seed=3)
    left = b.conv(4, (3, 3), pads=(1, 1, 1, 1), activation=Activation.NONE, zero_point=2)
    gate = b.op(Logistic(), (left,), b.shape(left), 1 / 256, -128)
    right = b.op(Mul(), (left, gate), b.shape(left), 0.03, 1)
    scaled = b.op(Quantize(), (right,), b.shape(right), 0.02, -9)
    b.op(Concatenation(3), (scaled, scaled, right), (1, 6, 5, 12))
    b.op(ResizeNearestNeighbor(), (b.last,), (1, 9, 10, 12))
    b.op(StridedSlice((0, 8, 1, 2), (1, -1, 9, 12), (1, -2, 2, 1)), (b.last,), (1, 5, 4, 10))
    b.op(Transpose((0, 2, 3, 1)), (b.last,), (1, 4, 10, 5))
    b.pad(1, 0, 0, 2)
    b.pool(average=False)
    side = b.last
    per_channel = np.arange(-60, 60, 24).astype(np.int8)
    constant = b.constant(per_channel, DType.INT8, Quantization((0.1,), (4,)))
    b.op(Mul(), (side, constant), b.shape(side), 0.2, 0)
    b.op(ResizeBilinear(half_pixel_centers=True), (b.last,), (1, 7, *b.shape()[2:]))
    b.op(HardSwish(), (b.last,), b.shape(), 0.15, -3)
    left, right = b.last, b.op(Tanh(), (b.last,), b.shape(), 1 / 128, 0)
    b.op(Sub(Activation.RELU), (left, right), b.shape(), 0.1, -100)
    b.op(Minimum(), (b.last, b.op(LeakyRelu(0.2), (left,), b.shape(), 0.1, -100)), b.shape())
    slopes = b.constant(
        np.arange(-100, 101, 20).astype(np.int8)[: b.shape()[3]], DType.INT8, Quantization((0.01,), (7,))
    )
    b.op(Prelu(), (b.last, slopes), b.shape(), 0.1, -100)
    limit = np.array([-60], np.int8)
    b.op(Maximum(), (b.last, b.constant(limit, DType.INT8, b.tensors[b.last].quant)), b.shape())
    b.softmax()
    return b.graph(b.last, side)


def test_less_common_operators_are_bit_exact(run_c: RunC) -> None:
    assert_exact(every_operator(), run_c, samples=4)


def test_float_ports_are_converted_on_the_device_when_asked(run_c: RunC) -> None:
    graph = every_operator()
    image = Tensor("image", (1, 6, 5, 4), DType.FLOAT32)
    tensors = (*graph.tensors, image)
    first = Op(Quantize(), (len(tensors) - 1,), (0,))
    graph = replace(graph, tensors=tensors, ops=(first, *graph.ops), inputs=(len(tensors) - 1,))
    sources = TinyEngine().generate(graph, NATIVE, Options(float_io=True))
    assert sources.inputs[0].dtype is DType.FLOAT32
    values = random_inputs(graph, 1)
    values[0].reshape(-1)[:6] = [np.nan, np.inf, -np.inf, 1e30, 0.025, -0.025]
    answer = run_c(sources, [values])[0]
    for got, want in zip(answer, reference.run(graph, values), strict=True):
        np.testing.assert_array_equal(got, want)


def test_ports_of_unsigned_bytes_are_converted_on_the_device(run_c: RunC) -> None:
    b = Builder((1, 5, 5, 3), seed=6)
    b.conv(4, (3, 3))
    octets = Tensor("octets", (1, 5, 5, 3), DType.UINT8, Quantization((0.05,), (125,)))
    answer = Tensor("answer", b.shape(), DType.UINT8, Quantization((0.07,), (11,)))
    graph, last = b.graph(), len(b.tensors)
    ops = (Op(Quantize(), (last,), (0,)), *graph.ops, Op(Quantize(), graph.outputs, (last + 1,)))
    graph = replace(
        graph, tensors=(*graph.tensors, octets, answer), ops=ops, inputs=(last,), outputs=(last + 1,)
    )
    assert_exact(graph, run_c)


def test_the_reference_engine_is_exact_and_folds_nothing(run_c: RunC) -> None:
    b = Builder((1, 8, 8, 3), seed=5)
    b.pad(1, 1, 1, 1)
    b.conv(8, (3, 3), dead=0.5)
    b.relu()
    graph = b.graph()
    sources = ReferenceEngine().generate(graph, NATIVE, Options())
    assert [layer.op for layer in sources.layers] == ["Pad", "Conv2D", "Relu"]
    assert {layer.kernel for layer in sources.layers} == {"portable"}
    sample = random_inputs(graph, 0)
    np.testing.assert_array_equal(run_c(sources, [sample])[0][0], reference.run(graph, sample)[0])


def test_the_same_graph_gives_the_same_text() -> None:
    first, second = (TinyEngine().generate(every_operator(), F746, Options()) for _ in range(2))
    assert first == second


def test_buffers_and_layers_describe_the_arena() -> None:
    sources = TinyEngine().generate(every_operator(), NATIVE, Options())
    assert sources.arena == max(b.offset + b.size for b in sources.buffers)
    assert {b.role for b in sources.buffers} >= {"input", "activation", "output"}
    text = "\n".join(sources.files.values())
    for layer in sources.layers:
        assert f"void {layer.symbol}(" in text


def test_generated_c_reads_as_the_reviewed_example() -> None:
    b = Builder((1, 4, 4, 2), seed=1)
    b.pad(0, 1, 0, 1)
    b.conv(3, (3, 3), (2, 2))
    b.mean()
    sources = ReferenceEngine().generate(b.graph(), NATIVE, Options())
    for name in ("network.h", "network.c", "layers.c"):
        assert sources.files[name] == (GOLDEN / name).read_text(), f"{name} differs from the reviewed example"


@pytest.mark.parametrize("kind_name", ["stm32f746", "nucleo-l4r5zi"])
def test_cross_compiles_without_a_warning(kind_name: str, tmp_path: Path) -> None:
    compiler = shutil.which("arm-none-eabi-gcc")
    if compiler is None:
        pytest.skip("no arm-none-eabi-gcc; `make setup` installs it")
    kind = get_board(kind_name)
    runtime = Path(__file__).resolve().parents[2] / "firmware_templates" / "runtime"
    b = Builder((1, 12, 11, 3), seed=4)
    b.conv(8, (3, 3), (2, 2), (1, 1, 1, 1))
    start = b.conv(12, activation=Activation.NONE, zero_point=3)
    b.conv(24)
    b.depthwise((5, 5), pads=(2, 2, 2, 2))
    b.conv(12, activation=Activation.NONE, zero_point=3)
    b.add(start)
    b.mean()
    b.dense(3)
    b.softmax()
    for graph in (every_operator(), b.graph()):
        for name, text in TinyEngine().generate(graph, kind, Options()).files.items():
            (tmp_path / name).write_text(text)
        flags = [f"-mcpu={kind.core}", "-mthumb", f"-mfpu={kind.fpu}", "-mfloat-abi=hard", "-O2", *WARNINGS]
        sources = sorted(p.name for p in tmp_path.glob("*.c"))
        done = subprocess.run(
            [compiler, *flags, f"-I{runtime}", "-c", *sources],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[:4000]


def test_a_network_beyond_the_ram_is_refused_with_its_fullest_layer() -> None:
    b = Builder((1, 300, 300, 3))
    b.conv(16, (3, 3), pads=(1, 1, 1, 1))
    with pytest.raises(DoesNotFit, match=r"arena of [\d,]+ B, [\d,]+ B more than .* fullest layer is 0"):
        TinyEngine().generate(b.graph(), F746, Options())


def test_a_network_beyond_the_flash_is_refused_with_its_largest_layer() -> None:
    b = Builder((1, 1, 1, 2048))
    b.conv(1024)
    with pytest.raises(DoesNotFit, match=r"flash for weights .* largest layer is Conv2D 1x1"):
        TinyEngine().generate(b.graph(), F746, Options())


def test_what_no_kernel_computes_is_named() -> None:
    b = Builder((1, 4, 4, 2))
    floats = Tensor("f", (1, 4, 4, 2), DType.FLOAT32)
    graph = b.graph()
    graph = replace(
        graph, tensors=(floats, floats), ops=(Op(Logistic(), (0,), (1,)),), inputs=(0,), outputs=(1,)
    )
    with pytest.raises(UnsupportedOperator, match="Logistic on float32"):
        TinyEngine().generate(graph, NATIVE, Options())


def test_a_hostile_name_stays_inside_its_comment() -> None:
    graph = replace(every_operator(), name='x */ int main(void){return 1;} /* "\n#error')
    for text in TinyEngine().generate(graph, NATIVE, Options()).files.values():
        assert "int main" not in text.replace("int main_void", "")
        assert "#error" not in text
