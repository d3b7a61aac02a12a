"""Damaged files: a small share of what `python tests/model/fuzz_reader.py 20000` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory as Linux does")
def test_mutated_files_are_read_or_refused_within_time_and_memory() -> None:
    script = Path(__file__).with_name("fuzz_reader.py")
    result = subprocess.run(
        [sys.executable, str(script), "1500", "42"], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "1500 mutations" in result.stdout
    assert "read and run" in result.stdout
