"""Code sizes: what was built is known to the byte, what was not is near, and a stack is its deepest layer."""

from __future__ import annotations

import pytest

from tinyhil.nas.arch import Kind, Layer
from tinyhil.nas.codesize import Built, helper_kind, learn, loops_key, loops_of
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
    assert sizes.flash(plan) == flash - 2 * PER_BLOCK, "of its own functions the estimate"


def test_sizes_in_a_helpers_name_are_left_out_of_its_kind() -> None:
    assert helper_kind("th_gemm_p4c2k6_p12afff80800_8_1.c") == "th_gemm_p4c2k"
    assert helper_kind("th_gemm_p3c2u8_rv.c") == "th_gemm_p3c2u"
    assert helper_kind("th_dw_7x7s11_12_1x3_96_p12.c") == "th_dw"
    assert helper_kind("other") == "other"


def block(size: int, *helpers: str, tile: int = 0, kernel: int = 3) -> PlannedLayer:
    name = f"conv+dw x{tile or size}: {size}x{size}x8, conv -> depthwise {kernel}x{kernel} stride 1"
    depthwise = Layer("d", Kind.DEPTHWISE, kernel, 1, 8, 8, square(size), square(size), relu6=True)
    shared = {f"{name} -> {size}x{size}x48.": 250} | {f"{helper}.c": 0 for helper in helpers}
    return PlannedLayer(f"conv+dw x{tile or size}", 1, 500, shared, (POINTWISE, depthwise))


def test_the_loops_of_a_block_are_known_by_the_layer_that_calls_them() -> None:
    small, large = block(4), block(8)
    plan = planned(small, add(), large)
    own = ((2, 590), (1, 210), (2, 590))
    one = Built({"th_block_aa": 300, "th_block_bb": 340}, own, 300, 48, ("th_block_aa", "", "th_block_bb"))
    sizes = learn([plan], [one], [RUNTIME + 640 + 1390])
    assert (sizes.helpers[loops_key(small)], sizes.helpers[loops_key(large)]) == (300, 340)
    assert sizes.flash(planned(large, add())) == RUNTIME + 340 + 590 + 210
    assert sizes.flash(planned(block(6))) == RUNTIME + 320 + 590, "not built: the mean of its kind"
    name = loops_key(small)
    assert helper_kind(name) == helper_kind(loops_key(large)) == "conv+dw 1 one"
    assert helper_kind(name.replace("x4:", "x2:")) == "conv+dw 1 several"


def test_blocks_of_one_shape_that_call_other_helpers_have_loops_of_their_own() -> None:
    one, other = block(4, "th_gemm_p4c2k8_planes_p12"), block(4, "th_gemm_p4c2k8_planes_p12a80")
    assert len(loops_of(planned(one, other, one))) == 2


def test_loops_that_were_never_built_are_priced_by_what_they_do_and_call() -> None:
    def compiled_loops(layer: PlannedLayer) -> int:
        calls = sum("gemm" in name for name in layer.shared or {})
        several = not layer.kernel.endswith(f"x{layer.parts[-1].size_out.height}")
        return 90 + 64 * calls + 140 * several + 100 * (layer.parts[-1].kernel == 5)

    gemms = [f"th_gemm_p{pixels}c2u8_planes_p12" for pixels in (1, 2, 3, 4)]
    shapes = [(size, count, tile, kernel) for size in (4, 6, 7, 9) for count in range(1, 5)
              for tile in (0, 2) for kernel in (3, 5)]  # fmt: skip
    every = [block(size, *gemms[:count], tile=tile, kernel=kernel) for size, count, tile, kernel in shapes]
    built, flashes = [], []
    for layer in every:
        size = compiled_loops(layer)
        built.append(Built({"th_block_aa": size}, ((2, 590),), 300, 48, ("th_block_aa",)))
        flashes.append(RUNTIME + size + 590)
    sizes = learn([planned(layer) for layer in every], built, flashes)
    strange = block(12, *gemms[:3], tile=3, kernel=5)
    expected = RUNTIME + compiled_loops(strange) + 590 + 3 * sizes.base[2]
    assert sizes.flash(planned(strange)) == pytest.approx(expected, abs=3)


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
