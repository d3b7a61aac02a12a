"""A Pad in front of a convolution or a pool becomes the padding of that operator."""

from __future__ import annotations

from dataclasses import replace

from tinyhil.harness.model.graph import Conv2D, DepthwiseConv2D, Graph, MaxPool2D, Op, Pad
from tinyhil.harness.tinyengine.passes.edit import consumers, same_values, with_ops


def _folded(graph: Graph, pad: Op, op: Op) -> Op | None:
    """`op` with the padding of `pad` inside, None where that would change a value."""
    assert isinstance(pad.spec, Pad)
    x, out = graph.tensors[pad.inputs[0]], graph.tensors[pad.outputs[0]]
    amounts = pad.spec.amounts
    if len(amounts) != 4 or any(amounts[0]) or any(amounts[3]) or not same_values(x, out):
        return None
    value = out.zero_point if pad.spec.value is None else pad.spec.value
    match op.spec:
        case Conv2D() | DepthwiseConv2D() if value == x.zero_point:
            pass
        case MaxPool2D() if value == -128:  # below every value, as is the padding of a maximum
            pass
        case _:
            return None
    top, bottom, left, right = op.spec.pads
    pads = (
        top + amounts[1][0], bottom + amounts[1][1], left + amounts[2][0], right + amounts[2][1],
    )  # fmt: skip
    return replace(op, spec=replace(op.spec, pads=pads), inputs=(pad.inputs[0], *op.inputs[1:]))


def fold_pad(graph: Graph) -> Graph:
    """Every Pad goes whose readers can all take it in."""
    ops = list(graph.ops)
    users = consumers(graph)
    gone = set()
    for index, pad in enumerate(graph.ops):
        out = pad.outputs[0]
        if not isinstance(pad.spec, Pad) or out in graph.outputs:
            continue
        readers = users.get(out, [])
        folded = [_folded(graph, pad, ops[i]) if ops[i].inputs[0] == out else None for i in readers]
        if readers and all(op is not None for op in folded):
            for i, op in zip(readers, folded, strict=True):
                assert op is not None
                ops[i] = op
            gone.add(index)
    return with_ops(graph, (op for index, op in enumerate(ops) if index not in gone))
