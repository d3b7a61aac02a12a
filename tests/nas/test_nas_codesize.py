"""Code sizes: what was built is known to the byte, what was not is near, and a stack is its deepest layer."""

from __future__ import annotations

import pytest

from tinyhil.nas.arch import Kind, Layer
from tinyhil.nas.codesize import Built, helper_kind, learn
from tinyhil.nas.planning import Planned, PlannedLayer

POINTWISE = Layer("p", Kind.POINTWISE, 1, 1, 8, 16, 8, 8, relu6=True)
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
