"""Code sizes: what was built is known to the byte, what was not is near, and a stack is its deepest layer."""

from __future__ import annotations

import pytest

from tinyhil.nas.arch import Kind, Layer
from tinyhil.nas.codesize import Built, helper_kind, learn
from tinyhil.nas.meter import _called
from tinyhil.nas.planning import Planned, PlannedLayer
from tinyhil.nas.size import square

POINTWISE = Layer("p", Kind.POINTWISE, 1, 1, 8, 16, square(8), square(8), relu6=True)
RUNTIME, PER_BLOCK = 4000, 90  # a made-up compiler: bytes once, and beyond the estimate of each own function


def planned(*layers: PlannedLayer, arena: int = 1000) -> Planned:
    return Planned(arena, 0, 0, layers)


def gemm(name: str, flash: int = 500) -> PlannedLayer:
    return PlannedLayer("gemm", 1, flash, {f"th_gemm_p4c2k{name}.c": 400, "th_expand.c": 200}, (POINTWISE,))


def add(flash: int = 120) -> PlannedLayer:
    return PlannedLayer("linear-add", 1, flash, {}, (POINTWISE,))


def compiled(plan: Planned, stack: int) -> tuple[Built, int]:
    """What the made-up compiler makes of `plan`: helpers are a tenth smaller than estimated."""
    helpers = {
        name.removesuffix(".c"): size * 9 // 10
        for layer in plan.layers
        for name, size in (layer.shared or {}).items()
    }
    own = tuple((len(layer.parts), layer.flash + PER_BLOCK) for layer in plan.layers)
    built = Built(helpers, own, stack, 48)
    return built, RUNTIME + sum(helpers.values()) + sum(size for _, size in own)


def test_flash_of_what_was_built_is_known_and_of_what_was_not_is_near() -> None:
    plans = [planned(gemm("6"), add()), planned(gemm("8"), gemm("6", 800))]
    built = [compiled(plan, 300) for plan in plans]
    sizes = learn(plans, [one for one, _ in built], [flash for _, flash in built])
    for plan, (_, flash) in zip(plans, built, strict=True):
        assert sizes.flash(plan) == flash
    strange = planned(gemm("24", 900), gemm("6"), add())
    assert sizes.flash(strange) == pytest.approx(compiled(strange, 300)[1], abs=2)


def test_a_layer_is_no_deeper_than_the_shallowest_network_it_was_in() -> None:
    plans = [planned(add()), planned(gemm("6"), add())]
    built = [compiled(plans[0], 300), compiled(plans[1], 380)]
    sizes = learn(plans, [one for one, _ in built], [flash for _, flash in built])
    assert sizes.ram(planned(add(), add(), arena=2000)) == 2000 + 48 + 300
    assert sizes.ram(planned(gemm("8"), arena=2000)) == 2000 + 48 + 380
    never = PlannedLayer("new", 1, 10, {}, (POINTWISE,))
    assert sizes.ram(planned(never, arena=2000)) == 2000 + 48 + 380, "unknown is taken for the deepest"


def test_networks_that_were_fused_in_another_way_teach_their_helpers_only() -> None:
    plan = planned(gemm("6"), add())
    one, flash = compiled(plan, 300)
    other = Built(one.helpers, ((2, sum(size for _, size in one.own)),), 300, 48)
    sizes = learn([plan], [other], [flash])
    assert sizes.own == {}
    assert sizes.flash(plan) == flash


def test_sizes_in_a_helpers_name_are_left_out_of_its_kind() -> None:
    assert helper_kind("th_gemm_p4c2k6_p12afff80800_8_1.c") == "th_gemm_p4c2k"
    assert helper_kind("th_gemm_p3c2u8_rv.c") == "th_gemm_p3c2u"
    assert helper_kind("th_dw_7x7s11_12_1x3_96_p12.c") == "th_dw"
    assert helper_kind("other") == "other"


def test_the_loops_of_a_block_are_known_by_the_layer_that_calls_them() -> None:
    def block(size: int) -> tuple[PlannedLayer, str]:
        name = f"conv+dw x{size}: {size}x{size}x8, conv -> depthwise 3x3 stride 1 -> {size}x{size}x48."
        return PlannedLayer("conv+dw", 1, 500, {name: 250}, (POINTWISE,)), name

    (small, small_name), (large, large_name) = block(4), block(8)
    plan = planned(small, add(), large)
    own = ((1, 590), (1, 210), (1, 590))
    one = Built({"th_block_aa": 300, "th_block_bb": 340}, own, 300, 48, ("th_block_aa", "", "th_block_bb"))
    sizes = learn([plan], [one], [RUNTIME + 640 + 1390])
    assert (sizes.helpers[small_name], sizes.helpers[large_name]) == (300, 340)
    assert sizes.flash(planned(large, add())) == RUNTIME + 340 + 590 + 210
    assert sizes.flash(planned(block(6)[0])) == RUNTIME + 320 + 590, "not built: the mean of its kind"
    assert helper_kind(small_name) == helper_kind(large_name) == "conv+dw 1 one"
    assert helper_kind(small_name.replace("x4:", "x2:")) == "conv+dw 1 several"


def test_which_loops_a_layer_calls_is_read_from_its_c_text() -> None:
    text = """
static const int8_t layer_00_conv_stream[] = {1, 2};
static void layer_00_conv(const int8_t *x0, int8_t *y) {
    th_block_aa(x0, y, layer_00_conv_stream);
}

static void layer_01_add(const int8_t *x0, int8_t *y) {
    th_add(x0, y);
}

static void layer_02_conv(const int8_t *x0, int8_t *y) {
    th_block_bb(x0, y, 0);
}
"""
    assert _called(text, 3) == ("th_block_aa", "", "th_block_bb")
