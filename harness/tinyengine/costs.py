"""Measured costs of kernels, kept from run to run: one file in the cache folder, key -> cycles."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

_FILE = "kernel-costs.json"


def read_costs(cache: Path) -> dict[str, float]:
    """What has been measured so far; nothing where the file is missing or damaged: it can be made anew."""
    try:
        found = json.loads((cache / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): float(v) for k, v in found.items()} if isinstance(found, dict) else {}


def add_costs(cache: Path, costs: Mapping[str, float]) -> None:
    """Adds to the file; what is there already stays, so that a choice does not change from run to run."""
    cache.mkdir(parents=True, exist_ok=True)
    together = {**costs, **read_costs(cache)}
    temporary = cache / f"{_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(together, sort_keys=True, indent=0), encoding="utf-8")
    temporary.replace(cache / _FILE)
