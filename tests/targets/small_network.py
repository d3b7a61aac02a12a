"""A small network in plain C: what every target is tried with."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tinyhil.errors import NoAnswer
from tinyhil.harness.build import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Layer, Port, Sources
from tinyhil.harness.model.graph import DType

# Two layers over one arena of 64 bytes: the input lies at its start, the output at its end.
NETWORK = """
#include "tinyhil_network.h"

static uint8_t arena[64] __attribute__((section(".arena"), aligned(16)));

__attribute__((noinline)) void layer_double(void) {
    TH_LAYER(0);
    for (int i = 0; i < 16; i++) {
        arena[16 + i] = (uint8_t)(2 * arena[i]);
    }
}

__attribute__((noinline)) void layer_reverse(void) {
    TH_LAYER(1);
    for (int i = 0; i < 16; i++) {
        arena[48 + i] = arena[31 - i];
    }
    @FAULT@
}

static int run(void) {
    layer_double();
    layer_reverse();
    return @STATUS@;
}

static int init(void) {
    @INIT@
    return 0;
}

static const struct th_port inputs[] = {{arena, 16}};
static const struct th_port outputs[] = {{arena + 48, 16}};

const struct th_network th_network = {
    .arena = arena, .arena_size = sizeof arena, .inputs = inputs, .outputs = outputs,
    .input_count = 1, .output_count = 1, .layer_count = 2, .init = init, .run = run,
};
"""

INPUT = bytes(range(16))
OUTPUT = bytes(2 * value for value in reversed(INPUT))

BuildNetwork = Callable[..., Firmware]


def network(fault: str = "", *, init: str = "", prelude: str = "", run_status: int = 0) -> Sources:
    """The small network; `fault` is C that runs at the end of its second layer, `init` once at start."""
    text = prelude + NETWORK.replace("@FAULT@", fault).replace("@INIT@", init)
    text = text.replace("@STATUS@", str(run_status))
    return Sources(
        engine="test",
        version="1",
        network="small",
        files={"network.c": text},
        layers=(Layer("double", "MUL", "layer_double", 0), Layer("reverse", "REVERSE", "layer_reverse", 0)),
        inputs=(Port("in", (16,), DType.UINT8, 16),),
        outputs=(Port("out", (16,), DType.UINT8, 16),),
        arena=64,
    )


def assert_ends_at_its_deadline(run: Callable[[Deadline], object], words: str) -> None:
    """`run` ends with NoAnswer and `words` when its time is over; a busy machine gets more to come so far."""
    for seconds in (1.5, 10.0, 60.0):
        deadline = Deadline.after(seconds)
        with pytest.raises(NoAnswer) as told:
            run(deadline)
        assert deadline.expired
        if re.search(words, str(told.value)):
            return
    pytest.fail(str(told.value))
