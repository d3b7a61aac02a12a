"""Operators of files that become several, or others: cut, stacked and picked as TFLM does it."""

from __future__ import annotations

import numpy as np
import pytest

from tinyhil.errors import MalformedModel, UnsupportedOperator
from tinyhil.harness.model import read_tflite, reference_for
from tinyhil.harness.model.builder import per_tensor
from tinyhil.harness.model.graph import Conv2D, DepthwiseConv2D, DType, Quantization, StridedSlice, Tensor
from tinyhil.harness.model.oracle import has_tflm, tflm_run
from tinyhil.harness.model.reference import run
from tinyhil.harness.model.shapes import Shape
from tinyhil.harness.model.tflite_file import FileGraph, FileOp, file_bytes

QUANT = per_tensor(0.5, 3)


def moving(code: str, shape: Shape, outputs: list[Shape], constants: list[list[int]], table: str = "",
           value_first: bool = True, inputs: int = 1, **options: int) -> bytes:  # fmt: skip
    """A file with one operator; its inputs are activations of `shape`, then (or before) int32 constants."""
    tensors = [Tensor(f"x{n}", shape, DType.INT8, QUANT) for n in range(inputs)]
    tensors += [Tensor(f"y{n}", out, DType.INT8, QUANT) for n, out in enumerate(outputs)]
    data = [np.array(values[0] if len(values) == 1 else values, np.int32) for values in constants]
    values, made = list(range(inputs)), list(range(inputs, len(tensors)))
    fixed = [len(tensors) + n for n in range(len(data))]
    tensors += [Tensor("constant", d.shape, DType.INT32, None, d) for d in data]
    operands = values + fixed if value_first else fixed + values
    op = FileOp(code, 1 if code not in ("SPLIT", "SLICE") else 2, table, operands, made, dict(options))
    return file_bytes([FileGraph(code.lower(), tensors, [op], values, made)])


PARTS: list[Shape] = [(1, 2, 2), (1, 4, 2), (1, 1, 2)]
FILES = {
    "split": moving("SPLIT", (1, 4, 6), [(1, 4, 2)] * 3, [[-1]], "SplitOptions", False, NumSplits=3),
    "split a row": moving(
        "SPLIT", (1, 4, 2, 3), [(1, 2, 2, 3)] * 2, [[1]], "SplitOptions", False, NumSplits=2
    ),
    "split unevenly": moving("SPLIT_V", (1, 7, 2), PARTS, [[2, -1, 1], [1]], "SplitVOptions", NumSplits=3),
    "unpack": moving("UNPACK", (1, 3, 4), [(1, 4)] * 3, [], "UnpackOptions", Num=3, Axis=1),
    "unpack the last": moving("UNPACK", (1, 3, 2), [(1, 3)] * 2, [], "UnpackOptions", Num=2, Axis=-1),
    "pack": moving("PACK", (1, 4), [(1, 3, 4)], [], "PackOptions", inputs=3, ValuesCount=3, Axis=1),
    "pack at the end": moving(
        "PACK", (1, 4), [(1, 4, 2)], [], "PackOptions", inputs=2, ValuesCount=2, Axis=-1
    ),
    "depth to space": moving(
        "DEPTH_TO_SPACE", (1, 2, 3, 12), [(1, 4, 6, 3)], [], "DepthToSpaceOptions", BlockSize=2
    ),
    "space to depth": moving(
        "SPACE_TO_DEPTH", (1, 6, 3, 2), [(1, 2, 1, 18)], [], "SpaceToDepthOptions", BlockSize=3
    ),
    "maximum of a map": moving("REDUCE_MAX", (1, 4, 5, 3), [(1, 3)], [[1, 2]], "ReducerOptions"),
    "slice": moving("SLICE", (1, 5, 4), [(1, 2, 3)], [[0, 2, 1], [1, 2, -1]], "SliceOptions"),
}


@pytest.mark.skipif(not has_tflm(), reason="needs the wheel: pip install 'tinyhil[oracle]'")
@pytest.mark.parametrize("name", FILES)
def test_cut_and_stacked_as_tflm_does_it(name: str) -> None:
    graph = read_tflite(FILES[name], name)
    random = np.random.default_rng(3)
    inputs = [random.integers(-128, 128, graph.tensors[i].shape).astype(np.int8) for i in graph.inputs]
    for ours, theirs in zip(run(graph, inputs), tflm_run(FILES[name], inputs), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_parts_of_a_split_are_slices() -> None:
    graph = read_tflite(FILES["split unevenly"], "g")
    slices = [op.spec for op in graph.ops if isinstance(op.spec, StridedSlice)]
    assert [(s.begin[1], s.end[1]) for s in slices] == [(0, 2), (2, 6), (6, 7)]


def upsampling(
    kernel: tuple[int, int], stride: tuple[int, int], same: bool, per_channel: bool, bias: bool
) -> bytes:
    """A file with one TRANSPOSE_CONV, 3x4x5 to four channels."""
    random = np.random.default_rng([*kernel, *stride])
    sizes = [(n - 1) * s + (s if same else max(k, s)) for n, s, k in zip((3, 4), stride, kernel, strict=True)]
    scales = tuple(float(np.float32(v)) for v in random.uniform(0.01, 0.05, 4 if per_channel else 1))
    shape, out = np.array([1, *sizes, 4], np.int32), (1, *sizes, 4)
    weights = random.integers(-127, 128, (4, *kernel, 5)).astype(np.int8)
    biases = random.integers(-900, 900, 4).astype(np.int32)
    tensors = [
        Tensor("shape", (4,), DType.INT32, None, shape),
        Tensor("weights", weights.shape, DType.INT8, Quantization(scales, (0,) * len(scales)), weights),
        Tensor("x", (1, 3, 4, 5), DType.INT8, QUANT),
        Tensor(
            "bias",
            (4,),
            DType.INT32,
            Quantization(tuple(0.5 * s for s in scales), (0,) * len(scales)),
            biases,
        ),
        Tensor("y", out, DType.INT8, per_tensor(3.0, -5)),
    ]
    options = {"Padding": 0 if same else 1, "StrideH": stride[0], "StrideW": stride[1]}
    op = FileOp("TRANSPOSE_CONV", 3, "TransposeConvOptions", [0, 1, 2, 3][: 3 + bias], [4], options)
    return file_bytes([FileGraph("up", tensors, [op], [2], [4])])


@pytest.mark.skipif(not has_tflm(), reason="needs the wheel: pip install 'tinyhil[oracle]'")
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((4, 4), (2, 2)), ((3, 2), (1, 3)), ((5, 1), (3, 1))],
)
def test_a_transposed_convolution_is_one_convolution_and_moves(
    kernel: tuple[int, int], stride: tuple[int, int], same: bool
) -> None:
    data = upsampling(kernel, stride, same, per_channel=kernel[0] != 3, bias=stride[0] != 1)
    graph = read_tflite(data, "up")
    assert sum(op.kind == "Conv2D" for op in graph.ops) == 1
    x = np.random.default_rng(1).integers(-128, 128, (1, 3, 4, 5)).astype(np.int8)
    np.testing.assert_array_equal(run(graph, [x])[0], tflm_run(data, [x])[0])


@pytest.mark.parametrize("sizes", [[2, 2, 2], [9, -1, 1], [0, 6, 1], [-1, -1, 3]])
def test_parts_that_do_not_add_up_are_refused(sizes: list[int]) -> None:
    data = moving("SPLIT_V", (1, 7, 2), PARTS, [sizes, [1]], "SplitVOptions", NumSplits=3)
    with pytest.raises(MalformedModel, match=r"g: operator 0 \(SPLIT_V\), which writes .*y0.*: "):
        read_tflite(data, "g")


def dilated(sequence: bool, block: int, depthwise: bool, crop: int, padded: bool = False) -> bytes:
    """A convolution with a dilation as older converters write it; a sequence goes through reshapes.
    `padded`: by an operator of its own, which TFLM can be trusted with."""
    random = np.random.default_rng([sequence, block, depthwise])
    steps, taps = 12, 3
    pad = (taps - 1) * block
    total = steps + pad + (-(steps + pad)) % block + block * bool(crop)
    inner, outer = total // block, (total // block - taps + 1) * block
    end = outer - steps - crop
    out, depth = (4 if depthwise else 5), 4
    shape, result = (
        ((1, steps, depth), (1, steps, out)) if sequence else ((1, steps, 3, depth), (1, steps, 3, out))
    )
    width = [] if sequence else [3]
    rows = (block, 1, inner) if sequence else (block, inner, 3)
    weights = random.integers(-127, 128, (1, taps, 1, 4) if depthwise else (5, taps, 1, 4)).astype(np.int8)
    if sequence:
        weights = weights.swapaxes(1, 2).copy()
    biases = random.integers(-900, 900, out).astype(np.int32)
    added = [pad + crop, total - steps - pad - crop]
    shorter = (*rows[:2], rows[2] - taps + 1) if sequence else (block, inner - taps + 1, 3)

    def activation(name: str, size: Shape, last: bool) -> Tensor:
        return Tensor(name, size, DType.INT8, per_tensor(3.0, -5) if last else QUANT)

    def constant(name: str, values: object) -> Tensor:
        data = np.array(values, np.int32)
        return Tensor(name, data.shape, DType.INT32, None, data)

    tensors = [
        activation("x", shape, False),
        activation("apart", (block, inner, *width, depth), False),
        activation("image", (*rows, depth), False),
        activation("found", (*shorter, out), True),
        activation("flat", (block, inner - taps + 1, *width, out), True),
        activation("y", result, True),
        Tensor("weights", weights.shape, DType.INT8, per_tensor(0.04), weights),
        Tensor("bias", (out,), DType.INT32, per_tensor(0.02), biases),
        constant("block", [block] if sequence else [block, 1]),
        constant("pads", [[0, 0] if padded else added, *([] if sequence else [[0, 0]])]),
        constant("crops", [[crop, end], *([] if sequence else [[0, 0]])]),
        constant("shape", (*rows, depth)),
        constant("flat shape", (block, inner - taps + 1, *width, out)),
        activation("padded", (1, total, *width, depth), False),
        constant("more pads", [[0, 0], added, *[[0, 0] for _ in (*width, depth)]]),
    ]
    kind = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    options = {"Padding": 1, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    options |= {"DepthMultiplier": 1} if depthwise else {}
    first, last = (2, 3) if sequence else (1, 4)
    ops = [
        *([FileOp("PAD", 2, "PadOptions", [0, 14], [13])] if padded else []),
        FileOp("SPACE_TO_BATCH_ND", 2, "SpaceToBatchNDOptions", [13 if padded else 0, 8, 9], [1]),
        *([FileOp("RESHAPE", 1, "ReshapeOptions", [1, 11], [2])] if sequence else []),
        FileOp("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", 3, kind, [first, 6, 7], [last], options),
        *([FileOp("RESHAPE", 1, "ReshapeOptions", [3, 12], [4])] if sequence else []),
        FileOp("BATCH_TO_SPACE_ND", 2, "BatchToSpaceNDOptions", [4, 8, 10], [5]),
    ]
    return file_bytes([FileGraph("dilated", tensors, ops, [0], [5])])


@pytest.mark.skipif(not has_tflm(), reason="needs the wheel: pip install 'tinyhil[oracle]'")
@pytest.mark.parametrize("crop", [0, 1])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(("sequence", "block"), [(True, 2), (True, 4), (False, 2), (False, 3)])
def test_batches_around_a_convolution_are_its_dilation(
    sequence: bool, block: int, depthwise: bool, crop: int
) -> None:
    data, sure = (dilated(sequence, block, depthwise, crop, padded) for padded in (False, True))
    graph = read_tflite(data, "dilated")
    (spec,) = [op.spec for op in graph.ops if isinstance(op.spec, Conv2D | DepthwiseConv2D)]
    assert spec.dilations == ((1, block) if sequence else (block, 1))
    x = np.random.default_rng(2).integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
    np.testing.assert_array_equal(run(graph, [x])[0], tflm_run(sure, [x])[0])
    np.testing.assert_array_equal(run(graph, [x])[0], reference_for(data, graph)[1]([x])[0])


def test_cutting_off_more_than_was_padded_is_refused() -> None:
    with pytest.raises(
        UnsupportedOperator, match=r"BATCH_TO_SPACE_ND\), which writes .*y.*: it cuts off more"
    ):
        read_tflite(dilated(True, 2, False, 1, padded=True), "g")
