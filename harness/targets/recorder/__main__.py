"""`python -m tinyhil.harness.targets.recorder` compiles the plug-in ahead of the first run."""

from pathlib import Path

from tinyhil.harness.settings import load_settings
from tinyhil.harness.targets.recorder import build_recorder

print(build_recorder(load_settings(Path.cwd()).cache))
