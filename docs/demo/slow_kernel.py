"""A pytest plug-in that plants a slowdown: it stands for a change to a kernel that nobody timed.

    SLOW_LAYER=layer_03_conv2d SLOW_STEPS=100 pytest -p slow_kernel ...

The generated C of one layer gets a loop that does nothing, three instructions a step. The output
stays right, so only the counts can tell.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

from tinyhil.harness.engine import Sources
from tinyhil.harness.tinyengine.engine import TinyEngine

_generate = TinyEngine.generate


def plant(sources: Sources, symbol: str, steps: int) -> Sources:
    """`sources` with the loop at the beginning of the function `symbol`; ValueError if there is none."""
    loop = f'\n    for (int n = {steps}; n != 0; n--) {{ __asm__ volatile("nop"); }} /* planted */\n'
    head = re.compile(rf"^[\w ]+\b{symbol}\([^;{{]*\{{", re.MULTILINE)
    files = {name: head.sub(lambda found: found[0] + loop, text) for name, text in sources.files.items()}
    if files == dict(sources.files):
        raise ValueError(f"no function {symbol} in the generated C")
    return replace(sources, files=files)


def _slow(self: TinyEngine, *arguments: Any, **named: Any) -> Sources:
    sources = _generate(self, *arguments, **named)
    return plant(sources, os.environ["SLOW_LAYER"], int(os.environ["SLOW_STEPS"]))


def pytest_configure() -> None:
    """From here on every network by `tinyengine` has the slow layer."""
    TinyEngine.generate = _slow  # type: ignore[method-assign]
