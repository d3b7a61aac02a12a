"""How long an estimate takes for a firmware of 10,000 blocks; the goal is less than a second.

The blocks are put together at random from the instructions of int8 kernels, 2 to 20 each. "uneven": they
run as unevenly as real ones, where some hundreds of blocks make 99.95 % of the instructions: the n-th
busiest 1/n^2 as often as the first. "flat": all as often, so that every one of 30,000 steps is simulated.
Everything is new to the model, so decoding is part of the time. Processor seconds: a busy computer with two
threads per core shows up to twice as many as an idle one.

    python benchmarks/estimate.py [--blocks 10000]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tinyhil.harness.boards import get_board
from tinyhil.harness.targets.recorder import Block, Segment, Trace
from tinyhil.harness.timing.estimate import estimate


def random_code(random: np.random.Generator) -> bytes:
    """2 to 20 instructions with random low registers, and a conditional branch."""
    halves: list[int] = []
    for _ in range(random.integers(1, 20)):
        d, n, m, a = (int(r) for r in random.integers(0, 8, 4))
        wide = (
            (0xEB00 | n, d << 8 | m),  # add.w
            (0xFB20 | n, a << 12 | d << 8 | m),  # smlad
            (0xFA2F, 0xF080 | d << 8 | m),  # sxtb16
            (0xF8D0 | n, d << 12 | 4 * m),  # ldr.w
            (0xF8C0 | n, d << 12 | 4 * m),  # str.w
        )
        halves += wide[random.integers(len(wide))]
    halves.append(0xD1FE)  # bne
    return b"".join(half.to_bytes(2, "little") for half in halves)


def random_trace(count: int, random: np.random.Generator, flat: bool = False) -> Trace:
    """A trace of `count` blocks, each followed by itself and by two others."""
    blocks, address = [], 0x0800_0000
    for _ in range(count):
        code = random_code(random)
        blocks.append(Block(address, (len(code) - 2) // 4 + 1, code))
        address += len(code)
    rank = np.ones(count) if flat else np.arange(1.0, count + 1)
    often = np.maximum(1, 1e9 / rank**2).astype(np.int64)
    places = np.arange(count)
    others = [np.stack([places, random.integers(0, count, count), often // 4], axis=1) for _ in range(2)]
    edges = np.concatenate([np.stack([places, places, often], axis=1), *others])
    ran = np.zeros((count, 5), dtype=np.int64)
    ran[:, 0], ran[:, 1] = places, often
    instructions = int(sum(b.instructions * n for b, n in zip(blocks, often.tolist(), strict=True)))
    segment = Segment(0, 0, instructions, ran, edges[edges[:, 2] > 0])
    return Trace(tuple(blocks), (segment,), {}, {"edges": "1"})


def main() -> None:
    """Prints the seconds for each core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10_000)
    count = parser.parse_args().blocks
    for board in ("stm32f746", "nucleo-l4r5zi"):
        for flat in (False, True):
            trace = random_trace(count, np.random.default_rng(len(board) + flat), flat)
            start = time.process_time()
            found = estimate(trace, get_board(board)).total
            seconds = time.process_time() - start
            how = "flat" if flat else "uneven"
            print(f"{board:<16}{count:>8,} blocks, {how:<7}{seconds:6.2f} s  ({found.value:,.0f} cycles)")


if __name__ == "__main__":
    main()
