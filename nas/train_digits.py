"""Train, quantise and write the digits network: `python -m tinyhil.nas.train_digits`.

Writes models/digits.tflite and models/digits.txt (ten test digits) beside this file, or into the
folder given. Takes about ten seconds; the same PyTorch build writes the same bytes every time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.tflite_writer import write_tflite
from tinyhil.nas import zoo
from tinyhil.nas.data import Dataset, digits
from tinyhil.nas.deliver import int8_accuracy, to_int8
from tinyhil.nas.torchnet import to_float
from tinyhil.nas.train import Recipe, accuracy, train

RECIPE = Recipe(epochs=40, batch=64, rate=0.1, decay=1e-3, shift=1, seed=0)


def make_digits() -> tuple[Graph, Dataset, float]:
    """The int8 graph, the data it was made with, and the float network's accuracy on the test part."""
    data = digits()
    net = train(zoo.architecture("digits"), data, RECIPE)
    return to_int8(to_float(net), "digits", data), data, accuracy(net, data.test)


def write_samples(data: Dataset, path: Path) -> None:
    """Ten digits of the test part, one of each, a line `label: 64 grey levels` per digit."""
    first = [int(np.flatnonzero(data.test.labels == label)[0]) for label in range(10)]
    lines = [
        f"{data.test.labels[i]}: " + " ".join(f"{round((v + 1) * 8)}" for v in data.test.images[i].flat)
        for i in first
    ]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Train, say how good it is, write the files."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else zoo.trained("digits").parent
    graph, data, float_accuracy = make_digits()
    content = bytes(write_tflite(graph))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits.tflite").write_bytes(content)
    write_samples(data, folder / "digits.txt")
    print(f"{data.note}: test accuracy {float_accuracy:.1%} in float, ", end="")
    print(f"{int8_accuracy(graph, data.test):.1%} in int8; {len(content)} bytes in {folder}")


if __name__ == "__main__":
    main()
