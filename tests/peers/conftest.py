"""A library kit made of our own C, and a way to run what an engine generates."""

from __future__ import annotations

from pathlib import Path

import pytest
from peer_kits import KitMaker, RunAll, make_kit_of_contract, outputs_of


@pytest.fixture(scope="session")
def contract_kit(tmp_path_factory: pytest.TempPathFactory) -> KitMaker:
    """Builds a kit of `cmsis-nn` from tests/peers/contract for a core, with further compiler flags."""
    made: dict[tuple[str, ...], Path] = {}

    def make(core: str, *flags: str) -> Path:
        if (core, *flags) not in made:
            made[core, *flags] = make_kit_of_contract(tmp_path_factory.mktemp("kit"), core, flags)
        return made[core, *flags]

    return make


@pytest.fixture(scope="session")
def run_all(tmp_path_factory: pytest.TempPathFactory) -> RunAll:
    """Builds all sources in one go and runs each once."""
    cache = tmp_path_factory.mktemp("firmware")
    return lambda board, sources, inputs: outputs_of(board, sources, inputs, cache)
