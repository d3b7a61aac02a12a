"""The flash algorithm that is shipped as a blob belongs to the C beside it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "firmware_templates" / "flashalgo"


def blob() -> dict[str, object]:
    loaded: dict[str, object] = json.loads((FOLDER / "stm32f7.json").read_text())
    return loaded


def test_the_blob_was_made_of_the_source_beside_it() -> None:
    source = (FOLDER / "stm32f7.c").read_bytes()
    assert blob()["source_sha256"] == hashlib.sha256(source).hexdigest(), "run make_blob.py stm32f7"


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs apt install gcc-arm-none-eabi")
def test_the_same_compiler_makes_the_same_blob() -> None:
    version = subprocess.run(
        ["arm-none-eabi-gcc", "-dumpfullversion"], capture_output=True, text=True, check=True
    )
    if version.stdout.strip() not in str(blob()["compiler"]):
        pytest.skip(f"the blob was made by {blob()['compiler']}; other versions give other bytes")
    spec = importlib.util.spec_from_file_location("make_blob", FOLDER / "make_blob.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.make_blob(FOLDER / "stm32f7.c") == blob()
