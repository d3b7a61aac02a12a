"""Firmware of the small network, built as any other is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_network import BuildNetwork, network

from tinyhil.harness.boards import get_board
from tinyhil.harness.build import Firmware, Program, build
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Sources


@pytest.fixture(scope="session")
def firmware_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("firmware")


@pytest.fixture(scope="session")
def build_network(firmware_cache: Path) -> BuildNetwork:
    """Builds the small network for a board (for its twin, if it has one)."""

    def make(
        fault: str = "", *, board: str = "stm32f746", sources: Sources | None = None, **parts: Any
    ) -> Firmware:
        kind = get_board(board)
        program = Program(sources or network(fault, **parts), kind, emulated=not kind.is_native)
        (made,) = build([program], Deadline.after(120), cache_dir=firmware_cache, jobs=1)
        if isinstance(made, Exception):
            raise made
        return made

    return make
