"""Plants a slowdown of 3 % in one kernel of one layer, and shows the gate that catches it.

    python docs/demo/catch_a_regression.py [FOLDER]

1. Measures the network `digits` on the emulated board and saves the records as `main`.
2. Makes one layer 3 % slower (slow_kernel.py) and measures again, compared with `main`.

Ends with 0 if and only if the second run failed, and its words name the layer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LAYER = 3  # a 1x1 convolution
PERCENT = 3
INSTRUCTIONS_PER_STEP = 3  # of the planted loop: nop, subs, bne


def main(folder: Path) -> int:
    """Both runs in `folder`, which becomes a small project."""
    call(folder, "-m", "tinyhil", "zoo", "models", "--name", "digits")
    model = "models/digits.tflite"
    measure = ["-m", "pytest", "-q", "--board=stm32f746", "--hil-emulate", model]
    first = call(folder, *measure, "--hil-save=main", "--hil-json=main.json")
    if first.returncode:
        return 1
    layer = json.loads((folder / "main.json").read_text())[0]["layers"][LAYER]
    extra = layer["instructions"] * PERCENT // 100
    print(f"\nlayer {LAYER}, {layer['name']}: {layer['instructions']} instructions; now {extra} more\n")
    slow = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        "SLOW_LAYER": f"layer_{LAYER:02}_{layer['op'].lower()}",
        "SLOW_STEPS": str(extra // INSTRUCTIONS_PER_STEP),
    }
    gates = ["--hil-compare=main", "--hil-fail=instructions:0,peak_ram:0,flash:+1KiB"]
    second = call(folder, *measure, "-p", "slow_kernel", *gates, **slow)
    caught = second.returncode == 1 and layer["name"] in second.stdout
    print("\ncaught" if caught else "\nNOT caught")
    return 0 if caught else 1


def call(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with `words`, showing the command and what it prints."""
    print("$", " ".join(("python", *words)), flush=True)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout + done.stderr, flush=True)
    return done


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place = Path(sys.argv[1]).resolve()
        place.mkdir(parents=True, exist_ok=True)
        sys.exit(main(place))
    with tempfile.TemporaryDirectory() as name:
        sys.exit(main(Path(name)))
