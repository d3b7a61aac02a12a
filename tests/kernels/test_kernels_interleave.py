"""The scheduler of straight-line code changes the order, never the result."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tinyhil.harness.tinyengine.asm.interleave import interleave

registers = st.sampled_from(["r1", "r2", "r3", "r4", "r5", "r12", "lr"])
instructions = st.one_of(
    st.builds("smlad {}, {}, {}, {}".format, registers, registers, registers, registers),
    st.builds("sxtb16 {}, {}, ror #8".format, registers, registers),
    st.builds("pkhbt {}, {}, {}".format, registers, registers, registers),
    st.builds("ldr {}, [{}, #8]".format, registers, registers),
    st.just("ldr r2, [r1], #4"),
    st.builds("add {}, {}".format, registers, registers),
    st.builds("bfi {}, {}, #8, #8".format, registers, registers),
    st.just("ldm r1!, {r8, r9, r10}"),
    st.just("stm r12!, {r2, r3}"),
)


def execute(lines: Sequence[str]) -> dict[str, object]:
    """Every register's value as the expression that made it."""
    state: dict[str, object] = {}
    for line in lines:
        name, _, operands = line.partition(" ")
        if name == "ldm":
            base = state.get("r1", "r1")
            state |= {r: ("word", base, r) for r in ("r8", "r9", "r10")} | {"r1": ("moved", base)}
            continue
        if name == "stm":
            base = state.get("r12", "r12")
            state |= {
                f"stored at {base}": (state.get("r2", "r2"), state.get("r3", "r3")),
                "r12": ("moved", base),
            }
            continue
        target, *sources = [part.strip(" []") for part in operands.split(",")]
        sources = [target, *sources] if name in ("add", "bfi") else sources
        values = tuple(state.get(source, source) for source in sources)
        if line.endswith("], #4"):
            state["r1"] = ("moved", state.get("r1", "r1"))
        state[target] = (name, values)
    return state


@given(st.lists(instructions, max_size=25))
def test_every_register_ends_with_the_same_value(lines: list[str]) -> None:
    moved = interleave(tuple(lines))
    assert sorted(moved) == sorted(lines)
    assert execute(moved) == execute(lines)


def test_multiplications_pair_with_what_can_issue_beside_them() -> None:
    lines = ("ldr r3, [r0, #4]", "sxtb16 r1, r3", "smlad r4, r2, r8, r4", "smlad r5, r2, r9, r5")
    assert interleave(lines) == (
        "ldr r3, [r0, #4]", "smlad r4, r2, r8, r4", "smlad r5, r2, r9, r5", "sxtb16 r1, r3",
    )  # fmt: skip


def test_the_longest_way_to_the_end_is_begun_first_and_nothing_waits_for_a_load() -> None:
    lines = ("smlad r4, r2, r8, r4", "smlad r5, r2, r9, r5", "ldr r3, [r0, #4]", "sxtb16 r1, r3",
             "smlad r6, r1, r8, r6", "ssat r6, #8, r6, asr #12")  # fmt: skip
    moved = interleave(lines)
    assert moved[:2] == ("ldr r3, [r0, #4]", "smlad r4, r2, r8, r4")
    assert moved.index("smlad r5, r2, r9, r5") < moved.index("sxtb16 r1, r3")


def test_a_register_can_be_loaded_in_the_cycle_of_its_last_use() -> None:
    lines = ("smlad r4, r12, r2, r4", "smlad r5, r12, r3, r5", "ldr r12, [r0, #8]", "smlad r6, r12, r2, r6")
    assert interleave(lines) == lines
