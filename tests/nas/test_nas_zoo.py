"""The shipped networks: made by seed, quantised as TFLite does, right on real digits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.model.graph import Conv2D, DepthwiseConv2D, FullyConnected, Graph
from tinyhil.harness.model.oracle import has_tflm, tflm_run
from tinyhil.harness.model.reference import run, trace
from tinyhil.harness.model.tflite_reader import load_tflite, read_tflite
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.nas import cost, zoo
from tinyhil.nas.arch import layers, parse
from tinyhil.nas.data import smooth_images
from tinyhil.nas.network import FloatNetwork, Weights, forward, seeded
from tinyhil.nas.quantize import (
    activation_quantization,
    calibrate,
    quantize,
    quantize_images,
    quantize_weights,
)
from tinyhil.nas.size import Size, square

needs_tflm = pytest.mark.skipif(
    not has_tflm(), reason="needs the tflite-micro wheel: pip install '.[oracle]'"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.mark.parametrize("name", zoo.networks())
def test_a_shipped_network_is_the_published_architecture(name: str, cache: Path) -> None:
    graph = load_tflite(zoo.make(name, cache))
    arch = zoo.architecture(name)
    assert graph.total_macs == cost.macs(arch)
    biases = sum(t.elements for t in graph.tensors if t.data is not None and t.dtype == "int32")
    assert graph.params == cost.weights(arch) + biases
    assert graph.tensors[graph.inputs[0]].shape == zoo.sample(name).shape


@pytest.mark.parametrize("name", zoo.networks())
def test_every_layer_of_a_shipped_network_is_alive(name: str, cache: Path) -> None:
    graph = load_tflite(zoo.make(name, cache))
    values = trace(graph, [quantize_images(zoo.sample(name), graph)])
    for op in graph.ops:
        out = values[op.outputs[0]].astype(int)
        assert out.min() < out.max(), graph.tensors[op.outputs[0]].name
        assert np.mean(np.abs(out) >= 127) < 0.6, graph.tensors[op.outputs[0]].name


@needs_tflm
@pytest.mark.parametrize("name", zoo.networks())
def test_tflm_and_the_reference_agree_on_a_shipped_network(name: str, cache: Path) -> None:
    path = zoo.make(name, cache)
    graph = load_tflite(path)
    x = quantize_images(zoo.sample(name), graph)
    np.testing.assert_array_equal(tflm_run(path.read_bytes(), [x])[0], run(graph, [x])[0])


def test_the_trained_network_reads_real_digits(cache: Path) -> None:
    graph = load_tflite(zoo.make("digits", cache))
    images, labels = zoo.digit_samples()
    named = [int(run(graph, [quantize_images(image[None], graph)])[0].argmax()) for image in images]
    assert sum(a == b for a, b in zip(named, labels, strict=True)) >= 9
    assert sorted(labels) == list(range(10))
    assert zoo.trained("digits").stat().st_size < 60_000


def test_the_trained_network_names_97_percent_of_the_test_digits() -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install '.[nas]'")
    from tinyhil.nas.data import digits

    graph = load_tflite(zoo.trained("digits"))
    test = digits().test
    quantised = quantize_images(test.images, graph)
    named = np.array([int(run(graph, [image[None]])[0].argmax()) for image in quantised])
    assert np.mean(named == test.labels) >= 0.97


@pytest.mark.slow
def test_the_recipe_trains_a_network_as_good_as_the_committed_one(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    subprocess.run([sys.executable, "-m", "tinyhil.nas.train_digits", str(tmp_path)], check=True)
    made, kept = load_tflite(tmp_path / "digits.tflite"), load_tflite(zoo.trained("digits"))
    assert made.ops == kept.ops
    assert (tmp_path / "digits.txt").read_text() == (zoo.trained("digits").with_suffix(".txt")).read_text()
    images, labels = zoo.digit_samples()
    named = [int(run(made, [quantize_images(image[None], made)])[0].argmax()) for image in images]
    assert sum(a == b for a, b in zip(named, labels, strict=True)) >= 9


def test_making_a_network_twice_gives_the_same_bytes_and_mends_damage(tmp_path: Path) -> None:
    first = zoo.make("mcunet-in0", tmp_path / "a").read_bytes()
    assert zoo.make("mcunet-in0", tmp_path / "b").read_bytes() == first
    made = tmp_path / "a" / "mcunet-in0.tflite"
    stamp = made.stat().st_mtime_ns
    zoo.make("mcunet-in0", tmp_path / "a")
    assert made.stat().st_mtime_ns == stamp, "an up-to-date file must not be written again"
    made.write_bytes(first[:1000])
    assert zoo.make("mcunet-in0", tmp_path / "a").read_bytes() == first


def test_the_zoo_does_not_need_torch() -> None:
    code = "import sys; from tinyhil.nas import zoo; zoo.networks(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_network_is_refused_with_the_known_names() -> None:
    with pytest.raises(UsageError, match="mcunet-in3"):
        zoo.architecture("mcunet-in9")


def small_graph(text: str, seed: int) -> tuple[FloatNetwork, Graph]:
    arch = parse(text)
    images = smooth_images(4, arch.resolution, arch.channels, seed).astype(np.float64)
    network = seeded(arch, images, seed)
    return network, quantize(network, calibrate(network, images), "small")


@needs_tflm
@given(
    height=st.integers(5, 17),
    width=st.integers(3, 17),
    channels=st.integers(1, 4),
    stem=st.integers(1, 12),
    stride=st.integers(1, 2),
    kernel=st.sampled_from([1, 3, 5, 7]),
    expansion=st.integers(1, 4),
    out=st.integers(1, 12),
    mix=st.sampled_from(["", "m9 "]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_any_small_architecture_runs_the_same_in_tflm_and_in_the_reference(
    height: int, width: int, channels: int, stem: int, stride: int, kernel: int, expansion: int, out: int,
    mix: str, seed: int,
) -> None:  # fmt: skip
    block = f"k{kernel}e{expansion}:{out}/{stride} k3e2"
    text = f"r{height}x{width} c{channels} | s{stem}/{stride} k3e1 | {block} | {mix}fc3"
    _, graph = small_graph(text, seed)
    assert cost.macs(parse(text)) == sum(map(graph.macs, graph.ops))
    data = write_tflite(graph)
    again = read_tflite(data, "small")
    x = quantize_images(smooth_images(1, Size(height, width), channels, seed + 1), graph)
    expected = run(graph, [x])[0]
    np.testing.assert_array_equal(run(again, [x])[0], expected)
    np.testing.assert_array_equal(tflm_run(data, [x])[0], expected)


def test_the_int8_network_follows_the_float_one() -> None:
    network, graph = small_graph("r16 | s12/1 k3e1:8 | k5e4:16/2 k3e3 | k7e3:24/2 k3e4 | fc10", 3)
    images = smooth_images(16, square(16), 3, 5)
    wanted = forward(network, images.astype(np.float64))
    out = graph.tensors[graph.outputs[0]]
    got = np.concatenate([run(graph, [image[None]])[0] for image in quantize_images(images, graph)])
    real = (got.astype(float) - out.zero_point) * out.scale
    assert np.corrcoef(wanted.ravel(), real.ravel())[0, 1] > 0.97
    assert np.mean(np.abs(wanted - real)) < 0.1 * wanted.std()


def test_quantisation_follows_tflites_conventions() -> None:
    _, graph = small_graph("r8 | s8/1 k3e1 | k3e3:12/2 k3e2 | fc5", 1)
    for op in graph.ops:
        if not isinstance(op.spec, Conv2D | DepthwiseConv2D | FullyConnected):
            continue
        x, weight, bias = (graph.tensors[i] for i in op.inputs)
        assert weight.data is not None
        assert weight.quant is not None
        assert bias.quant is not None
        assert -127 <= int(weight.data.min()) <= int(weight.data.max()) <= 127
        assert set(weight.quant.zero_point) == {0}
        assert len(weight.quant.scale) == (1 if isinstance(op.spec, FullyConnected) else bias.elements)
        assert weight.quant.axis == (3 if isinstance(op.spec, DepthwiseConv2D) else 0)
        np.testing.assert_allclose(bias.quant.scale, x.scale * np.array(weight.quant.scale), rtol=1e-6)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_zero_is_exact_and_the_range_is_covered(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    quant = activation_quantization(low, high)
    scale, zero = quant.scale[0], quant.zero_point[0]
    assert -128 <= zero <= 127
    assert scale > 0
    step = 1.001 * scale
    assert (-128 - zero) * scale <= min(low, 0) + step
    assert (127 - zero) * scale >= max(high, 0) - step


def test_a_dead_channel_and_a_huge_bias_survive_quantisation() -> None:
    arch = parse("r4 c1 | s2/1 | fc2")
    layer = layers(arch)[0]
    kernel = np.zeros((2, 3, 3, 1))
    kernel[1] = 1e-6
    weight, bias = quantize_weights(layer, Weights(kernel, np.array([0.5, 1e6])), 0.02)
    assert weight.data is not None
    assert bias.data is not None
    assert not weight.data[0].any()
    assert bias.quant is not None
    assert bias.data[1] * bias.quant.scale[1] == pytest.approx(1e6, rel=1e-3)
    assert bias.data[0] * bias.quant.scale[0] == pytest.approx(0.5, rel=1e-2)
