"""Compiles generated C with the host's compiler under sanitizers, and runs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinyhil.harness.engine import Sources
from tinyhil.harness.model.graph import Graph

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"

DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "network.h"

static const int in_size[] = {INPUT_SIZES};
static const int out_size[] = {OUTPUT_SIZES};

int main(void)
{
    uint8_t *arena = malloc(NETWORK_ARENA_SIZE); /* exactly: the sanitizer sees one byte more */
    for (;;) {
        memset(arena, 0xA5, NETWORK_ARENA_SIZE);
        for (int i = 0; i < NETWORK_INPUTS; i++) {
            if (fread(network_input(arena, i), 1, (size_t)in_size[i], stdin) != (size_t)in_size[i]) {
                free(arena);
                return 0;
            }
        }
        if (network_run(arena) != 0) {
            return 1;
        }
        for (int i = 0; i < NETWORK_OUTPUTS; i++) {
            fwrite(network_output(arena, i), 1, (size_t)out_size[i], stdout);
        }
    }
}
"""

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror")

RunC = Callable[[Sources, Sequence[Sequence[npt.NDArray[Any]]]], list[list[npt.NDArray[Any]]]]


@pytest.fixture
def run_c(tmp_path: Path) -> RunC:
    """Builds `sources` under address and undefined-behaviour sanitizers; runs it on every set of inputs."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no host C compiler; install gcc")

    def run(sources: Sources, samples: Sequence[Sequence[npt.NDArray[Any]]]) -> list[list[npt.NDArray[Any]]]:
        folder = tmp_path / "c"
        folder.mkdir(exist_ok=True)
        for name, text in sources.files.items():
            (folder / name).write_text(text)
        driver = DRIVER.replace("INPUT_SIZES", ", ".join(str(p.nbytes) for p in sources.inputs))
        driver = driver.replace("OUTPUT_SIZES", ", ".join(str(p.nbytes) for p in sources.outputs))
        (folder / "driver.c").write_text(driver)
        files = [n for n in sources.files if n.endswith(".c") and n != "th_network.c"]
        flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *WARNINGS]
        built = subprocess.run(
            [compiler, *flags, *sources.defines, "-o", "net", "driver.c", *files],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr[:4000]
        data = b"".join(np.ascontiguousarray(a).tobytes() for sample in samples for a in sample)
        ran = subprocess.run([folder / "net"], input=data, capture_output=True, check=False, timeout=120)
        assert ran.returncode == 0, ran.stderr.decode()[:4000]
        answers, at = [], 0
        for _ in samples:
            answer = []
            for p in sources.outputs:
                answer.append(
                    np.frombuffer(ran.stdout, p.dtype.numpy, int(np.prod(p.shape)), at).reshape(p.shape)
                )
                at += p.nbytes
            answers.append(answer)
        return answers

    return run


def random_inputs(graph: Graph, seed: int) -> list[npt.NDArray[Any]]:
    """Seeded random values for every input of `graph`, over the whole int8 range or +-4 in float."""
    rng = np.random.default_rng(seed)
    arrays: list[npt.NDArray[Any]] = []
    for index in graph.inputs:
        t = graph.tensors[index]
        if t.dtype.value == "float32":
            arrays.append(rng.uniform(-4, 4, t.shape).astype(np.float32))
        elif t.dtype.value == "uint8":
            arrays.append(rng.integers(0, 256, t.shape, np.uint8))
        else:
            arrays.append(rng.integers(-128, 128, t.shape, np.int8))
    return arrays
