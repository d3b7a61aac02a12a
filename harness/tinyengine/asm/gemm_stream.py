"""The weights of gemm.py's micro-kernel, packed in the order in which it reads them, their constants between.

Stream of one channel pair: bias0, 256 * bias1 + bias0 + offset1, W[pairs], [offset0,] constants of
channel 0, constants of channel 1; these are multipliers alone where one addend serves all channels. A
last odd channel stands alone: bias0, W[pairs] with plain lanes, its constants.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tinyhil.harness.tinyengine.asm.post import Post, as_int32, offset, words
from tinyhil.harness.tinyengine.asm.requant import Proved, Recipe, choose, reach_of
from tinyhil.harness.tinyengine.work import ConvWork


def lanes_fit(weights: npt.NDArray[np.int8]) -> bool:
    """Two channels fit one lane: 256 * w1 + w0 is below int16 only for w1 = -128 beside a negative w0."""
    even, odd = weights[0 : weights.shape[0] // 2 * 2 : 2], weights[1::2]
    return not bool(((odd == -128) & (even < 0)).any())


@lru_cache(maxsize=1024)
def recipe_of(work: ConvWork) -> Recipe | None:
    """The proven requantisation of a convolution, None where the micro-kernels do not apply."""
    flat = work.weights.reshape(work.weights.shape[0], -1)
    if work.dilations != (1, 1) or not lanes_fit(flat):
        return None
    return choose(work.requant, reach_of(flat, work.folded_bias))


def stream_words(pairs: int, channels: int, recipe: Recipe) -> int:
    """Length of the stream, known before it is packed."""
    post = Post.common(recipe)
    proved = post.kind == "proved"
    even, odd = divmod(channels, 2)
    return even * (2 + pairs + proved + 2 * post.constants) + odd * (1 + pairs + proved + post.constants)


def pack(
    weights: npt.NDArray[np.int8], bias: npt.NDArray[np.int64], order: npt.NDArray[np.intp], recipe: Recipe
) -> npt.NDArray[np.int32]:
    """The stream of all channels. `weights` [channels, taps]; `order` [pairs, 2] says which taps stand
    in the halves of a pair (-1: none); a pair with no weight costs nothing but its place."""
    channels = weights.shape[0]
    padded = np.concatenate([weights.astype(np.int64), np.zeros((channels, 1), np.int64)], axis=1)
    lanes = padded[:, order]  # [channels, pairs, 2]; index -1 finds the zero
    stream: list[int] = []
    for c in range(0, channels - 1, 2):
        both = 256 * lanes[c + 1] + lanes[c] & 0xFFFF
        stream += [int(bias[c]), 256 * int(bias[c + 1]) + int(bias[c]) + offset(recipe, c + 1)]
        stream += (both[:, 0] | both[:, 1] << 16).tolist()
        stream += [*_first(recipe, c), *words(recipe, c + 1, Post.common(recipe))]
    if channels % 2:
        c = channels - 1
        alone = lanes[c] & 0xFFFF
        stream += [int(bias[c]), *(alone[:, 0] | alone[:, 1] << 16).tolist(), *_first(recipe, c)]
    return as_int32(stream)


def _first(recipe: Recipe, c: int) -> list[int]:
    return [
        *([offset(recipe, c)] if isinstance(recipe, Proved) else []),
        *words(recipe, c, Post.common(recipe)),
    ]
