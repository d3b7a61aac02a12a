"""The line through the debug probe instead of a serial port: RTT's rings in RAM, by pyOCD's client."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pyocd.core.exceptions import RTTError
from pyocd.debug.rtt import RTTControlBlock

from tinyhil.harness.deadline import Deadline

_ID_BYTES = 16
_POLL = 0.001  # seconds between two looks at an empty ring
_FULL = 1.0  # seconds until what does not fit into the ring is lost, as on a wire


class RttLine:
    """The wire's transport through `th_rtt` at `address`. `words` turns pyOCD's exceptions into BenchErrors.

    The firmware writes the control block when it starts. Until then, or if something has written over it,
    nothing comes and what is sent is lost, so that the conversation ends at its own deadline.
    """

    def __init__(self, target: Any, address: int, words: Callable[[], AbstractContextManager[None]]) -> None:
        self._target, self._address, self._words = target, address, words
        self._block: Any = None

    def clear(self) -> None:
        """Forgets the rings of the time before the reset: RAM outlives it. While the core is halted."""
        self._block = None
        with self._words():
            self._target.write_memory_block8(self._address, bytes(_ID_BYTES))

    def write(self, data: bytes) -> None:
        """Sends `data`; what finds no room for too long is lost."""
        patience = Deadline.after(_FULL)
        while data and not patience.expired:
            sent = self._transfer(lambda block, rest=data: block.down_channels[0].write(rest)) or 0
            data = data[sent:]
            if not sent:
                time.sleep(_POLL)

    def read(self, deadline: Deadline) -> bytes:
        """What has come, waiting until `deadline` for the first byte."""
        while True:
            data: bytes = self._transfer(lambda block: block.up_channels[0].read()) or b""
            if data or deadline.expired:
                return data
            time.sleep(min(_POLL, deadline.remaining()))

    def _transfer(self, action: Callable[..., Any]) -> Any:
        """What `action` gives on the control block; None while there is no valid one."""
        with self._words():
            try:
                if self._block is None:
                    block = RTTControlBlock.from_target(self._target, self._address, 0)
                    block.start()
                    self._block = block
                return action(self._block)
            except RTTError:
                self._block = None
                return None
